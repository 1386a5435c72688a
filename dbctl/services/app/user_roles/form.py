"""The forms in which apps store the roles of users: the base class, the usual form in one column, and the selection of the form of an app."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import AllOf, Column, Condition, InSubquery, Not, Order, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError, RoleMissingError
from dbctl.model import Row, Struct, join_first
from dbctl.profiles.codecs import BOOLEANS
from dbctl.profiles.model.roles import UserRole
from dbctl.profiles.model.users import Users
from dbctl.services.app.live_table import LiveTable

#: A key below ``[users]``, and the problem with its value.
Problem: TypeAlias = tuple[Sequence[str | int], str]

#: How a command changes the roles of a user.
RoleAction = Literal["set", "add", "remove"]

MAX_NAMED = 10  #: maximum number of roles in a message about a contradiction
SAMPLE_ROWS = 100  #: rows in which ``find_problems`` searches for a known role

#: Declared types of boolean, of number and of text columns, for drivers without such types.
BOOLEAN_TYPE = r"BOOL.*|TINYINT\(1\)"
WHOLE_TYPE = r"INT|SERIAL"
NUMBER_TYPE = rf"{WHOLE_TYPE}|NUMERIC|DECIMAL|REAL|DOUBLE|FLOAT"
TEXT_TYPE = r"CHAR|TEXT|CLOB|STRING"
BOOLEAN_LABELS = {"true": True, "false": False}


class Assignment(Struct, frozen=True, kw_only=True):
    """The roles of one user before and after a change."""

    user: object  #: the key of the user
    before: Sequence[str] = ()
    after: Sequence[str]

    @property
    def added(self) -> list[str]:
        """The new roles."""
        return [name for name in self.after if name not in self.before]

    @property
    def removed(self) -> list[str]:
        """The roles that the user loses."""
        return [name for name in self.before if name not in self.after]


class RoleForm(ABC):
    """How an app stores the roles of users: the common part of all forms."""

    has_several = False  #: whether a user may have several roles
    #: whether ``write`` stores the roles, such as in rows of other tables than that of the users
    has_rows = False
    #: the columns of a user's row that contain roles
    columns: Sequence[str] = ()
    column = ""  #: the column of a user's row, if it alone contains the role

    def __init__(self, users: Users, role: UserRole, live: LiveTable, only: Sequence[Where]) -> None:
        """Describe the form; ``only`` are the conditions of rows of ``live`` that are users."""
        self.users, self.section, self.live, self.only = users, role, live, only
        self.db, self.id = live.db, live.column(users.id.column)
        if role.column:
            self.columns = [live.column(role.column)]
            self.column = "" if role.bits else self.columns[0]
        self._is_consistent = False

    @property
    def tables(self) -> Sequence[str]:
        """The tables whose rows decide which roles users have."""
        return [self.live.name, *([self.section.role_table] if self.section.role_table else [])]

    # Names -----------------------------------------------------------------------------------------------------

    @cached_property
    @abstractmethod
    def keys(self) -> Mapping[object, str]:
        """All roles in the order of the app: what the database stores for a role, and its name."""

    def name_of(self, key: object) -> str:
        text = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key
        return self.keys.get(key) or self.keys.get(text) or f"(unknown: {text})"

    def resolve(self, name: str) -> str:
        """Return the name of a role as the app spells it.

        Raises:
            RoleMissingError: the role does not exist.
        """
        for known in self.keys.values():
            if known.casefold() == name.casefold():
                return known
        names = self.keys.values()
        raise RoleMissingError(name=name, target=self.db.target, names=", ".join(names), candidates=names)

    def key_of(self, name: str) -> object:
        """Return the key of a role; raises as ``resolve``."""
        known = self.resolve(name)
        return next(key for key, other in self.keys.items() if other == known)

    def parse_name(self, text: str) -> str:
        """Return the name of a role that a user entered as the value of ``column``, or as its name."""
        return text

    # Reading ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        """Return the roles of users in the order of ``keys``, one list for each of their rows.

        A row has at least the primary key and ``columns``.
        """

    @abstractmethod
    def where(self, name: str, *, for_update: bool = False) -> Where:
        """Return the condition that a user has a role; raises as ``resolve``.

        ``for_update`` locks the rows of other tables that contain the role.
        """

    def where_lasting(self, name: str, *, for_update: bool = False) -> Where:
        """As ``where``, but without roles that may expire."""
        return self.where(name, for_update=for_update)

    @abstractmethod
    def where_unknown(self) -> Where:
        """Return the condition that a user has a role that does not exist, or whose form dbctl does not support."""

    def create_order(self, *, descending: bool) -> Order:
        """Return the order of users by role.

        Raises:
            NotSupportedError: roles of this form have no order.
        """
        del descending
        hint = Remedy("List the users of one role with: `users list --role ROLE`")
        raise NotSupportedError(feature="sorting users by role", subject=self.live.profile.title, hint=hint)

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        """Return the number of users by the key of their role; keys of unknown roles are included.

        ``with_others`` also counts rows that contain a role and do not belong to users, such as those of groups.
        """
        only = [] if with_others else self.only
        return {
            key: self.db.count(self.live.name, [self.where(name), *only]) for key, name in self.keys.items()
        }

    def where_users(self, column: str) -> Where:
        """Return the condition that a column of another table refers to a user."""
        return InSubquery([column], self.live.name, [self.id], self.only)

    # Changes ---------------------------------------------------------------------------------------------------

    def change(self, action: RoleAction, current: Sequence[str], name: str) -> list[str]:
        """Return the roles of a user after a change; raises as ``resolve``.

        Raises:
            NotSupportedError: users have a single role, which can only be replaced.
        """
        if action != "set" and not self.has_several:
            raise self._create_single_role_error()
        known = self.resolve(name)
        others = [] if action == "set" else [other for other in current if other != known]
        return others if action == "remove" else [*others, known]

    def select_new(self, names: Sequence[str] | None) -> list[str]:
        """Return the roles of a new user: ``names``, or the default role if it is None; raises as ``resolve``.

        Raises:
            NotSupportedError: there are several, and users have a single role.
        """
        default = [self.section.default] if self.section.default else []
        selected = list(dict.fromkeys(self.resolve(name) for name in (default if names is None else names)))
        if len(selected) > 1 and not self.has_several:
            raise self._create_single_role_error()
        return selected

    def _create_single_role_error(self) -> NotSupportedError:
        hint = Remedy("Replace the role with: `users set-role LOGIN ROLE`")
        return NotSupportedError(
            feature="a user with several roles", subject=self.live.profile.title, hint=hint
        )

    def encode(self, names: Iterable[str]) -> dict[str, object]:
        """Return the values of ``columns`` that store roles."""
        del names
        return {}

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        """Return, by table, the number of rows that ``write`` adds, changes or deletes.

        Raises:
            RoleInheritedError: a user has a removed role as a member of a group.
            RoleStoredError: the stored roles of a user have a form that dbctl does not change.
        """
        del assignments
        return {}

    def where_removed(self, assignments: Sequence[Assignment]) -> dict[str, list[Where]]:
        """Return, by table, the conditions of the rows that ``write`` deletes; a row meets one of them."""
        del assignments
        return {}

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        """Write the rows of other tables; without such rows, nothing."""
        del db, assignments

    # Comparison of the profile with the database -----------------------------------------------------------------

    def find_problems(self) -> Iterator[Problem]:
        """Yield contradictions between the profile and the database."""
        if problems := list(self.find_type_problems()):
            yield from problems  # they cause the others
            return
        names = {name.casefold() for name in self.keys.values()}
        has_roles = bool(names) or bool(self.db.select(self.live.name, [self.id], limit=1))
        for key, name in (
            (("admin",), self.users.admin_role),
            (("role", "default"), self.section.default),
            (("role", "exclusive"), self.section.exclusive),
        ):
            if name and has_roles and name.casefold() not in names:
                yield key, f"{name!r} is none of the roles in the database: {self._describe_names()}"
        if self.has_only_unknown_roles():
            stored = f"the roles of users in {self.live.name}"
            yield ("role",), f"{stored} are none of the declared ones: {self._describe_names()}"

    def _describe_names(self) -> str:
        return join_first([*self.keys.values()], MAX_NAMED) or "none"

    def require_consistent(self) -> None:
        """Refuse a write if the profile contradicts the database: it could damage accounts or remove the last admin.

        Raises:
            RoleFormError: has the first problem.
        """
        for key, reason in () if self._is_consistent else self.find_problems():
            from dbctl.errors.users import RoleFormError

            key_text = ".".join(map(str, ("users", *key)))
            raise RoleFormError(target=self.db.target, key=key_text, reason=reason)
        self._is_consistent = True

    def find_type_problems(self) -> Iterator[Problem]:
        """Yield contradictions between the profile and the types of columns."""
        return iter(())

    def has_only_unknown_roles(self) -> bool:
        """Return whether users have roles, and all of a sample are unknown."""
        return False


def is_boolean(column: Column) -> bool:
    return column.native == "boolean" or bool(re.fullmatch(BOOLEAN_TYPE, column.type))


def is_number(column: Column) -> bool:
    return not is_boolean(column) and bool(re.search(NUMBER_TYPE, column.type))


def can_store(column: Column, value: object) -> bool:
    """Return whether a column has a type for an encoded value."""
    if column.labels:
        return value in column.labels
    if column.native == "boolean":
        return isinstance(value, bool)
    if is_boolean(column):
        return value in (0, 1)
    if is_number(column):
        return isinstance(value, int | float)
    return isinstance(value, str) or not re.search(TEXT_TYPE, column.type)


class RoleColumn(RoleForm):
    """One column: the name of the role, a value with a label, or the key of a row in the table of roles."""

    @cached_property
    def keys(self) -> Mapping[object, str]:
        role = self.section
        if role.table:
            return {key: str(name) for key, name in self.db.select(role.table, [role.key, role.name])}
        if role.labels:
            return {self._parse_label(text): name for text, name in role.labels.items()}
        definition = self.live.table.columns[self.column]
        if is_boolean(definition):
            listed = [label for label in map(str.lower, role.values) if label in BOOLEAN_LABELS]
            return {self._parse_label(label): label for label in listed or ("true", "false")}
        known = [label for label in role.values if label in definition.labels or not definition.labels]
        counts = [] if known or definition.labels else self.db.count_by(self.live.name, self.column)
        other_labels = (label for label in definition.labels if label not in known)
        labels = [*known, *other_labels, *(str(value) for value in counts if value not in (None, ""))]
        return {self._parse_label(label): label for label in labels}

    def _parse_label(self, label: str) -> object:
        """Return the stored value that a profile writes as text."""
        definition, word = self.live.table.columns[self.column], label.lower()
        if word in BOOLEAN_LABELS and (is_boolean(definition) or is_number(definition)):
            truth = BOOLEAN_LABELS[word]
            return truth if definition.native == "boolean" else BOOLEANS[self.live.profile.boolean][truth]
        is_whole = is_number(definition) or is_boolean(definition)
        if is_whole and re.fullmatch(r"-?[0-9]{1,18}", label, re.ASCII):
            return bool(int(label)) if definition.native == "boolean" else int(label)
        return label

    def parse_name(self, text: str) -> str:
        return {str(key): name for key, name in self.keys.items()}.get(str(self._parse_label(text)), text)

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        return [[] if row[self.column] is None else [self.name_of(row[self.column])] for row in rows]

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        return Condition(self.column, "=", self.key_of(name))

    def where_unknown(self) -> Where:
        is_known = Condition(self.column, "in", list(self.keys))
        return AllOf([Condition(self.column, "!=", None), Not(is_known)])

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        return self.db.count_by(self.live.name, self.column, [] if with_others else self.only)

    def encode(self, names: Iterable[str]) -> dict[str, object]:
        return dict.fromkeys(self.columns, self.key_of(name)) if (name := next(iter(names), "")) else {}

    def create_order(self, *, descending: bool) -> Order:
        """Return the order of users by the names of their roles."""
        role = self.section
        if not role.table:
            return Order([self.column], descending)
        through = InSubquery([role.column], role.table, [role.key])
        return Order([role.name], descending, nocase=True, through=through)

    def find_type_problems(self) -> Iterator[Problem]:
        role, definition = self.section, self.live.table.columns[self.column]
        declared = "labels" if role.labels else "values"
        texts = [] if role.table else list(role.labels or role.values)
        unfit = [text for text in texts if not can_store(definition, self._parse_label(text))]
        # versions of an enum have different labels
        if not unfit or (definition.labels and len(unfit) < len(texts)):
            return
        kind = f"an enum with {', '.join(definition.labels)}" if definition.labels else definition.type
        place = f"{self.live.name}.{self.column} ({kind})"
        yield ("role", declared), f"{place} cannot store {', '.join(map(repr, unfit))}"

    def has_only_unknown_roles(self) -> bool:
        has_role = Condition(self.column, "!=", None)
        rows = self.db.select(self.live.name, [self.column], [has_role], limit=SAMPLE_ROWS)
        return bool(rows) and not any(value in self.keys for (value,) in rows)


def create_role_form(users: Users, live: LiveTable, only: Sequence[Where]) -> RoleForm | None:
    """Return the roles of users; None if the app has none. ``only`` has the conditions of the rows of ``live`` that are users.

    Raises:
        SchemaMismatchError: the database lacks a column or table of the section.
    """
    role = users.role
    if role is None:
        return None
    if role.column:
        kind: type[RoleForm] = RoleColumn
        if role.bits:
            from dbctl.services.app.user_roles.columns import RoleBits

            kind = RoleBits
        return kind(users, role, live, only)
    if role.ranks and not role.members:
        from dbctl.services.app.user_roles.columns import Ranks

        return Ranks(users, role, live, only)
    if role.metadata:
        from dbctl.services.app.user_roles.metadata import Metadata

        return Metadata(users, role, live, only)
    if role.ranks:
        from dbctl.services.app.user_roles.members import RankedMembers

        return RankedMembers(users, role, live, only)
    from dbctl.services.app.user_roles.members import Members

    return Members(users, role, live, only)
