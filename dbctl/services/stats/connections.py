"""Who is at work in databases on servers: connections, who waits for whom, and what takes long."""

from __future__ import annotations

from msgspec import structs

from dbctl.engines.contract import Capability, Sessions, Timed
from dbctl.errors import NotSupportedError
from dbctl.model import Row, Value, Window
from dbctl.services.app import App, Figures, figures

FILES = "Only a server knows connections; stats locks shows which processes have the file open."


class Connected(Value, frozen=True, kw_only=True):
    """A connection to a database."""

    target: str
    pid: int
    user: str
    application: str
    client: str | None  #: an address; None: on the server's own machine
    state: str
    query_seconds: float | None  #: since what runs began
    transaction_seconds: float | None
    wait: str | None
    query: str  #: what runs, or ran last: shortened, without the values in it


class Blocked(Value, frozen=True, kw_only=True):
    """A session that waits, and one that it waits for."""

    target: str
    blocked_pid: int
    blocked_user: str
    blocked_query: str
    blocking_pid: int  #: 0: a transaction that was prepared and has no session any more
    blocking_user: str
    blocking_application: str
    blocking_state: str
    blocking_query: str  #: what it runs, or ran last: the lock may come from an earlier statement
    lock: str
    waiting_seconds: float | None
    blocking_seconds: float | None  #: how long the transaction lasts that holds the lock

    def brief(self) -> Row:
        hidden = ("blocked_user", "blocking_application", "blocking_state")
        return {word: getattr(self, word) for word in self.__struct_fields__ if word not in hidden}


class Slowed(Value, frozen=True, kw_only=True):
    """A statement, whatever the values in it, and how long it takes."""

    target: str
    calls: int
    total_seconds: float
    mean_seconds: float
    max_seconds: float
    rows: int
    cache_hit_ratio: float | None
    query: str


def sessions_of(app: App, name: str, what: str) -> Sessions:
    """Return a database whose server knows who is connected.

    Raises:
        NotSupportedError: it has none.
    """
    db = app.reader(name)
    if Capability.SESSIONS not in db.capabilities or not isinstance(db, Sessions):
        raise NotSupportedError(what=what, by=db.target, instead=FILES)
    return db


def connections(app: App, window: Window) -> Figures[Connected]:
    """Return who is connected to each configured database on a server."""
    hidden: list[str] = []

    def look(name: str) -> list[Connected]:
        db = sessions_of(app, name, "telling who is connected")
        hidden.append(db.hidden())
        told = [structs.asdict(one) for one in db.sessions()]
        return [
            Connected(
                target=app.target(name),
                **{word: one[word] for word in Connected.__struct_fields__ if word in one},
            )
            for one in told
        ]

    told = figures(app, Connected, window, look, wide=True)
    return structs.replace(told, remarks=list(dict.fromkeys(filter(None, hidden))))


def waits(app: App, window: Window) -> Figures[Blocked]:
    """Return who waits for whom in each configured database on a server, who waits longest first."""
    hidden: list[str] = []

    def look(name: str) -> list[Blocked]:
        db = sessions_of(app, name, "telling who waits for whom")
        hidden.append(db.hidden())
        return [
            Blocked(
                target=app.target(name),
                blocked_pid=one.blocked.pid,
                blocked_user=one.blocked.user,
                blocked_query=one.blocked.query,
                blocking_pid=one.blocking.pid,
                blocking_user=one.blocking.user,
                blocking_application=one.blocking.application,
                blocking_state=one.blocking.state,
                blocking_query=one.blocking.query,
                lock=one.lock,
                waiting_seconds=one.seconds,
                blocking_seconds=one.blocking.transaction_seconds,
            )
            for one in db.waits()
        ]

    told = figures(app, Blocked, window, look, wide=True)
    page = structs.replace(told.page, nothing="nobody waits")
    return structs.replace(told, page=page, remarks=list(dict.fromkeys(filter(None, hidden))))


def slow(app: App, window: Window) -> Figures[Slowed]:
    """Return the statements that take long, those that took longest in all first."""
    hidden: list[str] = []

    def look(name: str) -> list[Slowed]:
        db = app.reader(name)
        if Capability.SLOW not in db.capabilities or not isinstance(db, Timed):
            instead = (
                "Its engine remembers none; --explain of stats run and search tells how one is answered."
            )
            raise NotSupportedError(what="telling which statements are slow", by=db.target, instead=instead)
        found = db.slow()
        if isinstance(db, Sessions):
            hidden.append(db.hidden())
        return [Slowed(target=app.target(name), **structs.asdict(one)) for one in found]

    told = figures(app, Slowed, window, look, wide=True)
    return structs.replace(told, remarks=list(dict.fromkeys(filter(None, hidden))))
