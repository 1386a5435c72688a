"""What users are at, or were: rows that are open until they end; and what keeps users signed in, ended for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from dbctl.engines.contract import AllOf, Condition, Not, Order, Readable, Where, Within, Writable
from dbctl.errors import NotSupportedError, SchemaLacksError, UsageError
from dbctl.model import Page, Plan, Row, Value, Window, before, counted, now, read_span
from dbctl.profiles import read_time
from dbctl.profiles.model import Sessions
from dbctl.services.app import (
    App,
    Change,
    Draft,
    Live,
    UserSelector,
    UserTable,
    audit,
    database_of,
    find_column,
)
from dbctl.services.sessions.cleanup_rule import fitted
from dbctl.services.users import UsersChanged, listed, sign_in_state

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


def list_sessions(
    app: App, window: Window, *, kind: str = "", state: State | None = None, login: str = ""
) -> Page[Session]:
    """Return sessions, the newest first, of one state or of one user.

    Args:
        app: the app.
        window: which part of the list.
        kind: which of the profile's kinds of sessions; none: the first.
        state: only those.
        login: only those of this user.

    Raises:
        UsageError: the profile has no such kind.
    """
    kinds = {told.name: told for told in app.ability(app.profile.sessions, "sessions")}
    if kind and kind not in kinds:
        raise UsageError(detail=f"--kind: there is no kind of sessions {kind!r}; known: {', '.join(kinds)}")
    table = _SessionTable(app, kinds[kind or next(iter(kinds))])
    return table.page(table.where(state, login), window)


def revoke(app: App, who: UserSelector) -> Change[UsersChanged]:
    """End whatever keeps users signed in; they have to sign in anew."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        if not sign_in_state.keeps_any(users):
            raise NotSupportedError(
                what="ending what keeps users signed in",
                by=app.profile.title,
                instead="It stores nothing that could be ended.",
            )
        found = users.find(who)
        ends = sign_in_state.planned_end(users, found)
        steps = [f"end {counted(count, 'session')} ({table})" for table, count in ends.items()]

        def work(db: Writable) -> UsersChanged:
            holding = [user for user in found if sign_in_state.planned_end(users, [user])]
            ended = sign_in_state.end(users, db, holding)
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
        self._live = live = Live(app.profile, self._db, told.table.removesuffix("?"), "sessions")
        self._user = live.get(told.user)
        given = {"started_at": told.started_at, "ended_at": told.ended_at, "duration": told.duration}
        found = {word: live.find(name) for word, name in given.items()}
        self._columns = {"id": live.get(told.key), "user": self._user}
        self._columns |= {word: column for word, column in found.items() if column}
        self._seen = live.find(told.seen_at) or live.get(told.started_at)
        self._expires = live.find(told.expires_at)
        further = {word: live.find(name) for word, name in told.fields.items()}
        self._further = {word: column for word, column in further.items() if column}
        rule = next((rule for rule in app.profile.cleanup if rule.name == told.abandoned), None)
        self._since = before(read_span(rule.age.older_than)) if rule else None
        self._closed = live.holding(fitted(rule, live).where) if rule else []
        self._open = self._lasting()

    def _lasting(self) -> list[Condition]:
        """Return the conditions of a session that nobody has ended.

        Raises:
            SchemaLacksError: the live schema has the columns of none of the profile's shapes.
        """
        told, live = self._told, self._live
        for shape in told.shape:
            if all(find_column(live.table, name) for name in shape.open):
                return live.holding(shape.open)
        if told.shape:
            what = " or ".join(f"{live.name}.{name}" for shape in told.shape for name in shape.open)
            raise SchemaLacksError(target=self._db.target, what=f"column {what}", purpose="sessions")
        return live.holding(told.open) or [Condition(live.get(told.ended_at or ""), "=", None)]

    def where(self, state: State | None, login: str) -> list[Where]:
        """Return the conditions of the sessions that are wanted."""
        where: list[Where] = [*self._live.holding(self._told.only)]
        if login:
            where.append(Condition(self._user, "=", self._users.find(UserSelector(logins=[login]))[0].id))
        if state is None:
            return where
        expired = [Condition(self._expires, "<=", now())] if self._expires else []
        lasts = AllOf([*self._open, *(Not(one) for one in expired)])
        if state is State.COMPLETED:
            return [*where, Not(lasts)]
        where.append(lasts)
        if self._since is not None:
            old = AllOf([*self._closed, Condition(self._seen, "<", self._since)])
            where.append(old if state is State.ABANDONED else Not(old))
        elif state is State.ABANDONED:
            raise UsageError(detail="the profile does not say when a session is abandoned")
        return where

    def page(self, where: Sequence[Where], window: Window) -> Page[Session]:
        """Return a part of the list."""
        names = self._columns | self._further
        columns = list(dict.fromkeys([*names.values(), *self._telling()]))
        rows = self._db.select(
            self._live.name,
            columns,
            where,
            order_by=[self._order(window.sort), Order([self._columns["id"]], descending=True)],
            limit=window.limit,
            offset=window.offset,
        )
        told = [dict(zip(columns, row, strict=True)) for row in rows]
        keys = list({row[self._user] for row in told if row[self._user] is not None})
        logins = {user.id: user.login for user in self._users.read([Condition(self._users.id, "in", keys)])}
        fields = [name for name in Session.__struct_fields__ if name != "extra"]
        return Page(
            items=[self._session(row, logins) for row in told],
            total=self._db.count(self._live.name, where),
            limit=window.limit,
            offset=window.offset,
            names=[*fields, *self._further],
        )

    def _telling(self) -> list[str]:
        """Return the columns that tell what has become of a session."""
        times = [self._seen, *([self._expires] if self._expires else [])]
        return [*times, *(one.column for one in (*self._open, *self._closed))]

    def _session(self, row: Mapping[str, object], logins: Mapping[object, str]) -> Session:
        told = {word: row[column] for word, column in self._columns.items()}
        lasted = told.get("duration")
        return Session(
            id=told["id"],
            user=logins.get(told["user"]),
            state=self._state(row),
            started_at=read_time(told["started_at"]),
            ended_at=read_time(told.get("ended_at")),
            duration=timedelta(seconds=lasted) if isinstance(lasted, int) and abs(lasted) < 10**12 else None,
            extra={
                word: read_time(row[column]) if word.endswith("_at") else row[column]
                for word, column in self._further.items()
            },
        )

    def _state(self, row: Mapping[str, object]) -> State:
        expiry = read_time(row[self._expires]) if self._expires else None
        if not all(_meets(row[one.column], one) for one in self._open) or (expiry and expiry <= now()):
            return State.COMPLETED
        seen = read_time(row[self._seen])
        old = self._since is not None and seen is not None and seen < self._since
        old = old and all(_meets(row[one.column], one) for one in self._closed)
        return State.ABANDONED if old else State.ACTIVE

    def _order(self, sort: str) -> Order:
        sort = sort or "-started_at"
        descending, field = sort.startswith("-"), sort.removeprefix("-")
        if field == "user":
            login = self._users.column(self._users.section.login[0])
            through = Within([self._user], self._users.live.name, [self._users.id])
            return Order([login], descending, nocase=True, through=through)
        names = self._columns | self._further
        if field not in names:
            raise UsageError(detail=f"--sort: there is no field {field!r}; known: {', '.join(names)}")
        return Order([names[field]], descending, time=field in TIMES, nocase=field in self._further)


def _meets(held: object, condition: Condition) -> bool:
    """Whether a value that was read is what a condition of ``Live.holding`` asks for."""
    if condition.op == "in" and isinstance(condition.value, list):
        return held in condition.value
    return held == condition.value
