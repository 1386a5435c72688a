"""Second factors of users: count them, and remove them as the app does when an admin resets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, InSubquery, Readable, Where, Writable
from dbctl.errors.usage import NotSupportedError
from dbctl.model import NOTHING_TO_DO, ChangeResult, Closing, Effect, Plan, Struct, format_count, now
from dbctl.profiles.model.users import SecondFactor
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import UNDO_IMPOSSIBLE, Change
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_table import User, UserSelector, UserTable, users_database
from dbctl.services.deletion.cascade import add_dependent_rows
from dbctl.services.users import sign_in_state
from dbctl.services.users.queries import mask_secrets
from dbctl.services.users.update import join_logins

FEATURE = "second factors"  #: their name in errors, and in the features of a profile


class SecondFactorState(Struct, frozen=True, kw_only=True):
    """What a user needs to sign in besides the password."""

    required: bool  #: whether the app asks the user for a second factor
    factors: Mapping[str, int]  #: the number of each kind, such as ``totp`` and ``recovery-codes``


class SecondFactorsReset(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users reset-2fa``."""

    users: Sequence[User]
    changed: int  #: users with a second factor
    removed: Mapping[str, int]  #: the number of each kind
    ended_sessions: int
    searched: Sequence[str] = ()  #: the columns (``table.column``) in which the users were searched
    signed_in_for: str | None = None  #: how long signed cookies remain valid
    undecided: Sequence[str] = ()  #: notes about tables that may have sign-ins, which were not ended

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        names = [user.login for user in self.users] if self.changed == len(self.users) else []
        counts = {"unchanged": len(self.users) - self.changed, "sessions ended": self.ended_sessions}
        kinds = [name for name, count in self.removed.items() if count]
        return Effect(
            "reset the second factors of", "user", names, count=self.changed, details=kinds, counts=counts
        )

    @property
    def closing(self) -> Closing:
        places = [f"no second factor in {', '.join(self.searched)}"] if self.searched else []
        return super().closing if self.effect else Closing(NOTHING_TO_DO.text, places)

    @property
    def remarks(self) -> Sequence[str]:
        return [*sign_in_state.remarks(self.signed_in_for, changed=bool(self.changed)), *self.undecided]


def read_state(users: UserTable, user: User) -> SecondFactorState | None:
    """Return the second factors of a user; None: the app has none, or its profile does not describe them."""
    tables = list(_list_tables(users))
    if not tables:
        return None
    counts = Counter[str]()
    for table in tables:
        counts[table.section.name] += table.count([user], confirmed=True)
    return SecondFactorState(required=_is_required(tables, user), factors=counts)


def _is_required(tables: Sequence[_FactorTable], user: User) -> bool:
    """Return whether the app asks a user for a second factor."""
    return any(table.count([user], confirmed=True) for table in tables if table.section.required)


def reset(app: App, selector: UserSelector) -> Change[SecondFactorsReset]:
    """Remove the second factors of users, and end their sessions.

    Raises (when planned and when applied):
        FeatureMissingError: the profile describes no second factors, or leaves open what they are.
        NotSupportedError: the database has none of their tables and columns.
    """

    def draft(db: Readable) -> ResetSecondFactors:
        users = UserTable(app, db)
        return ResetSecondFactors(users, users.find_users(selector))

    return Change(app, users_database(app), draft, expendable_tables=partial(_list_expendable_tables, app))


def remove_all(app: App, db: Writable) -> None:
    """Overwrite the second factors in columns of all users, in one transaction, without sessions and audit: for a copy."""
    with db.transaction():
        for table in _list_tables(UserTable(app, db)):
            if table.values:
                db.update(table.live.name, table.values, table.only)


def _list_expendable_tables(app: App) -> set[str]:
    users = app.require_section(app.core.users, "users")
    names = {section.table.removesuffix("?") for section in users.second_factor if not section.on_reset}
    return names | sign_in_state.list_expendable_tables(app)


