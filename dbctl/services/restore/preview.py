"""What a database would be after a restore, by what stands in its rows: its migrations, and the app's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Readable, count_dumped
from dbctl.errors import AbilityMissingError, DbctlError
from dbctl.model import Row, Value
from dbctl.services.app import App
from dbctl.services.backup import Keys, Manifest, Member, Repository, schema_of
from dbctl.services.migrations import status
from dbctl.services.migrations.ledger import Standing, State, Track, standing
from dbctl.services.restore.source import content, members
from dbctl.services.settings import SettingTable, database_of, section
from dbctl.services.settings import queries as settings

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
        (track,) = status.tracks(app, database, may_lack_folder=True)
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


READABLE = "readable"


class TableCompared(Value, frozen=True, kw_only=True):
    """One table, now and in the backup."""

    table: str
    now: int | None  #: rows; None where there is no such table, or it cannot be read
    then: int | None  #: rows in the backup


class DatabaseCompared(Value, frozen=True, kw_only=True):
    """One database, now and in the backup."""

    database: str
    state: str  #: ``readable``, or why it cannot be compared
    schema: str  #: ``same``, ``another`` or ``unknown``
    held_by: Sequence[str]  #: processes that have it open, as far as this user may know
    way: str  #: how it would come back: ``Approach.way``; empty where it would not
    steps: Sequence[str]  #: what that takes, or why it would not
    tables: Sequence[TableCompared]
    content: ContentCompared | None = None  #: None where nobody has looked into it


class Preview(Value, frozen=True, kw_only=True):
    """Answer of ``restore preview``."""

    backup: str
    created_at: datetime
    databases: Sequence[DatabaseCompared]

    def brief(self) -> Row:
        told: dict[str, object] = {"backup": self.backup, "created_at": self.created_at}
        for one in self.databases:
            told[f"{one.database} is"] = one.state
            told[f"{one.database}'s schema"] = one.schema
            told[f"{one.database} is held by"] = ", ".join(one.held_by) or "nobody that can be seen"
            told[f"{one.database} comes back"] = one.way or "not at all"
            if one.steps:
                told[f"to bring {one.database} back"] = one.steps
            told |= _told_content(one)
        told["tables"] = [
            {"database": one.database, "table": table.table, "now": table.now, "then": table.then}
            for one in self.databases
            for table in one.tables
            if table.now != table.then
        ]
        return told


def _told_content(one: DatabaseCompared) -> dict[str, object]:
    found = one.content
    if found is None and one.state != READABLE:
        return {}
    if found is None:
        return {
            f"{one.database}'s settings": "not looked at: --deep loads the backup aside and compares them"
        }
    told = dict[str, object]()
    if found.migrations:
        words = {
            "migrations to be run": found.migrations.pending,
            "migrations newer than the app's files": found.migrations.ahead,
            "migrations that are applied now, and not then": found.migrations.only_now,
            "migrations that were applied then, and are not now": found.migrations.only_then,
        }
        told = {f"{one.database}: {what}": list(names) for what, names in words.items() if names}
        told = told or {f"{one.database}'s migrations": "the same"}
    if found.settings:
        told[f"settings of {one.database} that differ"] = [
            {"key": each.key, "now": each.now, "then": each.then} for each in found.settings
        ]
    if found.unread:
        told[f"not compared of {one.database}"] = found.unread
    return told


def preview(
    app: App, repository: Repository, manifest: Manifest, keys: Keys, *, deep: bool = False
) -> Preview:
    """Return what a restore of this backup would change; raises as ``members`` does.

    ``deep``: whether a dump is loaded aside where its rows cannot be read otherwise.
    """
    found = []
    for one in members(app, repository, manifest):
        told = _compared(app, one)
        looks = one.form == "dump" and (deep or not _loads(app, one))
        if told.state == READABLE and not is_told(app, one.database):
            nothing = ContentCompared(migrations=None, settings=(), unread=())
            told = structs.replace(told, content=nothing)
        elif looks and told.state == READABLE:
            told = structs.replace(told, content=_content(app, repository, manifest, one, keys))
        found.append(told)
    return Preview(backup=manifest.id, created_at=manifest.created_at, databases=found)


def _loads(app: App, one: Member) -> bool:
    return registry.outside(app.url(one.database), app.target(one.database)).loads


def _content(
    app: App, repository: Repository, manifest: Manifest, one: Member, keys: Keys
) -> ContentCompared:
    try:
        keys.ready(repository.store, manifest)
        with content(app, repository, manifest, one, keys) as then:
            now = app.reader(one.database, may_be_empty=True, like=one.rows)
            return compared(app, one.database, now, then)
    except DbctlError as error:
        return ContentCompared(migrations=None, settings=(), unread=[str(error)])


def _compared(app: App, one: Member) -> DatabaseCompared:
    held_by = _holders(app, one.database)  # before this process is one of them
    state, schema = READABLE, "unknown"
    counts: Mapping[str, int] = {}
    try:
        db = app.reader(one.database, may_be_empty=True, like=one.rows)
        found = schema_of(db)
        if found and one.schema:  # a foreign dump has no fingerprint before it is loaded
            schema = "same" if found == one.schema else "another"
        counts = count_dumped(db, one.rows)
    except DbctlError as error:
        state = str(error)
    way, steps = _approach(app, one)
    names = sorted(counts.keys() | one.rows.keys())
    return DatabaseCompared(
        database=one.database,
        state=state,
        schema=schema,
        held_by=held_by,
        way=way,
        steps=steps,
        tables=[TableCompared(table=name, now=counts.get(name), then=one.rows.get(name)) for name in names],
    )


def _approach(app: App, one: Member) -> tuple[str, Sequence[str]]:
    try:
        found = registry.outside(app.url(one.database), app.target(one.database)).approach(one.dump)
    except DbctlError as error:
        return "", [str(error)]
    return found.way, found.steps


def _holders(app: App, database: str) -> list[str]:
    try:
        found = registry.holders(app.url(database), app.target(database))
    except DbctlError:  # it is missing, or the system does not tell
        return []
    return [f"pid {one.pid} ({one.command})" for one in found]
