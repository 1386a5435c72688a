"""Statistics of databases, tables and users; the audit log of the app; processes with open files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from dbctl.engines.contract.database import Condition, InSubquery, Order, Where
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    CorruptError,
    DatabaseMissingError,
    NotADatabaseError,
    PrivilegeMissingError,
    UnreachableError,
)
from dbctl.errors.usage import DriverMissingError, SchemaMismatchError
from dbctl.model import Page, PageRequest, Row, Struct, now
from dbctl.profiles.codecs import read_time
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.results import (
    DatabaseResults,
    collect_results,
    create_result,
    measure_readable_tables,
)
from dbctl.services.app.user_table import User, UserTable, open_users, users_database
from dbctl.services.deletion.cross_database import find_configured_links
from dbctl.services.users import detail

#: Errors of other databases that are reported instead of raised.
SKIPPED_ERRORS = (CorruptError, DatabaseMissingError, DriverMissingError, NotADatabaseError, UnreachableError)
#: Columns of a database on a server.
SERVER_FIELDS = ("connections", "cache_hit_ratio", "deadlocks", "lag_seconds", "lag_bytes")


class DatabaseStats(Struct, frozen=True, kw_only=True):
    """Size and activity of a database."""

    target: str
    bytes: int
    page_count: int | None
    page_size: int
    freelist_pages: int | None
    wal_bytes: int | None
    wal_pages: int | None  #: in the -wal and not in the file yet
    tables: int
    journal_mode: str | None
    #: Only of servers, counted since ``since``.
    version: str | None = None
    connections: int | None = None
    max_connections: int | None = None
    cache_hit_ratio: float | None = None  #: share of reads, from 0 to 1
    commits: int | None = None
    rollbacks: int | None = None
    deadlocks: int | None = None
    temp_bytes: int | None = None  #: written to temporary files
    since: datetime | None = None
    #: Only of replicas.
    lag_seconds: float | None = None  #: the age of the newest replicated change, if not all are replicated
    lag_bytes: int | None = None  #: changes that the replica has received and not applied

    listed = ("target", "bytes", "tables", "freelist_pages", "wal_bytes", "journal_mode", *SERVER_FIELDS)


class TableStats(Struct, frozen=True, kw_only=True):
    """Size and activity of a table."""

    target: str
    table: str
    rows: int
    bytes: int | None  #: with its indexes
    indexes: Sequence[str]
    estimated: bool = False  #: whether ``rows`` is an estimate
    #: Only of servers.
    table_bytes: int | None = None
    index_bytes: int | None = None
    toast_bytes: int | None = None  #: long values, stored outside of their rows
    dead_rows: int | None = None  #: deleted rows that still use space
    inserts: int | None = None  #: since the statistics were reset
    updates: int | None = None
    deletes: int | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None
    #: Only of tables with versions.
    fragments: int | None = None  #: parts with separate files
    versions: int | None = None  #: stored versions
    format: str | None = None  #: version of the file format

    def summary(self) -> Row:
        rows = f"~{self.rows}" if self.estimated else self.rows
        row = {"target": self.target, "table": self.table, "rows": rows, "bytes": self.bytes}
        counters = ("inserts", "updates", "deletes", "dead_rows", "fragments", "versions")
        return row | {"indexes": len(self.indexes)} | {field: getattr(self, field) for field in counters}


class UserStats(Struct, frozen=True, kw_only=True):
    """Data of an app about one user."""

    id: object
    login: str
    statistics: Mapping[str, object] | None
    rows: Mapping[str, int]  #: by table, or ``table.column`` if several columns refer to users
    skipped: Sequence[str] = ()  #: other databases that could not be read, with the reason

    listed = ("id", "login", "statistics", "rows")


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One entry of the app's audit log; fields that the app does not record are None."""

    at: datetime | None
    user: object
    username: str | None
    action: str | None
    resource: str | None
    resource_id: object
    details: object


class LockHolder(Struct, frozen=True, kw_only=True):
    """A process that has a database open."""

    target: str
    pid: int
    command: str
    owner: str
    mode: str
    waits_for: Sequence[int]  #: PIDs of the processes that block it, if known
    locks: Sequence[str]  #: on a server: type and object of each lock, including awaited ones
    query: str  #: on a server: the running or last statement; shortened, without values
    transaction_seconds: float | None  #: duration of its transaction


def list_databases(app: App, page_request: PageRequest) -> DatabaseResults[DatabaseStats]:
    """Return the size of each configured database, without a checkpoint of the ``-wal``."""

    def read_database(name: str) -> list[DatabaseStats]:
        sources: list[Struct] = [app.reader(name).storage.measure_storage()]
        if server := app.reader(name).server:
            sources.append(server.read_traffic())
            with suppress(PrivilegeMissingError):  # the account of an app seldom may read it
                if state := server.read_replica_state():
                    sources.append(state)
        return [create_result(DatabaseStats, app.target(name), *sources)]

    return collect_results(app, DatabaseStats, page_request, read_database)


def list_tables(app: App, page_request: PageRequest, *, exact: bool = False) -> DatabaseResults[TableStats]:
    """Return the size of each table of each configured database; ``exact`` counts rows even if that takes long."""
    unread = list[DbctlError]()

    def read_database(name: str) -> list[TableStats]:
        return [
            create_result(TableStats, app.target(name), size)
            for size in measure_readable_tables(app.reader(name), unread, exact=exact)
        ]

    return collect_results(app, TableStats, page_request, read_database, unread=unread)


