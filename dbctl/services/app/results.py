"""Results of a query on each configured database of an app, of which one failure does not hide the others; pages of results; columns that store times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from decimal import Decimal
from typing import Generic, Literal, TypeVar

from msgspec import structs

from dbctl.engines.contract.checks import TableSize
from dbctl.engines.contract.database import Column, Readable
from dbctl.errors.base import DbctlError, Exit, shorten_details
from dbctl.errors.connection import CorruptError, PrivilegeMissingError, QueryFailedError
from dbctl.errors.databases import TableMissingError, TablesUnreadableError
from dbctl.errors.usage import DatabaseNotConfiguredError, NotSupportedError, UsageError
from dbctl.model import Page, PageRequest, Row, Struct
from dbctl.profiles.codecs import find_time_form, read_text
from dbctl.profiles.model.base import ColumnNames
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.user_roles.form import is_boolean, is_number
from dbctl.services.app.user_table import TIMES

#: Errors of one table, after which others can be read.
UNREADABLE = (CorruptError, PrivilegeMissingError, QueryFailedError)
T = TypeVar("T", bound=Struct)
Item = TypeVar("Item")


class DatabaseResults(Struct, Generic[T], frozen=True, kw_only=True):
    """The results of the databases that could be read, and the errors of the others."""

    page: Page[T]
    failed: Sequence[DbctlError]
    remarks: Sequence[str] = ()  #: notes about the results

    @property
    def status(self) -> Exit:
        """The exit code of the command."""
        return Exit.PARTIAL if self.failed else Exit.OK


def selected_databases(app: App) -> Iterator[str]:
    """Yield the database of ``--db``, otherwise all configured databases.

    Raises:
        DatabaseNotConfiguredError: a required database is not configured.
    """
    for name, section in app.core.databases.items():
        if app.only not in ("", name):
            continue
        try:
            app.url(name)
        except DatabaseNotConfiguredError:
            if section.optional and not app.only:
                continue
            raise
        yield name


def create_result(kind: type[T], target: str, *sources: Struct, **fields: object) -> T:
    """Return a result about ``target``, with ``fields`` and those fields of the values of an engine that ``kind`` has."""
    values = {name: value for source in sources for name, value in structs.asdict(source).items()}
    values |= {**fields, "target": target}
    return kind(**{name: values[name] for name in kind.__struct_fields__ if name in values})


def collect_results(
    app: App,
    item_type: type[T],
    page_request: PageRequest,
    collect: Callable[[str], list[T]],
    *,
    hide_single_target: bool = False,
    notes: Sequence[str] = (),
    unread: Sequence[DbctlError] = (),
) -> DatabaseResults[T]:
    """Collect items from each configured database; databases whose engine does not support it are skipped.

    ``collect`` returns the items of one database, and may add to ``notes``, and to ``unread`` what it could not read of it. With ``hide_single_target`` a table omits the column of the target if all rows
    have the same.

    Raises:
        DbctlError: all databases failed; the error of the first.
    """
    items, failed, has_result = list[T](), list[DbctlError](), False
    for name in selected_databases(app):
        try:
            items += collect(name)
            has_result = True
        except DbctlError as error:
            failed.append(error)
    if failed and not has_result:
        raise failed[0]
    page = paginate(items, item_type, page_request)
    omitted_columns = [
        field for field in item_type.__struct_fields__ if all(getattr(item, field) is None for item in items)
    ]
    if hide_single_target and len({getattr(item, "target", None) for item in items}) == 1:
        omitted_columns = ["target", *omitted_columns]
    return DatabaseResults(
        page=structs.replace(page, omitted_columns=omitted_columns if items else ()),
        failed=[error for error in (*failed, *unread) if not isinstance(error, NotSupportedError)],
        remarks=list(dict.fromkeys(filter(None, notes))),
    )


def measure_readable_tables(
    db: Readable, unread: list[DbctlError], *, exact: bool = False
) -> Sequence[TableSize]:
    """Return the sizes of the tables that can be read, and add one error about the others to ``unread``.

    Raises:
        CorruptError, PrivilegeMissingError, QueryFailedError: no table can be read; the error of the first.
    """
    with suppress(*UNREADABLE):
        return db.storage.measure_tables(exact=exact)
    sizes, errors, reasons = list[TableSize](), list[DbctlError](), list[str]()
    for name in db.tables():
        try:
            sizes += db.storage.measure_tables(exact=exact, table=name)
        except UNREADABLE as error:
            errors.append(error)
            reason = str(error.context["reason"]).removeprefix(f"{name}: ")
            reasons.append(f"{name} ({reason})")
    if errors and not sizes:
        raise errors[0]
    if errors:
        unread.append(TablesUnreadableError(target=db.target, tables=", ".join(shorten_details(reasons))))
    return sizes


def paginate(items: Sequence[T], item_type: type[T], page_request: PageRequest) -> Page[T]:
    """Return the page of ``items`` that ``page_request`` requests; items without a value of the sort field come last.

    Raises:
        UsageError: ``item_type`` does not have the sort field.
    """
    return _paginate(items, item_type.__struct_fields__, getattr, page_request)


def paginate_rows(rows: Sequence[Row], columns: Sequence[str], page_request: PageRequest) -> Page[Row]:
    """Return a page of rows with these columns; raises as ``paginate``."""
    return _paginate(rows, columns, lambda row, field: row[field], page_request)


def _paginate(
    items: Sequence[Item],
    fields: Sequence[str],
    read: Callable[[Item, str], object],
    page_request: PageRequest,
) -> Page[Item]:
    field = page_request.sort.removeprefix("-")
    if field and field not in fields:
        detail = f"--sort: no field {field!r}; known: {', '.join(fields)}"
        raise UsageError(detail=detail, name=field, candidates=fields)
    if field:
        with_value = [item for item in items if read(item, field) is not None]
        with_value.sort(
            key=lambda item: _sort_key(read(item, field)), reverse=page_request.sort.startswith("-")
        )
        items = with_value + [item for item in items if read(item, field) is None]
    end = None if page_request.limit is None else page_request.offset + page_request.limit
    return Page(
        items=items[page_request.offset : end],
        total=len(items),
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=fields,
    )


def _sort_key(value: object) -> tuple[int, float, str]:
    """Return a sort key for values of any type: numbers, then times, then text without regard to case."""
    if isinstance(value, int | float | Decimal):
        return 0, float(value), ""
    if isinstance(value, datetime):
        return 1, value.timestamp(), ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return 0, len(value), ""
    return 2, 0, str(value).casefold()


def missing_table_error(app: App, db: Readable, name: str) -> TableMissingError:
    """Return the error for a table that a database of the app lacks; its hint names another database that has the table."""
    others = []
    for other in app.configured.databases:
        if app.target(other) == db.target:
            continue
        # The missing table is the error to report. ``reader`` would refuse a database that --db excludes.
        with suppress(DbctlError), closing(app.open_for_reading(other)) as reader:
            others += [other] if name in reader.tables() else []
    error = TableMissingError(name=name, target=db.target, candidates=() if others else db.tables())
    if others:
        error.hint = f"This table is in another database: {' or '.join(f'--db {other}' for other in others)}"
    return error


def is_time(db: Readable, column: Column, time_columns: Collection[str]) -> bool:
    """Return whether a column holds times: by its type, or because it is one of ``time_columns``."""
    if column.native == "time" or column.name in time_columns:
        return True
    return "time" not in db.native_types and column.type.startswith(("DATE", "TIMESTAMP"))


def find_kind(db: Readable, column: Column) -> Literal["boolean", "time", "number", ""]:
    """Return what a column holds by its type; empty: text or another value."""
    if is_boolean(column):
        return "boolean"
    return "time" if is_time(db, column, ()) else "number" if is_number(column) else ""


def stores_days(live: LiveTable, column: Column) -> bool:
    """Return whether a column of the type DATE, which SQLite does not check, has no times of day."""
    if column.native == "time" or column.type != "DATE":
        return False
    return not any(find_time_form(value) for (value,) in live.sample([column.name]))


def decode_shown(column: Column, text: str) -> str:
    """Return a typed text; of a column of bytes, the text that they are if they have one of the forms of results."""
    from dbctl.engines.sql.codec import parse_bytes

    with suppress(ValueError):
        return read_text(parse_bytes(text)) if column.is_binary else text
    return text


def stores_texts(live: LiveTable, column: str) -> bool:
    """Whether a column has texts only, although its type does not require them, as the ``BLOB`` of SQLite in MediaWiki."""
    stored = [value for (value,) in live.sample([column]) if value is not None]
    return bool(stored) and all(isinstance(value, str) for value in stored)


def time_columns(app: App, database: str, live: LiveTable) -> frozenset[str]:
    """Return the columns of a table that hold times according to the profile or their defaults."""
    profile, names = app.profile, list[ColumnNames | None]()
    if app.database(database).updated_at:
        names.append(app.database(database).updated_at)
    if profile.users and profile.users.table == live.name:
        names += [profile.users.fields.get(word) for word in TIMES]
    if profile.users:
        names += [
            section.expires_at
            for section in profile.users.signed_in
            if section.table.removesuffix("?") == live.name
        ]
    names += [section.fields.get("updated_at") for section in profile.settings if section.table == live.name]
    if profile.audit and profile.audit.table == live.name:
        names.append(profile.audit.fields.get("at"))
    for kind in profile.sessions:
        if kind.table.removesuffix("?") == live.name:
            names += [kind.started_at, kind.seen_at, kind.ended_at, kind.expires_at]
    names += [rule.age.column for rule in profile.cleanup if rule.table.removesuffix("?") == live.name]
    clocks = [column.name for column in live.table.columns.values() if column.has_time_default]
    return frozenset(column for name in names if (column := find_column(live.table, name))).union(clocks)
