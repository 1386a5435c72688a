"""What changes when a user is deactivated or activated; and the changed row of one user, for rules about roles, too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import Condition
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.rules.ended_tokens import EndedTokens
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Row
from dbctl.profiles.model.core import Topic
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence

#: Stored values of booleans.
_TRUE, _FALSE = (True, 1), (False, 0)


def learn_activity(scene: Scene) -> Lesson:
    """Return the keys about the column that shows whether a user can sign in.

    Raises:
        DemonstrationWrongError: no column of the user changed that can show it.
    """
    change = UserChange(scene)
    columns = sorted(change.columns, key=_rate_active)
    if not columns:
        raise scene.create_error(f"the row of {scene.subject.login!r} did not change")
    column, *others = columns
    before, after = (change.row.before or {})[column], (change.row.after or {})[column]
    active, inactive = (before, after) if scene.action == "deactivate" else (after, before)
    values = _describe_active(change.table, column, active, inactive)
    evidence = scene.evidence_count
    keys = [LearnedKey(path=("users", "fields", "active"), value=column, evidence=evidence)]
    if values or scene.users.active:
        keys.append(LearnedKey(path=("users", "active"), value=values, evidence=evidence))
    for other in others:
        change.leave_open("users", f"the app changes {change.table.name}.{other}, too")
    topics: list[Topic] = ["users"] if change.decides_active else []
    if scene.action == "activate":
        change.explain_others(())
        return change.create_lesson(keys, topics)
    tokens = EndedTokens(scene)
    ended, left = tokens.decide([*tokens.sections])
    change.explain_others(tokens.sections)
    lesson = change.create_lesson([*keys, *tokens.create_keys()], [*topics, *ended])
    return structs.replace(
        lesson,
        decisions=[*lesson.decisions, *left],
        notes=[
            *(f"users set-password ends the rows of {name}, too" for name in tokens.sections),
            *(f"the app retains the rows of {name} of a deactivated user" for name in tokens.retained),
        ],
        unrelated={
            place: reason
            for place, reason in lesson.unrelated.items()
            if place.partition(".")[0] not in tokens.sections
        }
        | tokens.unrelated,
    )


def _rate_active(column: str) -> tuple[bool, bool, bool]:
    """Return what sorts columns, the most probable one first."""
    name = references.normalize(column)
    names = usual_names.FIELDS["active"]
    is_flag = bool(usual_names.INACTIVE_FLAG.search(name))
    return name not in names, not is_flag, not usual_names.INACTIVE.search(name)


def _describe_active(
    table: TableEvidence, column: str, active: object, inactive: object
) -> Mapping[str, Value] | None:
    """Return ``users.active``; None: the column is true for active users."""
    if active in _TRUE and inactive in _FALSE:
        return None
    if active in _FALSE and inactive in _TRUE and active is not None:
        return {"values": [False], "inactive": True}
    is_time = subjects.is_time(table.columns[column], [active, inactive])
    return {"values": [_write(active, is_time=is_time)], "inactive": _write(inactive, is_time=is_time)}


def _write(value: object, *, is_time: bool) -> Value:
    """Return a stored value in the language of profiles."""
    if value is None:
        return ":null"
    return ":now" if is_time and value not in ("", 0) else value if isinstance(value, int) else str(value)


class UserChange:
    """The row of the user that changed, and the rows of others."""

    def __init__(self, scene: Scene) -> None:
        """Find the row; raises as ``Scene.find_user``."""
        self._scene, self.users = scene, scene.users
        self.user = scene.find_user()
        key = self.users.id.column
        self.key = self.user[key]
        self.evidence = scene.evidence[scene.users_database]
        self.table = self.evidence.tables[self.users.table]
        self.rows = [row for row in scene.list_rows() if row.database == scene.users_database]
        own = (row for row in self.rows if row.table == self.users.table and row.key.get(key) == self.key)
        empty = ChangedRow(scene.users_database, self.users.table, {key: self.key}, {}, {})
        self.row = next(own, empty)
        if self.row.after is None:
            raise scene.create_error(f"the user {scene.subject.login!r} was deleted")
        self._decisions, self._unrelated = list[Decision](), dict[str, str]()
        self.columns = [column for column in self.row.after if not self._is_time_or_actor(column)]

    @property
    def decides_active(self) -> bool:
        """Whether the open decision about users is only about the field ``active``."""
        texts = self._scene.profile.undecided.get("users", ())
        return bool(texts) and all("field active" in text for text in texts)

    def create_lesson(self, keys: Sequence[LearnedKey], decided: Sequence[Topic]) -> Lesson:
        """Return a lesson with what the changes leave open."""
        return Lesson(keys=keys, decided=decided, decisions=self._decisions, unrelated=self._unrelated)

    def leave_open(self, topic: Topic, text: str) -> None:
        self._decisions.append(Decision(topic, text))

    def ignore(self, place: str, reason: str) -> None:
        """Leave a column out of the action."""
        self._unrelated[place] = reason

    def _is_time_or_actor(self, column: str) -> bool:
        """Return whether a column of the user has the time of the change, or the user who made it."""
        definition, after = self.table.columns.get(column), (self.row.after or {})[column]
        place = f"{self.users.table}.{column}"
        is_state = usual_names.INACTIVE.search(references.normalize(column))
        before = (self.row.before or {})[column]
        if (
            definition
            and not is_state
            and subjects.is_time(definition, [value for value in (before, after) if value])
        ):
            if column != self._scene.user_fields.get("updated_at"):  # which dbctl completes
                self._unrelated[place] = "a time in the row of the user"
            return True
        target = self.table.target(column)
        if target == (self.users.table, self.users.id.column):
            self._unrelated[place] = "the user who acted in the app"
            return True
        return False

    def read_row(self, row: ChangedRow) -> Row:
        """Return all columns of a changed row after the action."""
        columns = [*self.evidence.tables[row.table].columns]
        conditions = [Condition(column, "=", value) for column, value in row.key.items()]
        rows = self._scene.after[row.database].select(row.table, columns, conditions)
        return dict(zip(columns, next(iter(rows)), strict=True))

    def explain_others(self, explained: Collection[str]) -> None:
        """Say why changes of other rows do not belong to the action.

        ``explained`` are the explained tables, whose rows were added or deleted, and columns (``table.column``) of changed rows.
        """
        key = self.users.id.column
        for row in self.rows:
            if row.table == self.users.table and row.key.get(key) == self.key:
                continue
            if row.before is not None and row.after is not None:
                for place in (f"{row.table}.{column}" for column in row.after):
                    if place not in explained:
                        self._unrelated.setdefault(place, "in rows of other users")
            elif row.table in explained:
                continue
            elif usual_names.LOG_TABLE.search(references.normalize(row.table)):
                self._unrelated[row.table] = "it records what happened"
            elif row.after is None and self._has_key(row.before or {}):
                if row.table not in {item.table.removesuffix("?") for item in self.users.signed_in}:
                    self.leave_open("sign-ins", f"the app deletes rows of {row.table}, which may be sign-ins")
            else:
                self.leave_open("other", f"the app {'adds' if row.after else 'deletes'} rows of {row.table}")

    def _has_key(self, row: Row) -> bool:
        return any(str(value) == str(self.key) for value in row.values())
