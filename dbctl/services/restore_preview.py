"""What a restore would change, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.dumps import count_dumped
from dbctl.errors import DbctlError
from dbctl.model import Row, Value
from dbctl.services.apps import App
from dbctl.services.backup_keys import Keys
from dbctl.services.backup_manifest import Manifest, Member
from dbctl.services.backups import Repository
from dbctl.services.restore_content import ContentCompared, compared, is_told
from dbctl.services.restore_source import content, members
from dbctl.services.safety import schema_of

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
