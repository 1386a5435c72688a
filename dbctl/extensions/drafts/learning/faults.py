"""What is wrong with a demonstration before a rule explains it, and what the app changed without an action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import Condition
from dbctl.errors.usage import WrongAppError
from dbctl.extensions.drafts.learning.errors import (
    DemonstrationEmptyError,
    DemonstrationWrongError,
    StatesUnrelatedError,
)
from dbctl.extensions.drafts.learning.recordings import CREATES
from dbctl.extensions.drafts.learning.scene import ChangedRow, Scene, decode_changes
from dbctl.extensions.drafts.usual_names import EVENT_TABLE
from dbctl.model import Row, join_first
from dbctl.profiles.codecs import recognize_time
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.app.evidence.references import normalize
from dbctl.services.app.evidence.subjects import is_boolean
from dbctl.services.events.changes.records import TableChange

#: Columns of users, besides times, in which an app records sign-ins and requests of a user.
TRACE = re.compile(r"(^|_)(last|current|previous|count|counter|attempts|ip)(_|$)", re.IGNORECASE)
_SHOWN = 3


def remove_noise(scene: Scene, control: Sequence[TableChange]) -> tuple[Scene, list[str]]:
    """Return the scene without the rows that change without an action, and a description of what was removed.

    A row that an action without noise would leave unchanged, added or deleted belongs to the noise if the control has
    such rows in its table, and nothing in it names the subject.
    """
    noise = {(change.database, change.table): _Noise(change) for change in control}
    retained, removed = list[TableChange](), list[str]()
    user_keys = (
        {row[scene.users.id.column] for row in _list_subjects(scene)} if scene.profile.users else set()
    )
    for change in scene.changes:
        table_noise = noise.get((change.database, change.table))
        if table_noise is None or not (change.images or table_noise.is_mass):
            retained.append(change)
            continue
        own = [
            image
            for image, row in zip(change.images or (), decode_changes([change]), strict=True)
            if not table_noise.covers(row) or _names_subject(scene, row, user_keys)
        ]
        if count := change.rows - len(own):
            removed.append(f"{change.table}: {count} rows like those that change without an action")
        if own:
            retained.append(structs.replace(change, images=own, rows=len(own), reason=""))
    return structs.replace(scene, changes=retained), removed


class _Noise:
    """What changed in one table without an action."""

    def __init__(self, change: TableChange) -> None:
        rows = list(decode_changes([change]))
        self.is_mass = change.images is None
        self._adds = any(row.before is None for row in rows)
        self._deletes = any(row.after is None for row in rows)
        self._columns = {column for row in rows if row.before and row.after for column in row.after}

    def covers(self, row: ChangedRow) -> bool:
        """Return whether a row that changed with the action may have changed without it."""
        if self.is_mass:
            return True
        if row.before is None:
            return self._adds
        return self._deletes if row.after is None else row.after.keys() <= self._columns


def _names_subject(scene: Scene, row: ChangedRow, user_keys: set[object]) -> bool:
    """Return whether a row is that of the subject, or contains what was entered."""
    if (
        scene.profile.users
        and row.table == scene.users.table
        and row.key.get(scene.users.id.column) in user_keys
    ):
        return True
    entered = [text for text in (scene.subject.login, scene.subject.email) if text]
    values = [*row.key.values(), *(row.before or {}).values(), *(row.after or {}).values()]
    return any(text in value for value in values if isinstance(value, str) for text in entered)


def refuse_wrong(scene: Scene) -> None:
    """Refuse a demonstration that cannot be that of its action, whatever a rule may explain.

    Raises:
        DemonstrationEmptyError, DemonstrationWrongError, StatesUnrelatedError: it is wrong.
        WrongAppError: the profile belongs to another app.
    """
    if not scene.changes:
        raise DemonstrationEmptyError(action=scene.action)
    for change in scene.changes:
        if change.images is None:
            raise scene.create_error(
                f"in {change.table}, {change.reason}", "Pass the states directly before and after the action."
            )
    if scene.profile.users:
        _refuse_other_app(scene)
        _refuse_exchanged(scene)
        _refuse_other_users(scene)
    if all(EVENT_TABLE.search(normalize(change.table)) for change in scene.changes):
        tables = ", ".join(change.table for change in scene.changes)
        raise scene.create_error(
            f"the app wrote only to {tables}", "It probably refused the action: read its messages."
        )


def _refuse_other_app(scene: Scene) -> None:
    tables = scene.before[scene.users_database].tables() if scene.users_database in scene.before else {}
    if scene.users.table not in tables:
        raise WrongAppError(
            target=scene.users_database,
            profile=scene.profile.name,
            missing=f"the table {scene.users.table}",
            hint="Nothing was written. Name the profile of this app with --to.",
        )


def _refuse_exchanged(scene: Scene) -> None:
    before, after = list(scene.list_users()), list(scene.list_users(after=True))
    is_exchanged = (scene.action in CREATES and before and not after) or (
        scene.action == "delete-user" and after and not before
    )
    steps = [step for row in scene.list_rows() for step in _list_time_steps(row)]
    if is_exchanged or (steps and all(first > second for first, second in steps)):
        raise scene.create_error(
            "the state before the action is the later one", "Exchange the files of --before and --after."
        )


def _list_time_steps(row: ChangedRow) -> Iterator[tuple[str, str]]:
    """Yield the values of columns with times before and after the action, in a form that can be compared."""
    for column, value in (row.after or {}).items():
        earlier = (row.before or {}).get(column)
        form = recognize_time(value)
        if form and recognize_time(earlier) == form and len(str(earlier)) == len(str(value)):
            yield str(earlier), str(value)


def _refuse_other_users(scene: Scene) -> None:
    """Refuse changes of users whom the action does not concern, beyond the traces of their own requests."""
    users, db = scene.users, scene.before[scene.users_database]
    rows = [row for row in scene.list_rows(users.table) if row.database == scene.users_database]
    keys = {row[users.id.column] for row in _list_subjects(scene)}
    if scene.subject.login and scene.action not in CREATES and not keys:
        scene.find_user()  # refuses a misspelled login
    others = [row for row in rows if row.key.get(users.id.column) not in keys]
    table = scene.evidence[scene.users_database].tables[users.table]
    changed = [row for row in others if row.before is not None and _is_beyond_traces(row, table, keys)]
    count = db.count(users.table) - len(list(scene.list_users()))
    columns = {*scene.login_columns, *([users.password.column] if users.password else [])}
    if changed and len(changed) == count and (count > 1 or columns & (changed[0].before or {}).keys()):
        raise StatesUnrelatedError(reason="no other user is the same in both")
    added = [row.after for row in rows if row.before is None and row.after]
    if scene.action in CREATES and len(added) > 1:
        raise scene.create_error(f"{len(added)} users were added: {_join_logins(scene, added)}")
    deleted = [row.before for row in rows if row.after is None and row.before]
    if scene.action == "delete-user" and len(deleted) > 1:
        raise scene.create_error(f"{len(deleted)} users were deleted: {_join_logins(scene, deleted)}")
    strange = [
        *(added if scene.action not in CREATES else ()),
        *(deleted if scene.action != "delete-user" else ()),
    ]
    if strange:
        raise _create_other_admin_error(
            scene, f"the user {_join_logins(scene, strange)} was added or deleted"
        )
    for row in changed:
        if row.after is not None:
            names = join_first(sorted(row.after), _SHOWN)
            login = _join_logins(scene, [_read_user(scene, row.key)])
            raise _create_other_admin_error(scene, f"the user {login} changed, too: {names}")


def _create_other_admin_error(scene: Scene, reason: str) -> DemonstrationWrongError:
    return scene.create_error(
        f"another admin worked at the same time: {reason}", "Repeat it while no other admin works."
    )


def _is_beyond_traces(row: ChangedRow, table: TableEvidence, keys: set[object]) -> bool:
    """Return whether the row of another user changed in more than times, traces of requests, and references to the subject."""
    before = row.before or {}
    return row.after is None or any(
        not (TRACE.search(column) or recognize_time(value))
        # the number of a boolean can be the key of a user
        and (before[column] not in keys or _is_flag(table, column, [before[column], value]))
        for column, value in row.after.items()
    )


def _is_flag(table: TableEvidence, column: str, values: Sequence[object]) -> bool:
    definition = table.columns.get(column)
    return definition is not None and is_boolean(definition, values)


def _list_subjects(scene: Scene) -> list[Row]:
    """Return the rows of the subject before and after the action."""
    return [*scene.list_users(), *scene.list_users(after=True)]


def _read_user(scene: Scene, key: Mapping[str, object]) -> Row:
    columns = [*scene.login_columns]
    values = scene.before[scene.users_database].select(
        scene.users.table, columns, [Condition(column, "=", value) for column, value in key.items()]
    )
    return dict(zip(columns, next(iter(values)), strict=True))


def _join_logins(scene: Scene, rows: Sequence[Row]) -> str:
    """Return the logins of users for a message."""
    logins = [str(next((row[name] for name in scene.login_columns if row.get(name)), "?")) for row in rows]
    return join_first(logins, _SHOWN)
