"""What a sign-out ends: rows of sign-ins that the app deletes, or marks as ended."""

from __future__ import annotations

import msgspec

from dbctl.extensions.drafts import sign_ins, usual_names
from dbctl.extensions.drafts.document import Line, join_names
from dbctl.extensions.drafts.learning.faults import TRACE
from dbctl.extensions.drafts.learning.rules.sign_in_rows import SignInRule, find_end, write_section
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson, Scene
from dbctl.model import Row, format_count
from dbctl.profiles.model.users import SignInTable
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence


def learn_sign_out(scene: Scene) -> Lesson:
    """Return the keys about the rows of sign-ins, and about how they end.

    Raises:
        DemonstrationWrongError: only sign-ins of other users ended.
    """
    return _SignOut(scene).create_lesson()


class _SignOut(SignInRule):
    """The rows that one sign-out deleted or changed."""

    def create_lesson(self) -> Lesson:
        scene = self.scene
        for row in self.list_others():
            self._explain(row)
        if self.others and not self.sections:
            tables = join_names(list(self.others))
            raise scene.create_error(
                f"the sign-ins in {tables} are those of other users", f"Sign out as {scene.subject.login}."
            )
        self._explain_user()
        if not self.sections and not any(decision.topic == "sign-ins" for decision in self.decisions):
            self.notes.append("no row shows the sign-out: the app may only delete a cookie")
        return self.create([])

    def _explain(self, row: ChangedRow) -> None:
        rows, table = self.rows, self.rows.read_table(row)
        earlier, values = rows.read_values(row, after=False), rows.read_values(row, after=True)
        is_log = usual_names.LOG_TABLE.search(references.normalize(table.name))
        source = rows.find_user(table, earlier) if earlier is not None else None
        if is_log:
            self.unrelated[table.name] = "it records what happened"
        elif (
            earlier is None
            and sign_ins.find_kind(table) == "session"
            and not rows.find_user(table, values or {})
        ):
            self.leave_open("sign-ins", f"the app adds rows of {table.name}, which have no user")
        elif earlier is None:
            self.leave_open("other", f"the app adds rows of {table.name}")
        elif source is None:
            self.explain_stranger(table, earlier, row)
        else:
            self._learn_row(table, row, earlier, source)

    def _learn_row(self, table: TableEvidence, row: ChangedRow, earlier: Row, source: Line) -> None:
        """Learn from a row of the user that was deleted or changed."""
        rows, name = self.rows, table.name
        on_end, times = find_end(table, row)
        self.unrelated |= times
        if row.after is not None and not on_end:
            self.leave_open(
                "sign-ins",
                f"the app changes {join_names([f'{name}.{column}' for column in row.after])} of the user,"
                " which do not show that a sign-in ended",
            )
            return
        known = next((item for item in rows.find_sections(name) if rows.covers(item, row, after=False)), None)
        drafted = write_section(known) if known else rows.draft(table, earlier, source)
        learned = {key: value for key, value in drafted.items() if key != "on_end"}
        if on_end:
            learned["on_end"] = on_end
        kind, section = sign_ins.find_kind(table), msgspec.convert(learned, SignInTable)
        if known is None and kind == "key":
            text = f"the app ends rows of {name}, which look like keys of programs: a new password may not end them"
            self.leave_open("sign-ins", text)
        elif known is None and kind != "session" and "token" not in learned:
            self.leave_open(
                "other", f"the app changes or deletes rows of {name} of the user, which have no token"
            )
        elif not rows.covers(section, row, after=False) or rows.covers(section, row, after=True):
            self.leave_open(
                "sign-ins", f"the app ends rows of {name}, which dbctl does not find as sign-ins of the user"
            )
        else:
            self.sections[name] = learned
            self._count_rest(row, section)

    def _count_rest(self, row: ChangedRow, section: SignInTable) -> None:
        """Say how many sign-ins of the user remain: dbctl ends all of them."""
        if count := self.rows.count_open(section, row, after=True):
            text = f"the app keeps {format_count(count, 'other sign-in')} of the user in {row.table}; sessions revoke ends all"
            self.notes[:] = dict.fromkeys([*self.notes, text])

    def _explain_user(self) -> None:
        """Leave open what else changed in the row of the user, such as a stamp that ends all sign-ins."""
        own, users = self.rows.find_own(), self.scene.users
        before = own.before or {} if own else {}
        for column, value in (own.after or {}).items() if own else ():
            place, definition = f"{users.table}.{column}", self.rows.table.columns.get(column)
            stored = [item for item in (before.get(column), value) if item]
            if column in users.on_sign_out or column == self.scene.user_fields.get("updated_at"):
                continue
            if definition and subjects.is_time(definition, stored):
                self.unrelated[place] = "a time in the row of the user"
            elif TRACE.search(column):
                self.unrelated[place] = "a trace of the sign-out"
            else:
                text = f"the app changes {place} at a sign-out: if the new value ends all sign-ins, add it to users.on_sign_out"
                self.leave_open("sign-ins", text)
