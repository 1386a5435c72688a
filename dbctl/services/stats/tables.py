"""Figures: what databases and tables hold, what one user has, what was done, and who holds the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Capability, Condition, Measures, Order, Sessions, Where
from dbctl.errors import (
    CorruptError,
    DatabaseMissingError,
    DriverMissingError,
    NotADatabaseError,
    NotSupportedError,
    SchemaLacksError,
    UnreachableError,
)
from dbctl.model import Page, Row, Value, Window, now
from dbctl.profiles import read_time
from dbctl.services.app import App, Figures, Live, User, UserTable, database_of, figures, find_column
from dbctl.services.deletion import linked
from dbctl.services.users import STEP, detail, queries

#: What keeps another database from telling what it holds, and this one's answer from being less than it is.
UNASKED = (CorruptError, DatabaseMissingError, DriverMissingError, NotADatabaseError, UnreachableError)
#: What a table shows of a database on a server.
SERVED = ("connections", "cache_hit_ratio", "deadlocks")


class DatabaseMeasured(Value, frozen=True, kw_only=True):
    """How much room a database takes."""

    target: str
    bytes: int
    page_count: int | None
    page_size: int
    freelist_pages: int | None
    wal_bytes: int | None
    wal_pages: int | None  #: in the -wal and not in the file yet
    tables: int
    journal_mode: str | None
    #: What only a server counts, since ``since``; None elsewhere.
    version: str | None = None
    connections: int | None = None
    max_connections: int | None = None
    cache_hit_ratio: float | None = None  #: of what was read, from 0 to 1
    commits: int | None = None
    rollbacks: int | None = None
    deadlocks: int | None = None
    temp_bytes: int | None = None  #: that were written because memory did not do
    since: datetime | None = None

    def brief(self) -> Row:
        told = ("target", "bytes", "tables", "freelist_pages", "wal_bytes", "journal_mode", *SERVED)
        return {word: getattr(self, word) for word in told}


class TableMeasured(Value, frozen=True, kw_only=True):
    """How much one table holds."""

    target: str
    table: str
    rows: int
    bytes: int | None  #: with its indexes
    indexes: Sequence[str]
    estimated: bool = False  #: whether ``rows`` is about so many
    #: What only a server tells; None elsewhere.
    table_bytes: int | None = None
    index_bytes: int | None = None
    toast_bytes: int | None = None  #: long values, stored beside their rows
    dead_rows: int | None = None  #: rows that nobody can see any more
    inserts: int | None = None  #: since the server counts
    updates: int | None = None
    deletes: int | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None
    #: What only a table of versions has; None elsewhere.
    fragments: int | None = None  #: parts, each with files of its own
    versions: int | None = None  #: that can be gone back to
    format: str | None = None  #: of its files

    def brief(self) -> Row:
        rows = f"~{self.rows}" if self.estimated else self.rows
        told = {"target": self.target, "table": self.table, "rows": rows, "bytes": self.bytes}
        further = ("inserts", "updates", "deletes", "dead_rows", "fragments", "versions")
        return told | {"indexes": len(self.indexes)} | {word: getattr(self, word) for word in further}


class UserMeasured(Value, frozen=True, kw_only=True):
    """What an app keeps about one user."""

    id: object
    login: str
    statistics: Mapping[str, object] | None
    rows: Mapping[str, int]  #: by table, and column where several of one table point to users
    unasked: Sequence[
        str
    ] = ()  #: of other databases that hold what is the user's: why they could not be asked

    def brief(self) -> Row:
        return {word: getattr(self, word) for word in ("id", "login", "statistics", "rows")}


class Entry(Value, frozen=True, kw_only=True):
    """One entry of the app's own record of what was done; what it does not keep is None."""

    at: datetime | None
    user: object
    username: str | None
    action: str | None
    resource: str | None
    resource_id: object
    details: object


class Held(Value, frozen=True, kw_only=True):
    """A process that has a database open."""

    target: str
    pid: int
    command: str
    owner: str
    mode: str
    waits_for: Sequence[int]  #: the processes whose locks keep it from going on, where that is known
    locks: Sequence[str]  #: on a server: type and object of each lock, those that it waits for included
    query: str  #: on a server: what it runs, or ran last; shortened, without the values in it
    transaction_seconds: float | None  #: how long its transaction lasts


def overview(app: App, window: Window) -> Figures[DatabaseMeasured]:
    """Return how much room each configured database takes; nothing is moved from a ``-wal`` into its file."""

    def look(name: str) -> list[DatabaseMeasured]:
        db = _measures(app, name)
        fields = structs.asdict(db.storage())
        if isinstance(db, Sessions):
            fields |= structs.asdict(db.traffic())
        known = {field: fields[field] for field in DatabaseMeasured.__struct_fields__ if field in fields}
        return [DatabaseMeasured(target=app.target(name), **known)]

    return figures(app, DatabaseMeasured, window, look)


