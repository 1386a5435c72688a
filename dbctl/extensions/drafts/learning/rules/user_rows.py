"""The rows of one user in a demonstration, how a row of sign-ins shows its user, and what a rule teaches and leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import structs

from dbctl.engines.contract.database import Condition, Query, Where
from dbctl.errors.usage import SchemaMismatchError
from dbctl.extensions.drafts import sign_ins, usual_names
from dbctl.extensions.drafts.document import Decision, Line, Value, join_names, read_lines, write_section
from dbctl.extensions.drafts.learning.faults import TRACE
from dbctl.extensions.drafts.learning.rules.paths import KIND, UserPaths
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Row
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.users import SignInTable
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.app.live_table import LiveTable
from dbctl.services.users.sign_in_state import TokenTable

#: Columns with times that change with each request.
_REQUEST_TIMES = {*usual_names.SEEN, *usual_names.FIELDS["updated_at"]}
#: Characters of a value that marks a row as ended, such as ``revoked``.
_LONGEST_STATE = 30
#: Rows of a user that are read.
_MOST_ROWS = 1_000
#: Why a row of a log belongs to no action.
RECORD = "it records what happened"


class UserRule:
    """The rows of one demonstration about a user: what they teach, and leave open."""

    def __init__(self, scene: Scene) -> None:
        """Find the user; raises as ``Scene.find_user``."""
        self.scene, self.users, self.user = scene, scene.users, scene.find_user()
        name = scene.users.id.column
        self.key = self.user[name]
        self.paths = UserPaths(scene, self.user)
        self.rows, self.evidence, self.table = self.paths.rows, self.paths.evidence, self.paths.table
        own = (row for row in self.rows if row.table == self.table.name and row.key.get(name) == self.key)
        #: the row of the user; without changed columns if it did not change
        self.own = next(own, ChangedRow(scene.users_database, self.table.name, {name: self.key}, {}, {}))
        self.decisions, self.notes = list[Decision](), list[str]()
        self.unrelated = dict[str, str]()  #: as in ``Lesson``
        #: by table of sign-ins, what is learned about it
        self.sections = dict[str, Mapping[str, Value]]()

    def leave_open(self, topic: Topic, text: str) -> None:
        if (decision := Decision(topic, text)) not in self.decisions:
            self.decisions.append(decision)

    def create_lesson(self, keys: Sequence[LearnedKey], decided: Sequence[Topic] = ()) -> Lesson:
        """Return a lesson with what the rows leave open."""
        return Lesson(
            keys=keys, decided=decided, decisions=self.decisions, notes=self.notes, unrelated=self.unrelated
        )

    def read_table(self, row: ChangedRow) -> TableEvidence:
        return self.evidence.tables[row.table]

    def read_values(self, row: ChangedRow, *, after: bool) -> Row | None:
        """Return all columns of a row before the action, or after it; None: it did not exist."""
        own = row.after if after else row.before
        if own is None or row.before is None or row.after is None:
            return own
        columns = [*self.read_table(row).columns]
        db = (self.scene.after if after else self.scene.before)[row.database]
        where = [Condition(name, "=", value) for name, value in row.key.items()]
        stored = db.codec.read(Query(row.table, columns, where, limit=1))
        return dict(zip(columns, next(iter(stored)), strict=True))

    def is_own(self, row: ChangedRow) -> bool:
        """Return whether a row of the user's database refers to the user, after the action if it is new."""
        values = self.read_values(row, after=row.before is None) or {}
        return self.find_user(self.read_table(row), values) is not None

    def find_user(self, table: TableEvidence, values: Row) -> Line | None:
        """Return the line ``user`` or ``payload`` by which a row refers to the user; None: it does not."""
        columns = sorted(values, key=lambda name: usual_names.is_actor(table, name))
        for column in columns:
            if self.paths.find_column(table.name, column, values[column]):
                return Line("user", column)
        return sign_ins.find_payload(_with_rows(table, [values]), _with_rows(self.table, [self.user]))

    # Rows and columns without a meaning -------------------------------------------------------------------------------

    def explain_log(self, row: ChangedRow) -> bool:
        """Note a row of a log, which belongs to no action; return whether it is one."""
        if is_log := usual_names.is_log(row.table):
            self.unrelated[row.table] = RECORD
        return is_log

    def explain_time(self, table: TableEvidence, column: str, before: object, after: object) -> bool:
        """Note a column with a time, but not that of the change, which dbctl completes; return whether it has one."""
        definition = table.columns.get(column)
        stored = [value for value in (before, after) if value]
        if not (definition and subjects.is_time(definition, stored)):
            return False
        if table is not self.table or column != self.scene.user_fields.get("updated_at"):
            self.unrelated[f"{table.name}.{column}"] = "a time of the row"
        return True

    def explain_trace(self, table: TableEvidence, column: str, before: object, after: object) -> bool:
        """Note a column with a time, or with a trace of the request; return whether it is one."""
        if self.explain_time(table, column, before, after):
            return True
        if is_trace := bool(TRACE.search(column)):
            self.unrelated[f"{table.name}.{column}"] = "a trace of the request"
        return is_trace

    # Sign-ins ---------------------------------------------------------------------------------------------------------

    def find_sections(self, table: str) -> list[SignInTable]:
        """Return what the profile states about a table: a section for each kind of its rows."""
        return [section for section in self.users.signed_in if section.table.removesuffix("?") == table]

    def has_other_user(self, table: TableEvidence, values: Row) -> bool:
        """Return whether a row refers to another user by a foreign key, or as the profile states."""
        columns = [column for column in values if table.target(column) == self.paths.target]
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
        is_by_name = source.key == "user" and table.target(str(source.value)) is None
        only = self.find_kind(table, values) if is_by_name else {}
        lines = read_lines(part.lines)
        first = {key: lines.pop(key) for key in ("table", source.key)}
        return {**first, **({"only": only} if only else {}), **lines}

    def find_kind(self, table: TableEvidence, values: Row) -> Mapping[str, Value]:
        """Return the kind of a row, if other rows of its table have another one: their keys may be those of another table."""
        for column, value in values.items():
            is_kind = (isinstance(value, str) and value) or type(value) is int
            is_named = KIND.search(references.normalize(column)) and is_kind
            others = {stored for stored in table.values(column) if stored != value}
            if is_named and others and not table.is_unique(column):
                return {column: value if isinstance(value, int) else str(value)}
        return {}

    def covers(self, section: SignInTable, row: ChangedRow, *, after: bool) -> bool:
        """Return whether dbctl finds a row by a section as an open sign-in of the user, before the action or after it."""
        identity = row.key or (row.after if after else row.before) or {}
        where = [Condition(name, "=", value) for name, value in identity.items()]
        try:
            return self.count_open(section, row, where, after=after) == 1
        except SchemaMismatchError:
            return False

    def count_open(
        self, section: SignInTable, row: ChangedRow, where: Sequence[Where] = (), *, after: bool
    ) -> int:
        """Return the number of open sign-ins of the user in the table of a row, before the action or after it."""
        db = (self.scene.after if after else self.scene.before)[row.database]
        tokens = TokenTable(section, LiveTable(self.scene.profile, db, row.table, "sign-in tokens"))
        return tokens.count([*tokens.open_rows([self.key]), *where])

    # What the profile states --------------------------------------------------------------------------------------------

    def create_keys(self) -> Sequence[LearnedKey]:
        """Return the key about the tables of sign-ins, those of the profile and learned ones; none if nothing was learned."""
        sections, entries = self.sections, list[Mapping[str, Value]]()
        for section in self.users.signed_in:
            written, learned = write_section(section), sections.get(section.table.removesuffix("?"))
            # a table may have sign-ins of several kinds, each with its own section
            if learned is None or written.get("only") != learned.get("only"):
                entries.append(written)
            elif learned not in entries:
                entries.append(learned)
        entries += [learned for learned in sections.values() if learned not in entries]
        shown = [str(section["table"]) for section in sections.values()]
        key = self.scene.create_key("users", "signed_in", value=entries, shown=shown)
        return [key] if sections else []

    def decide(self, tables: Sequence[str]) -> list[Topic]:
        """Return the decided topic, and leave its decisions about other tables open; none if none is about ``tables``."""
        others = [text for text in self._undecided if not any(_is_about(text, name) for name in tables)]
        if len(others) == len(self._undecided):
            return []
        self.decisions += [Decision("sign-ins", text) for text in others]
        return ["sign-ins"]

    def learn_ended(self, further: Sequence[str] = ()) -> Sequence[str]:
        """Learn how sign-ins ended in tables of open decisions, and in ``further`` ones, if the app ended all of the user.

        Returns:
            the tables of open decisions of which it retained all rows that the profile counts.
        """
        retained = list[str]()
        names = [table.name for table in self.evidence.base_tables()]
        open_tables = [name for name in names if any(_is_about(text, name) for text in self._undecided)]
        for table in dict.fromkeys([*open_tables, *further]):
            own = [row for row in self.rows if row.table == table and row.before and self.is_own(row)]
            if own:
                self._learn_ended_rows(table, own)
            elif table in open_tables and self._had_rows(table):
                retained.append(table)
        return retained

    def _had_rows(self, table: str) -> bool:
        """Return whether the user had tokens that the profile counts."""
        paths = [path for path in self.users.counts.values() if parse_row_path(path)[0].table == table]
        known = filter(self.paths.is_known, paths)
        return any(self.paths.select(path, most=_MOST_ROWS) != set() for path in known)

    def _learn_ended_rows(self, name: str, own: Sequence[ChangedRow]) -> None:
        """Learn how the rows of a table ended, if all of the user ended in one way; otherwise they stay open."""
        table, sections, unrelated = self.read_table(own[0]), list[Mapping[str, Value]](), dict[str, str]()
        for row in own:
            values = self.read_values(row, after=False) or {}
            source = self.find_user(table, values)
            on_end, times = find_end(table, row)
            if source is None or (row.after is not None and not on_end):
                return
            drafted = {**self.draft(table, values, source)}
            drafted.pop("on_end", None)
            sections.append({**drafted, "on_end": on_end} if on_end else drafted)
            unrelated |= times
        section = msgspec.convert(sections[0], SignInTable)
        is_known = all(self.covers(section, row, after=False) for row in own)
        # A session that began with the action is open after it.
        is_complete = is_known and self.count_open(section, own[0], after=False) == len(own)
        if all(other == sections[0] for other in sections) and is_complete:
            self.sections[name] = sections[0]
            self.unrelated |= unrelated

    @property
    def _undecided(self) -> Sequence[str]:
        return self.scene.profile.undecided.get("sign-ins", ())


