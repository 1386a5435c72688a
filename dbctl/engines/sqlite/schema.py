"""Build the schema from SQLite's pragmas, and from the CREATE statements for what no pragma contains."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import cast

from dbctl.engines.contract.schema import (
    Schema,
    SchemaCode,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    SchemaTable,
    group_by_table,
)
from dbctl.engines.sql.catalog import Row
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.sql import normalize
from dbctl.engines.sqlite.sql.create_statement import (
    ColumnText,
    IndexText,
    normalize_trigger,
    normalize_view,
    normalize_virtual_table,
    parse_index,
    parse_table,
)
from dbctl.engines.sqlite.types.codec import find_affinity

#: Suffixes of the shadow tables of full-text and R-tree modules.
_SHADOWS = "config content data docsize idx node parent rowid segdir segments stat".split()


@lru_cache(maxsize=4)  # a database, its backup and the restored database have the same catalog
def build_schema(
    entries: tuple[Row, ...], columns: tuple[Row, ...], keys: tuple[Row, ...], indexes: tuple[Row, ...]
) -> Schema:
    """Return the schema in the rows of the catalog and of the pragmas for columns, foreign keys and indexes."""
    return _SchemaBuilder(entries, columns, keys, indexes).build()


class _SchemaBuilder:
    def __init__(
        self, entries: Sequence[Row], columns: Sequence[Row], keys: Sequence[Row], indexes: Sequence[Row]
    ) -> None:
        self._entries = [tuple(str(value or "") for value in entry) for entry in entries]
        self._columns, self._keys = group_by_table(columns), group_by_table(keys)
        self._indexes = group_by_table(indexes)
        self._names = {entry[1].lower() for entry in self._entries}
        self._names |= {str(row[1]).lower() for row in columns}
        self._texts = {name: sql for kind, name, _, sql in self._entries if kind == "index"}

    def build(self) -> Schema:
        shadows = {
            f"{name}_{suffix}".lower()
            for kind, name, _, sql in self._entries
            if kind == "table" and re.match(VIRTUAL, sql)
            for suffix in _SHADOWS
        }
        tables = [
            self._build_table(name, sql) if name in self._columns else self._build_virtual_table(name, sql)
            for kind, name, _, sql in self._entries
            if kind == "table" and name.lower() not in shadows
        ]
        return Schema(tables=tables, codes=list(self._build_codes()))

    def _build_codes(self) -> Iterator[SchemaCode]:
        for kind, name, table, sql in self._entries:
            if kind == "view":
                yield SchemaCode(kind="view", name=name, text=normalize_view(sql, self._names))
            elif kind == "trigger":
                text = normalize_trigger(sql, self._names)
                yield SchemaCode(kind="trigger", name=name, table=table, text=text)

    def _build_virtual_table(self, name: str, sql: str) -> SchemaTable:
        options = [normalize_virtual_table(sql)]
        return SchemaTable(
            name=name, columns=(), key=(), indexes=(), references=(), checks=(), options=options
        )

    def _build_table(self, name: str, sql: str) -> SchemaTable:
        text = parse_table(sql, self._names)
        indexes = list(self._build_indexes(self._indexes[name]))
        references = self._build_references(self._keys[name], text.deferred)
        primary_indexes = [index for origin, index in indexes if origin == "pk"]
        key = self._find_primary_key(name)
        return SchemaTable(
            name=name,
            columns=[
                _build_column(row, column_text, key)
                for row, column_text in zip(self._columns[name], text.columns, strict=True)
            ],
            key=primary_indexes[0].columns if primary_indexes else key,
            indexes=sorted(
                (index for origin, index in indexes if origin != "pk"),
                key=lambda index: (index.name, index.columns),
            ),
            references=sorted(
                references, key=lambda reference: (reference.columns, reference.table, reference.to)
            ),
            checks=text.checks,
            options=text.options,
        )

    def _build_indexes(self, rows: Sequence[Row]) -> Iterator[tuple[str, SchemaIndex]]:
        """Yield each index of a table with its origin: ``c`` for CREATE INDEX, ``u`` and ``pk`` for constraints."""
        for name in dict.fromkeys(str(row[1]) for row in rows):
            index_rows = [row for row in rows if row[1] == name]
            sql = self._texts.get(name, "")
            text = parse_index(sql, self._names) if sql else IndexText(terms=(), where="")
            columns = []
            for position, (_, _, _, _, column, descending, collation) in enumerate(index_rows):
                term = text.terms[position] if column is None else str(column)
                collation_name = str(collation).upper()
                term += "" if collation_name == "BINARY" else f" collate {collation_name}"
                columns.append(f"{term} desc" if descending else term)
            index = SchemaIndex(
                name=name if sql else "", columns=columns, unique=bool(index_rows[0][2]), where=text.where
            )
            yield str(index_rows[0][3]), index

    def _build_references(
        self, rows: Sequence[Row], deferred: Collection[tuple[str, ...]]
    ) -> Iterator[SchemaReference]:
        for key_id in dict.fromkeys(row[1] for row in rows):
            key_rows = [row for row in rows if row[1] == key_id]
            _, _, _, target, _, on_update, on_delete = key_rows[0]
            table = next((name for name in self._columns if name.lower() == str(target).lower()), str(target))
            spelling = {str(row[1]).lower(): str(row[1]) for row in self._columns[table]}
            target_columns = [str(row[4]) for row in key_rows if row[4] is not None]
            columns = [str(row[2]) for row in key_rows]
            yield SchemaReference(
                columns=columns,
                table=table,
                to=[spelling.get(column.lower(), column) for column in target_columns]
                or self._find_primary_key(table),
                on_update=str(on_update),
                on_delete=str(on_delete),
                deferred=tuple(column.lower() for column in columns) in deferred,
            )

    def _find_primary_key(self, table: str) -> list[str]:
        """Return the primary key of a table, to which a foreign key without columns refers."""
        keyed = sorted((cast("int", row[5]), str(row[1])) for row in self._columns[table] if row[5])
        return [column for _, column in keyed]


def _build_column(row: Row, column_text: ColumnText, key: Sequence[str]) -> SchemaColumn:
    _, name, kind, not_null, default, _ = row
    declared = normalize.normalize_sql(str(kind or ""), ()).upper()
    if column_text.generated:  # with unusual blanks SQLite reads these words as part of the type
        declared = re.sub(r" ?GENERATED( ALWAYS)?$", "", declared)
    is_rowid = declared == "INTEGER" and list(key) == [name]
    return SchemaColumn(
        name=str(name),
        type=declared,
        storage=find_affinity(declared),
        nullable=not (not_null or is_rowid),
        default=None if default is None else normalize.normalize_default(str(default)),
        collation="" if column_text.collation == "BINARY" else column_text.collation,
        generated=column_text.generated,
    )
