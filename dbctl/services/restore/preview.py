"""``restore preview``: compare the live databases with a backup: rows, schema, migrations, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FeatureMissingError
from dbctl.model import Row, Struct
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Member
from dbctl.services.backup.safety import schema_fingerprint
from dbctl.services.migrations import status
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, State, read_state
from dbctl.services.restore.source import BackupSource, describe_missing_roles
from dbctl.services.settings.queries import open_settings
from dbctl.services.settings.store import SettingStore, find_section, settings_database

#: States of a migration that has run.
APPLIED_STATES: tuple[State, ...] = ("applied", "changed", "missing-file", "ahead", "retired")


class MigrationsComparison(Struct, frozen=True, kw_only=True):
    """Migrations of one database, now and in the backup."""

    pending: Sequence[str]  #: will be pending after the restore
    only_current: Sequence[str]  #: applied in the live database only
    only_in_backup: Sequence[str]  #: applied in the backup only
    ahead: Sequence[str]  #: applied in the backup, and later than every file of the app


class SettingComparison(Struct, frozen=True, kw_only=True):
    """A setting of the app that differs; secret values are masked."""

    key: str
    current: object  #: None: the live database lacks the setting
    in_backup: object  #: None: the backup lacks the setting


class ContentComparison(Struct, frozen=True, kw_only=True):
    """Migrations and settings of one database, now and in the backup."""

    migrations: MigrationsComparison | None  #: None: no migrations, or not comparable
    settings: Sequence[SettingComparison]
    not_compared: Sequence[str]  #: errors of comparisons that failed

    def facts(self) -> Iterator[tuple[str, object]]:
        """Yield the lines of the summary, each with its title."""
        if self.migrations:
            lists = {
                "pending migrations": self.migrations.pending,
                "migrations newer than the files of the app": self.migrations.ahead,
                "migrations only in the live database": self.migrations.only_current,
                "migrations only in the backup": self.migrations.only_in_backup,
            }
            different: list[tuple[str, object]] = [
                (title, list(names)) for title, names in lists.items() if names
            ]
            yield from different or [("migrations", "same")]
        if self.settings:
            yield (
                "different settings",
                [
                    {"key": setting.key, "current": setting.current, "backup": setting.in_backup}
                    for setting in self.settings
                ],
            )
        if self.not_compared:
            yield "not compared", self.not_compared


def compare_content(app: App, database: str, live: Readable, backup: Readable) -> ContentComparison:
    """Compare two states of a database; errors are part of the result."""
    errors, migrations, changed_settings = list[str](), None, list[SettingComparison]()
    try:
        migrations = _compare_migrations(app, database, live, backup)
    except DbctlError as error:
        errors.append(f"migrations: {error}")
    if _has_settings(app, database):
        try:
            changed_settings = list(_compare_settings(app, live, backup))
        except DbctlError as error:
            errors.append(f"settings: {error}")
    return ContentComparison(migrations=migrations, settings=changed_settings, not_compared=errors)


def has_content(app: App, database: str) -> bool:
    """Return whether a database has migrations or settings to compare."""
    return _has_settings(app, database) or _find_target(app, database) is not None


def _has_settings(app: App, database: str) -> bool:
    return find_section(app, "system") is not None and settings_database(app, "system") == database


def _find_target(app: App, database: str) -> MigrationTarget | None:
    try:
        (target,) = status.find_targets(app, database, may_lack_folder=True)
    except FeatureMissingError:
        return None
    return target


def read_migration_state(app: App, database: str, db: Readable) -> DatabaseState | None:
    """Return the state of the migrations of an open database, or None if it has none."""
    target = _find_target(app, database)
    return read_state(target, db) if target else None


def _compare_migrations(
    app: App, database: str, live: Readable, backup: Readable
) -> MigrationsComparison | None:
    live_state = read_migration_state(app, database, live)
    backup_state = read_migration_state(app, database, backup)
    if live_state is None or backup_state is None or not (live_state.has_ledger or backup_state.has_ledger):
        return None
    live_names, backup_names = live_state.names_in(*APPLIED_STATES), backup_state.names_in(*APPLIED_STATES)
    return MigrationsComparison(
        pending=backup_state.names_in("pending", "out-of-order"),
        only_current=[name for name in live_names if name not in backup_names],
        only_in_backup=[name for name in backup_names if name not in live_names],
        ahead=backup_state.names_in("ahead"),
    )


def _compare_settings(app: App, live: Readable, backup: Readable) -> Iterator[SettingComparison]:
    live_table, backup_table = open_settings(app, live), open_settings(app, backup)
    live_values, backup_values = _read_values(live_table), _read_values(backup_table)
    for key in sorted(live_values.keys() | backup_values.keys()):
        # The default, a table, differs from the value of every setting.
        if live_values.get(key, live_table) != backup_values.get(key, live_table):
            yield SettingComparison(
                key=key,
                current=live_table.mask_value(key, live_values.get(key)),
                in_backup=backup_table.mask_value(key, backup_values.get(key)),
            )


def _read_values(store: SettingStore) -> dict[str, object]:
    return {setting.key: setting.value for setting in store.read()}


READABLE = "readable"


class TableComparison(Struct, frozen=True, kw_only=True):
    """One table, now and in the backup."""

    table: str
    current_rows: int | None  #: None: the table is missing or not readable
    backup_rows: int | None  #: None: the backup lacks the table


class DatabaseComparison(Struct, frozen=True, kw_only=True):
    """One database, now and in the backup."""

    database: str
    state: str  #: ``readable``, or why it cannot be compared
    schema: str  #: ``same``, ``different`` or ``unknown``
    held_by: Sequence[str]  #: processes that have it open and are visible to this user
    strategy: str  #: ``RestoreStrategy.method``; empty if it cannot be restored
    steps: Sequence[str]  #: the steps of the restore, or why it cannot be restored
    tables: Sequence[TableComparison]
    missing_roles: Sequence[str] = ()  #: of the backup, on the server of the database, with their attributes
    content: ContentComparison | None = None  #: None: not compared
    schema_only: Sequence[str] = ()  #: the tables that will be empty, because the backup lacks their rows

    def facts(self) -> Iterator[tuple[str, object]]:
        """Yield the lines of the summary, each with its title."""
        yield "state", self.state
        yield "schema", self.schema
        yield "open in", ", ".join(self.held_by) or "no visible process"
        yield "strategy", self.strategy or "not possible"
        if self.steps:
            yield "steps", self.steps
        if self.missing_roles:
            yield "roles that the server lacks", self.missing_roles
        if self.schema_only:
            yield "will be empty, as their rows are not in the backup", self.schema_only
        if self.content:
            yield from self.content.facts()
        elif self.state == READABLE:
            yield "settings", "not compared; --deep loads the backup into a temporary database"


class Preview(Struct, frozen=True, kw_only=True):
    """Result of ``restore preview``."""

    backup: str
    created_at: datetime
    databases: Sequence[DatabaseComparison]

    def summary(self) -> Row:
        summary: dict[str, object] = {"backup": self.backup, "created_at": self.created_at}
        for database in self.databases:
            summary |= {f"{database.database}: {name}": value for name, value in database.facts()}
        summary["tables"] = [
            {
                "database": database.database,
                "table": table.table,
                "current": table.current_rows,
                "backup": table.backup_rows,
            }
            for database in self.databases
            for table in database.tables
            if table.current_rows != table.backup_rows
        ]
        return summary


def preview(source: BackupSource, *, deep: bool = False) -> Preview:
    """Compare the live databases with a backup; raises the errors of ``select_members``.

    ``deep``: load dumps into temporary databases if their rows cannot be read otherwise.
    """
    app, databases = source.app, list[DatabaseComparison]()
    for member in source.select_members():
        comparison = _compare_database(app, member)
        if comparison.state == READABLE:
            content = None
            if not has_content(app, member.database):
                content = ContentComparison(migrations=None, settings=(), not_compared=())
            elif member.form == "dump" and (deep or not app.restore_target(member.database).requires_load):
                content = _compare_with_backup(source, member)
            comparison = structs.replace(comparison, content=content)
        databases.append(comparison)
    return Preview(backup=source.manifest.id, created_at=source.manifest.created_at, databases=databases)


def _compare_with_backup(source: BackupSource, member: Member) -> ContentComparison:
    app, database = source.app, member.database
    try:
        source.prepare_keys()
        with source.open_content(member) as backup:
            live = app.reader(database, allow_empty=True, familiar_tables=member.rows)
            return compare_content(app, database, live, backup)
    except DbctlError as error:
        return ContentComparison(migrations=None, settings=(), not_compared=[str(error)])


def _compare_database(app: App, member: Member) -> DatabaseComparison:
    held_by = _find_holders(app, member.database)  # before this process opens it
    state, schema = READABLE, "unknown"
    counts: Mapping[str, int] = {}
    try:
        db = app.reader(member.database, allow_empty=True, familiar_tables=member.rows)
        fingerprint = schema_fingerprint(db)
        if fingerprint and member.schema:  # a foreign dump has no fingerprint until it is loaded
            schema = "same" if fingerprint == member.schema else "different"
        counts = db.count_dump_rows(member.rows)
    except DbctlError as error:
        state = str(error)
    strategy, steps = _select_strategy(app, member)
    missing_roles = list[str]()
    with suppress(DbctlError):  # the strategy has the reason
        missing_roles = describe_missing_roles(app.restore_target(member.database), member)
    names = sorted(counts.keys() | member.rows.keys())
    return DatabaseComparison(
        database=member.database,
        state=state,
        schema=schema,
        held_by=held_by,
        strategy=strategy,
        steps=steps,
        missing_roles=missing_roles,
        schema_only=member.schema_only,
        tables=[
            TableComparison(table=name, current_rows=counts.get(name), backup_rows=member.rows.get(name))
            for name in names
        ],
    )


def _select_strategy(app: App, member: Member) -> tuple[str, Sequence[str]]:
    try:
        strategy = app.restore_target(member.database).strategy(member.dump)
    except DbctlError as error:
        return "", [str(error)]
    return strategy.method, strategy.steps


def _find_holders(app: App, database: str) -> list[str]:
    try:
        holders = app.engine(database).list_lock_holders(app.url(database), app.target(database))
    except DbctlError:  # the file is missing, or the system cannot list processes
        return []
    return [f"pid {process.pid} ({process.command})" for process in holders]
