"""What a demonstration shows, and what it teaches: the input and the output of the rules of each action."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from dbctl.engines.contract.database import Condition, Readable
from dbctl.engines.sql.codec import from_json
from dbctl.errors.base import Remedy
from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.errors import DemonstrationWrongError
from dbctl.extensions.drafts.learning.recordings import Action, Recording, Subject
from dbctl.model import Row, Secret, Struct
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.users import Users
from dbctl.services.app.evidence.gather import Evidence
from dbctl.services.app.live_table import find_column
from dbctl.services.events.changes.records import RowImage, TableChange


class ChangedRow(NamedTuple):
    """A row that an action added, changed or deleted, with decoded values; a changed row has only its changed columns."""

    database: str
    table: str
    key: Row  #: empty in a table without a key
    before: Row | None
    after: Row | None


class Scene(Struct, frozen=True, kw_only=True):
    """A demonstration, and what is known about the app before it."""

    action: Action
    interface: str = ""  #: how the action was done
    subject: Subject
    password: Secret | None  #: that the admin entered in the app, if the action has one
    pepper: Secret | None = None  #: that the app appends to passwords, as its configuration states
    changes: Sequence[TableChange]  #: those that may belong to the action
    earlier: Sequence[Recording]  #: of the same action, the oldest first
    learned: Collection[Action]  #: the actions of all earlier recordings
    before: Mapping[str, Readable]  #: by the name of the database
    after: Mapping[str, Readable]
    evidence: Mapping[str, Evidence]  #: of the state before the action
    profile: Profile  #: as it is before the lesson

    @property
    def users(self) -> Users:
        """The section about users.

        Raises:
            DemonstrationWrongError: the profile has none.
        """
        if self.profile.users:
            return self.profile.users
        raise self.create_error(
            "no table of users was recognized", hint="Draft the profile with --users TABLE, and learn again."
        )

    @property
    def users_database(self) -> str:
        return self.users.database or self.profile.main_database

    @property
    def user_fields(self) -> Mapping[str, str]:
        """The columns of users by field; without missing optional ones."""
        table = self.before[self.users_database].tables()[self.users.table]
        columns = ((field, find_column(table, names)) for field, names in self.users.fields.items())
        return {field: column for field, column in columns if column}

    @property
    def evidence_count(self) -> str:
        """The evidence of a line: ``learned: set-password, 2 demonstrations``."""
        count = len(self.earlier) + 1
        return f"learned: {self.action}, {count} demonstration{'s' if count > 1 else ''}"

    def list_rows(self, table: str = "") -> Iterator[ChangedRow]:
        """Yield the changed rows, of one table or of all."""
        yield from decode_changes(self.changes, table)

    @property
    def login_columns(self) -> Sequence[str]:
        """The columns of users that contain logins."""
        fields = self.user_fields
        return [fields[field] for field in self.users.login if field in fields]

    def list_users(self, *, after: bool = False) -> Sequence[Row]:
        """Return the rows with the login of the subject before the action, or after it, with all their columns."""
        db = (self.after if after else self.before)[self.users_database]
        table = db.tables()[self.users.table]
        columns, matches = [*table.columns], dict[str, Row]()
        for column in self.login_columns:
            for values in db.select(table.name, columns, [Condition(column, "same", self.subject.login)]):
                row = dict(zip(columns, values, strict=True))
                matches[str(row[self.users.id.column])] = row
        return list(matches.values())

    def find_user(self, *, after: bool = False) -> Row:
        """Return the row of the subject before the action, or after it, with all its columns.

        Raises:
            DemonstrationWrongError: no user, or several, have the login.
        """
        matches = self.list_users(after=after)
        if len(matches) == 1:
            return matches[0]
        state = "after" if after else "before"
        count = f"{len(matches)} users have" if matches else "no user has"
        raise self.create_error(f"{count} the login {self.subject.login!r} {state} the action")

    def create_key(
        self, *path: str, value: Value | None, shown: Sequence[str] = (), remark: str = ""
    ) -> LearnedKey:
        """Return a key of the profile; its evidence is the number of demonstrations, followed by ``remark``."""
        return LearnedKey(path=path, value=value, evidence=self.evidence_count + remark, shown=shown)

    def create_error(self, reason: str, hint: Remedy | str | None = None) -> DemonstrationWrongError:
        """Return the error of a demonstration that does not show its action."""
        return DemonstrationWrongError(
            action=self.action, reason=reason, hint=hint or DemonstrationWrongError.default_hint
        )


def decode_changes(changes: Sequence[TableChange], table: str = "") -> Iterator[ChangedRow]:
    """Yield the rows of recorded changes, of one table or of all."""
    for change in changes:
        if table in ("", change.table):
            for image in change.images or ():
                yield _decode(change, image)


def _decode(change: TableChange, image: RowImage) -> ChangedRow:
    key, before, after = (
        None if row is None else {name: from_json(value) for name, value in row.items()}
        for row in (image.key, image.before, image.after)
    )
    return ChangedRow(change.database, change.table, key or {}, before, after)


class LearnedKey(Struct, frozen=True, kw_only=True):
    """A key of the profile with its new value."""

    path: Sequence[str]  #: ``("users", "password")``
    #: the value; None: the key is removed; a sequence of mappings is an array of tables
    value: Value | None
    evidence: str
    #: of a list: the entries that the demonstration shows, of an array of tables those of these tables; the others keep the
    #: evidence that they have. Empty: all
    shown: Sequence[str] = ()


class Lesson(Struct, frozen=True, kw_only=True):
    """What a demonstration teaches."""

    keys: Sequence[LearnedKey] = ()
    decided: Sequence[Topic] = ()  #: topics whose open decisions the demonstration decides
    decisions: Sequence[Decision] = ()  #: what it leaves open
    notes: Sequence[str] = ()  #: facts for the admin
    #: by ``table`` or ``table.column``, why these rows do not belong to the action
    unrelated: Mapping[str, str] = {}


class Rule(Protocol):
    """What explains the rows of an action; it is created with their scene."""

    def learn(self) -> Lesson:
        """Return what the rows teach.

        Raises:
            DemonstrationWrongError: they do not show the action.
        """
