"""``migrate up``: run the pending migrations in order, each with its row in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

from dbctl.engines import registry
from dbctl.engines.contract import Writable
from dbctl.errors import (
    DatabaseMissingError,
    DuplicateMigrationNumberError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationFilesMissingError,
    MigrationMissingError,
    MigrationPartiallyRevertedError,
    MigrationsAheadError,
    MigrationsOutOfOrderError,
    MigrationStatementUnknownError,
    ReplayFailedError,
    UsageError,
)
from dbctl.model import Page, Plan, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.migrations.executor import (
    ExecutionResult,
    MigrationExecutor,
    join_names,
    refuse_unknown_progress,
    require_script_runner,
)
from dbctl.services.migrations.files import Folder, MigrationFile, Steps, order_key_of
from dbctl.services.migrations.ledger import (
    DatabaseState,
    Ledger,
    MigrationTarget,
    classify,
    journal,
    read_state,
)
from dbctl.services.migrations.safety_backup import SafetyBackup
from dbctl.services.migrations.status import find_targets, load_state

T = TypeVar("T")

NOTHING_PENDING = "nothing to do: no migration is pending"


class AppliedMigration(Struct, frozen=True, kw_only=True):
    """One migration that this run applied."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta
    rows_lost: Mapping[str, int] = {}  #: by table; only for migrations that may delete rows
    safety_backup: str | None = None  #: id of the backup of the previous state, if one was created

    @classmethod
    def from_result(
        cls,
        target: MigrationTarget,
        file: MigrationFile,
        steps: Steps,
        result: ExecutionResult,
        safety_backup: str | None,
    ) -> Self:
        """Return the record of a migration that has run."""
        return cls(
            app=target.app,
            database=target.database,
            version=file.version,
            name=file.name,
            statements=len(steps.statements),
            duration=result.duration,
            rows_lost=result.rows_lost,
            safety_backup=safety_backup,
        )

    def summary(self) -> Row:
        fields = ("app", "database", "version", "name", "statements", "duration")
        row: dict[str, object] = {field: getattr(self, field) for field in fields}
        if self.rows_lost:
            row["rows_lost"] = ", ".join(f"{table}: {rows}" for table, rows in self.rows_lost.items())
        return row | ({"safety_backup": self.safety_backup} if self.safety_backup else {})


class PendingMigration(Struct, frozen=True, kw_only=True):
    """One migration that ``migrate up`` would run."""

    app: str
    database: str
    version: str
    name: str
    path: Path
    statements: int
    sql: str


