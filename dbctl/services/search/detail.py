"""One row of a search with all its columns and details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from dbctl.engines.contract.database import Condition, InSubquery, Order, Where
from dbctl.errors.base import Remedy
from dbctl.errors.databases import RowNotFoundError
from dbctl.model import Row, Struct
from dbctl.profiles.model.search import Detail, DetailVariant
from dbctl.services.app.app import App
from dbctl.services.app.secrets import find_secret_columns, mask
from dbctl.services.search.compiler import QueryCompiler, list_missing, parse_path, select_existing
from dbctl.services.search.query_parser import check_text
from dbctl.services.search.search import decode_row, select_search


class RowDetail(Struct, frozen=True, kw_only=True):
    """One row with its details, under the names of the profile."""

    extra: Row


def read_detail(app: App, search_name: str, key: str) -> RowDetail:
    """Return the row with this id, or its replacement, with its details; secrets are masked.

    Raises:
        RowNotFoundError: no row has this id.
    """
    search = select_search(app, search_name)
    compiler = QueryCompiler(app.profile, search, app.reader(search.database))
    row = _read_row(compiler, check_text(key, "id"))
    details = {detail.name: _read_section(compiler, detail, row) for detail in search.detail}
    computed = {
        field: _compute_field(alternatives, row, details) for field, alternatives in search.computed.items()
    }
    masked = mask(
        row, find_secret_columns(app, search.database, compiler.db, [search.table]).get(search.table, ())
    )
    return RowDetail(extra={**decode_row(search, masked), **computed, **details})


def _read_row(compiler: QueryCompiler, key: str) -> dict[str, object]:
    """Return all columns of the row with this id; follows the table of replaced ids."""
    search, db = compiler.search, compiler.db
    columns = list(compiler.tables[search.table].columns)
    moved = search.renamed
    rows = db.select(search.table, columns, [Condition(search.id, "=", key)], limit=1)
    followed = [key]
    while not rows and moved and moved.table in compiler.tables:
        successors = db.select(moved.table, [moved.new], [Condition(moved.old, "=", followed[-1])], limit=1)
        if not successors or str(successors[0][0]) in followed:
            break
        followed.append(str(successors[0][0]))
        rows = db.select(search.table, columns, [Condition(search.id, "=", followed[-1])], limit=1)
    if not rows:
        raise RowNotFoundError(
            table=search.name, key=key, target=db.target, hint=Remedy("Search with: `search {table} WORDS`")
        )
    return dict(zip(columns, rows[0], strict=True))


def _read_section(compiler: QueryCompiler, detail: Detail, row: Row) -> list[object]:
    location = _find_location(compiler, detail.variant or [detail])
    if location is None:
        return []
    if not location.path:
        lists = select_existing(compiler.tables, compiler.search.table, location.lists)
        text = next((str(row[name]) for name in lists if row[name]), "")
        return [part.strip() for part in text.split(";") if part.strip()]
    path = parse_path(location.path)
    if row[path[0].column] is None:  # a reference without a row
        return []
    where: Where = Condition(path[0].to, "=", row[path[0].column])
    for previous, link in pairwise(path):
        where = InSubquery((link.to,), previous.table, (link.column,), (where,))
    columns = select_existing(compiler.tables, path[-1].table, location.columns)
    times = compiler.search.times
    order = [
        Order((column := name.removeprefix("-"),), descending=name.startswith("-"), time=column in times)
        for name in location.order
    ]
    rows = compiler.db.select(path[-1].table, columns, [where], order_by=order)
    if len(location.columns) == 1:
        return [value for (value,) in rows]
    return [decode_row(compiler.search, dict(zip(columns, values, strict=True))) for values in rows]


def _find_location(compiler: QueryCompiler, locations: Sequence[DetailVariant]) -> DetailVariant | None:
    """Return the first location of a detail that the live schema has, or None."""
    table = compiler.search.table
    for location in locations:
        path = parse_path(location.path)
        end = path[-1].table if path else table
        columns = [*location.columns, *(name.removeprefix("-") for name in location.order), *location.lists]
        existing = select_existing(compiler.tables, end, location.columns if path else location.lists)
        if existing and not any(list_missing(compiler.tables, table, [], path, columns)):
            return location
    return None


def _compute_field(
    alternatives: Sequence[str], row: Row, details: Mapping[str, Sequence[object]]
) -> str | None:
    """Return the text of the first alternative whose first field has a value, or None."""
    for alternative in alternatives:
        values = [_read_field(field, row, details) for field in alternative.split()]
        if values[0]:
            return " ".join(value for value in values if value)
    return None


def _read_field(field: str, row: Row, details: Mapping[str, Sequence[object]]) -> str:
    detail, _, column = field.rpartition(".")
    first = next(iter(details[detail]), {}) if detail else row
    value = first.get(column) if isinstance(first, Mapping) else first
    return "" if value is None else str(value)
