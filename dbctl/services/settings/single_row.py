"""Settings that are the columns of one row: shown, checked and changed as settings in rows of their own are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AllOf, Condition, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Settings, SettingsRow, SettingsShape
from dbctl.services.app import App, Live, exactly
from dbctl.services.settings.table import Setting, SettingTable
from dbctl.services.settings.values import SettingTypes


class SettingRow(SettingTable):
    """The settings of one open database that keeps them so.

    Of several rows the app may read one and change another; a change is made to all of them, so that it counts.
    """

    def __init__(self, app: App, db: Readable, told: Settings, row: SettingsRow) -> None:
        self.app, self.db, self.user, self.told, self._row = app, db, None, told, row
        self.live = Live(app.profile, db, told.table, "settings")
        self.shape, self.type, self.keys = None, None, []
        self._key = self.live.get(row.key)
        self._columns = {name: column for name in row.types if (column := self.live.find(name))}
        self.fields = {word: column for word, name in told.fields.items() if (column := self.live.find(name))}
        kinds = SettingsShape(key=row.key, type="", types={str(kind): kind for kind in row.types.values()})
        self.types = SettingTypes(told, kinds)

    def read(self, where: Sequence[Where] = ()) -> list[Setting]:
        columns = list(dict.fromkeys([*self._columns.values(), *self.fields.values()]))
        rows = self.db.select(self.live.name, columns, limit=1)
        found: Mapping[str, object] = dict(zip(columns, rows[0], strict=True)) if rows else {}
        named = [str(one.value) for one in where if isinstance(one, Condition)]
        return [
            self._told(name, found.get(column), found)
            for name, column in self._columns.items()
            if name in (named or [name])
        ]

    def _told(self, name: str, stored: object, row: Mapping[str, object]) -> Setting:
        kind, default = self._row.types[name], self._row.defaults.get(name)
        value = default if stored is None else read_boolean(stored) if kind == "boolean" else stored
        return Setting(
            key=name,
            value=value if kind in ("boolean", "string") else self.types.read(value, kind),
            type=kind,
            default=default,
            updated_at=read_time(row.get(self.fields.get("updated_at", ""))),
        )

    def at(self, key: str) -> Where:
        return Condition(self._key, "=", key)

    def check_new(self, key: str, value: object) -> None:
        known = ", ".join(self._columns)
        raise UsageError(
            detail=f"{self.app.profile.title} has no setting {key!r} and takes no new ones ({value!r}); it has: {known}"
        )

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        column, kind = self._columns[setting.key], self._row.types[setting.key]
        stored = value if kind != "json" else self.types.stored(value, kind)
        values = {column: self.live.encode(column, stored), **self._stamp(db)}
        rows = db.count(self.live.name)
        if rows:
            exactly(db.update(self.live.name, values, [AllOf([])]), rows, db)
        else:
            db.insert(self.live.name, {self._key: self._row.value, **values})

    def add(self, db: Writable, key: str, value: object) -> None:
        self.write(db, self._told(key, None, {}), value)

    def remove(self, db: Writable, key: str) -> None:
        del db
        raise UsageError(
            detail=f"{key} is a column, and cannot be removed; settings reset gives it its default back"
        )

    def _stamp(self, db: Writable) -> dict[str, object]:
        del db  # one row of settings has no column for a user
        column = self.fields.get("updated_at")
        return {column: self.live.encode(column, now())} if column else {}
