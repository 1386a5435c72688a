"""What a new password or a deactivation does with the sessions and API tokens whose end the profile leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dbctl.extensions.drafts.document import Value
from dbctl.extensions.drafts.learning.rules.user_rows import UserRule, find_end
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.users import SignInTable
from dbctl.profiles.payloads import parse_row_path


class EndedTokens:
    """The tables of open decisions in which the user had rows: the app ended all of them, or retained all."""

    def __init__(self, rule: UserRule, further: Sequence[str] = ()) -> None:
        """Compare the rows of the user, also in ``further`` tables, of which retained rows teach nothing."""
        self._rule = rule
        #: by table, what is learned from rows that ended
        self.sections = dict[str, Mapping[str, Value]]()
        self.retained = list[str]()
        open_tables = rule.list_open_tables()
        for table in dict.fromkeys([*open_tables, *further]):
            own = [row for row in rule.rows if row.table == table and row.before and rule.is_own(row)]
            if own:
                self._learn(table, own)
            elif table in open_tables and self._had_rows(table):
                self.retained.append(table)

    def _had_rows(self, table: str) -> bool:
        """Return whether the user had tokens that the profile counts."""
        paths = self._rule.users.counts.values()
        return any(parse_row_path(path)[0].table == table and self._rule.has_rows(path) for path in paths)

    def _learn(self, name: str, own: Sequence[ChangedRow]) -> None:
        """Learn how the rows of a table ended, if all of the user ended in one way; otherwise they stay open."""
        rule, sections, unrelated = self._rule, list[Mapping[str, Value]](), dict[str, str]()
        for row in own:
            table = rule.read_table(row)
            values = rule.read_values(row, after=False) or {}
            source = rule.find_user(table, values)
            on_end, times = find_end(table, row)
            if source is None or (row.after is not None and not on_end):
                return
            drafted = {
                key: value for key, value in rule.draft(table, values, source).items() if key != "on_end"
            }
            sections.append({**drafted, "on_end": on_end} if on_end else drafted)
            unrelated |= times
        section = msgspec.convert(sections[0], SignInTable)
        is_known = all(rule.covers(section, row, after=False) for row in own)
        # A session that began with the action is open after it.
        is_complete = is_known and rule.count_open(section, own[0], after=False) == len(own)
        if all(other == sections[0] for other in sections) and is_complete:
            self.sections[name] = sections[0]
            rule.unrelated |= unrelated

    def create_keys(self) -> list[LearnedKey]:
        """Return the key about the tables of sign-ins; none if nothing was learned."""
        return [self._rule.create_key(self.sections)] if self.sections else []

    def decide(self, tables: Sequence[str]) -> list[Topic]:
        """Return the decided topic, and leave its decisions about other tables open; none if none is about ``tables``."""
        decided = self._rule.list_decided(tables)
        self._rule.decisions += self._rule.keep_decisions(decided)
        return ["sign-ins"] if decided else []
