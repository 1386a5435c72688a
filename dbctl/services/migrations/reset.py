"""``migrate reset``: empty a development database and run every migration again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Readable, SizeMonitor
from dbctl.errors import (
    DatabaseMissingError,
    PlanChangedError,
    ResetRefusedError,
    UsageError,
)
from dbctl.model import Page, Plan, format_count
from dbctl.services.app import App
from dbctl.services.migrations.execution import plan_up, refuse_foreign, require_script_runner
from dbctl.services.migrations.files import MigrationFile
from dbctl.services.migrations.ledger import create_empty_state
from dbctl.services.migrations.safety_backup import SafetyBackup
from dbctl.services.migrations.status import find_targets, load_state, require_single_target
from dbctl.services.migrations.up import AppliedMigration, apply_all

#: The purpose of the safety backup in messages.
PURPOSE = "migrate reset"


class ResetDatabase:
    """A reset of one database, under the lock of dbctl's writers."""

    def __init__(
        self,
        app: App,
        database: str = "",
        folder: Path | None = None,
        *,
        variant: str = "",
        safety_backup: SafetyBackup | None = None,
    ) -> None:
        """Read the folder.

        Args:
            app: the app.
            database: its name; required if several databases have migrations.
            folder: the folder of migrations, instead of the configured one.
            variant: the variant of the new database, if the migrations have several.
            safety_backup: options of the safety backup; the default is the configuration.

        Raises:
            ResetRefusedError: the app is protected.
            UsageError: the database is ambiguous.
        """
        self.app, self.protected = app.name, app.protected
        if app.protected:
            raise ResetRefusedError(app=app.name)
        targets = find_targets(app, database, folder, variant=variant)
        self._target = require_single_target(targets, " to reset")
        self._open_app, self._safety = app, safety_backup or SafetyBackup(app)
        self.target = self._target.name
        self._rows: Mapping[str, int] = {}  #: by table, before the lock
        self._digest = ""  #: of the plan; empty before it is computed

    def plan(self) -> Plan:
        """Return the objects to drop and the migrations to run.

        Raises:
            UsageError: the folder contains no migration.
            MigrationInvalidError: a file cannot be run.
            LedgerForeignError: another runner writes the ledger.
        """
        files = self._select_files()
        self._rows = rows = self._count_rows()
        steps = self._safety.describe_steps(self._target, [PURPOSE]) if rows else []
        if rows:
            tables = format_count(len(rows), "table")
            steps.append(
                f"drop {tables} with {format_count(sum(rows.values()), 'row')}, and all other objects of the schema"
            )
        steps += [f"run {file.name}" for file in files]
        title = f"Reset {self._target.name}"
        plan = Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=bool(rows))
        self._digest = plan.digest
        return plan

    def apply(self, confirmed: str | None = None) -> Page[AppliedMigration]:
        """Empty the database and run every migration.

        Raises:
            PlanChangedError: the plan differs from the ``confirmed`` plan; nothing was changed.
            ConstraintError: an object outside of the database's own schemas depends on an object to drop.
            MigrationFailedError: a migration failed; the database contains only the results of the earlier migrations.
        """
        if not self._digest:
            self.plan()
        if confirmed not in (None, self._digest):
            raise PlanChangedError(target=self.target)
        target = self._target
        with (
            self._safety.protect(target, [PURPOSE] if self._rows else []) as backup,
            self._open_app.writer(target.database, PURPOSE, create=True) as db,
        ):
            if confirmed is not None and _count(db) != self._rows:
                raise PlanChangedError(target=self.target)
            scripts = require_script_runner(db)
            with scripts.schema_transaction():
                for sql in scripts.drop_statements():
                    scripts.run_statement(sql)
            done = apply_all(target, db, safety_backup=backup)
        return Page(items=done, total=len(done), column_names=AppliedMigration.__struct_fields__)

    def _select_files(self) -> list[MigrationFile]:
        """Return the migrations for an empty database."""
        target = self._target
        try:
            state = load_state(self._open_app, target)
        except DatabaseMissingError:
            pass
        else:
            refuse_foreign(state.target)
        files = [plan.file for plan in plan_up(create_empty_state(target))]
        if not files:
            raise UsageError(detail=f"{target.folder.path} contains no migration to run")
        return files

    def _count_rows(self) -> dict[str, int]:
        """Return the approximate number of rows of each table; none if the database does not exist."""
        target = self._target
        try:
            url = self._open_app.url(target.database)
            with closing(
                registry.load_engine(url.engine).open_for_reading(
                    url, target.name, timeout=self._open_app.timeout
                )
            ) as db:
                return _count(db)
        except DatabaseMissingError:
            return {}


def _count(db: Readable) -> dict[str, int]:
    if sizes := db.part(SizeMonitor):
        return {size.table: size.rows for size in sizes.measure_tables(exact=False)}
    return {name: db.count(name) for name, table in db.tables().items() if not table.is_view}
