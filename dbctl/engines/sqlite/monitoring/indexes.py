"""What the indexes of a SQLite file are, and the room in it that holds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, cast

from dbctl.engines.contract import Index, Table, Waste
from dbctl.engines.sql import Row, ident
from dbctl.errors import QueryFailedError

Fetch: TypeAlias = Callable[[str, Mapping[str, object]], list[Row]]

#: Some builds of SQLite come without dbstat; then nothing tells the room that one table or index takes.
ROOM = "select name, sum(pgsize), sum(unused) from dbstat where aggregate = 1 group by name"

TEXTS = "select name, coalesce(sql, '') from sqlite_master where type = 'index'"


def room(fetch: Fetch) -> Mapping[str, tuple[int, int]] | None:
    """Return the bytes that each table and index takes, and those of them that hold nothing."""
    try:
        rows = cast("list[tuple[str, int, int]]", fetch(ROOM, {}))
    except QueryFailedError:
        return None
    return {name: (taken, unused) for name, taken, unused in rows}


def indexes(fetch: Fetch, tables: Mapping[str, Table]) -> Iterator[Index]:
    """Yield every index but those that are the table itself."""
    taken = room(fetch)
    # sqlite_master has no index: to look each name up would read all of it for each of them.
    texts = {str(name): str(sql) for name, sql in fetch(TEXTS, {})}
    for table, one in tables.items():
        if one.view:
            continue
        for _, name, unique, origin, partial in fetch(f"pragma index_list({ident(table)})", {}):
            text = texts.get(str(name), "")
            yield Index(
                table=table,
                name=str(name),
                columns=list(_terms(fetch, str(name), text)),
                unique=bool(unique),
                primary=origin == "pk",
                constraint=origin != "c",
                needed=False,
                valid=True,
                method="btree",
                where=_where(text) if partial else "",
                bytes=None if taken is None else taken.get(str(name), (0, 0))[0],
                scans=None,
                drop=f"DROP INDEX {ident(str(name))};" if origin == "c" else "",
            )


def _terms(fetch: Fetch, name: str, sql: str) -> Iterator[str]:
    for _, _, column, descending, collation, key in fetch(f"pragma index_xinfo({ident(name)})", {}):
        if key:
            # What is no column is known by the index's own text alone, so it is like no other index.
            told = str(column) if column is not None else f"expression of {sql}"
            yield (
                told
                + ("" if collation == "BINARY" else f" collate {str(collation).lower()}")
                + (" desc" if descending else "")
            )


def _where(sql: str) -> str:
    """Return the condition of a partial index; its words, for two of them are the same where these are."""
    _, _, told = " ".join(sql.split()).lower().rpartition(" where ")
    return told


def wasted(fetch: Fetch, tables: Mapping[str, Table], *, free_bytes: int) -> Iterator[Waste]:
    """Yield the pages that hold nothing, and what pages that hold something leave empty."""
    yield Waste(
        table="",
        bytes=free_bytes,
        wasted_bytes=free_bytes,
        dead_rows=None,
        rows=None,
        estimated=False,
        source="freelist",
    )
    taken = room(fetch)
    for table, one in tables.items():
        if one.view:
            continue
        names = [table, *(str(row[1]) for row in fetch(f"pragma index_list({ident(table)})", {}))]
        found = [taken[name] for name in names if taken and name in taken]
        yield Waste(
            table=table,
            bytes=sum(size for size, _ in found) if found else None,
            wasted_bytes=sum(unused for _, unused in found) if found else None,
            dead_rows=None,
            rows=None,
            estimated=False,
            source="dbstat" if found else "none: this SQLite has no dbstat",
        )