class MigrateUp:
    """Run pending migrations, database by database, each under the write lock of dbctl."""

    def __init__(
        self,
        app: App,
        database: str = "",
        folder: Path | None = None,
        *,
        to: str = "",
        steps: int = 0,
        variant: str = "",
        allow_data_loss: Sequence[str] = (),
        safety_backup: SafetyBackup | None = None,
    ) -> None:
        """Read the folders.

        Args:
            app: the app.
            database: the database; empty for every database that has migrations.
            folder: the folder of migrations, instead of the configured one.
            to: the last migration to run, by name or number.
            steps: number of migrations to run in each database; 0: all.
            variant: the variant for an empty database, if the migrations have several.
            allow_data_loss: names or numbers of migrations that may delete rows although their files do not allow it.
            safety_backup: options of the safety backup; the default is the configuration.

        Raises:
            UsageError: both ``to`` and ``steps`` were given.
        """
        self.app, self.protected = app.name, app.protected
        if to and steps:
            raise UsageError(detail="use only one of --to and --steps")
        self._open_app, self._to, self._steps, self._allow_data_loss = app, to, steps, allow_data_loss
        self._safety = safety_backup or SafetyBackup(app)
        self._targets = find_targets(app, database, folder, variant=variant)
        self.target = self._targets[0].name if len(self._targets) == 1 else app.name
        #: By database with pending migrations: the names of the destructive ones; None before they are read.
        self._destructive_names: dict[str, Sequence[str]] | None = None

    def list_pending(self) -> list[PendingMigration]:
        """Return the migrations to run; raises the errors of ``apply``."""
        pending = []
        self._destructive_names = {}
        for target in self._targets:
            runnable, destructive = self._plan_target(target)
            if runnable:
                self._destructive_names[target.database] = destructive
            for file, steps in runnable:
                pending.append(
                    PendingMigration(
                        app=target.app,
                        database=target.database,
                        version=file.version,
                        name=file.name,
                        path=file.path,
                        statements=len(steps.statements),
                        sql=steps.section.text.removeprefix("\ufeff").strip("\n"),
                    )
                )
        return pending

    def plan(self) -> Plan:
        """Return the migrations to run; writes nothing and needs no write privilege."""
        pending = self.list_pending()
        has_several, destructive_names = len(self._targets) > 1, self._destructive_names or {}
        steps = [
            step
            for target in self._targets
            for step in self._safety.describe_steps(target, destructive_names.get(target.database, ()))
        ]
        steps += [
            f"run {f'{migration.database}/' if has_several else ''}{migration.name} ({format_count(migration.statements, 'statement')})"
            for migration in pending
        ]
        return Plan(
            title=f"Run {format_count(len(pending), 'migration')}", target=self.target, steps=steps, rows={}
        )

    def apply(self, confirmed: str | None = None) -> Page[AppliedMigration]:
        """Run the migrations.

        Raises:
            MigrationFailedError: a migration failed and was rolled back; the migrations before it stay.
            MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        """
        del confirmed  # no confirmation: rows are deleted only if a file or an option allows it
        if self._destructive_names is None:
            self.plan()  # a refusal must not leave a new, empty file
        destructive_names = self._destructive_names or {}
        done: list[AppliedMigration] = []
        for target in self._targets:
            if target.database not in destructive_names:
                continue  # a scheduled job needs no write privilege while nothing is pending
            with (
                self._safety.protect(target, destructive_names[target.database]) as backup,
                self._open_app.writer(target.database, "migrate up", create=True) as db,
            ):
                apply_all(
                    target,
                    db,
                    to=self._to,
                    steps=self._steps,
                    allow_data_loss=self._allow_data_loss,
                    done=done,
                    safety_backup=backup,
                )
        return Page(
            items=done,
            total=len(done),
            column_names=AppliedMigration.__struct_fields__,
            empty_message=NOTHING_PENDING,
        )

    def _plan_target(self, target: MigrationTarget) -> tuple[list[tuple[MigrationFile, Steps]], list[str]]:
        """Return the migrations to run, and the names of those that would delete existing rows or tables."""
        return retry_after_running_migration(self._open_app, target, lambda: self._read_plan(target))

    def _read_plan(self, target: MigrationTarget) -> tuple[list[tuple[MigrationFile, Steps]], list[str]]:
        try:
            state = load_state(self._open_app, target)
        except DatabaseMissingError as error:
            if not Path(str(error.context["path"])).parent.is_dir():  # ``up`` does not create directories
                raise
            state = DatabaseState(
                target=target, migrations=classify(target, []), has_ledger=False, is_empty=True
            )
        planned = plan_pending(state, to=self._to, steps=self._steps)
        allowed = _resolve_names(state.target, self._allow_data_loss)
        destructive = [file.name for file, steps in planned if file.name in allowed or steps.is_destructive]
        return planned, [] if state.is_empty else destructive


