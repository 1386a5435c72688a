"""What a database would be after a restore, by what stands in its rows: its migrations, and the app's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.base import Readable
from dbctl.errors import AbilityMissingError, DbctlError
from dbctl.model import Value
from dbctl.services import migrate, settings
from dbctl.services.apps import App
from dbctl.services.migration_ledger import Track
from dbctl.services.migration_standing import Standing, State, standing
from dbctl.services.setting_table import SettingTable, database_of, section

#: What counts as done.
DONE: tuple[State, ...] = ("applied", "changed", "missing-file", "ahead", "retired")


class MigrationsCompared(Value, frozen=True, kw_only=True):
    """Migrations of one database, now and in the backup."""

    pending: Sequence[str]  #: they are to be run once the backup is back
    only_now: Sequence[str]  #: applied now, and not in the backup
    only_then: Sequence[str]  #: applied in the backup, and not now
    ahead: Sequence[str]  #: applied in the backup, and later than any file that the app has


class SettingCompared(Value, frozen=True, kw_only=True):
    """A setting of the app that differs; what is secret is masked."""

    key: str
    now: object  #: None where there is no such setting
    then: object  #: in the backup; None where it has no such setting


class ContentCompared(Value, frozen=True, kw_only=True):
    """What stands in the rows of one database, now and in the backup."""

    migrations: MigrationsCompared | None  #: None where the app has none there, or they cannot be told
    settings: Sequence[SettingCompared]
    unread: Sequence[str]  #: why something could not be compared


def compared(app: App, database: str, now: Readable, then: Readable) -> ContentCompared:
    """Compare two states of a database; what cannot be compared is told."""
    unread, migrations, changed = list[str](), None, list[SettingCompared]()
    try:
        migrations = _migrations(app, database, now, then)
    except DbctlError as error:
        unread.append(f"migrations: {error}")
    if _has_settings(app, database):
        try:
            changed = list(_settings(app, now, then))
        except DbctlError as error:
            unread.append(f"settings: {error}")
    return ContentCompared(migrations=migrations, settings=changed, unread=unread)


def is_told(app: App, database: str) -> bool:
    """Whether anything is told of what stands in the rows of a database: the app has migrations or settings there."""
    return _has_settings(app, database) or _track(app, database) is not None


def _has_settings(app: App, database: str) -> bool:
    return section(app, "system") is not None and database_of(app, "system") == database


def _track(app: App, database: str) -> Track | None:
    try:
        (track,) = migrate.tracks(app, database, may_lack_folder=True)
    except AbilityMissingError:
        return None
    return track


def stands(app: App, database: str, db: Readable) -> Standing | None:
    """Return how an open database stands to its migrations; None where the app has none there."""
    track = _track(app, database)
    return standing(track, db) if track else None


def _migrations(app: App, database: str, now: Readable, then: Readable) -> MigrationsCompared | None:
    here, there = stands(app, database, now), stands(app, database, then)
    if here is None or there is None or not (here.recorded or there.recorded):
        return None
    before, after = here.named(*DONE), there.named(*DONE)
    return MigrationsCompared(
        pending=there.named("pending", "out-of-order"),
        only_now=[name for name in before if name not in after],
        only_then=[name for name in after if name not in before],
        ahead=there.named("ahead"),
    )


def _settings(app: App, now: Readable, then: Readable) -> Iterator[SettingCompared]:
    table, other = settings.opened(app, now), settings.opened(app, then)
    here, there = _values(table), _values(other)
    for key in sorted(here.keys() | there.keys()):
        if here.get(key, table) != there.get(key, table):  # which no setting is
            yield SettingCompared(
                key=key, now=table.shown(key, here.get(key)), then=other.shown(key, there.get(key))
            )


def _values(table: SettingTable) -> dict[str, object]:
    return {one.key: one.value for one in table.read()}
