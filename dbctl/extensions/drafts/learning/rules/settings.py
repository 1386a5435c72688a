"""What changes with a setting of the app: a row with its key, or a column of one row."""

from __future__ import annotations

from msgspec import structs

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.content import find_setting_columns
from dbctl.extensions.drafts.document import Decision, write_section, write_stored
from dbctl.extensions.drafts.learning.rules.user_rows import RECORD
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson, Scene
from dbctl.profiles.model.settings import Settings, SettingsRow, SettingType
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence


class SettingRule:
    """The rows that changed with one setting."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def learn(self) -> Lesson:
        """Return the section about the table of settings.

        Raises:
            DemonstrationWrongError: not exactly one row changed that can be a setting.
        """
        scene, unrelated, rows = self._scene, dict[str, str](), list[ChangedRow]()
        known, users = [*scene.profile.settings], scene.profile.users
        described = {entry.table.removesuffix("?") for entry in known if not entry.row}
        for row in scene.list_rows():
            if usual_names.is_log(row.table):
                unrelated[row.table] = RECORD
            elif users and row.table == users.table and row.table not in described:
                unrelated[row.table] = "the row of a user is no setting of the app"
            else:
                rows.append(row)
        if len(rows) != 1 or rows[0].after is None:
            reason = f"{len(rows)} rows changed that may be a setting"
            raise scene.create_error(reason, "Change one setting only.")
        row = rows[0]
        if row.table in described:
            return Lesson(unrelated=unrelated)
        table = scene.evidence[row.database].tables[row.table]
        section = _learn_row_of_key(row, table) or _learn_column(scene, row, table)
        same = next((entry for entry in known if _is_same(entry, section)), None)
        if same is None and section.scope in {entry.scope for entry in known}:
            text = f"{row.table} has settings, too: a profile has one table of settings of each scope"
            return Lesson(decisions=[Decision("other", text)], unrelated=unrelated)
        if same and same.row and section.row:  # a further column
            types = {**same.row.types, **section.row.types}
            section = structs.replace(same, row=structs.replace(same.row, types=types))
        others = [entry for entry in known if entry is not same]
        value = [write_section(entry) for entry in (*others, section)]
        return Lesson(keys=[scene.create_key("settings", value=value)], unrelated=unrelated)


def _is_same(known: Settings, section: Settings) -> bool:
    return (known.table.removesuffix("?"), bool(known.row)) == (section.table, bool(section.row))


def _learn_row_of_key(row: ChangedRow, table: TableEvidence) -> Settings | None:
    """Return the section about a table whose rows have a key and a value; None: it is none."""
    columns = find_setting_columns(table)
    if columns is None or columns[1] not in (row.after or {}):
        return None
    key, value = columns
    user = next(iter(references.match_columns(table, references.USER_REFERENCE)), "")
    return Settings(
        scope="user" if user else "system", table=table.name, user=user, key=key, fields={"value": value}
    )


def _learn_column(scene: Scene, row: ChangedRow, table: TableEvidence) -> Settings:
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
    kind: SettingType = (
        "integer" if isinstance(value, int) else "string" if isinstance(value, str) else "number"
    )
    if subjects.is_boolean(table.columns[column], [value]):
        kind = "boolean"
    section = SettingsRow(key=key, value=write_stored(stored), types={column: kind})
    return Settings(scope="system", table=table.name, fields={}, row=section)
