"""Paths from the rows that an action deleted or changed to their user, as in ``users.cascade``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import Condition, Query, Readable, Where
from dbctl.engines.contract.schema import SchemaReference
from dbctl.errors.usage import SchemaMismatchError
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.learning.scene import ChangedRow, Scene
from dbctl.extensions.drafts.new_users import find_named_rows
from dbctl.model import Row
from dbctl.profiles.codecs import recognize_time
from dbctl.profiles.payloads import has_row_path, parse_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import SAMPLE_ROWS, TableEvidence
from dbctl.services.users.ownership import follow_steps

#: Columns with the kind of the user, or of the row to which another column refers.
KIND = re.compile(r"(^|_)(origin|kind|type|model|class|provider|realm|scope|source)$")
#: Characters of a value that distinguishes rows.
_LONGEST_KIND = 60
#: Values of a row that identify it.
RowKey = tuple[str, ...]


class UserPaths:
    """The columns that lead from the rows of the user's database to the user, before an action."""

    def __init__(self, scene: Scene, user: Row) -> None:
        self.users, self.user, self.key = scene.users, user, user[scene.users.id.column]
        #: the column to which foreign keys of rows of users refer
        self.target = (scene.users.table, scene.users.id.column)
        self.before: Readable = scene.before[scene.users_database]
        self.after: Readable = scene.after[scene.users_database]
        self.rows = [row for row in scene.list_rows() if row.database == scene.users_database]
        evidence = scene.evidence[scene.users_database]
        samples = dict[str, list[Row]]()
        for row in self.rows:
            if row.before and row.after is None:
                samples.setdefault(row.table, []).append(row.before)
        # A sample has only some rows; those of the user show its key and its names.
        self.evidence = structs.replace(
            evidence,
            tables={
                name: structs.replace(table, rows=[*table.rows, *samples.get(name, ())])
                for name, table in evidence.tables.items()
            },
        )
        self.logins = [
            column for field in self.users.login if isinstance(column := self.users.fields[field], str)
        ]
        self._known = self._list_known()

    @property
    def table(self) -> TableEvidence:
        return self.evidence.tables[self.users.table]

    def is_known(self, path: str) -> bool:
        """Return whether the database has all tables and columns of a path."""
        tables = self.before.tables()
        return all(
            step.table in tables and step.column in tables[step.table].columns
            for step in parse_row_path(path)
        )

    def identify(self, table: str, row: Row) -> RowKey:
        """Return the values that identify a row of a table: its key, or all of them."""
        return tuple(str(row[name]) for name in self._list_identity(table))

    def select(self, path: str, *, most: int) -> set[RowKey] | None:
        """Return the rows of a path before the action; None: more than ``most``, or it leads through a table without a key."""
        steps = parse_row_path(path)
        try:
            where = [follow_steps(self.before, steps, [self.key])]
        except SchemaMismatchError:
            return None
        table = steps[0].table
        if self.before.count(table, where) > most:
            return None
        return {self.identify(table, row) for row in self._read(table, self._list_identity(table), where)}

    def count_after(self, path: str) -> int:
        """Return the number of rows of a path after the action, when the user may not exist any more."""
        *_, last = steps = parse_row_path(path)
        if len(steps) > 1 and last.table == self.users.table and last.column == self.users.id.column:
            source, previous = last.key or self.users.id.column, steps[-2]
            where = [Condition(previous.column, "=", self.user[source])]
            return self.after.count(previous.table, where) if len(steps) == 2 else 0  # noqa: PLR2004 - the column with the login
        return self.after.count(steps[0].table, [follow_steps(self.after, steps, [self.key])])

    def explain(self, deleted: Mapping[str, Sequence[ChangedRow]]) -> dict[str, list[str]]:
        """Return, by table, the paths of deleted rows; not of tables whose rows do not show their user."""
        paths, progress = dict[str, list[str]](), True
        while progress:
            progress = False
            for table, rows in deleted.items():
                if table not in paths and (explained := self._explain_table(table, rows, paths)):
                    paths[table], progress = explained, True
        return paths

    def find_column(self, table: str, column: str, value: object) -> str:
        """Return the path of a column that had ``value`` if it refers to the user; empty: it does not."""
        if str(value) != str(self.key) or not has_row_path(table, column):
            return ""
        evidence, path = self.evidence.tables[table], f"{table}.{column}"
        target = evidence.target(column)
        if target:
            return path if target == self.target else ""
        return path if path in self._known or self._is_named(evidence, column) else ""

    def find_reference(self, table: str, column: str) -> SchemaReference | None:
        """Return the foreign key of one column."""
        for reference in self.evidence.tables[table].references:
            if list(reference.columns) == [column]:
                return reference
        return None

    # One table --------------------------------------------------------------------------------------------------------

    def _explain_table(
        self, table: str, rows: Sequence[ChangedRow], parents: Mapping[str, Sequence[str]]
    ) -> list[str]:
        """Return the fewest paths that select all deleted rows of a table, and no others; none: there are no such paths."""
        open_rows = {self.identify(table, row.before or {}): row.before or {} for row in rows}
        deleted, explained = set(open_rows), list[str]()
        for candidate in self._list_candidates(table, list(open_rows.values()), parents):
            path = candidate if self._selects_only(candidate, deleted) else self._restrict(candidate, rows)
            selected = self.select(path, most=len(deleted)) if path else None
            if selected and selected <= deleted and selected & open_rows.keys():
                explained.append(path)
                open_rows = {key: row for key, row in open_rows.items() if key not in selected}
            if not open_rows:
                return explained
        return []

    def _selects_only(self, path: str, deleted: set[RowKey]) -> bool:
        selected = self.select(path, most=len(deleted))
        return selected is not None and selected <= deleted and not self._has_other_kinds(path)

    def _list_candidates(
        self, table: str, rows: Sequence[Row], parents: Mapping[str, Sequence[str]]
    ) -> Iterator[str]:
        """Yield paths that may lead to the user: by foreign keys, by the profile, by names, and by equal values."""
        evidence = self.evidence.tables[table]
        keyed = [reference for reference in evidence.references if len(reference.columns) == 1]
        candidates = [
            f"{table}.{reference.columns[0]}"
            for reference in keyed
            if (reference.table, *reference.to) == self.target
        ]
        candidates += [path for path in self._known if parse_row_path(path)[0].table == table]
        candidates += [
            f"{table}.{column}"
            for column in evidence.columns
            if evidence.target(column) is None
            and self._is_named(evidence, column)
            and any(str(row.get(column)) == str(self.key) for row in rows)
        ]
        for reference in keyed:
            parent = self.evidence.tables.get(reference.table)
            candidates += [
                references.extend_path(parent, path, evidence, reference)
                for path in parents.get(reference.table, ())
            ]
        candidates += self._list_equal(evidence, rows)
        yield from (path for path in dict.fromkeys(candidates) if path)

    def _list_equal(self, evidence: TableEvidence, rows: Sequence[Row]) -> Iterator[str]:
        """Yield the columns without a foreign key that have a login of the user in all rows."""
        for column in evidence.columns:
            stored = {str(row.get(column)) for row in rows}
            for login in self.logins:
                is_path = has_row_path(evidence.name, column) and login != self.users.id.column
                if is_path and stored == {str(self.user[login])} and evidence.target(column) is None:
                    yield f"{evidence.name}.{column} -> {self.users.table}({login}).{self.users.id.column}"

    def _is_named(self, table: TableEvidence, column: str) -> bool:
        """Return whether equal values are no chance: the column is named after users, or keys are no numbers."""
        if not has_row_path(table.name, column):
            return False
        if not subjects.is_whole(self.table.columns[self.users.id.column]):
            return True
        forms = (references.normalize(column), references.shorten(table, column))
        is_word = any(map(references.USER_WORD.search, forms))
        return is_word or bool(usual_names.find_user_word(column))

    def _list_known(self) -> list[str]:
        """Return the paths that the profile, or the names of rows, have."""
        section = self.users
        paths = [*section.owned, *section.clear, *section.retained]
        paths += [f"{item.table.removesuffix('?')}.{item.column}" for item in section.transfer]
        paths += [f"{item.table.removesuffix('?')}.{item.user}" for item in section.signed_in if item.user]
        paths += [f"{item.table.removesuffix('?')}.{item.user}" for item in section.create if item.user]
        for named in find_named_rows(self.evidence, self.table).values():
            paths += named
        return [path for path in dict.fromkeys(paths) if self.is_known(path)]

    def _read(
        self, table: str, columns: Sequence[str], where: Sequence[Where], limit: int | None = None
    ) -> list[Row]:
        """Return rows before the action, with exact values like those of recorded changes."""
        rows = self.before.codec.read(Query(table, columns, where, limit=limit))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _list_identity(self, table: str) -> Sequence[str]:
        definition = self.before.tables()[table]
        return definition.primary_key or list(definition.columns)

    # Kinds of rows ----------------------------------------------------------------------------------------------------

    def _restrict(self, path: str, rows: Sequence[ChangedRow]) -> str:
        """Return the path with a value that all deleted rows have, and no other row with the same key; empty: there is none."""
        step, *later = parse_row_path(path)
        evidence = self.evidence.tables[step.table]
        own = [row.before for row in rows if row.before and str(row.before[step.column]) == str(self.key)]
        if later or step.text or step.filter or not own:
            return ""
        deleted = {self.identify(step.table, row) for row in own}
        where = [follow_steps(self.before, [step], [self.key])]
        others = self._read(step.table, list(evidence.columns), where, len(own) + SAMPLE_ROWS)
        others = [row for row in others if self.identify(step.table, row) not in deleted]
        explained = list(self._list_kinds(evidence, step.column, own, others))
        return explained[0] if explained else ""

    def _list_kinds(
        self, evidence: TableEvidence, column: str, own: Sequence[Row], others: Sequence[Row]
    ) -> Iterator[str]:
        """Yield paths with a value that only the rows ``own`` have; the columns named after kinds first."""
        names = sorted(evidence.columns, key=lambda name: not KIND.search(references.normalize(name)))
        for name in names:
            stored = {row[name] for row in own}
            value = next((value for value in stored if isinstance(value, str)), "")
            is_kind = (
                len(stored) == 1
                and 0 < len(value) <= _LONGEST_KIND
                and "]" not in value
                and not evidence.is_unique(name)
                and all(row[name] != value for row in others)
                and recognize_time(value) is None
            )
            if is_kind and name != column and (others or KIND.search(references.normalize(name))):
                yield f"{evidence.name}[{name}={value}].{column}"

    def _has_other_kinds(self, path: str) -> bool:
        """Return whether a column without a foreign key has keys of other tables, too, as a column of kinds shows."""
        step, *later = parse_row_path(path)
        evidence = self.evidence.tables[step.table]
        if later or step.text or step.filter or evidence.target(step.column):
            return False
        kinds = [name for name in evidence.columns if KIND.search(references.normalize(name))]
        strangers = [row for row in evidence.rows if not self.is_user(row.get(step.column))]
        for name in kinds if strangers else ():
            own = {row.get(name) for row in evidence.rows if str(row.get(step.column)) == str(self.key)}
            if own and not own & {row.get(name) for row in strangers}:
                return True
        return False

    def is_user(self, value: object) -> bool:
        """Return whether a value is NULL, or the key of a user."""
        key = self.users.id.column
        if value is None or str(value) in map(str, self.table.values(key)):
            return True
        if subjects.is_whole(self.table.columns[key]):
            return (
                str(value).isdecimal()
                and self.before.count(self.table.name, [Condition(key, "=", int(str(value)))]) > 0
            )
        return self.before.count(self.table.name, [Condition(key, "=", value)]) > 0
