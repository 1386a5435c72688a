"""Settings stored as the columns of a single row."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract.database import AllOf, Readable, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError
from dbctl.profiles.codecs import read_boolean, read_time
from dbctl.profiles.model.settings import Settings, SettingsRow, SettingsVariant
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count
from dbctl.services.settings.store import Setting, SettingStore, find_key
from dbctl.services.settings.values import SettingTypes, parse_schema


class SingleRowSettings(SettingStore):
    """Settings in the columns of one row.

    If the table has several rows, a change is written to all of them, because the app may read any.
    """

    def __init__(self, app: App, db: Readable, section: Settings, row: SettingsRow) -> None:
        super().__init__(app, db, section, None)
        self._row, self._key = row, self.live.column(row.key)
        self._columns = self.live.map_columns({name: name for name in row.types})
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

    def _create_from_row(self, name: str, stored: object, row: Mapping[str, object]) -> Setting:
        kind, default = self._row.types[name], self._row.defaults.get(name)
        declared = find_key(self.section, name)
        value = default if stored is None else read_boolean(stored) if kind == "boolean" else stored
        return Setting(
            key=name,
            value=value if kind in ("boolean", "string") else self.types.read(value, kind),
            type=kind,
            default=default,
            schema=parse_schema(declared.schema),
            description=declared.description or None,
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
        values = {column: self.live.encode(column, stored), **self._change_stamp(db)}
        if rows := db.count(self.live.name):
            require_row_count(db.update(self.live.name, values, [AllOf([])]), rows, db)
        else:
            db.insert(self.live.name, {self._key: self._row.value, **values})

    def add(self, db: Writable, key: str, value: object) -> None:
        self.write(db, self._create_from_row(key, None, {}), value)

    def remove(self, db: Writable, key: str) -> None:
        del db
        detail = f"{key} is a column and cannot be removed"
        raise UsageError(detail=detail, hint=Remedy("Reset it with: `settings reset {key}`"), key=key)
