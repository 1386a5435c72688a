"""Indexes and unused space of a SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, cast

from dbctl.engines.contract import Bloat, Index, Table
from dbctl.engines.sql import Row, ident
from dbctl.errors import QueryFailedError

Fetch: TypeAlias = Callable[[str, Mapping[str, object]], list[Row]]

#: Some builds of SQLite lack dbstat; then the sizes of tables and indexes are unknown.
SIZES_SQL = "select name, sum(pgsize), sum(unused) from dbstat where aggregate = 1 group by name"

INDEX_SQL = "select name, coalesce(sql, '') from sqlite_master where type = 'index'"


def read_sizes(fetch: Fetch) -> Mapping[str, tuple[int, int]] | None:
    """Return the total and the unused bytes of each table and index; None without dbstat."""
    try:
        rows = cast("list[tuple[str, int, int]]", fetch(SIZES_SQL, {}))
    except QueryFailedError:
        return None
    return {name: (size, unused) for name, size, unused in rows}


def list_indexes(fetch: Fetch, tables: Mapping[str, Table]) -> Iterator[Index]:
    """Yield every index of the tables."""
    sizes = read_sizes(fetch)
    # sqlite_master has no index, so a lookup per name would scan it each time.
    texts = {str(name): str(sql) for name, sql in fetch(INDEX_SQL, {})}
    for table, definition in tables.items():
        if definition.is_view:
            continue
        for _, name, unique, origin, partial in fetch(f"pragma index_list({ident(table)})", {}):
            text = texts.get(str(name), "")
            yield Index(
                table=table,
                name=str(name),
                columns=list(_read_terms(fetch, str(name), text)),
                unique=bool(unique),
                primary=origin == "pk",
                constraint=origin != "c",
                is_referenced=False,
                valid=True,
                method="btree",
                where=_read_condition(text) if partial else "",
                bytes=None if sizes is None else sizes.get(str(name), (0, 0))[0],
                scans=None,
                drop_statement=f"DROP INDEX {ident(str(name))};" if origin == "c" else "",
            )


def _read_terms(fetch: Fetch, name: str, sql: str) -> Iterator[str]:
    for _, _, column, descending, collation, key in fetch(f"pragma index_xinfo({ident(name)})", {}):
        if key:
            # An expression is only in the SQL of the index, so the term equals that of no other index.
            term = str(column) if column is not None else f"expression of {sql}"
            yield (
                term
                + ("" if collation == "BINARY" else f" collate {str(collation).lower()}")
                + (" desc" if descending else "")
            )


def _read_condition(sql: str) -> str:
    """Return the condition of a partial index, in lower case and with single blanks."""
    _, _, condition = " ".join(sql.split()).lower().rpartition(" where ")
    return condition


def list_bloat(fetch: Fetch, tables: Mapping[str, Table], *, free_bytes: int) -> Iterator[Bloat]:
    """Yield the free pages of the file, and the unused space in the pages of each table."""
    yield Bloat(
        table="",
        bytes=free_bytes,
        wasted_bytes=free_bytes,
        dead_rows=None,
        rows=None,
        estimated=False,
        source="freelist",
    )
    sizes = read_sizes(fetch)
    for table, definition in tables.items():
        if definition.is_view:
            continue
        names = [table, *(str(row[1]) for row in fetch(f"pragma index_list({ident(table)})", {}))]
        known_sizes = [sizes[name] for name in names if sizes and name in sizes]
        yield Bloat(
            table=table,
            bytes=sum(size for size, _ in known_sizes) if known_sizes else None,
            wasted_bytes=sum(unused for _, unused in known_sizes) if known_sizes else None,
            dead_rows=None,
            rows=None,
            estimated=False,
            source="dbstat" if known_sizes else "none: this SQLite has no dbstat",
        )
