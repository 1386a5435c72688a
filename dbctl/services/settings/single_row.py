"""Settings stored as the columns of a single row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AllOf, Condition, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Settings, SettingsRow, SettingsVariant
from dbctl.services.app import App, LiveTable, require_row_count
from dbctl.services.settings.table import Setting, SettingTable
from dbctl.services.settings.values import SettingTypes


class SingleRowSettings(SettingTable):
    """Settings in the columns of one row.

    If the table has several rows, a change is written to all of them, because the app may read any.
    """

    def __init__(self, app: App, db: Readable, section: Settings, row: SettingsRow) -> None:
        self.app, self.db, self.user, self.section, self._row = app, db, None, section, row
        self.live = LiveTable(app.profile, db, section.table, "settings")
        self.variant, self.type, self.keys = None, None, []
        self._key = self.live.column(row.key)
        self._columns = {name: column for name in row.types if (column := self.live.optional_column(name))}
        self.fields = {
            field: column
            for field, name in section.fields.items()
            if (column := self.live.optional_column(name))
        }
        kinds = SettingsVariant(key=row.key, type="", types={str(kind): kind for kind in row.types.values()})
        self.types = SettingTypes(section, kinds)

    def read(self, where: Sequence[Where] = ()) -> list[Setting]:
        columns = list(dict.fromkeys([*self._columns.values(), *self.fields.values()]))
        rows = self.db.select(self.live.name, columns, limit=1)
        stored_row: Mapping[str, object] = dict(zip(columns, rows[0], strict=True)) if rows else {}
        selected = [str(condition.value) for condition in where if isinstance(condition, Condition)]
        return [
            self._create_setting(name, stored_row.get(column), stored_row)
            for name, column in self._columns.items()
            if name in (selected or [name])
        ]

    def _create_setting(self, name: str, stored: object, row: Mapping[str, object]) -> Setting:
        kind, default = self._row.types[name], self._row.defaults.get(name)
        value = default if stored is None else read_boolean(stored) if kind == "boolean" else stored
        return Setting(
            key=name,
            value=value if kind in ("boolean", "string") else self.types.read(value, kind),
            type=kind,
            default=default,
            updated_at=read_time(row.get(self.fields.get("updated_at", ""))),
        )

    def key_condition(self, key: str) -> Where:
        return Condition(self._key, "=", key)

    def check_new(self, key: str, value: object) -> None:
        known = ", ".join(self._columns)
        raise UsageError(
            detail=f"{self.app.profile.title} has no setting {key!r} and accepts no new ones ({value!r}); it has: {known}"
        )

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        column, kind = self._columns[setting.key], self._row.types[setting.key]
        stored = value if kind != "json" else self.types.encode(value, kind)
        values = {column: self.live.encode(column, stored), **self._change_stamp(db)}
        rows = db.count(self.live.name)
        if rows:
            require_row_count(db.update(self.live.name, values, [AllOf([])]), rows, db)
        else:
            db.insert(self.live.name, {self._key: self._row.value, **values})

    def add(self, db: Writable, key: str, value: object) -> None:
        self.write(db, self._create_setting(key, None, {}), value)

    def remove(self, db: Writable, key: str) -> None:
        del db
        raise UsageError(
            detail=f"{key} is a column and cannot be removed; reset it with dbctl settings reset"
        )

    def _change_stamp(self, db: Writable) -> dict[str, object]:
        del db  # the row has no column for a user
        column = self.fields.get("updated_at")
        return {column: self.live.encode(column, now())} if column else {}