def apply_all(
    target: MigrationTarget,
    db: Writable,
    *,
    to: str = "",
    steps: int = 0,
    allow_data_loss: Sequence[str] = (),
    done: list[AppliedMigration] | None = None,
    safety_backup: str | None = None,
) -> list[AppliedMigration]:
    """Run the pending migrations in an open database, each in one transaction with its row in the ledger.

    A missing ledger is created. The caller holds the write lock of dbctl. A migration that the app itself applies
    concurrently does not run twice.

    Args:
        target: the database and its migrations.
        db: the open database.
        to: the last migration to run, by name or number; empty: all.
        steps: number of migrations to run; 0: all.
        allow_data_loss: names or numbers of migrations that may delete rows although their files do not allow it.
        done: the migrations that this run has applied to other databases; new ones are appended.
        safety_backup: id of the safety backup, for the result.

    Returns:
        ``done``.

    Raises:
        MigrationFilesMissingError, MigrationChangedError, MigrationsOutOfOrderError, LedgerMissingError: ledger and
            folder do not match; nothing was run.
        MigrationBrokenError: the app began a migration that did not end; nothing was run.
        MigrationInvalidError: a file cannot be run; nothing was run.
        MigrationMissingError: no migration is called ``to``.
        MigrationFailedError: a migration failed and was rolled back; the migrations before it stay.
        MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
    """
    done = [] if done is None else done
    state = read_state(target, db)
    planned = plan_pending(state, to=to, steps=steps)
    lossy_names = _resolve_names(state.target, allow_data_loss)
    target = state.target
    ledger = _open_ledger(target, db)
    try:
        for index, (file, script) in enumerate(planned):
            executor = MigrationExecutor(
                target,
                db,
                ledger,
                file,
                script,
                guards_rows=not state.is_empty,  # rows that this run has inserted are not a loss
                may_lose_rows=file.name in lossy_names,
                partial=state.partial.get(file.name),
                applied_names=[migration.name for migration in done],
                pending_names=[later.name for later, _ in planned[index + 1 :]],
            )
            if result := executor.run():
                done.append(AppliedMigration.from_result(target, file, script, result, safety_backup))
    finally:
        journal.drop_if_empty(db)
    return done


def retry_after_running_migration(app: App, target: MigrationTarget, read: Callable[[], T]) -> T:
    """Call ``read``; if it finds a partial migration, which may be running now, wait for the lock and call it again.

    Raises:
        BusyError: the lock was not released within the timeout.
    """
    try:
        return read()
    except (MigrationStatementUnknownError, MigrationPartiallyRevertedError):
        with (
            app.engine(target.database)
            .restore_target(app.url(target.database), target.name)
            .lock("migrate", timeout=app.timeout)
        ):
            return read()


def plan_pending(state: DatabaseState, *, to: str = "", steps: int = 0) -> list[tuple[MigrationFile, Steps]]:
    """Return the migrations that ``apply_all`` runs; raises its errors."""
    target = state.target
    language, selected = registry.load_engine(target.engine).script_dialect, _select_pending(state, to)
    planned = [(file, file.parse_up(language)) for file in selected[: steps or len(selected)]]
    for file, script in planned:
        if partial := state.partial.get(file.name):
            refuse_unknown_progress(target, file, script, partial)
    return planned


