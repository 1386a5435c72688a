"""``migrate up``, ``down`` and ``reset``: plan migrations, back up the database, and run them under the write lock of dbctl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.backup import RepositoryNotConfiguredError, SafetyBackupNotConfiguredError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import IN_DOUBT, DatabaseMissingError
from dbctl.errors.migrations import (
    DownAllRefusedError,
    MigrationInDoubtError,
    MigrationPartialError,
    ResetRefusedError,
)
from dbctl.errors.usage import PlanChangedError, UsageError
from dbctl.model import Plan, format_count
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.app.evidence.facts import refuse_contradictions
from dbctl.services.migrations.database_plan import (
    AppliedMigration,
    DatabasePlan,
    MigrationsRun,
    RevertedMigration,
    apply_all,
    plan_database,
)
from dbctl.services.migrations.execution.executor import MigrationSession, open_session, require_script_runner
from dbctl.services.migrations.execution.plan import (
    DownSelection,
    UpSelection,
    plan_up,
    refuse_foreign,
    state_done,
)
from dbctl.services.migrations.ledger.journal import Direction
from dbctl.services.migrations.ledger.ledger import Ledger, MigrationTarget
from dbctl.services.migrations.ledger.state import NamedMigration, create_empty_state, read_state
from dbctl.services.migrations.status import (
    open_existing,
    open_for_reading,
    require_single_target,
    retry_after_running_migration,
)
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from dbctl.services.backup.repository import Repository


def create_safety_backup(app: App, repository: Repository, database: str) -> str:
    """Back up a database and return the id of the backup; the caller holds the lock of the repository."""
    from dbctl.services.backup.create import create_backup
    from dbctl.services.backup.sources import Source

    source = Source(app, database)
    app.close()
    url, target = app.url(database), app.target(database)
    with closing(app.engine(database).open_for_reading(url, target, timeout=app.timeout)) as db:
        # A partly migrated database may lack tables of the app.
        source.allow_empty, source.familiar_tables = True, list(db.tables())
    return create_backup(repository, [source], kind="migration").id


_RESTORE = Remedy("Restore the previous state with: `restore apply {id} --db {database}`")


class SafetyBackup:
    """Safety backup of a database before a destructive migration; can be disabled."""

    def __init__(self, app: App, *, repository: str = "", enabled: bool = True) -> None:
        """Set the options: the address of another repository than the configured one, and whether to create backups."""
        self._app, self._repository_address, self._enabled = app, repository, enabled
        #: whether something was changed before the migrations, so that the backup stays if they fail without an effect
        self.is_needed = False

    def describe_steps(self, target: MigrationTarget, names: Sequence[str]) -> list[str]:
        """Return the steps of the plan: a safety backup if ``names`` contains destructive migrations.

        Raises:
            SafetyBackupNotConfiguredError: no repository is configured.
        """
        if not (names and self._enabled):
            return []
        address = self._open_repository(target, names).store.location
        return [f"create a safety backup of {target.database} in {address}"]

    @contextmanager
    def protect(self, target: MigrationTarget, names: Sequence[str]) -> Iterator[str | None]:
        """Create the safety backup and yield its id, or None if none is required.

        If the migrations fail without any effect, the backup is deleted again.
        """
        if not (names and self._enabled):
            yield None
            return
        repository = self._open_repository(target, names)
        backup_id = self._create(repository, target.database)
        try:
            yield backup_id
        except (DbctlError, Interrupted) as error:
            if not self.is_needed and _left_unchanged(error):
                with suppress(DbctlError):  # an unneeded backup that remains is not an error
                    repository.store.remove_folder(backup_id)
            else:
                facts = {"id": backup_id, "database": target.database}
                error.hint += f" {_RESTORE.write(self._app.name, facts)}"
            raise

    def _open_repository(self, target: MigrationTarget, names: Sequence[str]) -> Repository:
        from dbctl.services.backup.repository import Repository

        try:
            return Repository(self._app, self._repository_address)
        except RepositoryNotConfiguredError as error:
            joined = ", ".join(names)
            raise SafetyBackupNotConfiguredError(
                target=target.name, app=self._app.name, names=joined
            ) from error

    def _create(self, repository: Repository, database: str) -> str:
        with repository.store.lock(self._app.spec.name, timeout=self._app.timeout):
            backup_id = create_safety_backup(self._app, repository, database)
        self._app.close()  # closing a reader later would drop the locks that this process holds on its file
        return backup_id


def _left_unchanged(error: DbctlError | Interrupted) -> bool:
    if isinstance(error, (MigrationPartialError, MigrationInDoubtError, Interrupted, *IN_DOUBT)):
        return False
    return error.context.get("applied", "none") == "none"


NOTHING_PENDING = "nothing to do: no migration is pending"
NOTHING_APPLIED = "nothing to do: no migration is applied"
RESET = "migrate reset"  #: in place of the names of destructive migrations


class PendingMigration(NamedMigration, frozen=True, kw_only=True):
    """One migration that ``migrate up`` would run."""

    path: Path
    statements: int
    sql: str

    @property
    def script(self) -> str:
        """The text of the file after a comment with its name."""
        return f"-- {self.app}/{self.database}: {self.name} ({self.path})\n{self.sql.rstrip()}\n\n"


class _MigrationOperation(Operation):
    """An operation on the databases of an app, with its options."""

    def __init__(
        self,
        app: App,
        targets: Sequence[MigrationTarget],
        selection: UpSelection | DownSelection = UpSelection(),  # noqa: B008 - immutable
        *,
        safety_backup: SafetyBackup | None = None,
    ) -> None:
        """Select the migrations; by default, the configuration has the options of the safety backup.

        Raises:
            UsageError: the number of migrations or the database is ambiguous.
            DownAllRefusedError, ResetRefusedError: the app is protected.
        """
        super().__init__(app, targets[0].name if len(targets) == 1 else "")
        self._targets, self._selection = targets, selection
        self._safety = safety_backup or SafetyBackup(app)
        self._digest = ""  #: of the plan; empty before it is computed
        self._planned: Sequence[DatabasePlan] = ()  #: before the lock, for each target
        self._refuse_options()

    def _refuse_options(self) -> None:
        """Refuse a selection or a database that is ambiguous or protected."""

    def _create_plan(
        self, title: str, steps: Sequence[str], rows: Mapping[str, int] = {}, *, destructive: bool = False
    ) -> Plan:
        plan = super()._create_plan(title, steps, rows, destructive=destructive)
        self._digest = plan.digest
        return plan

    @contextmanager
    def _open_locked(
        self, target: MigrationTarget, destructive_names: Sequence[str]
    ) -> Iterator[tuple[Writable, str | None]]:
        """Create the safety backup, and yield the database under the lock, and the id of the backup."""
        with (
            self._safety.protect(target, destructive_names) as backup,
            self._app.writer(target.database, create=True) as db,
        ):
            yield db, backup


class _RunMigrations(_MigrationOperation):
    """Run migrations in one direction, database by database."""

    direction: ClassVar[Direction]
    verb: ClassVar[str]
    result: ClassVar[type[AppliedMigration]]
    empty_message: ClassVar[str]

    def plan(self) -> Plan:
        """Return the migrations and the rows at risk; writes nothing, and raises the errors of ``apply``."""
        self._planned = self._plan_before_lock(counts_rows=self.direction == "down")
        steps, rows = list[str](), Counter[str]()
        for target, planned in zip(self._targets, self._planned, strict=True):
            rows.update(planned.rows)
            steps += self._safety.describe_steps(target, planned.destructive_names)
            where = f"{target.database}/" if len(self._targets) > 1 else ""
            for plan in planned.plans:
                statements = format_count(len(plan.steps.statements), "statement")
                steps.append(f"{self.verb} {where}{plan.file.name} ({statements})")
                if blocking := planned.blocking_statements.get(plan.file.name):
                    changes = format_count(blocking, "schema change")
                    steps.append(
                        f"block writes on all nodes of the cluster for {changes}, in total order isolation"
                    )
        count = sum(len(planned.plans) for planned in self._planned)
        title = f"{self.verb.capitalize()} {format_count(count, 'migration')}"
        return self._create_plan(title, steps, rows, destructive=self.direction == "down")

    def apply(self, confirmed: str | None = None) -> MigrationsRun:
        """Run each migration in one transaction with its row in the ledger.

        A missing ledger, and for ``up`` a missing database, is created.

        Raises:
            PlanChangedError: scripts that revert migrations delete rows, and the plan under the lock differs from the
                ``confirmed`` plan, or, without one, in its migrations; nothing was changed.
            MigrationFailedError: a migration failed and was rolled back; the migrations before it stay.
            MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        """
        if confirmed is not None and (self._digest or self.plan().digest) != confirmed:
            raise PlanChangedError(target=self.target)
        is_revert = self.direction == "down"
        counts_rows = is_revert and confirmed is not None
        done: list[AppliedMigration] = []
        before_lock = self._planned or self._plan_before_lock(counts_rows=counts_rows)
        for target, planned in zip(self._targets, before_lock, strict=True):
            # refuse before any database is changed
            self._safety.describe_steps(target, planned.destructive_names)
        for target, planned in zip(self._targets, before_lock, strict=True):
            if not planned.plans:
                continue  # a scheduled job needs no write privilege while nothing is pending
            try:
                with self._open_locked(target, planned.destructive_names) as (db, backup):
                    current = plan_database(target, db, self._selection, counts_rows=counts_rows)
                    if is_revert and current.names != planned.names:
                        raise PlanChangedError(target=target.name)
                    if counts_rows and current.rows != planned.rows:
                        raise PlanChangedError(target=target.name)
                    variant = current.state.target
                    session = (
                        MigrationSession(variant, db, Ledger(variant, db))
                        if is_revert
                        else open_session(variant, db)
                    )
                    done += current.run(session, self.result, done, backup)
            except DbctlError as error:
                state_done(error, target, done)
                raise
        return MigrationsRun(
            items=done,
            total=len(done),
            column_names=self.result.__struct_fields__,
            empty_message=self.empty_message,
        )

    def _plan_before_lock(self, *, counts_rows: bool) -> list[DatabasePlan]:
        open_database = open_for_reading if self.direction == "down" else open_existing

        def read(target: MigrationTarget) -> DatabasePlan:
            with open_database(self._app, target) as db:
                if db is not None:
                    refuse_contradictions(self._app, target.database, db, ("ledger",))
                return plan_database(target, db, self._selection, counts_rows=counts_rows)

        return [
            retry_after_running_migration(self._app, target, partial(read, target))
            for target in self._targets
        ]


class MigrateUp(_RunMigrations):
    direction, verb = "up", "run"
    result, empty_message = AppliedMigration, NOTHING_PENDING
    _selection: UpSelection

    def list_pending(self) -> list[PendingMigration]:
        """Return the migrations to run; raises the errors of ``apply``."""
        return [
            PendingMigration(
                app=target.app,
                database=target.database,
                version=plan.file.version,
                name=plan.file.name,
                path=plan.file.path,
                statements=len(plan.steps.statements),
                sql=plan.steps.section.text.removeprefix("\ufeff").strip("\n"),
            )
            for target, planned in zip(self._targets, self._plan_before_lock(counts_rows=False), strict=True)
            for plan in planned.plans
        ]

    def _refuse_options(self) -> None:
        if self._selection.to and self._selection.steps:
            raise UsageError(detail="use only one of --to and --steps")


class MigrateDown(_RunMigrations):
    """Revert migrations with their own down scripts, newest first."""

    direction, verb = "down", "revert"
    result, empty_message = RevertedMigration, NOTHING_APPLIED
    _selection: DownSelection

    def _refuse_options(self) -> None:
        selection = self._selection
        if (selection.steps > 0) + bool(selection.to) + selection.all_migrations > 1:
            raise UsageError(detail="use only one of --steps, --to and --all")
        if selection.all_migrations and self.protected:
            raise DownAllRefusedError(app=self.app)
        if not selection.all_migrations:
            require_single_target(self._targets, alternative=", or --all")


class ResetDatabase(_MigrationOperation):
    """Empty a development database, and run every migration again."""

    def _refuse_options(self) -> None:
        if self.protected:
            raise ResetRefusedError(app=self.app)
        self._target = require_single_target(self._targets, " to reset")
        self._rows: Mapping[str, int] = {}  #: by table, before the lock

    def plan(self) -> Plan:
        """Return the objects to drop and the migrations to run.

        Raises:
            UsageError: the folder contains no migration.
            MigrationInvalidError: a file cannot be run.
            LedgerForeignError: another runner writes the ledger.
        """
        rows, steps = {}, list[str]()
        with suppress(DatabaseMissingError), open_for_reading(self._app, self._target) as db:
            current = read_state(self._target, db).target
            refuse_foreign(current)
            rows = _count_approximately(db)
            if rows and not self._target.variant:  # it is rebuilt with the variant that it has
                self._target = current
        plans = plan_up(create_empty_state(self._target))
        if not plans:
            raise UsageError(detail=f"{self._target.folder.path} contains no migration to run")
        if rows:
            steps += self._safety.describe_steps(self._target, [RESET])
            contents = f"{format_count(len(rows), 'table')} with {format_count(sum(rows.values()), 'row')}"
            steps.append(f"drop {contents}, and all other objects of the schema")
        steps += [f"run {plan.file.name}" for plan in plans]
        self._rows = rows
        return self._create_plan(f"Reset {self.target}", steps, rows, destructive=bool(rows))

    def apply(self, confirmed: str | None = None) -> MigrationsRun:
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
        with self._open_locked(self._target, [RESET] if self._rows else []) as (db, backup):
            if confirmed is not None and _count_approximately(db) != self._rows:
                raise PlanChangedError(target=self.target)
            scripts = require_script_runner(db)
            with scripts.schema_transaction():
                drops = scripts.drop_statements()
                self._safety.is_needed = not scripts.transactional_ddl
                for sql in drops:
                    scripts.run_statement(sql)
            self._safety.is_needed = True
            done = apply_all(self._target, db, safety_backup=backup)
        return MigrationsRun(items=done, total=len(done), column_names=AppliedMigration.__struct_fields__)


def _count_approximately(db: Readable) -> dict[str, int]:
    """Return the approximate number of rows of each table."""
    return {size.table: size.rows for size in db.storage.measure_tables(exact=False)}