class SignInRule(UserRule):
    """The rows of one demonstration about sign-ins."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.others = dict[str, None]()  #: tables with sign-ins of other users

    def list_others(self) -> Iterator[ChangedRow]:
        """Yield the changed rows of the user's database, except those of users; those of other databases stay open."""
        for row in self.scene.list_rows():
            if row.database != self.scene.users_database:
                text = f"the app changes rows of {row.database}.{row.table}: dbctl ends sign-ins only where the users are"
                self.leave_open("sign-ins", text)
            elif row.table != self.users.table:
                yield row

    def create(self, keys: Sequence[LearnedKey], tables: Sequence[str] = ()) -> Lesson:
        """Return the lesson with these keys, and that about the tables of sign-ins; earlier decisions about ``tables`` are replaced."""
        topics = self.decide([*self.sections, *tables])
        return self.create_lesson([*keys, *self.create_keys()], topics)

    def explain_stranger(self, table: TableEvidence, values: Row, row: ChangedRow) -> None:
        """Explain a row without the key of the user."""
        name = table.name
        is_session = sign_ins.find_kind(table) == "session" or bool(self.find_sections(name))
        verb = "adds" if row.before is None else "deletes" if row.after is None else "changes"
        if is_session and self.has_other_user(table, values):
            self.others[name] = None
            self.unrelated[name] = "of other users"
        elif is_session:
            columns = self.list_encoded(table, values)
            reason = (
                f"they may have the user only in an encoded value ({join_names(columns)}), which dbctl does not decode"
                if columns
                else "no column has the key of the user"
            )
            text = f"the app {verb} rows of {name}, which look like sessions: {reason}"
            self.leave_open("sign-ins", text)
        elif not self.explain_log(row):
            self.leave_open("other", f"the app {verb} rows of {name}, which do not show the user")


def find_end(table: TableEvidence, row: ChangedRow) -> tuple[Mapping[str, Value], Mapping[str, str]]:
    """Return the values that mark a row as ended, none if it was deleted or no value shows it, and why other columns are unrelated."""
    ended, unrelated = dict[str, Value](), dict[str, str]()
    for column, value in (row.after or {}).items():
        earlier, definition = (row.before or {})[column], table.columns[column]
        stored = [item for item in (earlier, value) if item]
        if subjects.is_boolean(definition, [earlier, value]):
            ended[column] = bool(value)
        elif subjects.is_time(definition, stored):
            if not earlier and references.normalize(column) not in _REQUEST_TIMES:
                ended[column] = ":now"
            else:
                unrelated[f"{table.name}.{column}"] = "a time of the row"
        elif TRACE.search(column):
            unrelated[f"{table.name}.{column}"] = "a trace of the request"
        elif isinstance(value, str) and 0 < len(value) <= _LONGEST_STATE and value.isalpha():
            ended[column] = value
    return ended, unrelated


def _is_about(decision: str, table: str) -> bool:
    return f" rows of {table} " in decision


def _with_rows(table: TableEvidence, rows: Sequence[Row]) -> TableEvidence:
    return structs.replace(table, rows=rows)
