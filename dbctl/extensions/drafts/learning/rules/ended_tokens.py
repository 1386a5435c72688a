"""What a new password or a deactivation does with the sessions and API tokens whose end the profile leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.rules.sign_in_rows import SignInRows, find_end
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Scene
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.users import SignInTable
from dbctl.profiles.payloads import parse_row_path


class EndedTokens:
    """The tables of open decisions in which the user had rows: the app ended all of them, or retained all."""

    def __init__(self, scene: Scene) -> None:
        """Compare the rows of the user; raises as ``Scene.find_user``."""
        self._scene, self.rows = scene, SignInRows(scene)
        #: by table, what is learned from rows that ended
        self.sections = dict[str, Mapping[str, Value]]()
        self.retained = list[str]()
        self.unrelated = dict[str, str]()  #: columns, as in ``Lesson.unrelated``
        self.open_tables = [*self._list_open()]
        for table in self.open_tables:
            rows = [
                row for row in scene.list_rows(table) if row.database == scene.users_database and row.before
            ]
            own = [row for row in rows if self._is_own(row)]
            if own:
                self._learn(table, own)
            elif self._had_rows(table):
                self.retained.append(table)

    def _list_open(self) -> Iterator[str]:
        """Yield the tables that an open decision about sign-ins names."""
        texts = self._scene.profile.undecided.get("sign-ins", ())
        for table in self._scene.evidence[self._scene.users_database].base_tables():
            if any(f" rows of {table.name} " in text for text in texts):
                yield table.name

    def _is_own(self, row: ChangedRow) -> bool:
        values = self.rows.read_values(row, after=False) or {}
        return self.rows.find_user(self.rows.read_table(row), values) is not None

    def _had_rows(self, table: str) -> bool:
        """Return whether the user had tokens that the profile counts."""
        paths = self._scene.users.counts.values()
        return any(parse_row_path(path)[0].table == table and self.rows.has_rows(path) for path in paths)

    def _learn(self, name: str, own: Sequence[ChangedRow]) -> None:
        """Learn how the rows of a table ended, if all of the user ended in one way; otherwise they stay open."""
        rows, sections, unrelated = self.rows, list[Mapping[str, Value]](), dict[str, str]()
        for row in own:
            table = rows.read_table(row)
            values = rows.read_values(row, after=False) or {}
            source = rows.find_user(table, values)
            on_end, times = find_end(table, row)
            if source is None or (row.after is not None and not on_end):
                return
            drafted = {
                key: value for key, value in rows.draft(table, values, source).items() if key != "on_end"
            }
            sections.append({**drafted, "on_end": on_end} if on_end else drafted)
            unrelated |= times
        section = msgspec.convert(sections[0], SignInTable)
        # A session that began with the action is open after it.
        is_complete = rows.count_open(section, own[0], after=False) == len(own)
        if all(other == sections[0] for other in sections) and is_complete:
            self.sections[name] = sections[0]
            self.unrelated |= unrelated

    def create_keys(self, others: Mapping[str, Mapping[str, Value]] = {}) -> list[LearnedKey]:
        """Return the key about the tables of sign-ins, with ``others`` by table; none if nothing was learned."""
        sections = {**others, **self.sections}
        return [self.rows.create_key(sections)] if sections else []

    def decide(self, tables: Sequence[str]) -> tuple[list[Topic], list[Decision]]:
        """Return the decided topic, and the open decisions about other tables; empty if none is about ``tables``."""
        decided = self.rows.list_decided(tables)
        topics: list[Topic] = ["sign-ins"] if decided else []
        return topics, self.rows.keep_decisions(decided)
