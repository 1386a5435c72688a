"""Roles in the rows of users, in one column or in several columns; selection of the form in which an app stores them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from dbctl.engines.contract.database import AllOf, AnyOf, Column, Condition, InSubquery, Not, Order, Where
from dbctl.model import Row
from dbctl.profiles.codecs import BOOLEANS
from dbctl.profiles.model.users import Users
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_roles.form import SAMPLE_ROWS, Problem, RoleForm

#: Declared types of boolean, of number and of text columns, for drivers without such types.
BOOLEAN_TYPE = r"BOOL.*|TINYINT\(1\)"
WHOLE_TYPE = r"INT|SERIAL"
NUMBER_TYPE = rf"{WHOLE_TYPE}|NUMERIC|DECIMAL|REAL|DOUBLE|FLOAT"
TEXT_TYPE = r"CHAR|TEXT|CLOB|STRING"
BOOLEAN_LABELS = {"true": True, "false": False}


def is_boolean(column: Column) -> bool:
    """Return whether a column has a type for booleans."""
    return column.native == "boolean" or bool(re.fullmatch(BOOLEAN_TYPE, column.type))


def is_number(column: Column) -> bool:
    """Return whether a column has a type for numbers."""
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

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the arguments of the base class
        self.column = self.live.column(self.section.column)
        self.columns, self._definition = [self.column], self.live.table.columns[self.column]

    @cached_property
    def keys(self) -> Mapping[object, str]:
        role = self.section
        if role.table:
            return {key: str(name) for key, name in self.db.select(role.table, [role.key, role.name])}
        if role.labels:
            return {self._parse_label(text): name for text, name in role.labels.items()}
        definition = self._definition
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
        definition, word = self._definition, label.lower()
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
        role, definition = self.section, self._definition
        declared = "labels" if role.labels else "values"
        texts = [] if role.table else list(role.labels or role.values)
        unfit = [text for text in texts if not can_store(definition, self._parse_label(text))]
        if not unfit or (
            definition.labels and len(unfit) < len(texts)
        ):  # versions of an enum have different labels
            return
        kind = f"an enum with {', '.join(definition.labels)}" if definition.labels else definition.type
        place = f"{self.live.name}.{self.column} ({kind})"
        yield ("role", declared), f"{place} cannot store {', '.join(map(repr, unfit))}"

    def has_only_unknown_roles(self) -> bool:
        has_role = Condition(self.column, "!=", None)
        rows = self.db.select(self.live.name, [self.column], [has_role], limit=SAMPLE_ROWS)
        return bool(rows) and not any(value in self.keys for (value,) in rows)


class Ranks(RoleForm):
    """Several columns: a user has the first rank whose values match."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the arguments of the base class
        self._stored = {rank.name: self.live.encode_constants(rank.columns) for rank in self.section.ranks}
        self._matches = {
            rank.name: {self.live.column(name): None for name in rank.match or rank.columns}
            for rank in self.section.ranks
        }
        self.columns = list(next(iter(self._stored.values()), {}))

    @cached_property
    def keys(self) -> Mapping[object, str]:
        return {name: name for name in self._stored}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        return [self._find_ranks(row)[:1] or ["(unknown)"] for row in rows]

    def _find_ranks(self, row: Row) -> list[str]:
        """Return the ranks whose values match, the first of which the user has."""
        return [
            name
            for name, columns in self._matches.items()
            if all(row[column] == self._stored[name][column] for column in columns)
        ]

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        known = self.resolve(name)
        earlier = [self._where_match(other) for other in self.names()[: self.names().index(known)]]
        return AllOf([self._where_match(known), *map(Not, earlier)])

    def _where_match(self, name: str) -> Where:
        return AllOf([Condition(column, "=", self._stored[name][column]) for column in self._matches[name]])

    def where_unknown(self) -> Where:
        return Not(AnyOf([self._where_match(name) for name in self.names()]))

    def encode(self, names: Iterable[str]) -> dict[str, object]:
        return {column: value for name in names for column, value in self._stored[name].items()}

    def find_type_problems(self) -> Iterator[Problem]:
        for index, (name, stored) in enumerate(self._stored.items()):
            for column, value in stored.items():
                definition = self.live.table.columns[column]
                if not can_store(definition, value):
                    place = f"{self.live.name}.{column} ({definition.type})"
                    yield (
                        ("role", "ranks", index, "columns", column),
                        f"{place} cannot store {value!r} of {name}",
                    )

    def has_only_unknown_roles(self) -> bool:
        rows = self.db.select(self.live.name, self.columns, limit=SAMPLE_ROWS)
        records = [dict(zip(self.columns, row, strict=True)) for row in rows]
        return bool(records) and not any(self._find_ranks(record) for record in records)


def create_role_form(users: Users, live: LiveTable, only: Sequence[Where]) -> RoleForm | None:
    """Return the roles of users; None if the app has none.

    Args:
        users: the section of the profile.
        live: the table of users.
        only: the conditions of its rows that are users.

    Raises:
        SchemaMismatchError: the database lacks a column or table of the section.
    """
    role = users.role
    if role is None:
        return None
    if role.column:
        return RoleColumn(users, role, live, only)
    if role.ranks and not role.members:
        return Ranks(users, role, live, only)
    if role.metadata:
        from dbctl.services.app.user_roles.metadata import Metadata

        return Metadata(users, role, live, only)
    if role.ranks:
        from dbctl.services.app.user_roles.members import RankedMembers

        return RankedMembers(users, role, live, only)
    from dbctl.services.app.user_roles.members import Members

    return Members(users, role, live, only)
