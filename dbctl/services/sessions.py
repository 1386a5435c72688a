"""What users are at, or were: rows that are open until they end; and what keeps users signed in, ended for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from dbctl.engines.base import Condition, Not, Order, Readable, Where, Within, Writable
from dbctl.errors import NotSupportedError, UsageError
from dbctl.model import Page, Plan, Row, Value, Window, before, counted, read_span
from dbctl.profiles.codecs import read_time
from dbctl.profiles.model import Sessions
from dbctl.services import audit, user_sessions
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft
from dbctl.services.live import Live
from dbctl.services.user_changes import UsersChanged, listed
from dbctl.services.user_table import UserTable, Who, database_of

TIMES = ("started_at", "ended_at")


class State(StrEnum):
    """What has become of a session."""

    ACTIVE = "active"
    COMPLETED = "completed"
    ABANDONED = "abandoned"  #: nobody ended it, and it is so old that the app's cleanup closes it


class Session(Value, frozen=True, kw_only=True):
    """One session of a user."""

    id: object
    user: str | None
    state: State
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    extra: Mapping[str, object] = {}  #: further fields of the profile, under their own names

    def brief(self) -> Row:
        told = ("id", "user", "state", "started_at", "ended_at", "duration")
        return {word: getattr(self, word) for word in told} | dict(self.extra)


def list_sessions(app: App, window: Window, *, state: State | None = None, login: str = "") -> Page[Session]:
    """Return sessions, the newest first, of one state or of one user."""
    table = _SessionTable(app, app.ability(app.profile.sessions, "sessions"))
    return table.page(table.where(state, login), window)


def revoke(app: App, who: Who) -> Change[UsersChanged]:
    """End whatever keeps users signed in; they have to sign in anew."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        if not users.told.signed_in:
            raise NotSupportedError(
                what="ending what keeps users signed in",
                by=app.profile.title,
                instead="It stores nothing that could be ended.",
            )
        found = users.find(who)
        ends = user_sessions.planned_end(users, found)
        steps = [f"end {counted(count, 'session')} ({table})" for table, count in ends.items()]

        def work(db: Writable) -> UsersChanged:
            holding = [user for user in found if user_sessions.planned_end(users, [user])]
            ended = user_sessions.end(users, db, holding)
            for user in holding:
                audit.record(app, db, "sessions.revoke", "users", user.id, {"username": user.login})
            return UsersChanged(users=found, changed=len(holding), ended_sessions=ended)

        title = f"End the sessions of {listed(found)}"
        return Draft(Plan(title=title, target=db.target, steps=steps, rows=ends), work)

    return Change(app, database_of(app), "sessions revoke", draft)


class _SessionTable:
    """The sessions of one open database."""

    def __init__(self, app: App, told: Sessions) -> None:
        self._users = UserTable(app, app.reader(database_of(app)))
        self._db, self._told = self._users.db, told
        self._live = live = Live(app.profile, self._db, told.table, "sessions")
        self._user = live.get(told.user)
        self._columns = {"id": live.get(told.key), "user": self._user}
        self._columns |= {word: live.get(getattr(told, word)) for word in (*TIMES, "duration")}
        further = {word: live.find(name) for word, name in told.fields.items()}
        self._further = {word: column for word, column in further.items() if column}
        rule = next((rule for rule in app.profile.cleanup if rule.name == told.abandoned), None)
        self._since = before(read_span(rule.age.older_than)) if rule else None

    def where(self, state: State | None, login: str) -> list[Where]:
        """Return the conditions of the sessions that are wanted."""
        where: list[Where] = []
        if login:
            where.append(Condition(self._user, "=", self._users.find(Who(logins=[login]))[0].id))
        if state is None:
            return where
        where.append(Condition(self._columns["ended_at"], "!=" if state is State.COMPLETED else "=", None))
        if state is not State.COMPLETED and self._since is not None:
            old = Condition(self._columns["started_at"], "<", self._since)
            where.append(old if state is State.ABANDONED else Not(old))
        elif state is State.ABANDONED:
            raise UsageError(detail="the profile does not say when a session is abandoned")
        return where

    def page(self, where: Sequence[Where], window: Window) -> Page[Session]:
        """Return a part of the list."""
        names = self._columns | self._further
        rows = self._db.select(
            self._live.name,
            list(names.values()),
            where,
            order_by=[self._order(window.sort)],
            limit=window.limit,
            offset=window.offset,
        )
        told = [dict(zip(names, row, strict=True)) for row in rows]
        keys = list({row["user"] for row in told if row["user"] is not None})
        logins = {user.id: user.login for user in self._users.read([Condition(self._users.id, "in", keys)])}
        fields = [name for name in Session.__struct_fields__ if name != "extra"]
        return Page(
            items=[self._session(row, logins) for row in told],
            total=self._db.count(self._live.name, where),
            limit=window.limit,
            offset=window.offset,
            names=[*fields, *self._further],
        )

    def _session(self, row: Mapping[str, object], logins: Mapping[object, str]) -> Session:
        started, ended = (read_time(row[word]) for word in TIMES)
        state = State.COMPLETED
        if row["ended_at"] is None:
            old = self._since is not None and started is not None and started < self._since
            state = State.ABANDONED if old else State.ACTIVE
        lasted = row["duration"]
        return Session(
            id=row["id"],
            user=logins.get(row["user"]),
            state=state,
            started_at=started,
            ended_at=ended,
            duration=timedelta(seconds=lasted) if isinstance(lasted, int) and abs(lasted) < 10**12 else None,
            extra={word: row[word] for word in self._further},
        )

    def _order(self, sort: str) -> Order:
        if not sort:
            return Order([self._columns["id"]], descending=True)
        descending, field = sort.startswith("-"), sort.removeprefix("-")
        if field == "user":
            login = self._users.column(self._users.told.login[0])
            through = Within([self._user], self._users.live.name, [self._users.id])
            return Order([login], descending, nocase=True, through=through)
        names = self._columns | self._further
        if field not in names:
            raise UsageError(detail=f"--sort: there is no field {field!r}; known: {', '.join(names)}")
        return Order([names[field]], descending, time=field in TIMES, nocase=field in self._further)
