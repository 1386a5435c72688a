"""Sessions of users: list them, and revoke the tokens that keep users signed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import (
    AllOf,
    Condition,
    InSubquery,
    Not,
    Order,
    Readable,
    Where,
    Writable,
)
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.errors.users import SessionsUnlistedError
from dbctl.model import Page, PageRequest, Plan, Row, Struct, now, time_before
from dbctl.profiles.codecs import read_known_time, read_time
from dbctl.profiles.model.cleanup import Sessions
from dbctl.profiles.model.users import Users
from dbctl.profiles.payloads import read_payload
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import UNDO_IMPOSSIBLE, Change
from dbctl.services.app.live_table import LiveTable, where_before
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.app.user_table import User, UserSelector, UserTable, users_database
from dbctl.services.app.validation import meets_condition
from dbctl.services.deletion.cascade import add_dependent_rows
from dbctl.services.sessions.cleanup_rule import select_variant
from dbctl.services.users import sign_in_state
from dbctl.services.users.queries import mask_secrets
from dbctl.services.users.sign_in_state import where_payload
from dbctl.services.users.update import UsersChanged, join_logins
from dbctl.units import parse_duration

TIMES = ("started_at", "ended_at", "expires_at")


class State(StrEnum):
    """The state of a session."""

    ACTIVE = "active"
    COMPLETED = "completed"
    ABANDONED = "abandoned"  #: not ended, and old enough for the cleanup


class Session(Struct, frozen=True, kw_only=True):
    """One session of a user."""

    id: object
    user: str | None
    state: State
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None  #: when the session ends at the latest
    duration: timedelta | None
    extra: Mapping[str, object] = {}  #: other fields of the profile

    def summary(self) -> Row:
        names = ("id", "user", "state", "started_at", "ended_at", "expires_at", "duration")
        return {name: getattr(self, name) for name in names} | dict(self.extra)


def list_sessions(
    app: App, page_request: PageRequest, *, kind: str = "", state: State | None = None, login: str = ""
) -> Page[Session]:
    """Return sessions of a kind of the profile, by default the first one, newest first.

    Raises:
        UsageError: the profile has no such kind.
        SessionsUnlistedError: the app has sign-ins, and the profile does not describe them as sessions.
        FeatureMissingError: the app has neither.
    """
    _refuse_unlisted(app)
    if not app.profile.sessions:  # the profile may leave open which tables are sessions
        app.require_decision("sign-ins", "sessions")
    kinds = {section.name: section for section in app.require_section(app.profile.sessions, "sessions")}
    if kind and kind not in kinds:
        raise UsageError(
            detail=f"--kind: there is no kind of sessions {kind!r}; known: {', '.join(kinds)}",
            name=kind,
            candidates=kinds,
        )
    table = _SessionTable(app, kinds[kind or next(iter(kinds))])
    return table.page(table.where(state, login), page_request)


def _refuse_unlisted(app: App) -> None:
    users = app.profile.users
    if app.profile.sessions or users is None:
        return
    tables = users.sign_in_tables
    if tables or users.on_sign_out:
        places = [*tables, *(f"{users.table}.{name.removesuffix('?')}" for name in users.on_sign_out)]
        reason = f"no section [[sessions]] of the profile describes {', '.join(places)}"
        hint: Remedy | str = Remedy("End the sessions of a user with: `sessions revoke LOGIN`")
    elif users.cookie:
        reason, hint = "the database does not contain them", _describe_cookies(users)
    else:
        return
    raise SessionsUnlistedError(app=app.name, profile=app.profile.name, reason=reason, hint=hint)


def revoke(app: App, selector: UserSelector) -> Change[UsersChanged]:
    """Sign users out: delete or invalidate their sessions and tokens.

    Raises (when planned and when applied):
        DecisionOpenError: the profile leaves open which tables are sessions.
        NotSupportedError: the app stores no sessions or tokens.
    """

    def draft(db: Readable) -> RevokeSessions:
        users = UserTable(app, db)
        if not sign_in_state.can_sign_out(users):
            app.require_decision("sign-ins", "sessions")
            hint = _describe_cookies(users.section)
            raise NotSupportedError(feature="revoking sessions", subject=app.profile.title, hint=hint)
        return RevokeSessions(users, users.find_users(selector))

    expendable_tables = partial(sign_in_state.list_expendable_tables, app)
    return Change(app, users_database(app), draft, expendable_tables=expendable_tables)


#: By field of ``users.checked``, the command that changes it.
COMMANDS = {
    "password": Remedy("`users set-password LOGIN`"),
    "active": Remedy("`users deactivate LOGIN`"),
    "role": Remedy("`users set-role LOGIN ROLE`"),
}


def _describe_cookies(section: Users) -> str:
    """Return how sign-ins end that no command can revoke."""
    if not section.cookie:
        return "Its profile describes no sessions or tokens. Describe their table in [[users.signed_in]]."
    hint = f"Its sign-ins are signed cookies, which are valid for up to {section.cookie}."
    if commands := [COMMANDS[field].write() for field in section.checked if field in COMMANDS]:
        return f"{hint} They end with: {'; or with: '.join(commands)}"
    return f"{hint} Only a new signing secret of the app ends them."


class RevokeSessions:
    """End all sessions of users."""

    def __init__(self, users: UserTable, selected: Sequence[User]) -> None:
        self._users, self._selected = users, selected
        self._sign_out = sign_out = sign_in_state.SignOut(users, selected)
        renewed = {users.live.name: len(selected)} if selected and sign_in_state.list_renewed(users) else {}
        rows = {**renewed, **sign_out.counts}
        lost = [UNDO_IMPOSSIBLE] if users.app.recorder and any(rows.values()) else []
        plan = Plan(
            title=f"End the sessions of {join_logins(selected)}",
            target=users.db.target,
            steps=[*sign_out.plan_steps(), *lost],
            rows=rows,
        )
        named = {users.live.name: users.where_ids(selected)} if renewed else {}
        self.plan = add_dependent_rows(plan, users.db, sign_out.deleted, named=named)

    def apply(self, db: Writable) -> UsersChanged:
        """End the sessions and record each user with a session."""
        users, selected = self._users, self._selected
        signed_in = sign_in_state.find_signed_in(users, selected)
        ended_sessions = self._sign_out.apply(db)
        for user in signed_in:
            audit.record(users.app, db, "sessions.revoke", "users", user.id, {"username": user.login})
        return UsersChanged(
            users=mask_secrets(users, selected),
            changed=len(signed_in),
            ended_sessions=ended_sessions,
            signed_out=True,
            searched=self._sign_out.places,
            undecided=sign_in_state.list_undecided(users),
        )


class _SessionTable:
    """The sessions of one open database."""

    def __init__(self, app: App, section: Sessions) -> None:
        self._users = UserTable(app, app.reader(users_database(app)))
        self._db, self._section = self._users.db, section
        self._live = live = LiveTable(app.profile, self._db, section.table.removesuffix("?"), "sessions")
        self._user = live.column(section.user) if section.user else None
        source = self._user or (live.column(section.payload.column) if section.payload else None)
        names = {name: getattr(section, name) for name in (*TIMES, "duration")}
        self._columns = {"id": live.column(section.key), **live.map_columns(names)}
        self._columns |= {"user": source} if source else {}
        self._secret = find_secret_columns(app, users_database(app), self._db, [live.name]).get(live.name, ())
        self._last_seen = live.optional_column(section.seen_at) or self._columns.get("started_at")
        self._expires = self._columns.get("expires_at")
        self._lifetime = parse_duration(section.lifetime) if section.lifetime else None
        self._extra = live.map_columns(section.fields)
        rule = next((rule for rule in app.profile.cleanup if rule.name == section.abandoned), None)
        self._since = time_before(parse_duration(rule.age.older_than)) if rule else None
        self._closed = live.conditions(select_variant(rule, live).where) if rule else []
        self._open = self._open_conditions()

    def _open_conditions(self) -> list[Condition]:
        """Return the conditions of an open session.

        Raises:
            SchemaMismatchError: the table has the columns of no variant.
        """
        section, live = self._section, self._live
        if variant := live.select_variant(section.variant, lambda variant: list(variant.open)):
            return live.conditions(variant.open)
        ended = [Condition(live.column(section.ended_at), "=", None)] if section.ended_at else []
        return live.conditions(section.open) or ended

    def where(self, state: State | None, login: str) -> list[Where]:
        """Return the conditions of the selected sessions."""
        where: list[Where] = [*self._live.conditions(self._section.only)]
        if login:
            where.append(self._where_user(self._users.find_by_login(login), where))
        if state is None:
            return where
        expired = self._where_expired()
        is_open = AllOf([*self._open, *([Not(AllOf(expired))] if expired else [])])
        if state is State.COMPLETED:
            return [*where, Not(is_open)]
        where.append(is_open)
        if self._since is not None and self._last_seen:
            old = AllOf([*self._closed, *where_before(self._last_seen, self._since)])
            where.append(old if state is State.ABANDONED else Not(old))
        elif state is State.ABANDONED:
            raise UsageError(detail="the profile does not define when a session is abandoned")
        return where

    def _where_user(self, user: User, where: Sequence[Where]) -> Where:
        """Return the condition of the sessions of a user.

        Raises:
            UsageError: the app stores no users with its sessions.
        """
        if self._user:
            return Condition(self._user, "=", user.id)
        if self._section.payload is None:
            raise UsageError(detail=f"{self._live.name} does not contain the users of its sessions")
        return where_payload(self._live, self._section.payload, [user.id], where)

    def _where_expired(self) -> list[Condition]:
        if self._expires:
            return where_before(self._expires, now(), "<=")
        if self._lifetime and self._last_seen:
            return where_before(self._last_seen, now() - self._lifetime, "<=")
        return []

    def page(self, where: Sequence[Where], page_request: PageRequest) -> Page[Session]:
        names = self._columns | self._extra
        columns = list(dict.fromkeys([*names.values(), *self._state_columns()]))
        rows = self._db.select(
            self._live.name,
            columns,
            where,
            order_by=[*self._order(page_request.sort), Order([self._columns["id"]], descending=True)],
            limit=page_request.limit,
            offset=page_request.offset,
        )
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        keys = list({key for row in records if (key := self._read_user(row)) is not None})
        users = self._users.read([Condition(self._users.id, "in", keys)]) if keys else []
        logins = {str(user.id): user.login for user in users}
        fields = [name for name in Session.__struct_fields__ if name != "extra"]
        return Page(
            items=[self._session(row, logins) for row in records],
            total=page_request.find_total(len(rows), lambda: self._db.count(self._live.name, where)),
            limit=page_request.limit,
            offset=page_request.offset,
            column_names=[*fields, *self._extra],
        )

    def _read_user(self, row: Mapping[str, object]) -> object:
        """Return the key of the user of a session; None if it is unknown."""
        payload, column = self._section.payload, self._columns.get("user")
        if payload and column:
            return read_payload(payload.codec, payload.key, row[column])
        return row[column] if column else None

    def _state_columns(self) -> list[str]:
        times = [column for column in (self._last_seen, self._expires) if column]
        return [*times, *(condition.column for condition in (*self._open, *self._closed))]

    def _session(self, row: Mapping[str, object], logins: Mapping[str, str]) -> Session:
        values = {word: row[column] for word, column in self._columns.items()}
        duration = values.get("duration")
        return Session(
            id=MASK if self._columns["id"] in self._secret else values["id"],
            user=logins.get(str(self._read_user(row))),
            state=self._state(row),
            started_at=read_time(values.get("started_at")),
            ended_at=read_time(values.get("ended_at")),
            expires_at=self._expiry(row),
            duration=timedelta(seconds=duration)
            if isinstance(duration, int) and abs(duration) < 10**12
            else None,
            extra={word: self._extra_value(word, row[column]) for word, column in self._extra.items()},
        )

    def _extra_value(self, word: str, value: object) -> object:
        if self._extra[word] in self._secret:
            return None if value is None else MASK
        return read_time(value) if word.endswith("_at") else value

    def _expiry(self, row: Mapping[str, object]) -> datetime | None:
        if self._expires:
            return read_known_time(row[self._expires])
        seen = read_known_time(row[self._last_seen]) if self._lifetime and self._last_seen else None
        return seen + self._lifetime if seen and self._lifetime else None

    def _state(self, row: Mapping[str, object]) -> State:
        expiry = self._expiry(row)
        if not all(meets_condition(row[condition.column], condition) for condition in self._open) or (
            expiry and expiry <= now()
        ):
            return State.COMPLETED
        seen = read_known_time(row[self._last_seen]) if self._last_seen else None
        is_old = self._since is not None and seen is not None and seen < self._since
        is_old = is_old and all(
            meets_condition(row[condition.column], condition) for condition in self._closed
        )
        return State.ABANDONED if is_old else State.ACTIVE

    def _order(self, sort: str) -> list[Order]:
        """Return the order of a list; by default the newest sessions are first."""
        names = self._columns | self._extra
        times = [name for name in TIMES if name in names]
        sort = sort or (f"-{times[0]}" if times else "")
        descending, field = sort.startswith("-"), sort.removeprefix("-")
        if not field:
            return []
        if field == "user" and self._user:
            login = self._users.column(self._users.section.login[0])
            through = InSubquery([self._user], self._users.live.name, [self._users.id])
            return [Order([login], descending, nocase=True, through=through)]
        if field not in names or field == "user":
            known = ", ".join(name for name in names if name != "user" or self._user)
            raise UsageError(
                detail=f"--sort: there is no field {field!r}; known: {known}", name=field, candidates=names
            )
        if names[field] in self._secret:
            raise UsageError(detail=f"{field}: sessions cannot be sorted by a secret")
        return [Order([names[field]], descending, time=field in TIMES, nocase=field in self._extra)]
