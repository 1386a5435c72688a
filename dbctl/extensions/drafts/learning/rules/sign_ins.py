"""What a sign-in writes: rows of sessions or tokens that refer to the user, and the time of the last login."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import structs

from dbctl.engines.contract.database import Condition, Query
from dbctl.errors.usage import SchemaMismatchError
from dbctl.extensions.drafts import sign_ins, usual_names
from dbctl.extensions.drafts.document import Decision, Line, Value, join_names
from dbctl.extensions.drafts.learning.faults import TRACE
from dbctl.extensions.drafts.learning.rules.paths import KIND, UserPaths
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Row
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.users import SignInTable
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.app.live_table import LiveTable
from dbctl.services.users.sign_in_state import TokenTable

#: Columns of users with the time of a sign-in, or of a request.
_LOGIN_TIME = re.compile(r"log_?in|logged|sign_?in|signed|seen|active|activity|access|visit")
#: Columns with the user who wrote a row.
_ACTOR = re.compile(r"(^|_)by(_|$)")
#: Columns of users that count what failed.
_FAILED = re.compile(r"fail|attempt|invalid")


def learn_sign_in(scene: Scene) -> Lesson:
    """Return the keys about the rows of sign-ins, and about the time of the last login.

    Raises:
        DemonstrationWrongError: the sign-in failed, or only other users signed in.
    """
    return _SignIn(scene).create_lesson()


class _SignIn:
    """The rows that one sign-in added or changed."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._rows = scene, SignInRows(scene)
        #: by table, what is learned about it
        self._sections = dict[str, Mapping[str, Value]]()
        self._decisions, self._notes = list[Decision](), list[str]()
        self._unrelated = dict[str, str]()
        self._others = dict[str, None]()  #: tables with sign-ins of other users

    def create_lesson(self) -> Lesson:
        scene, rows = self._scene, self._rows
        for row in scene.list_rows():
            if row.database != scene.users_database:
                place = f"{row.database}.{row.table}"
                self._leave_open(
                    "sign-ins",
                    f"the app changes rows of {place}: dbctl ends sign-ins only where the users are",
                )
            elif row.table != scene.users.table:
                self._explain(row)
        keys = [*self._learn_user()]
        if self._sections:
            keys.append(rows.create_key(self._sections))
        elif not keys:
            self._refuse_or_remark()
        decided = rows.list_decided(self._sections)
        return Lesson(
            keys=keys,
            decided=["sign-ins"] if decided else [],
            decisions=[*self._decisions, *rows.keep_decisions(decided)],
            notes=self._notes,
            unrelated=self._unrelated,
        )

    def _leave_open(self, topic: Topic, text: str) -> None:
        if (decision := Decision(topic, text)) not in self._decisions:
            self._decisions.append(decision)

    def _refuse_or_remark(self) -> None:
        """Refuse a sign-in of another user; one that no row shows is probably a signed cookie.

        Raises:
            DemonstrationWrongError: see there.
        """
        scene = self._scene
        if self._others:
            tables = join_names(list(self._others))
            raise scene.create_error(
                f"the sign-ins in {tables} are those of other users", f"Sign in as {scene.subject.login}."
            )
        if not any(decision.topic == "sign-ins" for decision in self._decisions):
            self._notes.append(
                "no row shows the sign-in: the app may sign cookies, or store sessions elsewhere;"
                " users.cookie states how long a cookie is valid"
            )

    # Rows of other tables ---------------------------------------------------------------------------------------------

    def _explain(self, row: ChangedRow) -> None:
        """Learn the table of a row that shows the sign-in, or say what else the row is."""
        rows, table = self._rows, self._rows.read_table(row)
        values, earlier = rows.read_values(row, after=True), rows.read_values(row, after=False)
        is_session = sign_ins.find_kind(table) == "session"
        if values is None:
            has_user = rows.find_user(table, earlier or {})
            reason = "earlier sign-ins that end" if has_user else "sessions without a user"
            if is_session or rows.find_sections(table.name):
                self._unrelated.setdefault(table.name, reason)
            else:
                self._leave_open("other", f"the app deletes rows of {table.name}")
            return
        source = rows.find_user(table, values)
        if source is None:
            self._explain_stranger(table, values, row)
        elif earlier is not None and rows.find_user(table, earlier):
            names = [f"{table.name}.{column}" for column in row.after or {}]
            self._unrelated.update(dict.fromkeys(names, "in an earlier row of the user"))
        elif usual_names.LOG_TABLE.search(references.normalize(table.name)):
            self._unrelated[table.name] = "it records what happened"
        else:
            self._learn_row(table, row, values, source)

    def _learn_row(self, table: TableEvidence, row: ChangedRow, values: Row, source: Line) -> None:
        rows = self._rows
        for section in rows.find_sections(table.name):
            if rows.covers(section, row, after=True):
                self._sections[table.name] = write_section(section)
                return
        learned = rows.draft(table, values, source)
        kind = sign_ins.find_kind(table)
        if kind == "key":
            text = f"the app adds rows of {table.name}, which look like keys of programs: a new password may not end them"
            self._leave_open("sign-ins", text)
        elif kind != "session" and "token" not in learned:
            self._leave_open("other", f"the app adds rows of {table.name} for the user, which have no token")
        elif not rows.covers(msgspec.convert(learned, SignInTable), row, after=True):
            text = f"the app adds rows of {table.name}, in which dbctl does not find the user by {source.key} = {source.value}"
            self._leave_open("sign-ins", text)
        else:
            self._sections[table.name] = learned
            self._describe(table, learned)

    def _describe(self, table: TableEvidence, learned: Mapping[str, Value]) -> None:
        """Say what the columns of a new section do not show."""
        if only := learned.get("only"):
            names = join_names(list(only)) if isinstance(only, Mapping) else ""
            self._notes.append(
                f"rows of {table.name} with another {names} are taken for those of other accounts"
            )
        if ended := learned.get("on_end"):
            names = join_names(list(ended)) if isinstance(ended, Mapping) else ""
            text = f"whether a sign-out changes {names} of {table.name}, as its name suggests, or deletes the row: learn sign-out"
            self._notes.append(text)

    def _explain_stranger(self, table: TableEvidence, values: Row, row: ChangedRow) -> None:
        """Explain a row without the key of the user."""
        name = table.name
        is_session = sign_ins.find_kind(table) == "session" or bool(self._rows.find_sections(name))
        verb = "adds" if row.before is None else "changes"
        if is_session and self._rows.has_other_user(table, values):
            self._others[name] = None
            self._unrelated[name] = "of other users"
        elif is_session:
            columns = self._rows.list_encoded(table, values)
            reason = (
                f"they may have the user only in an encoded value ({join_names(columns)}), which dbctl does not decode"
                if columns
                else "no column has the key of the user"
            )
            text = f"the app {verb} rows of {name}, which look like sessions: {reason}"
            self._leave_open("sign-ins", text)
        elif usual_names.LOG_TABLE.search(references.normalize(name)):
            self._unrelated[name] = "it records what happened"
        else:
            self._leave_open("other", f"the app {verb} rows of {name}, which do not show the user")

    # The row of the user ----------------------------------------------------------------------------------------------

    def _learn_user(self) -> Iterator[LearnedKey]:
        """Yield the column with the time of the last login; raises as ``learn_sign_in`` for a failed sign-in."""
        scene, rows = self._scene, self._rows
        own = rows.find_own()
        for other in scene.list_rows(scene.users.table):
            if other is not own and other != own and other.after:
                self._unrelated.update(
                    dict.fromkeys((f"{other.table}.{name}" for name in other.after), "of other users")
                )
        if own is None or own.after is None:
            return
        before, after, users = own.before or {}, own.after, scene.users
        self._refuse_failed(before, after)
        times = [name for name in after if self._is_time(name, before.get(name), after[name])]
        column = self._choose_login_time(times)
        passwords = users.password.columns if users.password else ()
        for name in after:
            place = f"{users.table}.{name}"
            if name == column or name == scene.user_fields.get("updated_at"):
                self._unrelated.pop(place, None)
            elif name in times:
                self._unrelated[place] = "a time in the row of the user"
            elif TRACE.search(name):
                self._unrelated[place] = "a trace of the sign-in"
            elif name in passwords:
                self._unrelated[place] = "the app hashes the password again"
            else:
                self._leave_open("users", f"the app changes {place} at a sign-in")
        if column:
            yield LearnedKey(
                path=("users", "fields", "last_login_at"), value=column, evidence=scene.evidence_count
            )

    def _refuse_failed(self, before: Row, after: Row) -> None:
        """Refuse a change of which the only effect is a count of failures that rises."""
        for name, value in after.items():
            earlier = before.get(name)
            is_raised = isinstance(value, int) and isinstance(earlier, int | None) and value > (earlier or 0)
            if is_raised and _FAILED.search(references.normalize(name)) and not self._sections:
                raise self._scene.create_error(
                    f"the sign-in failed: {self._scene.users.table}.{name} rose from {earlier or 0} to {value}",
                    "Repeat it with the correct password.",
                )

    def _is_time(self, name: str, before: object, after: object) -> bool:
        definition = self._rows.table.columns.get(name)
        return definition is not None and subjects.is_time(
            definition, [value for value in (before, after) if value]
        )

    def _choose_login_time(self, times: Sequence[str]) -> str:
        """Return the column of the last login; empty: no time that changed is named after one."""
        fields, names = self._scene.user_fields, usual_names.FIELDS["last_login_at"]
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


