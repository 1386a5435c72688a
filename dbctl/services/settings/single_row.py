"""Settings stored as the columns of a single row."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import AllOf, Readable, Writable
from dbctl.errors import UsageError
from dbctl.model import now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Settings, SettingsRow, SettingsVariant, StandardSetting
from dbctl.services.app import App, LiveTable, User, require_row_count
from dbctl.services.settings.store import Setting, find_typed_violation, mask_values
from dbctl.services.settings.values import SettingTypes


class SingleRowSettings:
    """Settings in the columns of one row.

    If the table has several rows, a change is written to all of them, because the app may read any.
    """

    def __init__(self, app: App, db: Readable, section: Settings, row: SettingsRow) -> None:
        self.app, self.db, self.section, self._row = app, db, section, row
        self.user: User | None = None
        self.live = LiveTable(app.profile, db, section.table, "settings")
        self.standard: Mapping[str, StandardSetting] = {}
        self._key = self.live.column(row.key)
        self._columns = {name: column for name in row.types if (column := self.live.optional_column(name))}
        self._fields = {
            field: column
            for field, name in section.fields.items()
            if (column := self.live.optional_column(name))
        }
        kinds = SettingsVariant(key=row.key, type="", types={str(kind): kind for kind in row.types.values()})
        self.types = SettingTypes(section, kinds)

    def read(self, key: str | None = None) -> list[Setting]:
        columns = list(dict.fromkeys([*self._columns.values(), *self._fields.values()]))
        rows = self.db.select(self.live.name, columns, limit=1)
        stored_row: Mapping[str, object] = dict(zip(columns, rows[0], strict=True)) if rows else {}
        return [
            self._create_from_row(name, stored_row.get(column), stored_row)
            for name, column in self._columns.items()
            if key in (None, name)
        ]

    def values(self) -> dict[str, object]:
        return mask_values(self.section, self.read())

    def find_violation(self, setting: Setting, value: object) -> str:
        return find_typed_violation(self, setting, value)

    def parse_untyped(self, text: str) -> str:
        return text

    def _create_from_row(self, name: str, stored: object, row: Mapping[str, object]) -> Setting:
        kind, default = self._row.types[name], self._row.defaults.get(name)
        value = default if stored is None else read_boolean(stored) if kind == "boolean" else stored
        return Setting(
            key=name,
            value=value if kind in ("boolean", "string") else self.types.read(value, kind),
            type=kind,
            default=default,
            updated_at=read_time(row.get(self._fields.get("updated_at", ""))),
        )

    def create_setting(self, key: str, value: object) -> Setting:
        known = ", ".join(self._columns)
        raise UsageError(
            detail=f"{self.app.profile.title} has no setting {key!r} and accepts no new ones ({value!r}); it has: {known}"
        )

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        column, kind = self._columns[setting.key], self._row.types[setting.key]
        stored = value if kind != "json" else self.types.encode(value, kind)
        values = {column: self.live.encode(column, stored), **self._change_stamp()}
        rows = db.count(self.live.name)
        if rows:
            require_row_count(db.update(self.live.name, values, [AllOf([])]), rows, db)
        else:
            db.insert(self.live.name, {self._key: self._row.value, **values})

    def add(self, db: Writable, key: str, value: object) -> None:
        self.write(db, self._create_from_row(key, None, {}), value)

    def remove(self, db: Writable, key: str) -> None:
        del db
        raise UsageError(
            detail=f"{key} is a column and cannot be removed; reset it with dbctl settings reset"
        )

    def _change_stamp(self) -> dict[str, object]:
        column = self._fields.get("updated_at")
        return {column: self.live.encode(column, now())} if column else {}
