"""A complete schema as a value, for comparisons and fingerprints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from dbctl.model import Struct

#: The version of the form; part of the fingerprint, so that fingerprints of different forms differ.
FINGERPRINT_FORMAT = "dbctl.schema/1"


class SchemaColumn(Struct, frozen=True, kw_only=True):
    name: str
    type: str  #: as declared, upper case
    storage: str  #: the engine's storage class of that type: types of the same class behave in the same way
    nullable: bool
    default: str | None = None
    collation: str = ""  #: empty: the engine's default
    generated: str = ""  #: the expression that computes it, followed by ``stored`` or ``virtual``


class SchemaIndex(Struct, frozen=True, kw_only=True):
    """One index, including the index of a UNIQUE constraint."""

    name: str  #: empty: a name that the engine generated for a constraint
    columns: Sequence[str]  #: columns or expressions, followed by a collation or ``desc``, if any
    unique: bool
    where: str = ""  #: the condition of a partial index


class SchemaReference(Struct, frozen=True, kw_only=True):
    """One foreign key, as defined in the table that contains it."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    on_update: str
    on_delete: str
    deferred: bool = False  #: whether it is checked at the end of the transaction only


class SchemaTable(Struct, frozen=True, kw_only=True):
    """One table. Columns and keys are in their declared order; other sequences are sorted."""

    name: str
    columns: Sequence[SchemaColumn]
    key: Sequence[str]
    indexes: Sequence[SchemaIndex]
    references: Sequence[SchemaReference]
    checks: Sequence[str]
    options: Sequence[str]  #: further options in the engine's words: ``autoincrement``, ``using fts5(…)``


class SchemaCode(Struct, frozen=True, kw_only=True):
    """One view or trigger."""

    kind: Literal["view", "trigger"]
    name: str
    table: str = ""  #: the table of a trigger
    text: str


class Schema(Struct, frozen=True, kw_only=True):
    """The complete schema of a database, without internal objects of the engine.

    Texts (defaults, checks, expressions, views, triggers) are normalized, so that spaces, comments, quotes around names
    and the case of keywords make no difference; names of constraints are left out. Tables, views and triggers are
    sorted by name.
    """

    tables: Sequence[SchemaTable]
    codes: Sequence[SchemaCode]


def strip_collation(column: str) -> str:
    """Return a column of an index or of a primary key without its collation and direction."""
    return re.sub(r"(?: collate \w+)?(?: desc)?$", "", column)


def collapse_spaces(text: str) -> str:
    """Return the text of a view or a trigger with normalized spaces."""
    return " ".join(text.split()).removesuffix(";")


def group_by_table(rows: Iterable[tuple[object, ...]]) -> defaultdict[str, list[tuple[object, ...]]]:
    """Return rows of a catalog by table, whose name is in the first column."""
    rows_by_table = defaultdict[str, list[tuple[object, ...]]](list)
    for row in rows:
        rows_by_table[str(row[0])].append(row)
    return rows_by_table


def fingerprint(schema: Schema) -> str:
    """Return SHA-256 over a schema, hexadecimal; equal values mean equal schemas.

    It does not change when the file is rewritten, when tables and indexes are created in another order, or when the
    same statements are formatted differently. The order of columns matters: ``insert`` without names depends on it.
    """
    import hashlib
    import json

    import msgspec

    values = [FINGERPRINT_FORMAT, msgspec.to_builtins(schema)]
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
