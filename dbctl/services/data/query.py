"""List and show rows of any table, and run read-only SQL statements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from dbctl.engines.contract.database import Order
from dbctl.engines.contract.streaming import RowStream, UserQuery
from dbctl.errors.base import Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import UsageError
from dbctl.model import Page, PageRequest, Row, StoredRow, Struct
from dbctl.services.app.app import App
from dbctl.services.app.live_table import require_streams
from dbctl.services.app.secrets import find_secret_columns, list_named_tables
from dbctl.services.data.table import DataTable, Filters, selected_database

QUERY_HELP = Remedy(
    "It runs one read-only statement, in which --param NAME=VALUE sets :NAME; list columns with: `schema show TABLE`"
)

#: A checkpoint of any mode writes to the database file.
CHECKPOINT = re.compile(r"^\s*pragma\s+(\w+\s*\.\s*)?wal_checkpoint\b", re.IGNORECASE)
CHECKPOINT_HELP = Remedy("A checkpoint writes to the database; use: `maintain checkpoint`")


class RowQuery(Struct, frozen=True, kw_only=True):
    """A selection of rows and columns."""

    filters: Filters = Filters()
    after: Sequence[str] = ()  #: a primary key, which need not exist: selects only the rows after it
    columns: Sequence[str] = ()  #: empty: all
    secrets: bool = False


class QueryResult(Struct, frozen=True, kw_only=True):
    """Result of ``data query``: the first rows; ``total`` is None if there are more, which are not counted."""

    items: Sequence[Row]
    total: int | None
    limit: int
    offset: int = 0
    has_more: bool

    def summary(self) -> Sequence[Row]:
        return self.items


def list_rows(app: App, table: str, query: RowQuery, page_request: PageRequest) -> Page[Row]:
    """Return rows of a table in the order of the primary key or of ``page_request.sort``.

    Raises:
        UsageError: ``after`` is combined with a sort order or an offset.
    """
    if query.after and (page_request.sort or page_request.offset):
        raise UsageError(detail="--after cannot be combined with --sort or --offset")
    data_table = DataTable(app, app.reader(selected_database(app)), table, secrets=query.secrets)
    where = data_table.conditions(query.filters)
    column_names = [data_table.column(name).name for name in query.columns] or list(data_table.columns)
    conditions = [*where, data_table.rows_after(query.after)] if query.after else where
    items = data_table.read(
        column_names,
        conditions,
        order_by=_parse_order(data_table, page_request.sort),
        limit=page_request.limit,
        offset=page_request.offset,
    )
    count_all = partial(data_table.db.count, data_table.name, conditions)
    remaining = page_request.find_total(len(items), count_all)
    total = data_table.db.count(data_table.name, where) if query.after else remaining
    return Page(
        items=[StoredRow(item) for item in items],
        total=total,
        limit=page_request.limit,
        offset=page_request.offset + total - remaining,
        column_names=column_names,
        next_key=_next_key(data_table, items, query.after)
        if not (page_request.sort or page_request.offset)
        else (),
    )


def show_row(
    app: App, table: str, key: Sequence[str], *, columns: Sequence[str] = (), secrets: bool = False
) -> Mapping[str, object]:
    """Return one row, or some of its columns.

    Raises:
        RowNotFoundError: the row does not exist.
    """
    data_table = DataTable(app, app.reader(selected_database(app)), table, secrets=secrets)
    column_names = [data_table.column(name).name for name in columns] or list(data_table.columns)
    row = data_table.find(data_table.complete_key(key))
    return StoredRow({name: data_table.mask_value(name, row[name]) for name in column_names})


@contextmanager
def run_query(
    app: App, sql: str, parameters: Mapping[str, str], *, within: timedelta | None, secrets: bool
) -> Iterator[RowStream]:
    """Run one read-only statement, and yield the stream of its rows.

    Raises:
        QueryFailedError, SecretColumnError, StoredFunctionError, QueryTimeoutError: see ``query_read_only``.
    """
    name = selected_database(app)
    db = app.reader(name)
    secret_columns = {} if secrets else find_secret_columns(app, name, db, list_named_tables(db, sql))
    try:
        query = UserQuery(
            sql, parameters, timeout=within, hidden=secret_columns, calls_stored_functions=secrets
        )
        with require_streams(db).query_read_only(query) as stream:
            yield RowStream(_make_unique(stream.columns), stream.batches)
    except QueryFailedError as error:
        target, reason = error.context["target"], error.context["reason"]
        hint = CHECKPOINT_HELP if CHECKPOINT.search(sql) else QUERY_HELP
        raise QueryFailedError(target=target, reason=reason, hint=hint) from error


def read_first_rows(stream: RowStream, limit: int) -> QueryResult:
    items: list[Row] = []
    for batch in stream.batches:
        items += [StoredRow(zip(stream.columns, row, strict=True)) for row in batch]
        if len(items) > limit:
            break
    has_more = len(items) > limit
    return QueryResult(
        items=items[:limit], total=None if has_more else len(items), limit=limit, has_more=has_more
    )


def limit_rows(stream: RowStream, limit: int) -> RowStream:
    def batches() -> Iterator[Sequence[tuple[object, ...]]]:
        remaining = limit
        for batch in stream.batches:
            yield batch[:remaining]
            remaining -= len(batch)
            if remaining <= 0:
                return

    return RowStream(stream.columns, batches())


def count_key_columns(app: App, table: str) -> int:
    """Return the number of columns of the primary key; raises UsageError without one."""
    return len(DataTable(app, app.reader(selected_database(app)), table).require_key())


def _next_key(table: DataTable, items: Sequence[Row], after: Sequence[str]) -> Sequence[str]:
    """Return the key after which the next page starts; empty if the key is masked, ``after`` if the page is empty."""
    if not items:
        return after
    key = [items[-1].get(name) for name in table.key if name not in table.hidden]
    is_visible = len(key) == len(table.key) and all(isinstance(value, int | str) for value in key)
    return [str(value) for value in key] if is_visible else ()


def _parse_order(table: DataTable, sort: str) -> list[Order]:
    if not sort:
        return []
    name = sort.removeprefix("-") if sort not in table.columns else sort
    column = table.require_readable_column(name).name
    return [Order([column], sort != name, time=table.is_time(column))]


def _make_unique(names: Sequence[str]) -> list[str]:
    """Return unique names of columns, with a number after duplicates, because JSON objects need unique names."""
    unique: list[str] = []
    for name in names:
        candidate, suffix = name, 1
        while candidate in unique:
            suffix += 1
            candidate = f"{name}_{suffix}"
        unique.append(candidate)
    return unique