def replay(
    target: MigrationTarget,
    files: Sequence[MigrationFile],
    db: Writable,
    checksums: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run migrations in an empty database, and yield the name of each after it has run.

    Args:
        target: the database and its migrations.
        files: the migrations to run.
        db: the empty database.
        checksums: by name, the checksum of a migration in the ledger. If the profile has SQL for an earlier text with
            that checksum, its result is reproduced, even if the app has removed the file since.

    Raises:
        MigrationInvalidError: a file cannot be run.
        ReplayFailedError: a migration failed in the empty database.
    """
    scripts, ledger = require_script_runner(db), _open_ledger(target, db)
    texts = {name: target.section.earlier.get(checksum, "") for name, checksum in (checksums or {}).items()}
    by_name = {file.name: file for file in files}
    removed = [name for name, sql in texts.items() if sql and name in target.section.retired]
    for name in sorted({*by_name, *removed}, key=order_key_of):
        if file := by_name.get(name):
            try:
                MigrationExecutor(
                    target,
                    db,
                    ledger,
                    file,
                    file.parse_up(scripts.script_dialect),
                    guards_rows=False,
                    uses_journal=False,
                ).run()
            except MigrationFailedError as error:
                context = {name: error.context[name] for name in ("target", "name", "place", "reason")}
                raise ReplayFailedError(**context) from error
        if sql := texts.get(name):
            with scripts.schema_transaction():
                for _, statement in scripts.script_dialect.split(sql):
                    scripts.run_statement(statement)
        yield name


def refuse_mismatch(target: MigrationTarget, state: DatabaseState) -> None:
    """Refuse a database and a folder that do not belong together.

    Raises:
        MigrationsAheadError: the ledger names migrations that are later than every file.
        MigrationFilesMissingError: the ledger names migrations that the folder does not have.
        LedgerMissingError: the database has tables but no ledger.
    """
    if ahead := state.names_in("ahead"):
        raise MigrationsAheadError(target=target.name, names=join_names(ahead), folder=target.folder.path)
    if missing := state.names_in("missing-file"):
        shipped = "" if target.folder.is_custom else " (shipped with dbctl, for another variant of this app)"
        folder = f"{target.folder.path}{shipped}"
        raise MigrationFilesMissingError(target=target.name, folder=folder, names=join_names(missing))
    if not (state.has_ledger or state.is_empty):
        raise LedgerMissingError(target=target.name, table=target.ledger.table)


def _select_pending(state: DatabaseState, to: str) -> list[MigrationFile]:
    """Return the pending migrations up to ``to``; raises the errors of ``apply_all``."""
    target = state.target
    folder, files = target.folder, target.folder.files
    if target.foreign:
        raise LedgerForeignError(target=target.name, runner=target.foreign.runner)
    refuse_mismatch(target, state)
    for name, partial in state.partial.items():
        if name not in files:
            raise MigrationFilesMissingError(target=target.name, folder=folder.path, names=name)
        if partial.direction == "down":
            raise MigrationPartiallyRevertedError(target=target.name, name=name)
    if broken := [name for name in state.names_in("failed") if name not in state.partial]:
        raise MigrationBrokenError(target=target.name, names=join_names(broken))
    if changed := state.names_in("changed"):
        raise MigrationChangedError(target=target.name, names=join_names(changed))
    if out_of_order := state.names_in("out-of-order"):
        newest = [name for name in state.names_in("applied") if name in files][-1]
        raise MigrationsOutOfOrderError(target=target.name, names=join_names(out_of_order), newest=newest)
    if duplicates := state.names_in("duplicate-version"):
        raise DuplicateMigrationNumberError(target=target.name, names=join_names(duplicates))
    pending = [files[name] for name in state.names_in("pending", "failed") if name in files]
    if not to:
        return pending
    last_file = _resolve_file(folder, to)
    return [file for file in pending if file.order_key <= last_file.order_key]


def _resolve_names(target: MigrationTarget, names: Sequence[str]) -> set[str]:
    return {resolve_name(target.folder, name, list(target.folder.files)) for name in names}


def _resolve_file(folder: Folder, to: str) -> MigrationFile:
    return folder.files[resolve_name(folder, to, list(folder.files))]


def resolve_name(folder: Folder, selector: str, names: Sequence[str]) -> str:
    """Resolve a name, file name or number to one of ``names``, which are in order; of a shared number, to the last.

    Raises:
        MigrationMissingError: no name matches; the message suggests a similar one.
    """
    stem = selector.removesuffix(".sql")
    if stem in names:
        return stem
    if stem.isascii() and stem.isdigit():
        matches = [name for name in names if order_key_of(name)[0] == int(stem)]
        if matches:
            return matches[-1]
    from difflib import get_close_matches

    similar = get_close_matches(stem, names, n=1)
    suggestion = f" Did you mean {similar[0]}?" if similar else ""
    raise MigrationMissingError(folder=folder.path, name=selector, suggestion=suggestion)


def create_missing_ledger(target: MigrationTarget, db: Writable) -> Ledger:
    """Return the ledger; create it if it is missing, inside the ``schema_transaction`` of the caller."""
    scripts, script = require_script_runner(db), target.ledger.create
    if target.ledger.table not in db.tables():
        for _, sql in scripts.script_dialect.split(
            script if isinstance(script, str) else script[target.engine]
        ):
            scripts.run_statement(sql)
    ledger = Ledger(target, db)
    ledger.refuse_unknown_columns()
    return ledger


def _open_ledger(target: MigrationTarget, db: Writable) -> Ledger:
    """Return the ledger; create it in one transaction if it is missing."""
    with (
        require_script_runner(db).schema_transaction()
        if target.ledger.table not in db.tables()
        else nullcontext()
    ):
        return create_missing_ledger(target, db)
