"""``migrate rehearse``: run the pending migrations on a copy of the database and report the effects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Checks, Dump, Dumps, OrphanedRows, Writable, require_part
from dbctl.errors import (
    CorruptError,
    Exit,
    FileFailedError,
    InsufficientSpaceError,
    MigrationFailedError,
    RehearsalFailedError,
    RehearsalRefusedError,
    RowsLostError,
)
from dbctl.files import expand_home
from dbctl.model import Finding, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.migrations import lint
from dbctl.services.migrations.drift import read_schema
from dbctl.services.migrations.execution import (
    ExecutionPlan,
    UpSelection,
    count_rows,
    describe_losses,
    find_losses,
    plan_up,
)
from dbctl.services.migrations.ledger import MigrationTarget
from dbctl.services.migrations.schema_diff import compare, split_schema
from dbctl.services.migrations.status import find_targets, load_state_or_empty
from dbctl.services.migrations.up import apply_all

#: Prefix of the temporary folder for a copy.
FOLDER_PREFIX = ".dbctl-rehearsal-"
#: Size of a file copy, relative to the original: a table exists twice while it is rebuilt.
GROWTH_FACTOR = 2


class RehearsedMigration(Struct, frozen=True, kw_only=True):
    """One migration that was run on the copy."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta


class TableRows(Struct, frozen=True, kw_only=True):
    """A table whose number of rows has changed; None: the table does not exist."""

    target: str
    table: str
    before: int | None
    after: int | None


class SchemaChange(Struct, frozen=True, kw_only=True):
    """A part of the schema that has changed; '': the part does not exist."""

    target: str
    place: str
    before: str
    after: str


class Rehearsal(Struct, frozen=True, kw_only=True):
    """Result of ``migrate rehearse``."""

    migrations: Sequence[RehearsedMigration]
    rows: Sequence[TableRows]
    schema: Sequence[SchemaChange]
    findings: Sequence[Finding]

    @property
    def status(self) -> Exit:
        """The exit code of the command."""
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Sequence[Row]:
        lines = [
            *(
                (
                    f"{migration.app}/{migration.database}",
                    "migration",
                    migration.name,
                    format_count(migration.statements, "statement"),
                    migration.duration,
                )
                for migration in self.migrations
            ),
            *(
                (table.target, "rows", table.table, _describe_change(table.before, table.after), None)
                for table in self.rows
            ),
            *(
                (change.target, "schema", change.place, _describe_change(change.before, change.after), None)
                for change in self.schema
            ),
            *(
                (finding.target, finding.severity, finding.code, finding.message, None)
                for finding in self.findings
            ),
        ]
        columns = ("target", "kind", "name", "detail", "duration")
        rows = [dict(zip(columns, line, strict=True)) for line in lines]
        if len({migration.database for migration in self.migrations}) == 1:
            return [{name: value for name, value in row.items() if name != "target"} for row in rows]
        return rows


def rehearse(
    app: App, database: str = "", folder: Path | None = None, *, to: str = "", variant: str = ""
) -> Rehearsal:
    """Run the pending migrations on a copy of each database and return their effects.

    Args:
        app: the app.
        database: the database; empty for every database that has migrations.
        folder: the folder of migrations, instead of the configured one.
        to: the last migration to run, by name or number.
        variant: as for ``migrate up``.

    Raises:
        RehearsalFailedError: a migration failed on the copy.
        RehearsalRefusedError: a migration would change more than the copy; nothing was run.
        PrivilegeMissingError: the user may not create databases on the server.
        InsufficientSpaceError: not enough disk space for a copy.
        DbctlError: any error with which ``up`` refuses to begin.
    """
    migrations, rows, schema, findings = (
        list[RehearsedMigration](),
        list[TableRows](),
        list[SchemaChange](),
        list[Finding](),
    )
    selection = UpSelection(to=to)
    for configured in find_targets(app, database, folder, variant=variant):
        state, missing = load_state_or_empty(app, configured)
        plans = plan_up(state, selection)
        if not plans:
            continue
        _refuse_side_effects(state.target, plans)
        findings += lint.lint_files(state.target, [plan.file.name for plan in plans])
        with _create_copy(app, configured, missing=missing) as db:
            run = _RehearsalRun(state.target, db)
            migrations += run.run_migrations(selection)
            rows += run.compare_rows()
            schema += run.compare_schema()
            findings += run.find_problems()
    return Rehearsal(migrations=migrations, rows=rows, schema=schema, findings=findings)


def _refuse_side_effects(target: MigrationTarget, plans: Sequence[ExecutionPlan]) -> None:
    """Refuse statements that would change the original or its server; no directive allows them."""
    language = registry.load_engine(target.engine).script_dialect
    scripts = [lint.create_script(plan.steps) for plan in plans]
    for plan, findings in zip(plans, language.lint(scripts), strict=True):
        for finding in findings:
            if finding.code == "external-side-effect":
                raise RehearsalRefusedError(
                    target=target.name, name=plan.file.name, reason=finding.message, line=finding.line
                )


