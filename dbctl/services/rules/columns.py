"""Rules for the rows of users, settings, states and sessions: allowed values of one or several columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

from dbctl.errors import MoveRefusedError, ValueInvalidError
from dbctl.model import now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Password, Rule, Settings, SignedIn, States
from dbctl.services.app import (
    MASK,
    App,
    Live,
    UserTable,
    as_word,
    check_field,
    check_rule,
    cut,
    find_column,
    hash_fault,
    is_secret,
    outside,
)
from dbctl.services.settings import SettingTable, load_json, setting_text_fault

Row = Mapping[str, object]


class RowRule:
    """One rule for the rows of one table; it accepts what it does not override."""

    #: whether replaced and removed rows are also checked, so that a path must read the previous row
    protects = False

    @property
    def columns(self) -> Collection[str]:
        """The columns of a row on which the rule depends."""
        return ()

    def prepare(self) -> None:
        """Read the data that the rule needs: a connection that streams rows into a server can run no queries."""

    def check_added(self, row: Row) -> None:
        """Refuse a row that is about to be added."""

    def check_changed(self, before: Row, after: Row) -> None:
        """Refuse a change; ``after`` holds the columns that change."""

    def check_removed(self, row: Row) -> None:
        """Refuse the removal of a row."""


# Values of columns -------------------------------------------------------------------------------------------------


class ColumnRule(RowRule):
    """Allowed values of one column; NULL and omitted columns are checked by the database alone."""

    def __init__(self, live: Live, column: str) -> None:
        self._live, self.column = live, column

    @property
    def columns(self) -> Collection[str]:
        return (self.column,)

    def check_added(self, row: Row) -> None:
        if row.get(self.column) is not None and (reason := self.fault(row[self.column])):
            raise self.refusal(row[self.column], reason)

    def check_changed(self, before: Row, after: Row) -> None:
        del before
        self.check_added(after)

    def fault(self, value: object) -> str:
        """Return why the column may not hold a value, or nothing."""
        del value
        return ""

    def refusal(self, value: object, reason: str) -> ValueInvalidError:
        shown = ascii(cut(str(value)))
        return ValueInvalidError(what=f"{self._live.name}.{self.column}", value=shown, reason=reason)


class ListedValue(ColumnRule):
    """A value of a fixed list."""

    def __init__(self, live: Live, column: str, among: Sequence[object]) -> None:
        super().__init__(live, column)
        self._among, self._words = among, frozenset(map(as_word, among))

    def fault(self, value: object) -> str:
        return "" if as_word(value) in self._words else outside(value, self._among)


class PasswordHash(ColumnRule):
    """A hash, in the format that the profile names."""

    def __init__(self, live: Live, column: str, section: Password) -> None:
        super().__init__(live, column)
        self._section = section

    def fault(self, value: object) -> str:
        return hash_fault(self._section, value)

    def refusal(self, value: object, reason: str) -> ValueInvalidError:
        del value  # it may be the password itself
        what = f"{self._live.name}.{self.column}"
        return ValueInvalidError(what=what, value="(not shown)", reason=reason)


class TextOfUser(ColumnRule):
    """A field of users, as ``users create`` takes it."""

    def __init__(self, live: Live, column: str, field: str, rule: Rule | None) -> None:
        super().__init__(live, column)
        self._field, self._rule = field, rule

    def check_added(self, row: Row) -> None:
        value = row.get(self.column)
        if isinstance(value, bytes):
            raise self.refusal(value, "it is no text")
        if value is not None:
            check_field(self._field, str(value), self._rule)


class RoleOfUser(ColumnRule):
    """An existing role, in apps without a table of roles that a foreign key could reference."""

    def __init__(self, app: App, live: Live, column: str) -> None:
        super().__init__(live, column)
        self._app = app

    def prepare(self) -> None:
        _ = self._known

    def check_added(self, row: Row) -> None:
        if (key := row.get(self.column)) is not None and str(key) not in self._known:
            raise self.refusal(key, f"there is no such role; there are {', '.join(self._known.values())}")

    @cached_property
    def _known(self) -> Mapping[str, str]:
        return {str(key): name for key, name in UserTable(self._app, self._live.db).roles().items()}


class JsonObject(ColumnRule):
    """Settings of a user, all in one object."""

    def fault(self, value: object) -> str:
        if not str(value).strip():
            return ""
        try:
            decoded = value if isinstance(value, dict) else load_json(str(value))
        except ValueError as error:
            return str(error)
        return "" if isinstance(decoded, dict) else "it is no object of JSON"


class Moves(ColumnRule):
    """A state with allowed transitions."""

    def __init__(self, live: Live, column: str, section: States) -> None:
        super().__init__(live, column)
        self._section, self._known = section, known_states(section)

    def fault(self, value: object) -> str:
        return outside(value, self._known)

    def check_state(self, row: Row) -> None:
        """Refuse a row with an undefined state, regardless of the previous state."""
        self.check_added(row)

    def check_changed(self, before: Row, after: Row) -> None:
        if self.column not in after:
            return
        old, new = ("NULL" if row[self.column] is None else str(row[self.column]) for row in (before, after))
        # an undefined state has no transitions, and may be repaired to any state
        allowed = self._section.moves.get(old, ()) if old in self._known else self._known
        if old != new and new not in allowed:
            raise MoveRefusedError(
                target=self._live.db.target,
                column=f"{self._live.name}.{self.column}",
                before=old,
                after=new,
                moves=", ".join(allowed) or "nothing, it is final",
                hint=f" {self._section.hint}" if self._section.hint else "",
            )


def known_states(section: States) -> list[str]:
    """Return all defined states."""
    return list(
        dict.fromkeys([*section.moves, *(state for states in section.moves.values() for state in states)])
    )


# Settings ----------------------------------------------------------------------------------------------------------


class SystemSetting(RowRule):
    """A setting in a row of its own: its key, its type, its own schema and that of the profile."""

    def __init__(self, table: SettingTable) -> None:
        self._table = table

    @property
    def columns(self) -> Collection[str]:
        return self._table.judged

    def check_added(self, row: Row) -> None:
        self._table.check_row(row)

    def check_changed(self, before: Row, after: Row) -> None:
        if set(after) & self._table.judged:
            self._table.check_row({**before, **after})


class UserSetting(RowRule):
    """A setting of one user in a row of its own, where the app stores neither type nor schema."""

    def __init__(self, live: Live, section: Settings) -> None:
        self._live, self._section = live, section
        self._key, self._value = (
            find_column(live.table, name or "") for name in (section.key, section.fields["value"])
        )

    @property
    def columns(self) -> Collection[str]:
        return [column for column in (self._key, self._value) if column]

    def check_added(self, row: Row) -> None:
        key, value = row.get(self._key or ""), row.get(self._value or "")
        if key is not None:
            check_rule("key", str(key), self._section.rules.get("key"))
        if value is not None and (reason := setting_text_fault(self._section, str(key), str(value))):
            shown = MASK if is_secret(self._section, str(key)) else ascii(cut(str(value)))
            raise ValueInvalidError(what=f"{key} =", value=shown, reason=reason)

    def check_changed(self, before: Row, after: Row) -> None:
        if {self._key, self._value} & set(after):
            self.check_added({**before, **after})


class SettingColumns(RowRule):
    """Settings in the columns of one row."""

    def __init__(self, live: Live, section: Settings) -> None:
        self._live, self._section = live, section

    def check_added(self, row: Row) -> None:
        section = self._section.row
        if section is None:
            return
        key = row.get(section.key)
        if key is not None and str(key) != str(section.value):
            reason = f"the settings are the one row with {section.key} {section.value}"
            raise ValueInvalidError(what=f"{self._live.name}.{section.key}", value=ascii(key), reason=reason)
        for name, kind in section.types.items():
            value = row.get(name)
            if kind == "boolean" and value is not None and as_word(value).lower() not in BOOLEANS:
                reason = "it is neither true nor false"
                raise ValueInvalidError(what=f"{self._live.name}.{name}", value=ascii(value), reason=reason)

    def check_changed(self, before: Row, after: Row) -> None:
        del before
        self.check_added(after)


#: How a database stores a boolean; drivers and files return a number, a text or a boolean.
BOOLEANS = frozenset(("0", "1", "true", "false"))


# Sessions ----------------------------------------------------------------------------------------------------------


class OpenSession(RowRule):
    """Rows of valid sessions cannot be added by user input: an ended session would be valid again."""

    def __init__(self, live: Live, section: SignedIn) -> None:
        self._live, self._section = live, section
        self._ends = {
            column: end_value
            for name, end_value in section.end.items()
            if (column := find_column(live.table, name))
        }
        self._expires = find_column(live.table, section.expires_at)

    @property
    def columns(self) -> Collection[str]:
        return [*self._ends, *([self._expires] if self._expires else [])]

    def check_added(self, row: Row) -> None:
        if self._is_open(row):
            reason = "it would keep a user signed in; users sign in again"
            raise ValueInvalidError(what="a row of", value=self._live.name, reason=reason)

    def check_changed(self, before: Row, after: Row) -> None:
        if not self._is_open(before):
            self.check_added({**before, **after})

    def _is_open(self, row: Row) -> bool:
        for column, end_value in self._ends.items():
            value = row.get(column)
            if read_boolean(value) if isinstance(end_value, bool) else value is not None:
                return False
        expires = read_time(row.get(self._expires)) if self._expires else None
        return expires is None or expires > now()