def tables(app: App, window: Window, *, exact: bool = False) -> Figures[TableMeasured]:
    """Return how much each table of each configured database holds.

    Args:
        app: the app.
        window: which part.
        exact: whether the rows are counted even where that takes long.
    """

    def look(name: str) -> list[TableMeasured]:
        return [
            TableMeasured(target=app.target(name), **structs.asdict(one))
            for one in _measures(app, name).measured(exact=exact)
        ]

    return figures(app, TableMeasured, window, look)


def user(app: App, login: str) -> UserMeasured:
    """Return what the app keeps about one user: its own statistics, and the rows that belong to that user.

    Raises:
        UserMissingError, AmbiguousLoginError: the login fits nobody, or several.
    """
    people = queries.open_user_table(app)
    found = people.one(login)
    pointing = [(one.table, one.columns[0]) for one in people.db.references(people.live.name)]
    direct = [one.partition(".") for one in people.section.owns if STEP not in one]
    pointing += [(table, column) for table, _, column in direct]
    live = people.db.tables()
    pointing = [one for one in dict.fromkeys(pointing) if one[0] in live]
    rows = {}
    for table, column in sorted(pointing):
        several = sum(table == other for other, _ in pointing) > 1
        word = f"{table}.{column}" if several else table
        rows[word] = people.db.count(table, [Condition(column, "=", found.id)])
    elsewhere, unasked = _elsewhere(app, people, found)
    return UserMeasured(
        id=found.id,
        login=found.login,
        statistics=detail.statistics(people, found),
        rows=rows | elsewhere,
        unasked=unasked,
    )


def _elsewhere(app: App, people: UserTable, user: User) -> tuple[dict[str, int], list[str]]:
    """Return how many rows of other databases go with the user, and why some cannot be asked."""
    rows, unasked = dict[str, int](), list[str]()
    for link in linked(app, database_of(app)):
        if app.only or f"{people.live.name}.{people.id}" not in link.among:
            continue
        try:
            there = app.reader(link.database)
            column = find_column(there.tables().get(link.table), link.column)
            if column:
                mine = [Condition(column, "=", user.id)]
                rows[f"{link.database}/{link.table}"] = there.count(link.table, mine)
        except UNASKED as error:
            unasked.append(f"{link.table} was not counted: {error}")
    return rows, unasked


def activity(
    app: App,
    window: Window,
    *,
    login: str = "",
    action: str = "",
    resource: str = "",
    since: timedelta | None = None,
) -> Page[Entry]:
    """Return the app's own record of what was done, the latest first.

    Args:
        app: the app.
        window: which part.
        login: of one user, also of one who is gone; with a ``*`` at its end, of those that begin so.
        action: this one; ``*`` as above.
        resource: about this kind of thing.
        since: not older than this.

    Raises:
        SchemaLacksError: the record does not keep what was asked for.
    """
    told = app.ability(app.profile.audit, "audit")
    db = app.reader(app.main())
    live = Live(app.profile, db, told.table, "the app's record of actions")
    columns = {word: find_column(live.table, told.fields.get(word)) for word in Entry.__struct_fields__}

    def column(word: str) -> str:
        found = columns[word]
        if found is None:
            raise SchemaLacksError(target=db.target, what=f"a column for {word}", purpose="this question")
        return found

    where: list[Where] = []
    for word, text in (("username", login), ("action", action)):
        if text:
            op: Literal["starts", "same"] = "starts" if text.endswith("*") else "same"
            where.append(Condition(column(word), op, text.removesuffix("*")))
    if resource:
        where.append(Condition(column("resource"), "same", resource))
    if since is not None:
        where.append(Condition(column("at"), ">=", now() - since))
    present = {word: name for word, name in columns.items() if name}
    keys = [Order([name], descending=True) for name, one in live.table.columns.items() if one.key]
    order = [Order([column("at")], descending=True, time=True), *keys]
    rows = db.select(
        told.table, list(present.values()), where, order_by=order, limit=window.limit, offset=window.offset
    )
    items = [_entry(dict(zip(present, row, strict=True))) for row in rows]
    return Page(
        items=items,
        total=db.count(told.table, where),
        limit=window.limit,
        offset=window.offset,
        names=Entry.__struct_fields__,
        alike=[word for word in Entry.__struct_fields__ if all(getattr(one, word) is None for one in items)],
    )


def locks(app: App, window: Window) -> Figures[Held]:
    """Return the processes that have the databases open, as far as this user may know; opens none of them."""

    def look(name: str) -> list[Held]:
        return [
            Held(target=app.target(name), **structs.asdict(one))
            for one in registry.holders(app.url(name), app.target(name))
        ]

    return figures(app, Held, window, look, wide=True)


def _entry(told: Mapping[str, object]) -> Entry:
    words = {
        word: None if (value := told.get(word)) is None else str(value)
        for word in ("username", "action", "resource")
    }
    return Entry(
        at=read_time(told.get("at")),
        user=told.get("user"),
        resource_id=told.get("resource_id"),
        details=told.get("details"),
        **words,
    )


def _measures(app: App, name: str) -> Measures:
    db = app.reader(name)
    if Capability.MEASURE not in db.capabilities or not isinstance(db, Measures):
        raise NotSupportedError(
            what="measuring", by=db.target, instead="Its engine does not tell what it takes."
        )
    return db