@contextmanager
def _create_copy(app: App, target: MigrationTarget, *, missing: bool) -> Iterator[Writable]:
    """Yield a copy of a database, open for writing; delete it afterwards."""
    url, name = app.url(target.database), target.name
    if missing:
        with closing(registry.load_engine(url.engine).open_scratch(url, name)) as scratch:
            yield scratch
        return
    import shutil

    source = app.reader(target.database, allow_empty=True)
    dumps = require_part(source, Dumps, "rehearsing", "The engine cannot copy a database.")
    parent = _select_parent_folder(app)
    need, free_space = (
        dumps.estimate_dump_size() * (GROWTH_FACTOR if url.is_file else 1),
        shutil.disk_usage(parent).free,
    )
    if free_space < need:
        raise InsufficientSpaceError(place=parent, required=need, free=free_space)
    with _create_folder(parent) as folder:
        path = folder / "copy"
        dump_result = dumps.dump(path)
        unverified_dump = Dump(metadata=dump_result.metadata, tables={}, schema="")
        verification = dump_result.verification or registry.load_engine(target.engine).verify_dump(
            path, unverified_dump, name, quick=True
        )
        if verification.problems:
            raise CorruptError(target=name, reason=verification.problems[0])
        dump = Dump(metadata=dump_result.metadata, tables=verification.tables, schema=verification.schema)
        with (
            registry.load_engine(url.engine)
            .restore_target(url, name)
            .restored_copy(path, dump, timeout=app.timeout) as copy
        ):
            pragmas = app.database(target.database).pragmas
            writer = registry.load_engine(copy.engine).open_for_writing(
                copy, name, timeout=app.timeout, pragmas=pragmas
            )
            with closing(writer) as db:
                yield db


@contextmanager
def _create_folder(parent: Path) -> Iterator[Path]:
    from dbctl.files import temp

    try:
        with temp.folder(parent, FOLDER_PREFIX) as folder:
            yield folder
    except OSError as error:
        raise FileFailedError(path=parent, reason=error.strerror or str(error)) from error


def _select_parent_folder(app: App) -> Path:
    """Return the parent folder of a copy: next to the backups, where such data is expected, or the system's default."""
    import tempfile

    section = app.configured.backup
    if section and "://" not in section.repository:
        parent = (app.configured.folder / expand_home(section.repository)).parent
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return parent
    return Path(tempfile.gettempdir())


class _RehearsalRun:
    """Rehearsal of the migrations of one database on a copy, with a comparison of rows and schema before and after."""

    def __init__(self, target: MigrationTarget, db: Writable) -> None:
        self._target, self._db = target, db
        self._rows, self._rows_after = count_rows(db, target.ledger_tables), dict[str, int]()
        self._schema = split_schema(read_schema(db), target.ledger_tables)
        self._orphans = _count_orphans(db)

    def run_migrations(self, selection: UpSelection) -> list[RehearsedMigration]:
        """Run the migrations; raises RehearsalFailedError."""
        try:
            done = apply_all(self._target, self._db, selection)
        except MigrationFailedError as error:
            advice = f" {DATA_LOSS_HINT}" if isinstance(error, RowsLostError) else ""
            target = self._target.name
            raise RehearsalFailedError(failure=str(error), target=target, advice=advice) from error
        self._rows_after = count_rows(self._db, self._target.ledger_tables)
        return [
            RehearsedMigration(
                app=migration.app,
                database=migration.database,
                version=migration.version,
                name=migration.name,
                statements=migration.statements,
                duration=migration.duration,
            )
            for migration in done
        ]

    def compare_rows(self) -> list[TableRows]:
        """Return the tables whose number of rows has changed."""
        counts = (
            (table, self._rows.get(table), self._rows_after.get(table))
            for table in sorted({*self._rows, *self._rows_after})
        )
        return [
            TableRows(target=self._target.name, table=table, before=before, after=after)
            for table, before, after in counts
            if before != after
        ]

    def compare_schema(self) -> list[SchemaChange]:
        """Return the parts of the schema that have changed."""
        after = split_schema(read_schema(self._db), self._target.ledger_tables)
        return [
            SchemaChange(
                target=self._target.name,
                place=difference.place,
                before=difference.expected,
                after=difference.actual,
            )
            for difference in compare(self._schema, after)
        ]

    def find_problems(self) -> Iterator[Finding]:
        """Yield lost rows, and rows that have become orphaned."""
        target = self._target.name
        if losses := find_losses(self._rows, self._rows_after):
            message = f"rows are deleted, as the file allows: {describe_losses(losses)}"
            yield Finding(target=target, severity="warning", code="rows-lost", message=message)
        for key, orphans in _count_orphans(self._db).items():
            if orphans.count > (self._orphans[key].count if key in self._orphans else 0):
                columns = ", ".join(orphans.columns)
                message = f"{format_count(orphans.count, 'row')} of {orphans.table} ({columns}) refer to missing rows of {orphans.referenced_table}"
                yield Finding(target=target, severity="error", code="orphans", message=message)


#: Hint if rows would be deleted.
DATA_LOSS_HINT = "If that is intended, add to the file: -- dbctl: allow-data-loss"


def _count_orphans(db: Writable) -> Mapping[tuple[str, ...], OrphanedRows]:
    checks = db.part(Checks)
    orphaned = checks.find_orphaned_rows() if checks else ()
    return {(orphans.table, *orphans.columns): orphans for orphans in orphaned}


def _describe_change(before: object, after: object) -> str:
    """Return ``before → after`` as text; a missing value is ``none``, unlike 0."""
    return " → ".join("none" if value in (None, "") else str(value) for value in (before, after))
