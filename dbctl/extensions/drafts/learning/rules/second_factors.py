"""What a reset of second factors removes: rows that the app deletes, and columns of the user that it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Value, write_section, write_stored
from dbctl.extensions.drafts.learning.rules.states import UserChange
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson


class ResetRule(UserChange):
    """The row of a user without second factors, and the deleted rows of the user."""

    def learn(self) -> Lesson:
        """Return the key about the second factors that the app removed.

        Raises:
            DemonstrationWrongError: neither the user nor a row of the user changed.
        """
        ends = self._find_ends()
        sections = [*self._describe_columns(ends), *self._describe_rows()]
        if not sections:
            reason = f"no row shows that {self.scene.subject.login!r} had a second factor"
            raise self.scene.create_error(reason, "Let the user register one before the demonstration.")
        tables = [str(section["table"]) for section in sections]
        self.explain_others(tables)
        known = [*self.users.second_factor]
        others = [
            write_section(section) for section in known if section.table.removesuffix("?") not in tables
        ]
        value = [*others, *sections]
        key = self.scene.create_key("users", "second_factor", value=value, shown=tables)
        for name in ends:
            self.unrelated.pop(f"{self.users.table}.{name}", None)
        return self.create_lesson([key], ["second-factors"])

    def _find_ends(self) -> Mapping[str, bool | int | str]:
        """Return the new values of the columns of the user; a time that becomes NULL is one of them, other times are not."""
        before, after = self.own.before or {}, self.own.after or {}
        names = [
            name
            for name in after
            if name in self.columns or (after[name] is None and before[name] is not None)
        ]
        return {name: write_stored(after[name]) for name in names}

    def _describe_columns(self, ends: Mapping[str, bool | int | str]) -> Iterator[Mapping[str, Value]]:
        """Yield the section about the columns of the user that the app changed."""
        before = self.own.before or {}
        flags = [name for name, end in ends.items() if end in (False, 0) and before[name] in (True, 1)]
        section: dict[str, Value] = {"name": usual_names.OTHER_FACTOR, "table": self.users.table}
        section |= {"user": self.users.id.column, "on_reset": {**ends, **dict.fromkeys(flags, False)}}
        if ends:
            yield section | ({"confirmed": dict.fromkeys(flags, True)} if flags else {})

    def _describe_rows(self) -> list[Mapping[str, Value]]:
        """Return a section for each table from which the app deleted rows of the user, but its sign-ins."""
        sections = dict[str, Mapping[str, Value]]()
        for row in self.rows:
            is_factor = row.after is None and row.table not in self.users.sign_in_tables
            if is_factor and (column := self._find_column(row)):
                name = usual_names.name_second_factor(row.table)
                section: dict[str, Value] = {"name": name, "table": row.table, "user": column}
                if name == usual_names.RECOVERY_CODES:
                    section["required"] = False
                sections.setdefault(row.table, section)
        return [*sections.values()]

    def _find_column(self, row: ChangedRow) -> str:
        """Return the column of a deleted row with the key of the user; a foreign key precedes others; empty: none."""
        table, target = self.evidence.tables[row.table], self.paths.target
        columns = [name for name, value in (row.before or {}).items() if str(value) == str(self.key)]
        columns = [name for name in columns if table.target(name) in (None, target)]
        # a number that is the whole key of the row is the user's only by a foreign key; part of a key, it may be
        columns = [name for name in columns if [*row.key] != [name] or table.target(name) == target]
        return min(columns, key=lambda name: table.target(name) is None, default="")
