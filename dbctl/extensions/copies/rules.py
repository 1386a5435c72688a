"""What happens to each table and column of a copy: the rules of the profile on the live schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import structs

from dbctl.engines.contract.database import Column, Readable, Table
from dbctl.engines.contract.schema import SchemaReference, SchemaTable
from dbctl.extensions.copies.derived import DerivedRules, SecretSettings
from dbctl.extensions.copies.section import (
    ColumnEntry,
    Kind,
    PartEntry,
    find_entries,
    find_entry,
    find_pattern,
)
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.app.evidence.personal import can_be_personal

_LITERAL = re.compile(r"'(?:[^']|'')*'")
#: Words of check constraints that compare a column with a list of values; types belong to casts.
_LIST_WORDS = frozenset(
    ("check", "in", "any", "array", "or", "is", "null", "text", "character", "varying", "bpchar", "char", "_utf8mb4", "_latin1")
)  # fmt: skip


class ValueRule(Struct, frozen=True, kw_only=True):
    """What replaces a value, or a part of it."""

    kind: Kind
    after: str = ""  #: the part begins after this text; empty: at the beginning
    before: str = ""  #: it ends before this text; empty: at the end
    rest: Kind = "text"  #: of a value without the part, and of other texts of a document


class ColumnRule(ValueRule, frozen=True, kw_only=True):
    """What replaces the values of one column; with ``by``, ``kind`` is the rule of rows that no pattern of ``values`` matches."""

    #: of documents: the rule of a text by its place, which may contain ``*``
    paths: Mapping[str, ValueRule] = {}
    #: of documents: the rule of a key, which may contain ``*``; of other keys there is no decision
    keys: Mapping[str, Kind] = {}
    #: the columns of the same row whose values, joined by dots, select the rule; empty: ``kind``
    by: Sequence[str] = ()
    #: the rule by that value, which may contain ``*``; the first that matches
    values: Mapping[str, ValueRule] = {}


#: The rule that permits originals in keys and numbers of documents.
KEEP_KEYS: Mapping[str, Kind] = {"*": "keep"}
TableRule: TypeAlias = Literal["empty"] | Mapping[str, ColumnRule]


class DatabaseRules(Struct, frozen=True, kw_only=True):
    tables: Mapping[str, TableRule]  #: without columns that are copied
    missing: Sequence[str]  #: ``table.column`` of those that can hold personal data and have no rule
    #: table and column of those without a rule whose type allows no personal data, if the engine stores only values of types
    impersonal: Sequence[tuple[str, str]] = ()


def resolve_rules(
    app: App, database: str, db: Readable, *, keep: Collection[str] = (), keep_keys: Collection[str] = ()
) -> DatabaseRules:
    """Return the rules of the tables of ``db``, which has the schema of ``database``.

    ``keep`` are columns to copy (``table.column``), ``keep_keys`` those with documents whose keys are copied.

    Of a column, the first of these counts: ``keep``, the entry with its name, the rule of the column to which its foreign key
    refers, what the profile states about it for other purposes, an entry whose pattern it matches, and the entry of its table.
    """
    return _Resolver(app, database, db, keep, keep_keys).resolve()


class _Resolver:
    def __init__(
        self, app: App, database: str, db: Readable, keep: Collection[str], keep_keys: Collection[str]
    ) -> None:
        self._entries, self._keep, self._keep_keys = find_entries(app.profile, database), keep, keep_keys
        self._derived = DerivedRules(app, database, db)
        schema = db.schema_reader.schema().tables if db.schema_reader else ()
        self._schema = {table.name: table for table in schema}
        # Shadow tables of full-text indexes are not part of the schema.
        self._tables = {
            name: table
            for name, table in db.tables().items()
            if not table.is_view and (name in self._schema or not schema)
        }
        self._vectors = {
            (name, column.column)
            for name in (self._tables if db.vectors else ())
            for column in (db.vectors.vector_columns(name) if db.vectors else ())
        }
        self._whole = {name: self._find_table_rule(name) for name in self._tables}
        self._empty_dependents()
        self._rules = dict[tuple[str, str], ColumnRule | None]()  #: None: it has none, or is copied

    def resolve(self) -> DatabaseRules:
        tables, missing, impersonal = dict[str, TableRule](), list[str](), list[tuple[str, str]]()
        for name, table in self._tables.items():
            if self._whole[name] == "empty":
                tables[name] = "empty"
            elif not _is_index(self._schema.get(name)):
                rules = {column: self._resolve_column(name, column) for column in table.columns}
                tables[name] = {column: rule for column, rule in rules.items() if rule and _changes(rule)}
                missing += [
                    f"{name}.{column.name}"
                    for column in table.columns.values()
                    if rules[column.name] is None and self._is_uncovered(table, column)
                ]
                impersonal += [
                    (name, column.name)
                    for column in table.columns.values()
                    if rules[column.name] is None and not (can_be_personal(column) or column.is_generated)
                ]
        return DatabaseRules(tables=tables, missing=missing, impersonal=impersonal)

    # Tables ----------------------------------------------------------------------------------------------------

    def _find_table_rule(self, name: str) -> Literal["empty", "keep"] | None:
        described = self._schema.get(name)
        if described and _is_full_text(described) and not _is_index(described):
            return "empty"
        entries, derived = self._entries.tables, self._derived.tables
        return find_entry(entries, name) or derived.get(name) or find_pattern(entries, name)

    def _empty_dependents(self) -> None:
        """Empty the tables whose rows cannot exist without rows of an emptied table."""
        pending = True
        while pending:
            pending = False
            for name, table in self._tables.items():
                if self._whole[name] != "empty" and any(
                    not any(table.columns[column].nullable for column in reference.columns)
                    for reference in self._list_references(name)
                    if reference.table != name and self._whole.get(reference.table) == "empty"
                ):
                    self._whole[name], pending = "empty", True

    def _list_references(self, table: str) -> Iterator[SchemaReference]:
        described = self._schema.get(table)
        for reference in described.references if described else ():
            if set(reference.columns) <= self._tables[table].columns.keys():
                yield reference

    # Columns ---------------------------------------------------------------------------------------------------

    def _resolve_column(self, table: str, column: str) -> ColumnRule | None:
        place = table, column
        if place not in self._rules:
            self._rules[place] = None  # a foreign key may lead back
            self._rules[place] = self._find_column_rule(self._tables[table], column)
        return self._rules[place]

    def _find_column_rule(self, table: Table, name: str) -> ColumnRule | None:
        column = table.columns[name]
        if column.is_generated:
            return None
        path = f"{table.name}.{name}"
        if path in self._keep:
            return ColumnRule(kind="keep")
        entry = find_entry(self._entries.columns, path)
        if (table.name, name) in self._vectors:  # they are computed from texts, whatever their table keeps
            return ColumnRule(kind="keep" if entry == "keep" else "null")
        if entry is None and (rule := self._find_referenced_rule(table.name, name)):
            return rule
        derived = self._derived.columns.get((table.name, name))
        entry = entry or derived
        if entry is None and can_be_personal(column):
            entry = find_pattern(self._entries.columns, path)
        if entry is None and (self._whole[table.name] == "keep" or self._has_listed_values(table.name, name)):
            entry = "keep"
        secrets = self._derived.settings.get((table.name, name))
        rule = _create_rule(entry, column, table) if entry else None
        if rule and path in self._keep_keys:
            rule = structs.replace(rule, keys=KEEP_KEYS)
        return _remove_secrets(rule, secrets) if rule and secrets else rule

    def _find_referenced_rule(self, table: str, column: str) -> ColumnRule | None:
        """Return the rule of a column with a foreign key: NULL if the rows to which it refers are not copied."""
        for reference in self._list_references(table):
            if column in reference.columns and reference.table in self._tables:
                if self._whole[reference.table] == "empty":
                    return ColumnRule(kind="null" if self._tables[table].columns[column].nullable else "keep")
                target = dict(zip(reference.columns, reference.to, strict=False)).get(column, "")
                if target in self._tables[reference.table].columns and (reference.table, target) != (table, column):  # fmt: skip
                    return self._resolve_column(reference.table, target)
        return None

    def _has_listed_values(self, table: str, column: str) -> bool:
        described = self._schema.get(table)
        return described is not None and any(_lists_values(check, column) for check in described.checks)

    def _is_uncovered(self, table: Table, column: Column) -> bool:
        """Return whether a column without a rule can hold personal data; with a foreign key, its target is reported."""
        return can_be_personal(column) and not any(
            column.name in reference.columns and reference.table in self._tables
            for reference in self._list_references(table.name)
            if reference.table != table.name
        )


def _create_rule(entry: Kind | ColumnEntry, column: Column, table: Table) -> ColumnRule:
    if not isinstance(entry, ColumnEntry):
        kind = _fit_kind(entry, column)
        # of a document, the texts are replaced
        is_inside = column.is_document and kind not in ("keep", "null", "json")
        return ColumnRule(kind="json", rest=kind) if is_inside else ColumnRule(kind=kind)
    names = [entry.by] if isinstance(entry.by, str) and entry.by else entry.by
    return ColumnRule(
        kind=_fit_kind(entry.kind or entry.rest, column),
        after=entry.after,
        before=entry.before,
        rest=_fit_kind(entry.rest, column),
        paths={path: _create_value_rule(rule, None) for path, rule in entry.paths.items()},
        keys=entry.keys,
        by=tuple(name.removesuffix("?") for name in names if name.removesuffix("?") in table.columns),
        values={value: _create_value_rule(rule, column) for value, rule in entry.values.items()},
    )


def _create_value_rule(entry: Kind | PartEntry, column: Column | None) -> ValueRule:
    """Return a rule of values of a column; None: of texts in a document."""
    if not isinstance(entry, PartEntry):
        return ValueRule(kind=_fit_kind(entry, column))
    kind = _fit_kind(entry.kind or "text", column)
    return ValueRule(kind=kind, after=entry.after, before=entry.before, rest=_fit_kind(entry.rest, column))


def _fit_kind(kind: Kind, column: Column | None) -> Kind:
    return "token" if kind == "null" and column and not column.nullable else kind


def _remove_secrets(rule: ColumnRule, secrets: SecretSettings) -> ColumnRule:
    """Return the rule of the values of settings without the secrets among them; keys that it names precede them."""
    removed = {key: ValueRule(kind="omit") for key in secrets.keys if key not in rule.values}
    if rule.kind == "keep" and not rule.by:
        return ColumnRule(kind="keep", by=secrets.by, values=removed)
    if rule.by == secrets.by:
        return structs.replace(rule, values={**rule.values, **removed})
    return rule


def _changes(rule: ColumnRule) -> bool:
    return rule.kind != "keep" or bool(rule.by)


def _is_full_text(table: SchemaTable) -> bool:
    return any(option.startswith("using fts") for option in table.options)


def _is_index(table: SchemaTable | None) -> bool:
    """Return whether a full-text table has the text of another table, from which it is built again."""
    return table is not None and _is_full_text(table) and any("content=" in option.replace(" ", "") for option in table.options)  # fmt: skip


def _lists_values(check: str, column: str) -> bool:
    """Return whether a check constraint lists the values of a column, and names no other one."""
    text = _LITERAL.sub(" ", check).lower()
    words = set(re.findall(r"[a-z_]\w*", text))
    return text != check.lower() and words - _LIST_WORDS == {column.lower()} and not re.search(r"[<>!~]", text)  # fmt: skip
