"""A whole schema as a value: what two databases are compared by, and what a fingerprint is made of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from dbctl.model import Value

#: Names the form below; a fingerprint made of another form must not look like one made of this.
FORM = "dbctl.schema/1"


class SchemaColumn(Value, frozen=True, kw_only=True):
    """One column."""

    name: str
    type: str  #: as declared, upper case
    storage: str  #: how the engine keeps values of that type: two types of one storage act alike
    nullable: bool
    default: str | None = None
    collation: str = ""  #: empty: the engine's own
    generated: str = ""  #: the expression that makes it, with ``stored`` or ``virtual`` behind


class SchemaIndex(Value, frozen=True, kw_only=True):
    """One index; also one that stands behind a UNIQUE constraint."""

    name: str  #: empty: the engine named it, for a constraint
    columns: Sequence[str]  #: columns or expressions, with a collation or ``desc`` behind where they have one
    unique: bool
    where: str = ""  #: of a partial one


class SchemaReference(Value, frozen=True, kw_only=True):
    """One foreign key, as the table that holds it tells it."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    on_update: str
    on_delete: str
    deferred: bool = False  #: whether it is looked at only when the transaction ends


class SchemaTable(Value, frozen=True, kw_only=True):
    """One table. What has an order of its own keeps it (columns, keys); the rest is sorted."""

    name: str
    columns: Sequence[SchemaColumn]
    key: Sequence[str]
    indexes: Sequence[SchemaIndex]
    references: Sequence[SchemaReference]
    checks: Sequence[str]
    options: Sequence[
        str
    ]  #: what else the engine was told, in its own words: ``autoincrement``, ``using fts5(…)``


class SchemaCode(Value, frozen=True, kw_only=True):
    """One view or trigger."""

    kind: Literal["view", "trigger"]
    name: str
    table: str = ""  #: the one that a trigger watches
    text: str


class Schema(Value, frozen=True, kw_only=True):
    """Everything that a database has been told about its rows, and nothing that the engine keeps for itself.

    Texts (defaults, checks, expressions, views, triggers) are spelled in one way, so that blanks, comments, quotes
    around names and the case of keywords make no difference; names of constraints are left out. Tables, views and
    triggers are sorted by name.
    """

    tables: Sequence[SchemaTable]
    codes: Sequence[SchemaCode]


def bare(column: str) -> str:
    """Return a column of an index, or of a primary key, without its collation and direction."""
    return re.sub(r"(?: collate \w+)?(?: desc)?$", "", column)


def plain(text: str) -> str:
    """Return the text of a view or a trigger spelled in one way, as far as blanks go."""
    return " ".join(text.split()).removesuffix(";")


def by_table(rows: Iterable[tuple[object, ...]]) -> defaultdict[str, list[tuple[object, ...]]]:
    """Return rows of a catalogue by the table that the first column of each names."""
    found = defaultdict[str, list[tuple[object, ...]]](list)
    for row in rows:
        found[str(row[0])].append(row)
    return found


def fingerprint(schema: Schema) -> str:
    """Return SHA-256 over a schema, hexadecimal: two equal ones are the same schema.

    It stays the same when the file is rewritten, when tables and indexes are created in another order, and when the
    same statements are spelled otherwise. The order of a table's columns counts: ``insert`` without names follows it.
    """
    import hashlib
    import json

    import msgspec

    told = [FORM, msgspec.to_builtins(schema)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
