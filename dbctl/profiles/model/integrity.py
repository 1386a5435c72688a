"""What a profile can say about values, links, figures, and secrets that a check looks at."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import HashCodec
from dbctl.profiles.model.base import Constant, Name, Section


class States(Section, frozen=True, kw_only=True):
    """A column whose value may only be followed by certain others."""

    database: str = ""
    table: str
    column: Name
    #: what may follow each value; one that only follows others is never left, and one that is not named at all is no
    #: state: none takes it, and any may follow
    moves: Mapping[str, Sequence[str]]
    severity: Literal["info", "warning", "error"] = "warning"  #: of a row that holds no state
    hint: str = ""  #: said to whom a move is refused


class Values(Section, frozen=True, kw_only=True):
    """A column that holds one of some values, or NULL, where the database itself takes others."""

    database: str = ""
    table: str  #: one that ends in ``?`` may be missing
    column: Name
    among: Annotated[Sequence[Constant], msgspec.Meta(min_length=1)]
    severity: Literal["info", "warning", "error"] = "warning"  #: of a row that holds another one
    hint: str = ""  #: the remedy


class Exclusive(Section, frozen=True, kw_only=True):
    """A column that is true in one row at most: setting it there takes it from the others."""

    database: str = ""
    table: str
    column: Name
    within: Name | None = None  #: a column; of each of its values one row


class KeySearch(Section, frozen=True, kw_only=True):
    """Columns that may hold text of people, in which keys of services are looked for."""

    database: str = ""
    #: as ``table.column``; one that ends in ``?`` may be missing
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""  #: the remedy

    @property
    def name(self) -> str:
        """What a finding calls it."""
        return "keys of services"


class CrossLink(Section, frozen=True, kw_only=True):
    """A column that names rows of another database, where no foreign key can guard it."""

    name: str  #: what a finding calls its rows
    database: str = ""
    table: str
    column: Name  #: one that ends in ``?`` may be missing
    to: str  #: the other database
    among: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table.column``: one of them must have it
    optional: bool = False  #: whether a deployment may do without the table
    cascade: bool = False  #: whether its rows go along when dbctl deletes the rows that they name
    #: ``table.column`` there: what the row was called before, by which some may still name it
    formerly: str = ""
    repeats: Mapping[
        str, str
    ] = {}  #: its columns that repeat some of the row that it names, and which these are
    derived: Sequence[
        str
    ] = ()  #: those of them that the rest of the row is made of, so that none is mended alone
    every: bool = False  #: whether each row there should be named by one
    placeholders: Sequence[str] = ()  #: what it holds in rows that only made the app's table
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""


class Recount(Section, frozen=True, kw_only=True):
    """Figures that the app keeps though they can be counted."""

    name: str
    database: str = ""
    needs: Sequence[str] = ()  #: tables; a deployment without one of them keeps no such figures
    sql: str  #: portable; the rows that disagree: their key, then what is kept, last what is counted
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""


class KnownLogin(Section, frozen=True, kw_only=True):
    """An account whose password everybody can know: the app, or its documentation, came with it."""

    name: str  #: what a finding calls it
    login: str
    password: str
    severity: Literal["info", "warning", "error"] = "error"  #: while the account is active
    hint: str = ""  #: the remedy, where another password is none


class KnownSecret(Section, frozen=True, kw_only=True):
    """A key, a code or a token that everybody can know: the app, or its documentation, came with it."""

    name: str  #: what a finding calls it
    database: str = ""
    table: str  #: one that ends in ``?`` may be missing
    key: str = "id"
    column: str  #: holds the secret, or what is stored for it
    value: str  #: what the column holds, or the secret itself where ``codec`` says how it is stored
    codec: HashCodec | None = None
    where: Mapping[str, str | int | float | bool] = {}  #: of the rows that count, such as those in use
    severity: Literal["info", "warning", "error"] = "error"
    hint: str = ""  #: the remedy


class FlawShape(Section, frozen=True, kw_only=True):
    """How rows are looked for in one schema; the first whose tables and columns exist counts."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str = ""  #: portable; a row for each that should not be, the first column tells which
    times: Sequence[
        str
    ] = ()  #: in place of it: columns, as ``table.column``, that hold something else than a time


class Flaw(Section, frozen=True, kw_only=True):
    """Rows of a kind that should not be there, which no constraint forbids."""

    name: str  #: what a finding calls them, in the plural
    database: str = ""
    since: str = ""  #: a length of time: ``:since`` of the SQL is the moment so long ago
    shape: Annotated[Sequence[FlawShape], msgspec.Meta(min_length=1)]
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""
