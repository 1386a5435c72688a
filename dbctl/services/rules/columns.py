"""Rules for the rows of users, settings, states and sessions: allowed values of one or several columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property

from dbctl.config.secrets import MASK
from dbctl.engines.sql.codec import is_encodable
from dbctl.errors.databases import TransitionRefusedError
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Row, now
from dbctl.profiles.codecs import read_boolean, read_known_time, read_text
from dbctl.profiles.model.base import Rule
from dbctl.profiles.model.integrity import States
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import SignInTable
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.secrets import is_secret_setting
from dbctl.services.app.user_table import UserTable
from dbctl.services.app.validation import check_rule, normalise_value, truncate, value_problem
from dbctl.services.settings.rows import SettingRows
from dbctl.services.settings.store import find_text_violation
from dbctl.services.settings.values import load_json
from dbctl.services.users.passwords import Passwords


class RowRule:
    """A rule for the rows of one table; the base class accepts every row."""

    #: whether replaced and removed rows are also checked, which requires reading them first
    protects = False

    @property
    def columns(self) -> Collection[str]:
        """The columns on which the rule depends, of a table whose rows ``data set`` changes."""
        return ()

    def prepare(self) -> None:
        """Read the data that the rule needs, because a connection that streams rows into a server cannot run queries."""

    def check_added(self, row: Row) -> None:
        """Refuse a row that is about to be added."""

    def check_changed(self, before: Row, after: Row) -> None:
        """Refuse a change; ``after`` contains the changed columns."""
        del before
        self.check_added(after)

    def check_replaced(self, before: Row, after: Row) -> None:
        """Refuse a change by the row of a backup, like ``check_changed``."""
        self.check_changed(before, after)

    def check_removed(self, row: Row) -> None:
        """Refuse the removal of a row."""


# Values of columns -------------------------------------------------------------------------------------------------


class ColumnRule(RowRule):
    """Allowed values of one column; NULL and omitted columns are checked by the database alone."""

    def __init__(self, live: LiveTable, column: str, find_violation: Callable[[object], str]) -> None:
        """Describe the rule; ``find_violation`` returns why the column must not have a value; empty: it is allowed."""
        self._live, self.column, self._find_violation = live, column, find_violation

    @property
    def columns(self) -> Collection[str]:
        return (self.column,)

    def check_added(self, row: Row) -> None:
        if (value := row.get(self.column)) is not None and (reason := self._find_violation(value)):
            name = f"{self._live.name}.{self.column}"
            raise ValueInvalidError(name=name, value=ascii(truncate(str(value))), reason=reason)


class PasswordHash(RowRule):
    """A password hash in a format that the profile declares; NULL is checked by the database alone."""

    def __init__(self, passwords: Passwords, live: LiveTable) -> None:
        self._passwords, self._live = passwords, live

    @property
    def columns(self) -> Collection[str]:
        return self._passwords.columns

    def prepare(self) -> None:
        _ = self._passwords.stored_formats

    def check_added(self, row: Row) -> None:
        columns = self._passwords.columns
        stored = self._passwords.join([row.get(column) for column in columns])
        if stored is None:
            return
        if reason := self._passwords.find_problem(stored):
            name = f"{self._live.name}.{columns[-1]}"
            raise ValueInvalidError(name=name, value="(not shown)", reason=reason)
        self._passwords.require_declared_formats()

    def check_changed(self, before: Row, after: Row) -> None:
        if not after.keys().isdisjoint(self.columns):
            self.check_added({**before, **after})


class UserText(ColumnRule):
    """A field of users, with the same rules as in ``users create``."""

    def __init__(self, live: LiveTable, column: str, field: str, rule: Rule | None) -> None:
        super().__init__(live, column, self._find_non_text)
        self._field, self._rule = field, rule
        self._is_binary = live.table.columns[column].is_binary

    def _find_non_text(self, value: object) -> str:
        is_text = not isinstance(value, bytes) or (self._is_binary and is_encodable(read_text(value)))
        return "" if is_text else "it is not text"

    def check_added(self, row: Row) -> None:
        super().check_added(row)
        if (value := row.get(self.column)) is not None:
            check_rule(self._field, read_text(value), self._rule, is_padded_valid=False)


class UserRole(ColumnRule):
    """An existing role, in apps without a table of roles that a foreign key could reference."""

    def __init__(self, app: App, live: LiveTable, column: str) -> None:
        super().__init__(live, column, self._find_missing_role)
        self._app = app

    def prepare(self) -> None:
        _ = self._known

    def _find_missing_role(self, key: object) -> str:
        known = self._known
        if any(isinstance(other, bool) for other in known):  # a file has it as text
            key = read_boolean(key)
        if str(key) in map(str, known):
            return ""
        return f"the role does not exist; known: {', '.join(known.values())}"

    @cached_property
    def _known(self) -> Mapping[object, str]:
        return UserTable(self._app, self._live.db).require_roles().keys


def find_object_violation(value: object) -> str:
    """Return why a value is not a JSON object, the form of the settings of a user; empty text is none."""
    if not str(value).strip():
        return ""
    try:
        decoded = value if isinstance(value, dict) else load_json(str(value))
    except ValueError as error:
        return str(error)
    return "" if isinstance(decoded, dict) else "it is not a JSON object"


class StateTransition(ColumnRule):
    def __init__(self, live: LiveTable, column: str, section: States) -> None:
        self._section, self._known = section, known_states(section)
        super().__init__(live, column, lambda value: value_problem(value, self._known))

    def check_changed(self, before: Row, after: Row) -> None:
        if self.column not in after:
            return
        old, new = ("NULL" if row[self.column] is None else str(row[self.column]) for row in (before, after))
        # An undefined state has no transitions; it may be changed to any state.
        allowed = self._section.transitions.get(old, ()) if old in self._known else self._known
        if old != new and new not in allowed:
            raise TransitionRefusedError(
                target=self._live.db.target,
                column=f"{self._live.name}.{self.column}",
                before=old,
                after=new,
                allowed=", ".join(allowed) or "nothing, it is final",
                hint=f" {self._section.hint}" if self._section.hint else "",
            )

    def check_replaced(self, before: Row, after: Row) -> None:
        """Accept any defined state, because a restore reverts to an earlier state on purpose."""
        del before
        self.check_added(after)


def known_states(section: States) -> list[str]:
    targets = (state for states in section.transitions.values() for state in states)
    return list(dict.fromkeys([*section.transitions, *targets]))


# Settings ----------------------------------------------------------------------------------------------------------


class SystemSetting(RowRule):
    """A system setting in a row: checks its key, its type, its stored schema and the schema of the profile."""

    def __init__(self, rows: SettingRows) -> None:
        self._rows = rows

    def check_added(self, row: Row) -> None:
        self._rows.check_row(row)

    def check_changed(self, before: Row, after: Row) -> None:
        if set(after) & self._rows.checked_columns:
            self._rows.check_row({**before, **after})


class UserSetting(RowRule):
    """A setting of one user in a row, without a stored type or schema."""

    def __init__(self, live: LiveTable, section: Settings) -> None:
        self._section = section
        self._key, self._value = (
            find_column(live.table, name or "") for name in (section.key, section.fields["value"])
        )

    def check_added(self, row: Row) -> None:
        key, value = row.get(self._key or ""), row.get(self._value or "")
        if key is not None:
            check_rule("key", str(key), self._section.rules.get("key"))
        if value is not None and (reason := find_text_violation(self._section, str(key), str(value))):
            shown = MASK if is_secret_setting(self._section, str(key)) else ascii(truncate(str(value)))
            raise ValueInvalidError(name=f"{key} =", value=shown, reason=reason)

    def check_changed(self, before: Row, after: Row) -> None:
        if {self._key, self._value} & set(after):
            self.check_added({**before, **after})


class SettingColumns(RowRule):
    """Settings in the columns of one row."""

    def __init__(self, live: LiveTable, section: Settings) -> None:
        self._live, self._section = live, section

    def check_added(self, row: Row) -> None:
        section = self._section.row
        if section is None:
            return
        key = row.get(section.key)
        if key is not None and str(key) != str(section.value):
            reason = f"the settings are only in the row with {section.key} {section.value}"
            raise ValueInvalidError(name=f"{self._live.name}.{section.key}", value=ascii(key), reason=reason)
        for name, kind in section.types.items():
            value = row.get(name)
            if kind == "boolean" and value is not None and normalise_value(value).lower() not in BOOLEANS:
                reason = "it is neither true nor false"
                raise ValueInvalidError(name=f"{self._live.name}.{name}", value=ascii(value), reason=reason)


#: The normalised text of stored booleans; drivers and files return numbers, text or booleans.
BOOLEANS = frozenset(("0", "1", "true", "false"))


# Sessions ----------------------------------------------------------------------------------------------------------


class OpenSession(RowRule):
    """Rows of valid sessions cannot be added by user input: an ended session would be valid again."""

    def __init__(self, live: LiveTable, section: SignInTable) -> None:
        self._live = live
        self._ends = {
            column: end_value
            for name, end_value in section.on_end.items()
            if (column := find_column(live.table, name))
        }
        self._expires = find_column(live.table, section.expires_at)
        self._only = live.conditions(section.only)

    @property
    def columns(self) -> Collection[str]:
        only = [condition.column for condition in self._only]
        return [*only, *self._ends, *([self._expires] if self._expires else [])]

    def check_added(self, row: Row) -> None:
        if self._is_open(row):
            reason = "it would sign in a user; users must sign in again"
            raise ValueInvalidError(name="a row of", value=self._live.name, reason=reason)

    def check_changed(self, before: Row, after: Row) -> None:
        if not self._is_open(before):
            self.check_added({**before, **after})

    def _is_open(self, row: Row) -> bool:
        for condition in self._only:
            expected = condition.value if isinstance(condition.value, list) else [condition.value]
            if value_problem(row.get(condition.column), expected):
                return False
        for column, end_value in self._ends.items():
            value = row.get(column)
            if end_value == ":now":
                value = read_known_time(value)
            if read_boolean(value) if isinstance(end_value, bool) else value is not None:
                return False
        expires = read_known_time(row.get(self._expires)) if self._expires else None
        return expires is None or expires > now()
