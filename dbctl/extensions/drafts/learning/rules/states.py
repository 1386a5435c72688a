"""What changes when a user is deactivated or activated; and the changed row of one user, for rules about roles, too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Value, write_stored
from dbctl.extensions.drafts.learning.rules.user_rows import UserRule
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson, Scene
from dbctl.profiles.model.core import Topic
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence

#: Stored values of booleans.
_TRUE, _FALSE = (True, 1), (False, 0)


def _rate_active(column: str) -> tuple[bool, bool, bool]:
    """Return what sorts columns, the most probable one first."""
    name = references.normalize(column)
    names = usual_names.FIELDS["active"]
    is_flag = bool(references.INACTIVE_FLAG.search(name))
    return name not in names, not is_flag, not usual_names.INACTIVE.search(name)


def _refuse_exchanged(scene: Scene, column: str, active: object, inactive: object) -> None:
    """Refuse a flag whose name contradicts its values: the profile would do the opposite of what the admin asks."""
    name = references.normalize(column)
    is_true = name in usual_names.FIELDS["active"]
    is_flag = is_true or references.INACTIVE_FLAG.search(name)
    if is_flag and (active, inactive) == (not is_true, is_true):
        reason = f"by its name, {column} is {str(not is_true).lower()} for active users"
        raise scene.create_error(reason, "Exchange the files of --before and --after, if they are.")


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
    return ":now" if is_time and value not in (None, "", 0) else write_stored(value)


class UserChange(UserRule):
    """The row of the user that changed, and the rows of others."""

    def __init__(self, scene: Scene) -> None:
        """Find the row; raises as ``Scene.find_user``."""
        super().__init__(scene)
        if self.own.after is None:
            raise scene.create_error(f"the user {scene.subject.login!r} was deleted")
        self.columns = [column for column in self.own.after if not self._is_time_or_actor(column)]

    def _is_time_or_actor(self, column: str) -> bool:
        """Return whether a column of the user has the time of the change, or the user who made it."""
        before, after = ((values or {})[column] for values in (self.own.before, self.own.after))
        is_state = usual_names.INACTIVE.search(references.normalize(column))
        if not is_state and self.explain_time(self.table, column, before, after):
            return True
        if is_actor := self.table.target(column) == self.paths.target:
            self.unrelated[f"{self.users.table}.{column}"] = "the user who acted in the app"
        return is_actor

    def explain_others(self, explained: Collection[str]) -> None:
        """Say why changes of other rows do not belong to the action.

        ``explained`` are the explained tables, whose rows were added or deleted, and columns (``table.column``) of changed rows.
        """
        open_places = dict[str, None]()
        for row in self.rows:
            if row is self.own:
                continue
            if row.before is not None and row.after is not None:
                open_places |= dict.fromkeys(self._explain_changed(row, explained))
            elif row.table in explained or self.explain_log(row):
                continue
            elif row.after is None and str(self.key) in map(str, (row.before or {}).values()):
                if row.table not in self.users.sign_in_tables:
                    self.leave_open("sign-ins", f"the app deletes rows of {row.table}, which may be sign-ins")
            else:
                self.leave_open("other", f"the app {'adds' if row.after else 'deletes'} rows of {row.table}")
        for place in open_places:  # also if it changed in other rows
            self.unrelated.pop(place, None)
            self.leave_open("other", f"the app changes {place} of the user, too")

    def _explain_changed(self, row: ChangedRow, explained: Collection[str]) -> Iterator[str]:
        """Yield the columns of a row of the user that nothing explains; those of other rows are unrelated."""
        is_user = row.table == self.users.table
        is_own = not is_user and self.is_own(row)
        for column, value in (row.after or {}).items():
            place, before = f"{row.table}.{column}", (row.before or {})[column]
            if place in explained:
                continue
            if not is_own:
                reason = "of other users" if is_user else "in rows without the key of the user"
                self.unrelated.setdefault(place, reason)
            elif not self.explain_trace(self.read_table(row), column, before, value):
                yield place


class ActivityRule(UserChange):
    """The row of a user who was deactivated or activated."""

    def learn(self) -> Lesson:
        """Return the keys about the column that shows whether a user can sign in.

        Raises:
            DemonstrationWrongError: no column of the user changed that can show it.
        """
        scene, columns = self.scene, sorted(self.columns, key=_rate_active)
        if not columns:
            raise scene.create_error(f"the row of {scene.subject.login!r} did not change")
        column, *others = columns
        before, after = (self.own.before or {})[column], (self.own.after or {})[column]
        active, inactive = (before, after) if scene.action == "deactivate" else (after, before)
        _refuse_exchanged(scene, column, active, inactive)
        values = _describe_active(self.table, column, active, inactive)
        keys = [scene.create_key("users", "fields", "active", value=column)]
        if values or self.users.active:
            keys.append(scene.create_key("users", "active", value=values))
        for other in others:
            self.leave_open("users", f"the app changes {self.table.name}.{other}, too")
        topics: list[Topic] = ["active"]
        if scene.action == "activate":
            self.explain_others(())
            return self.create_lesson(keys, topics)
        retained = self.learn_ended()
        ended = [*self.sections]
        places = [f"{name}.{column}" for name in ended for column in self.evidence.tables[name].columns]
        self.explain_others([*ended, *places])
        topics += self.decide(ended)
        self.notes += [f"users set-password ends the rows of {name}, too" for name in ended]
        self.notes += [f"the app retains the rows of {name} of a deactivated user" for name in retained]
        return self.create_lesson([*keys, *self.create_keys()], topics)