class _FactorTable:
    """The rows of one section, whose table the database has."""

    def __init__(self, section: SecondFactor, live: LiveTable) -> None:
        self.section, self.live, owner = section, live, section.owner
        self._user = live.column(section.user)
        self.only: list[Where] = [*live.conditions(section.only)]
        self._confirmed = live.conditions(section.confirmed)
        self._owner = (
            LiveTable(live.profile, live.db, owner.table.removesuffix("?"), FEATURE) if owner else None
        )
        #: the values that remove it; empty: the row is deleted
        self.values = live.encode_constants(section.on_reset)
        self.path = f"{live.name}.{next(iter(self.values), self._user)}"
        if self.values:
            self.only.append(AnyOf([_differs(column, end) for column, end in self.values.items()]))

    def where(self, users: Sequence[User]) -> list[Where]:
        """Return the conditions of the rows of users."""
        ids, owner = [user.id for user in users], self.section.owner
        if self._owner is None or owner is None:
            return [Condition(self._user, "in", ids), *self.only]
        owned = [Condition(self._owner.column(owner.user), "in", ids)]
        rows = InSubquery([self._user], self._owner.name, [self._owner.column(owner.key)], owned)
        return [rows, *self.only]

    def count(self, users: Sequence[User], *, confirmed: bool = False) -> int:
        """Return the number of rows of users; ``confirmed``: only those for which the app asks."""
        where = [*self.where(users), *(self._confirmed if confirmed else ())]
        return self.live.db.count(self.live.name, where)

    def describe(self, count: int) -> str:
        """Return the step of a plan about a number of rows."""
        rows, name = f"{format_count(count, 'row')} of {self.live.name}", self.section.name
        return (
            f"change {', '.join(self.values)} of {rows} ({name})"
            if self.values
            else f"delete {rows} ({name})"
        )

    def reset(self, db: Writable, users: Sequence[User], updated_at: str | None) -> int:
        """Change or delete the rows of users; return their number. ``updated_at`` is the column with the time of the change."""
        values, live = dict(self.values), self.live
        if values and updated_at:
            values.setdefault(updated_at, live.encode(updated_at, now()))
        return write_rows(db, live.name, self.where(users), values)


def _differs(column: str, end: object) -> Where:
    """Return the condition that a column has another value than ``end``, and is not NULL."""
    return AllOf([Condition(column, "!=", value) for value in dict.fromkeys([None, end])])


def _list_tables(users: UserTable) -> Iterator[_FactorTable]:
    """Yield the tables of second factors, without optional tables and columns that the database lacks."""
    tables = users.db.tables()
    for section in users.section.second_factor:
        owner = section.owner
        optional = [section.table, *([owner.table] if owner else [])]
        if any(name.endswith("?") and name.removesuffix("?") not in tables for name in optional):
            continue
        live = LiveTable(users.app.core, users.db, section.table.removesuffix("?"), FEATURE)
        if not section.on_reset or live.map_columns({name: name for name in section.on_reset}):
            yield _FactorTable(section, live)


class ResetSecondFactors:
    """Remove the second factors of users; users without one are not changed."""

    def __init__(self, users: UserTable, selected: Sequence[User]) -> None:
        """Find the rows; raises as ``reset``."""
        users.app.require_decision("second-factors", FEATURE)
        users.app.require_section(users.section.second_factor, FEATURE)
        self._users, self._selected, self._tables = users, selected, list(_list_tables(users))
        if not self._tables:
            names = ", ".join(dict.fromkeys(section.path for section in users.section.second_factor))
            hint = f"It has none of the places in which the profile expects them: {names}."
            raise NotSupportedError(feature="resetting second factors", subject=users.db.target, hint=hint)
        self._touched = [user for user in selected if _is_required(self._tables, user)]
        self._sign_out = sign_out = sign_in_state.SignOut(users, self._touched)
        written, deleted = dict[str, list[Where]](), dict[str, list[Where]]()
        for table in self._tables:
            where = AllOf(table.where(self._touched))
            written.setdefault(table.live.name, []).append(where)
            if not table.values:
                deleted.setdefault(table.live.name, []).append(where)
        named = {users.live.name: users.where_ids(self._touched)}
        if sign_in_state.list_renewed(users):
            written[users.live.name] = [*named.values()]
        rows = {name: users.db.count(name, [AnyOf(conditions)]) for name, conditions in written.items()}
        for name, conditions in sign_out.deleted.items():
            deleted.setdefault(name, []).extend(conditions)
        counts = [(table, table.count(self._touched)) for table in self._tables]
        plan = Plan(
            title=f"Reset the second factors of {join_logins(selected)}",
            target=users.db.target,
            steps=[
                *(table.describe(count) for table, count in counts if count),
                *sign_out.plan_steps(),
                *([UNDO_IMPOSSIBLE] if self._touched and users.app.recorder else []),
            ],
            rows=dict(Counter(rows) + Counter(sign_out.counts)),
        )
        self.plan = add_dependent_rows(plan, users.db, deleted, named=named) if self._touched else plan

    def apply(self, db: Writable) -> SecondFactorsReset:
        """Remove the second factors, end the sessions and record each user."""
        users, touched, removed = self._users, self._touched, Counter[str]()
        names = users.app.core.databases[users_database(users.app)].updated_at
        for table in self._tables:
            updated_at = users.fields.get("updated_at") if table.live.name == users.live.name else None
            updated_at = updated_at or find_column(table.live.table, names)
            removed[table.section.name] += table.reset(db, touched, updated_at)
        ended = self._sign_out.apply(db)
        for user in touched:
            audit.record(users.app, db, "users.reset-2fa", "users", user.id, {"username": user.login})
        return SecondFactorsReset(
            users=mask_secrets(users, self._selected),
            changed=len(touched),
            removed=removed,
            ended_sessions=ended,
            searched=list(dict.fromkeys(table.path for table in self._tables)),
            signed_in_for=sign_in_state.remaining_sign_in(users, ["second-factor"]) if touched else None,
            undecided=sign_in_state.list_undecided(users) if touched else (),
        )
