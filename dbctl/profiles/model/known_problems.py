"""What a profile can say about rows that should not be: secrets that everybody can know, and states that lead nowhere."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import HashCodec

Severity = Literal["info", "warning", "error"]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables below."""


class KnownSecret(Part, frozen=True, kw_only=True):
    """A key, a code or a token that everybody can know: the app, or its documentation, came with it."""

    name: str  #: what a finding calls it
    database: str = ""
    table: str  #: one that ends in ``?`` may be missing
    key: str = "id"
    column: str  #: holds the secret, or what is stored for it
    value: str  #: what the column holds, or the secret itself where ``codec`` says how it is stored
    codec: HashCodec | None = None
    where: Mapping[str, str | int | float | bool] = {}  #: of the rows that count, such as those in use
    severity: Severity = "error"
    hint: str = ""  #: the remedy


class FlawShape(Part, frozen=True, kw_only=True):
    """How rows are looked for in one schema; the first whose tables and columns exist counts."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str = ""  #: portable; a row for each that should not be, the first column tells which
    times: Sequence[
        str
    ] = ()  #: in place of it: columns, as ``table.column``, that hold something else than a time


class Flaw(Part, frozen=True, kw_only=True):
    """Rows of a kind that should not be there, which no constraint forbids."""

    name: str  #: what a finding calls them, in the plural
    database: str = ""
    since: str = ""  #: a length of time: ``:since`` of the SQL is the moment so long ago
    shape: Annotated[Sequence[FlawShape], msgspec.Meta(min_length=1)]
    severity: Severity = "warning"
    hint: str = ""
