"""Rows of any table, looked at; and questions in SQL."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from dbctl.engines.contract import Answer, Order, Readable, Where
from dbctl.errors import QueryFailedError, UsageError
from dbctl.model import Page, Row, Value, Window
from dbctl.services.app import App, hidden, streams
from dbctl.services.data.table import DataTable, Filters, database_of

QUERY_HELP = (
    "data query runs one statement that only reads; dbctl data describe TABLE lists columns,"
    " and --param NAME=VALUE sets :NAME."
)

#: A checkpoint of any mode writes into the file of the database.
CHECKPOINT = re.compile(r"^\s*pragma\s+(\w+\s*\.\s*)?wal_checkpoint\b", re.IGNORECASE)
CHECKPOINT_HELP = "A checkpoint writes into the database: dbctl maintain checkpoint."


class Wanted(Value, frozen=True, kw_only=True):
    """Which rows, and what of them."""

    filters: Filters = Filters()
    after: Sequence[str] = ()  #: a primary key: only rows that come after it, whether or not it is there
    columns: Sequence[str] = ()  #: empty: all of them
    secrets: bool = False


class Answered(Value, frozen=True, kw_only=True):
    """Answer of ``data query``: its first rows. ``total`` is None where more follow, for they were not counted."""

    items: Sequence[Row]
    total: int | None
    limit: int
    offset: int = 0
    has_more: bool

    def brief(self) -> Sequence[Row]:
        return self.items


def rows(app: App, table: str, wanted: Wanted, window: Window) -> Page[Row]:
    """Return rows of a table by its primary key, or as ``window.sort`` has them.

    Raises:
        UsageError: behind a key, another order or an offset is asked for.
    """
    if wanted.after and (window.sort or window.offset):
        raise UsageError(detail="--after goes by the primary key: leave out --sort and --offset")
    found = DataTable(app, app.reader(database_of(app)), table, secrets=wanted.secrets)
    where = found.conditions(wanted.filters)
    names = [found.column(name).name for name in wanted.columns] or list(found.columns)
    there = [*where, found.behind(wanted.after)] if wanted.after else where
    items = found.read(
        names, there, order_by=_order(found, window.sort), limit=window.limit, offset=window.offset
    )
    coming = _total(found, there, window, len(items))
    total = found.db.count(found.name, where) if wanted.after else coming
    return Page(
        items=items,
        total=total,
        limit=window.limit,
        offset=window.offset + total - coming,
        names=names,
        after=_last(found, items, wanted.after) if not (window.sort or window.offset) else (),
    )


def show(
    app: App, table: str, key: Sequence[str], *, columns: Sequence[str] = (), secrets: bool = False
) -> Mapping[str, object]:
    """Return one row, or some columns of it.

    Raises:
        RowAbsentError: there is none.
    """
    found = DataTable(app, app.reader(database_of(app)), table, secrets=secrets)
    names = [found.column(name).name for name in columns] or list(found.columns)
    row = found.one(key)
    return {name: found.shown(name, row[name]) for name in names}


@contextmanager
def asked(
    app: App, sql: str, given: Mapping[str, str], *, within: timedelta | None, secrets: bool
) -> Iterator[Answer]:
    """Give the answer of one statement that reads, as it comes.

    Raises:
        QueryFailedError, SecretAskedError, TimeUpError: as ``Streams.ask`` does.
    """
    name = database_of(app)
    db = app.reader(name)
    told = {} if secrets else hidden(app, name, db, _named(db, sql))
    try:
        with streams(db).ask(sql, given, within=within, hidden=told) as answer:
            yield Answer(_apart(answer.columns), answer.batches)
    except QueryFailedError as error:
        target, reason = error.facts["target"], error.facts["reason"]
        instead = CHECKPOINT_HELP if CHECKPOINT.search(sql) else QUERY_HELP
        raise QueryFailedError(target=target, reason=reason, instead=instead) from error


def _named(db: Readable, sql: str) -> Collection[str]:
    """Return the tables that a statement names; all where it names a view, which may read any."""
    words = set(re.findall(r"\w+", sql.lower()))
    named = [
        table for table in db.tables().values() if words.issuperset(re.findall(r"\w+", table.name.lower()))
    ]
    return list(db.tables()) if any(table.view for table in named) else [table.name for table in named]


def first_of(answer: Answer, limit: int) -> Answered:
    """Return the first rows of an answer."""
    items: list[Row] = []
    for batch in answer.batches:
        items += [dict(zip(answer.columns, row, strict=True)) for row in batch]
        if len(items) > limit:
            break
    more = len(items) > limit
    return Answered(items=items[:limit], total=None if more else len(items), limit=limit, has_more=more)


def cut(answer: Answer, limit: int) -> Answer:
    """Return the same answer, with no more rows than that."""

    def batches() -> Iterator[Sequence[tuple[object, ...]]]:
        left = limit
        for batch in answer.batches:
            yield batch[:left]
            left -= len(batch)
            if left <= 0:
                return

    return Answer(answer.columns, batches())


def with_one(batches: Iterator[Sequence[tuple[object, ...]]]) -> Iterator[Sequence[tuple[object, ...]]]:
    """Yield the batches; an empty one where there is none, for what has a heading even over nothing."""
    yield next(batches, ())
    yield from batches


def key_size(app: App, table: str) -> int:
    """Return how many columns name a row of a table."""
    return len(DataTable(app, app.reader(database_of(app)), table).key)


def _total(found: DataTable, where: Sequence[Where], window: Window, got: int) -> int:
    if (got or not window.offset) and (window.limit is None or got < window.limit):
        return window.offset + got
    return found.db.count(found.name, where)


def _last(found: DataTable, items: Sequence[Row], after: Sequence[str]) -> Sequence[str]:
    """Return the key of the last row as it would be typed, nothing where that is not seen in it; of no row, that before it."""
    if not items:
        return after
    key = [items[-1].get(name) for name in found.key if name not in found.hidden]
    seen = len(key) == len(found.key) and all(isinstance(value, int | str) for value in key)
    return [str(value) for value in key] if seen else ()


def _order(found: DataTable, sort: str) -> list[Order]:
    if not sort:
        return []
    name = sort.removeprefix("-") if sort not in found.columns else sort
    column = found.asked_column(name).name
    return [Order([column], sort != name, time=found.is_time(column))]


def _apart(names: Sequence[str]) -> list[str]:
    """Return names of columns, those that come again with a number behind, for a row in JSON has each once."""
    made: list[str] = []
    for name in names:
        told, number = name, 1
        while told in made:
            number += 1
            told = f"{name}_{number}"
        made.append(told)
    return made
