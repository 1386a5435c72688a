"""What a sign-in writes, and what a sign-out ends: rows of sessions or tokens of the user, and the time of the last login."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from dbctl.extensions.drafts import sign_ins, usual_names
from dbctl.extensions.drafts.document import Line, Value, join_names, write_section
from dbctl.extensions.drafts.learning.rules.user_rows import SignInRule, find_end
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson
from dbctl.model import Row, format_count
from dbctl.profiles.model.users import SignInTable
from dbctl.services.app.evidence import references
from dbctl.services.app.evidence.gather import TableEvidence

#: Columns of users with the time of a sign-in, or of a request.
_LOGIN_TIME = re.compile(r"log_?in|logged|sign_?in|signed|seen|active|activity|access|visit")
#: Columns of users that count what failed.
_FAILED = re.compile(r"fail|attempt|invalid")


class NewSignInRule(SignInRule):
    """The rows that one sign-in added or changed."""

    def learn(self) -> Lesson:
        """Return the keys about the rows of sign-ins, and about the time of the last login.

        Raises:
            DemonstrationWrongError: the sign-in failed, or only other users signed in.
        """
        for row in self.list_others():
            self._explain(row)
        keys = [*self._learn_user()]
        if not self.sections and not keys:
            self._refuse_or_remark()
        return self.create(keys)

    def _refuse_or_remark(self) -> None:
        """Refuse a sign-in of another user; one that no row shows is probably a signed cookie.

        Raises:
            DemonstrationWrongError: see there.
        """
        scene = self.scene
        if self.others:
            tables = join_names(list(self.others))
            raise scene.create_error(
                f"the sign-ins in {tables} are those of other users", f"Sign in as {scene.subject.login}."
            )
        if not any(decision.topic == "sign-ins" for decision in self.decisions):
            self.notes.append(
                "no row shows the sign-in: the app may sign cookies, or store sessions elsewhere;"
                " users.cookie states how long a cookie is valid"
            )

    # Rows of other tables ---------------------------------------------------------------------------------------------

    def _explain(self, row: ChangedRow) -> None:
        """Learn the table of a row that shows the sign-in, or say what else the row is."""
        table = self.read_table(row)
        values, earlier = self.read_values(row, after=True), self.read_values(row, after=False)
        is_session = sign_ins.find_kind(table) == "session"
        if values is None:
            has_user = self.find_user(table, earlier or {})
            reason = "earlier sign-ins that end" if has_user else "sessions without a user"
            if is_session or self.find_sections(table.name):
                self.unrelated.setdefault(table.name, reason)
            else:
                self.leave_open("other", f"the app deletes rows of {table.name}")
            return
        source = self.find_user(table, values)
        if source is None:
            self.explain_stranger(table, values, row)
        elif earlier is not None and self.find_user(table, earlier):
            names = [f"{table.name}.{column}" for column in row.after or {}]
            self.unrelated.update(dict.fromkeys(names, "in an earlier row of the user"))
        elif not self.explain_log(row):
            self._learn_row(table, row, values, source)

    def _learn_row(self, table: TableEvidence, row: ChangedRow, values: Row, source: Line) -> None:
        for section in self.find_sections(table.name):
            if self.covers(section, row, after=True):
                self.sections[table.name] = write_section(section)
                return
        learned = self.draft(table, values, source)
        kind = sign_ins.find_kind(table)
        if kind == "key":
            text = f"the app adds rows of {table.name}, which look like keys of programs: a new password may not end them"
            self.leave_open("sign-ins", text)
        elif kind != "session" and "token" not in learned:
            self.leave_open("other", f"the app adds rows of {table.name} for the user, which have no token")
        elif not self.covers(msgspec.convert(learned, SignInTable), row, after=True):
            text = f"the app adds rows of {table.name}, in which dbctl does not find the user by {source.key} = {source.value}"
            self.leave_open("sign-ins", text)
        else:
            self.sections[table.name] = learned
            self._describe(table, learned)

    def _describe(self, table: TableEvidence, learned: Mapping[str, Value]) -> None:
        """Say what the columns of a new section do not show."""
        if only := learned.get("only"):
            names = join_names(list(only)) if isinstance(only, Mapping) else ""
            self.notes.append(
                f"rows of {table.name} with another {names} are taken for those of other accounts"
            )
        if ended := learned.get("on_end"):
            names = join_names(list(ended)) if isinstance(ended, Mapping) else ""
            text = f"whether a sign-out changes {names} of {table.name}, as its name suggests, or deletes the row: learn sign-out"
            self.notes.append(text)

    # The row of the user ----------------------------------------------------------------------------------------------

    def _learn_user(self) -> Iterator[LearnedKey]:
        """Yield the column with the time of the last login; raises as ``learn`` for a failed sign-in."""
        own = self.own
        for other in self.rows:
            if other.table == self.table.name and other is not own:
                places = (f"{other.table}.{name}" for name in other.after or {})
                self.unrelated.update(dict.fromkeys(places, "of other users"))
        before, after = own.before or {}, own.after or {}
        self._refuse_failed(before, after)
        times = [name for name in after if self.explain_time(self.table, name, before.get(name), after[name])]
        column = self._choose_login_time(times)
        passwords = self.users.password.columns if self.users.password else ()
        for name in after:
            place = f"{self.users.table}.{name}"
            if name in passwords:
                self.unrelated[place] = "the app hashes the password again"
            elif not self.explain_trace(self.table, name, before.get(name), after[name]):
                self.leave_open("users", f"the app changes {place} at a sign-in")
        if column:
            self.unrelated.pop(f"{self.users.table}.{column}", None)
            yield self.scene.create_key("users", "fields", "last_login_at", value=column)

    def _refuse_failed(self, before: Row, after: Row) -> None:
        """Refuse a change of which the only effect is a count of failures that rises."""
        for name, value in after.items():
            earlier = before.get(name)
            is_raised = isinstance(value, int) and isinstance(earlier, int | None) and value > (earlier or 0)
            if is_raised and _FAILED.search(references.normalize(name)) and not self.sections:
                raise self.scene.create_error(
                    f"the sign-in failed: {self.users.table}.{name} rose from {earlier or 0} to {value}",
                    "Repeat it with the correct password.",
                )

    def _choose_login_time(self, times: Sequence[str]) -> str:
        """Return the column of the last login; empty: no time that changed is named after one."""
        fields, names = self.scene.user_fields, usual_names.FIELDS["last_login_at"]
        known = fields.get("last_login_at", "")
        if known in times:
            return known
        others = {fields.get("created_at"), fields.get("updated_at")}
        named = [
            name for name in times if name not in others and _LOGIN_TIME.search(references.normalize(name))
        ]
        return min(
            named,
            key=lambda name: (
                names.index(form) if (form := references.normalize(name)) in names else len(names)
            ),
            default="",
        )


class SignOutRule(SignInRule):
    """The rows that one sign-out deleted or changed."""

    def learn(self) -> Lesson:
        """Return the keys about the rows of sign-ins, and about how they end.

        Raises:
            DemonstrationWrongError: only sign-ins of other users ended.
        """
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
        table = self.read_table(row)
        earlier, values = self.read_values(row, after=False), self.read_values(row, after=True)
        source = self.find_user(table, earlier) if earlier is not None else None
        if self.explain_log(row):
            return
        if (
            earlier is None
            and sign_ins.find_kind(table) == "session"
            and not self.find_user(table, values or {})
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
        name = table.name
        on_end, times = find_end(table, row)
        self.unrelated |= times
        if row.after is not None and not on_end:
            self.leave_open(
                "sign-ins",
                f"the app changes {join_names([f'{name}.{column}' for column in row.after])} of the user,"
                " which do not show that a sign-in ended",
            )
            return
        known = next((item for item in self.find_sections(name) if self.covers(item, row, after=False)), None)
        drafted = write_section(known) if known else self.draft(table, earlier, source)
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
        elif not self.covers(section, row, after=False) or self.covers(section, row, after=True):
            self.leave_open(
                "sign-ins", f"the app ends rows of {name}, which dbctl does not find as sign-ins of the user"
            )
        else:
            self.sections[name] = learned
            self._count_rest(row, section)

    def _count_rest(self, row: ChangedRow, section: SignInTable) -> None:
        """Say how many sign-ins of the user remain: dbctl ends all of them."""
        if count := self.count_open(section, row, after=True):
            text = f"the app keeps {format_count(count, 'other sign-in')} of the user in {row.table}; sessions revoke ends all"
            self.notes[:] = dict.fromkeys([*self.notes, text])

    def _explain_user(self) -> None:
        """Leave open what else changed in the row of the user, such as a stamp that ends all sign-ins."""
        before = self.own.before or {}
        for column, value in (self.own.after or {}).items():
            place = f"{self.users.table}.{column}"
            is_known = column in self.users.on_sign_out
            if not (is_known or self.explain_trace(self.table, column, before.get(column), value)):
                text = f"the app changes {place} at a sign-out: if the new value ends all sign-ins, add it to users.on_sign_out"
                self.leave_open("sign-ins", text)
