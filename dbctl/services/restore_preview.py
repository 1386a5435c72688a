"""What a restore would change, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dbctl.engines import registry
from dbctl.errors import DbctlError
from dbctl.model import Row, Value
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest, Member
from dbctl.services.backups import Repository
from dbctl.services.restore import members
from dbctl.services.safety import schema_of


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
        told["tables"] = [
            {"database": one.database, "table": table.table, "now": table.now, "then": table.then}
            for one in self.databases
            for table in one.tables
            if table.now != table.then
        ]
        return told


def preview(app: App, repository: Repository, manifest: Manifest) -> Preview:
    """Return what a restore of this backup would change; raises as ``Restoring`` does."""
    return Preview(
        backup=manifest.id,
        created_at=manifest.created_at,
        databases=[_compared(app, one) for one in members(app, repository, manifest)],
    )


def _compared(app: App, one: Member) -> DatabaseCompared:
    held_by = _holders(app, one.database)  # before this process is one of them
    state, schema, counts = "readable", "unknown", dict[str, int]()
    try:
        db = app.reader(one.database, may_be_empty=True, like=one.rows)
        schema = "same" if schema_of(db) == one.schema else "another"
        counts = {name: db.count(name) for name, table in db.tables().items() if not table.view}
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
