"""What happens to each table and column of a copy: the rules of the profile on the live schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import Column, Readable
from dbctl.extensions.copies.section import ColumnEntry, DatabaseEntries, Kind, find_entries
from dbctl.model import Struct
from dbctl.services.app.app import App

#: Beginnings of declared types whose values are no personal data.
_IMPERSONAL_TYPES = ("INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT", "REAL", "FLOAT", "DOUBLE", "NUMERIC", "DECIMAL", "BOOL", "DATE", "TIME")  # fmt: skip


class ColumnRule(Struct, frozen=True, kw_only=True):
    """What replaces the values of one column."""

    kind: Kind
    paths: Mapping[str, Kind] = {}  #: of ``json``: the rule of a text by its place
    rest: Kind = "text"  #: of everything else in a document, or with another value of ``by``
    by: str = ""  #: the column of the same row that selects the rule; empty: ``kind``
    values: Mapping[str, Kind] = {}  #: the rule by the value of ``by``, which may contain ``*``


TableRule: TypeAlias = Literal["empty"] | Mapping[str, ColumnRule]


class DatabaseRules(Struct, frozen=True, kw_only=True):
    """The rules of a database."""

    tables: Mapping[str, TableRule]  #: without columns that are copied because of their type
    missing: Sequence[str]  #: ``table.column`` of those that can hold personal data and have no rule


def resolve_rules(app: App, database: str, db: Readable) -> DatabaseRules:
    """Return the rules of the tables of ``db``, which has the schema of ``database``."""
    entries = find_entries(app.profile, database)
    tables, missing = dict[str, TableRule](), list[str]()
    for name, table in db.tables().items():
        whole = next((rule for glob, rule in entries.tables.items() if fnmatchcase(name, glob)), None)
        if table.is_view or whole == "empty":
            if not table.is_view:
                tables[name] = "empty"
            continue
        rules = dict[str, ColumnRule]()
        for column in table.columns.values():
            if rule := _find_rule(entries, f"{name}.{column.name}"):
                rules[column.name] = rule
            elif whole != "keep" and can_be_personal(column):
                missing.append(f"{name}.{column.name}")
        tables[name] = rules
    return DatabaseRules(tables=tables, missing=missing)


def can_be_personal(column: Column) -> bool:
    """Return whether values of the type of a column can be personal data."""
    return not (column.native or column.is_generated or column.type.startswith(_IMPERSONAL_TYPES))


def _find_rule(entries: DatabaseEntries, path: str) -> ColumnRule | None:
    for glob, entry in entries.columns.items():
        if fnmatchcase(path, glob.removesuffix("?")):
            if isinstance(entry, ColumnEntry):
                kind = entry.kind or "keep"
                return ColumnRule(
                    kind=kind, paths=entry.paths, rest=entry.rest, by=entry.by, values=entry.values
                )
            return ColumnRule(kind=entry)
    return None