class SignInRows:
    """The rows of sign-ins of one user: how a row shows its user, and what the profile states about it."""

    def __init__(self, scene: Scene) -> None:
        """Find the user; raises as ``Scene.find_user``."""
        self._scene = scene
        self.user = scene.find_user()
        self._paths = UserPaths(scene, self.user)
        self._key = self.user[scene.users.id.column]

    @property
    def table(self) -> TableEvidence:
        """The table of users."""
        return self._paths.table

    def read_table(self, row: ChangedRow) -> TableEvidence:
        return self._paths.evidence.tables[row.table]

    def find_own(self) -> ChangedRow | None:
        """Return the changed row of the user; None: it did not change."""
        name = self._scene.users.id.column
        rows = (row for row in self._paths.rows if row.table == self._scene.users.table)
        return next((row for row in rows if row.key.get(name) == self._key), None)

    def find_sections(self, table: str) -> list[SignInTable]:
        """Return what the profile states about a table: a section for each kind of its rows."""
        return [
            section for section in self._scene.users.signed_in if section.table.removesuffix("?") == table
        ]

    def read_values(self, row: ChangedRow, *, after: bool) -> Row | None:
        """Return all columns of a row before the action, or after it; None: it did not exist."""
        own = row.after if after else row.before
        if own is None or row.before is None or row.after is None:
            return own
        columns = [*self.read_table(row).columns]
        db = (self._scene.after if after else self._scene.before)[row.database]
        where = [Condition(name, "=", value) for name, value in row.key.items()]
        stored = db.codec.read(Query(row.table, columns, where, limit=1))
        return dict(zip(columns, next(iter(stored)), strict=True))

    def find_user(self, table: TableEvidence, values: Row) -> Line | None:
        """Return the line ``user`` or ``payload`` by which a row refers to the user; None: it does not."""
        columns = sorted(values, key=lambda name: bool(_ACTOR.search(references.normalize(name))))
        for column in columns:
            if self._paths.find_column(table.name, column, values[column]):
                return Line("user", column)
        return sign_ins.find_payload(_with_rows(table, [values]), _with_rows(self.table, [self.user]))

    def has_other_user(self, table: TableEvidence, values: Row) -> bool:
        """Return whether a row refers to another user by a foreign key, or as the profile states."""
        users = self._scene.users
        target = (users.table, users.id.column)
        columns = [column for column in values if table.target(column) == target]
        columns += [section.user for section in self.find_sections(table.name) if section.user]
        return any(values.get(column) is not None for column in columns)

    def list_encoded(self, table: TableEvidence, values: Row) -> list[str]:
        """Return the columns of a row with long texts that may contain the user."""
        names = references.match_columns(table, usual_names.PAYLOAD)
        names += [name for name in values if re.search(r"data|payload|session$", references.normalize(name))]
        return [name for name in dict.fromkeys(names) if isinstance(values.get(name), str | bytes)]

    def draft(self, table: TableEvidence, values: Row, source: Line) -> Mapping[str, Value]:
        """Return the section about the table of a row that refers to the user by ``source``."""
        part = sign_ins.draft_signed_in(_with_rows(table, [values]), source)
        lines = {line.key: line.value for line in part.lines if isinstance(line, Line)}
        is_by_name = source.key == "user" and table.target(str(source.value)) is None
        only = self._find_kind(table, values) if is_by_name else {}
        section: dict[str, Value] = {}
        for key, value in lines.items():
            section[key] = value  # type: ignore[assignment]  # sections of sign-ins have no entries
            if key == source.key and only:
                section["only"] = only
        return section

    def _find_kind(self, table: TableEvidence, values: Row) -> Mapping[str, Value]:
        """Return the kind of a row, if other rows of its table have another one: their keys may be those of another table."""
        for column, value in values.items():
            is_named = KIND.search(references.normalize(column)) and isinstance(value, str) and value
            others = {stored for stored in table.values(column) if stored != value}
            if is_named and others and not table.is_unique(column):
                return {column: str(value)}
        return {}

    def covers(self, section: SignInTable, row: ChangedRow, *, after: bool) -> bool:
        """Return whether dbctl finds a row by a section as an open sign-in of the user, before the action or after it."""
        db = (self._scene.after if after else self._scene.before)[row.database]
        identity = row.key or (row.after if after else row.before) or {}
        where = [Condition(name, "=", value) for name, value in identity.items()]
        try:
            tokens = TokenTable(section, LiveTable(self._scene.profile, db, row.table, "sign-in tokens"))
            return tokens.count([*tokens.open_rows([self._key]), *where]) == 1
        except SchemaMismatchError:
            return False

    # What the profile states --------------------------------------------------------------------------------------------

    def create_key(self, sections: Mapping[str, Mapping[str, Value]]) -> LearnedKey:
        """Return the key about the tables of sign-ins: those of the profile, and what was learned by table."""
        entries = list[Mapping[str, Value]]()
        for section in self._scene.users.signed_in:
            written, learned = write_section(section), sections.get(section.table.removesuffix("?"))
            # a table may have sign-ins of several kinds, each with its own section
            if learned is None or written.get("only") != learned.get("only"):
                entries.append(written)
            elif learned not in entries:
                entries.append(learned)
        entries += [learned for learned in sections.values() if learned not in entries]
        return LearnedKey(
            path=("users", "signed_in"),
            value=entries,
            evidence=self._scene.evidence_count,
            shown=[str(section["table"]) for section in sections.values()],
        )

    def list_decided(self, tables: Mapping[str, object]) -> list[str]:
        """Return the open decisions of the profile about tables that are decided."""
        texts = self._scene.profile.undecided.get("sign-ins", ())
        return [text for text in texts if any(f" rows of {table} " in text for table in tables)]

    def keep_decisions(self, decided: Sequence[str]) -> list[Decision]:
        """Return the open decisions about other tables, if some are decided."""
        texts = self._scene.profile.undecided.get("sign-ins", ()) if decided else ()
        return [Decision("sign-ins", text) for text in texts if text not in decided]


def write_section(section: SignInTable) -> Mapping[str, Value]:
    """Return a section in the language of profiles, without defaults."""
    default = SignInTable(table="")
    values = {name: getattr(section, name) for name in section.__struct_fields__}
    return {
        name: msgspec.to_builtins(value) for name, value in values.items() if value != getattr(default, name)
    }


def _with_rows(table: TableEvidence, rows: Sequence[Row]) -> TableEvidence:
    return structs.replace(table, rows=rows)
