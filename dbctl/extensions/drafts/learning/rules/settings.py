"""What changes with a setting of the app: a row with its key, or a column of one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.content import find_setting_columns
from dbctl.extensions.drafts.document import Decision, Value, write_section
from dbctl.extensions.drafts.learning.rules.user_rows import RECORD
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.profiles.model.settings import Settings
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence


def learn_setting(scene: Scene) -> Lesson:
    """Return the section about the table of settings.

    Raises:
        DemonstrationWrongError: not exactly one row changed that can be a setting.
    """
    unrelated, rows = dict[str, str](), list[ChangedRow]()
    described = {known.table.removesuffix("?") for known in scene.profile.settings if not known.row}
    for row in scene.list_rows():
        if usual_names.is_log(row.table):
            unrelated[row.table] = RECORD
        elif scene.profile.users and row.table == scene.profile.users.table and row.table not in described:
            unrelated[row.table] = "the row of a user is no setting of the app"
        else:
            rows.append(row)
    if len(rows) != 1 or rows[0].after is None:
        raise scene.create_error(
            f"{len(rows)} rows changed that may be a setting", "Change one setting only."
        )
    row = rows[0]
    if row.table in described:
        return Lesson(unrelated=unrelated)
    table = scene.evidence[row.database].tables[row.table]
    section = _learn_row_of_key(row, table) or _learn_column(scene, row, table)
    sections = [write_section(settings) for settings in scene.profile.settings]
    same = [index for index, known in enumerate(scene.profile.settings) if _is_same(known, section)]
    if not same and any(known.scope == section["scope"] for known in scene.profile.settings):
        text = f"{row.table} has settings, too: a profile has one table of settings of each scope"
        return Lesson(decisions=[Decision("other", text)], unrelated=unrelated)
    if same:
        section = _merge(sections.pop(same[0]), section)
    key = LearnedKey(path=("settings",), value=[*sections, section], evidence=scene.evidence_count)
    return Lesson(keys=[key], unrelated=unrelated)


def _is_same(known: Settings, section: Mapping[str, Value]) -> bool:
    return (known.table.removesuffix("?"), bool(known.row)) == (section["table"], "row" in section)


def _merge(known: Mapping[str, Value], section: Mapping[str, Value]) -> dict[str, Value]:
    """Return a section about the columns of one row with a further column."""
    former, row = known["row"], section["row"]
    if not isinstance(former, Mapping) or not isinstance(row, Mapping):
        return {**known}
    types = {**_get_mapping(former, "types"), **_get_mapping(row, "types")}
    return {**known, "row": {**{name: value for name, value in former.items() if value}, "types": types}}


def _get_mapping(values: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = values[name]
    return value if isinstance(value, Mapping) else {}


def _learn_row_of_key(row: ChangedRow, table: TableEvidence) -> dict[str, Value] | None:
    """Return the section about a table whose rows have a key and a value; None: it is none."""
    columns = find_setting_columns(table)
    if columns is None or columns[1] not in (row.after or {}):
        return None
    key, value = columns
    users = references.match_columns(table, references.USER_REFERENCE)
    section: dict[str, Value] = {"scope": "user" if users else "system", "table": table.name, "key": key}
    return section | ({"user": users[0]} if users else {}) | {"fields": {"value": value}}


def _learn_column(scene: Scene, row: ChangedRow, table: TableEvidence) -> dict[str, Value]:
    """Return the section about the columns of one row."""
    after = {
        column: value
        for column, value in (row.after or {}).items()
        if column in table.columns and not subjects.is_time(table.columns[column], [value])
    }
    is_single = row.before is not None and scene.after[row.database].count(row.table) == 1
    if len(after) != 1 or len(row.key) != 1 or not is_single:
        raise scene.create_error(
            f"the row of {row.table} that changed is no setting", "Change one setting only."
        )
    (column, value), (key, stored) = *after.items(), *row.key.items()
    types: Sequence[tuple[type, str]] = [(bool, "boolean"), (int, "integer"), (str, "string")]
    kind = next((name for python, name in types if isinstance(value, python)), "number")
    if subjects.is_boolean(table.columns[column], [value]):
        kind = "boolean"
    identity = stored if isinstance(stored, int) else str(stored)
    row_section: dict[str, Value] = {"key": key, "value": identity, "types": {column: kind}}
    return {"scope": "system", "table": table.name, "fields": {}, "row": row_section}