def measure_user(app: App, login: str) -> UserStats:
    """Return statistics of one user, and the number of rows that belong to the user.

    Raises:
        UserMissingError, AmbiguousLoginError: the login matches no user, or several.
    """
    user_table = open_users(app)
    account = user_table.find_by_login(login)
    paths = map(parse_row_path, user_table.section.owned)
    conditions: dict[tuple[str, str], Where] = {
        (path[0].table, path[0].column): Condition(path[0].column, "=", account.id)
        for path in paths
        if len(path) == 1 and not path[0].text
    }
    user = [Condition(user_table.id, "=", account.id)]
    for reference in user_table.db.references(user_table.live.name):
        test = InSubquery(reference.columns, user_table.live.name, reference.to, user)
        conditions[reference.table, reference.columns[0]] = test
    existing = user_table.db.tables()
    rows = {}
    for table, column in sorted(conditions):
        if table in existing:
            has_multiple = sum(table == other for other, _ in conditions) > 1
            label = f"{table}.{column}" if has_multiple else table
            rows[label] = user_table.db.count(table, [conditions[table, column]])
    other_rows, notes = _count_other_databases(app, user_table, account)
    return UserStats(
        id=account.id,
        login=account.login,
        statistics=detail.statistics(user_table, account),
        rows=rows | other_rows,
        skipped=notes,
    )


def _count_other_databases(app: App, user_table: UserTable, user: User) -> tuple[dict[str, int], list[str]]:
    """Return the number of rows of the user in other databases, and notes about unreadable databases."""
    rows, notes = dict[str, int](), list[str]()
    for link in find_configured_links(app, users_database(app)):
        if app.only or f"{user_table.live.name}.{user_table.id}" not in link.targets:
            continue
        try:
            db = app.reader(link.database)
            column = find_column(db.tables().get(link.table), link.column)
            if column:
                condition = [Condition(column, "=", user.id)]
                rows[f"{link.database}/{link.table}"] = db.count(link.table, condition)
        except SKIPPED_ERRORS as error:
            notes.append(f"{link.table} was not counted: {error}")
    return rows, notes


def list_activity(
    app: App,
    page_request: PageRequest,
    *,
    login: str = "",
    action: str = "",
    resource: str = "",
    since: timedelta | None = None,
) -> Page[AuditEntry]:
    """Return the audit log of the app, newest entry first; ``since`` is the maximum age of the entries.

    A final ``*`` of ``login``, which may be that of a deleted user, and of ``action`` matches any suffix.

    Raises:
        SchemaMismatchError: the log has no column for a condition.
    """
    section = app.require_section(app.profile.audit, "audit")
    db = app.reader(app.main_database)
    live_table = LiveTable(app.profile, db, section.table, "the audit log")
    columns = {
        field: find_column(live_table.table, section.fields.get(field))
        for field in AuditEntry.__struct_fields__
    }

    def require_column(field: str) -> str:
        column_name = columns[field]
        if column_name is None:
            raise SchemaMismatchError(
                target=db.target, missing=f"a column for {field}", purpose="this filter"
            )
        return column_name

    where: list[Where] = []
    for field, text in (("username", login), ("action", action)):
        if text:
            op: Literal["starts", "same"] = "starts" if text.endswith("*") else "same"
            where.append(Condition(require_column(field), op, text.removesuffix("*")))
    if resource:
        where.append(Condition(require_column("resource"), "same", resource))
    if since is not None:
        where.append(Condition(require_column("at"), ">=", now() - since))
    existing = {field: name for field, name in columns.items() if name}
    keys = [
        Order([name], descending=True)
        for name, column_info in live_table.table.columns.items()
        if column_info.is_primary_key
    ]
    order = [Order([require_column("at")], descending=True, time=True), *keys]
    rows = db.select(
        section.table,
        list(existing.values()),
        where,
        order_by=order,
        limit=page_request.limit,
        offset=page_request.offset,
    )
    items = [_create_entry(dict(zip(existing, row, strict=True))) for row in rows]
    return Page(
        items=items,
        total=page_request.find_total(len(rows), lambda: db.count(section.table, where)),
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=AuditEntry.__struct_fields__,
        omitted_columns=[
            field
            for field in AuditEntry.__struct_fields__
            if all(getattr(entry, field) is None for entry in items)
        ],
    )


def list_locks(app: App, page_request: PageRequest) -> DatabaseResults[LockHolder]:
    """Return the processes that have the databases open, as far as permissions allow; opens no database."""

    def read_database(name: str) -> list[LockHolder]:
        return [
            create_result(LockHolder, app.target(name), holder)
            for holder in app.engine(name).list_lock_holders(app.url(name), app.target(name))
        ]

    return collect_results(app, LockHolder, page_request, read_database, hide_single_target=True)


def _create_entry(values: Mapping[str, object]) -> AuditEntry:
    texts = {
        field: None if (value := values.get(field)) is None else str(value)
        for field in ("username", "action", "resource")
    }
    return AuditEntry(
        at=read_time(values.get("at")),
        user=values.get("user"),
        resource_id=values.get("resource_id"),
        details=values.get("details"),
        **texts,
    )
