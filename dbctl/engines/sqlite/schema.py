"""A schema made of what SQLite's pragmas tell and, where those are silent, of its own text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import cast

from dbctl.engines.contract import Schema, SchemaCode, SchemaColumn, SchemaIndex, SchemaReference, SchemaTable
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.describe import VIRTUAL
from dbctl.engines.sqlite.sql import (
    ColumnText,
    IndexText,
    index_text,
    normalize,
    rest_of_table,
    table_text,
    trigger_text,
    view_text,
)
from dbctl.engines.sqlite.types import affinity

#: What modules for searching texts and places call the tables that they keep beside their own.
_SHADOWS = (
    "config",
    "content",
    "data",
    "docsize",
    "idx",
    "node",
    "parent",
    "rowid",
    "segdir",
    "segments",
    "stat",
)


class Told:
    """What the file told, brought together."""

    def __init__(self, entries: list[Row], columns: list[Row], keys: list[Row], indexes: list[Row]) -> None:
        self._entries = [tuple(str(value or "") for value in entry) for entry in entries]
        self._columns, self._keys, self._indexes = _by_table(columns), _by_table(keys), _by_table(indexes)
        self._names = {entry[1].lower() for entry in self._entries}
        self._names |= {str(row[1]).lower() for row in columns}
        self._texts = {name: sql for kind, name, _, sql in self._entries if kind == "index"}

    def schema(self) -> Schema:
        shadows = {
            f"{name}_{suffix}".lower()
            for kind, name, _, sql in self._entries
            if kind == "table" and re.match(VIRTUAL, sql)
            for suffix in _SHADOWS
        }
        tables = [
            self._table(name, sql) if name in self._columns else self._by_text(name, sql)
            for kind, name, _, sql in self._entries
            if kind == "table" and name.lower() not in shadows
        ]
        return Schema(tables=tables, codes=list(self._codes()))

    def _codes(self) -> Iterator[SchemaCode]:
        for kind, name, table, sql in self._entries:
            if kind == "view":
                yield SchemaCode(kind="view", name=name, text=view_text(sql, self._names))
            elif kind == "trigger":
                text = trigger_text(sql, self._names)
                yield SchemaCode(kind="trigger", name=name, table=table, text=text)

    def _by_text(self, name: str, sql: str) -> SchemaTable:
        options = [rest_of_table(sql)]
        return SchemaTable(
            name=name, columns=(), key=(), indexes=(), references=(), checks=(), options=options
        )

    def _table(self, name: str, sql: str) -> SchemaTable:
        text = table_text(sql, self._names)
        indexes = list(self._described(self._indexes[name]))
        references = self._references(self._keys[name], text.deferred)
        behind_key = [found for origin, found in indexes if origin == "pk"]
        key = self._key_of(name)
        return SchemaTable(
            name=name,
            columns=[
                _column(row, told, key) for row, told in zip(self._columns[name], text.columns, strict=True)
            ],
            key=behind_key[0].columns if behind_key else key,
            indexes=sorted(
                (found for origin, found in indexes if origin != "pk"),
                key=lambda one: (one.name, one.columns),
            ),
            references=sorted(references, key=lambda one: (one.columns, one.table, one.to)),
            checks=text.checks,
            options=text.options,
        )

    def _described(self, rows: Sequence[Row]) -> Iterator[tuple[str, SchemaIndex]]:
        """Yield each index of a table with its origin: ``c`` for CREATE INDEX, ``u`` and ``pk`` for constraints."""
        for name in dict.fromkeys(str(row[1]) for row in rows):
            mine = [row for row in rows if row[1] == name]
            sql = self._texts.get(name, "")
            text = index_text(sql, self._names) if sql else IndexText(terms=(), where="")
            columns = []
            for at, (_, _, _, _, column, descending, collation) in enumerate(mine):
                term = text.terms[at] if column is None else str(column)
                ordered = str(collation).upper()
                term += "" if ordered == "BINARY" else f" collate {ordered}"
                columns.append(f"{term} desc" if descending else term)
            found = SchemaIndex(
                name=name if sql else "", columns=columns, unique=bool(mine[0][2]), where=text.where
            )
            yield str(mine[0][3]), found

    def _references(
        self, rows: Sequence[Row], deferred: Collection[tuple[str, ...]]
    ) -> Iterator[SchemaReference]:
        for number in dict.fromkeys(row[1] for row in rows):
            mine = [row for row in rows if row[1] == number]
            _, _, _, told, _, on_update, on_delete = mine[0]
            table = next((name for name in self._columns if name.lower() == str(told).lower()), str(told))
            spelt = {str(row[1]).lower(): str(row[1]) for row in self._columns[table]}
            to = [str(row[4]) for row in mine if row[4] is not None]
            columns = [str(row[2]) for row in mine]
            yield SchemaReference(
                columns=columns,
                table=table,
                to=[spelt.get(column.lower(), column) for column in to] or self._key_of(table),
                on_update=str(on_update),
                on_delete=str(on_delete),
                deferred=tuple(column.lower() for column in columns) in deferred,
            )

    def _key_of(self, table: str) -> list[str]:
        """Return the primary key of a table; a foreign key that names no columns means that."""
        keyed = sorted((cast("int", row[5]), str(row[1])) for row in self._columns[table] if row[5])
        return [column for _, column in keyed]


def _column(row: Row, told: ColumnText, key: Sequence[str]) -> SchemaColumn:
    _, name, kind, not_null, default, _ = row
    declared = normalize.spelled(str(kind or ""), ()).upper()
    if told.generated:  # SQLite takes these words for a part of the type where blanks are unusual
        declared = re.sub(r" ?GENERATED( ALWAYS)?$", "", declared)
    rowid = declared == "INTEGER" and list(key) == [name]
    return SchemaColumn(
        name=str(name),
        type=declared,
        storage=affinity(declared),
        nullable=not (not_null or rowid),
        default=None if default is None else normalize.default_text(str(default)),
        collation="" if told.collation == "BINARY" else told.collation,
        generated=told.generated,
    )


def _by_table(rows: list[Row]) -> defaultdict[str, list[Row]]:
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[str(row[0])].append(row)
    return found
