"""``migrate rehearse``: run the pending migrations on a copy of the database and report the effects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from dbctl.engines.contract.checks import OrphanedRows
from dbctl.engines.contract.database import Writable, require_supported
from dbctl.engines.contract.dumps import Dump, DumpRequest, LoadRequest
from dbctl.engines.contract.engine import VerifyOptions
from dbctl.errors.base import Exit
from dbctl.errors.connection import CorruptError, report_file_errors
from dbctl.errors.migrations import (
    MigrationFailedError,
    RehearsalFailedError,
    RehearsalRefusedError,
    RowsLostError,
)
from dbctl.files import mounts
from dbctl.files.atomic import expand_home
from dbctl.model import (
    NOTHING_TO_DO,
    Closing,
    Finding,
    Row,
    Struct,
    count_severities,
    format_count,
    format_counts,
)
from dbctl.services.app.app import App
from dbctl.services.migrations import lint
from dbctl.services.migrations.database_plan import RehearsedMigration, apply_all, plan_database
from dbctl.services.migrations.drift import read_parts
from dbctl.services.migrations.execution.executor import RowLoss, count_rows, describe_losses, find_losses
from dbctl.services.migrations.execution.plan import (
    EXTERNAL_EFFECT,
    RUNS_TEXT,
    ExecutionPlan,
    UpSelection,
    find_side_effect,
)
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.lint_rules import DATA_LOSS_HINT
from dbctl.services.migrations.schema_diff import compare
from dbctl.services.migrations.status import open_existing
from dbctl.url import is_foreign_address

#: Orphaned rows by table and columns.
OrphanCounts: TypeAlias = Mapping[tuple[str, ...], OrphanedRows]
#: Prefix of the temporary folder for a copy.
FOLDER_PREFIX = ".dbctl-rehearsal-"
#: Size of a file copy, relative to the original: a table exists twice while it is rebuilt.
GROWTH_FACTOR = 2


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
    def closing(self) -> Closing:
        if not self.migrations:
            return NOTHING_TO_DO
        count = format_count(len(self.migrations), "migration")
        return Closing(
            f"Rehearsed {count}",
            format_counts(count_severities(self.findings)) or ["no problems"],
            is_timed=True,
        )

    @property
    def status(self) -> Exit:
        """The exit code of the command."""
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Sequence[Row]:
        lines: list[tuple[object, ...]] = [
            (
                f"{migration.app}/{migration.database}",
                "migration",
                migration.name,
                format_count(migration.statements, "statement"),
                migration.duration,
            )
            for migration in self.migrations
        ]
        for table in self.rows:
            change = _describe_change(table.before, table.after)
            lines.append((table.target, "rows", table.table, change, None))
        for part in self.schema:
            change = _describe_change(part.before, part.after)
            lines.append((part.target, "schema", part.place, change, None))
        columns = ("target", "kind", "name", "detail", "duration")
        rows = [dict(zip(columns, line, strict=True)) for line in lines]
        if len({migration.database for migration in self.migrations}) == 1:
            return [{name: value for name, value in row.items() if name != "target"} for row in rows]
        return rows

    def sections(self) -> Mapping[str, Sequence[object]]:
        return {"findings": self.findings}


def rehearse(app: App, targets: Sequence[MigrationTarget], selection: UpSelection) -> Rehearsal:
    """Run the pending migrations on a copy of each database and return their effects.

    Raises:
        RehearsalFailedError: a migration failed on the copy.
        RehearsalRefusedError: a migration would change more than the copy; nothing was run.
        PrivilegeMissingError: the user may not create databases on the server.
        InsufficientSpaceError: not enough disk space for a copy.
        DbctlError: any error with which ``up`` refuses to begin.
    """
    parts = []
    for configured in targets:
        with open_existing(app, configured) as original:
            plan = plan_database(configured, original, selection)
        if plan.plans:
            target = plan.state.target
            _refuse_side_effects(target, plan.plans)
            findings = lint.lint_files(target, plan.names)
            with _create_copy(app, configured, missing=original is None) as db:
                parts.append(_rehearse_database(target, db, selection, findings))
    return Rehearsal(
        migrations=[migration for part in parts for migration in part.migrations],
        rows=[table for part in parts for table in part.rows],
        schema=[change for part in parts for change in part.schema],
        findings=[finding for part in parts for finding in part.findings],
    )


def _refuse_side_effects(target: MigrationTarget, plans: Sequence[ExecutionPlan]) -> None:
    """Refuse statements that would change the original or its server, or that run a text, which may do that."""
    codes = (EXTERNAL_EFFECT, RUNS_TEXT)
    if effect := find_side_effect(target.engine, [plan.steps for plan in plans], codes):
        number, finding = effect
        reason = f"{finding.message} (line {finding.line})"
        raise RehearsalRefusedError(target=target.name, name=plans[number].file.name, reason=reason)


@contextmanager
def _create_copy(app: App, target: MigrationTarget, *, missing: bool) -> Iterator[Writable]:
    """Yield a copy of a database, open for writing; delete it afterwards."""
    url, name, engine = app.url(target.database), target.name, app.engine(target.database)
    if missing:
        with closing(engine.open_scratch(url, name)) as scratch:
            yield scratch
        return

    source = app.reader(target.database, allow_empty=True)
    dumps = require_supported(source, source.dumps, "rehearsing", "The engine cannot copy a database.")
    if tables := dumps.list_remote_tables():
        reason = f"another server stores the rows of {', '.join(tables)}"
        raise RehearsalRefusedError(target=name, name="migrations", reason=reason)
    parent = _select_parent_folder(app)
    mounts.require_space(parent, dumps.estimate_dump_size() * (GROWTH_FACTOR if url.is_file else 1))
    with _create_folder(parent) as folder:
        path = folder / "copy"
        dump_result = dumps.dump(DumpRequest(path))
        unverified_dump = Dump(metadata=dump_result.metadata, tables={}, schema="")
        verification = dump_result.verification or engine.verify_dump(
            path, unverified_dump, name, VerifyOptions(quick=True)
        )
        if verification.problems:
            raise CorruptError(target=name, reason=verification.problems[0])
        dump = Dump(metadata=dump_result.metadata, tables=verification.tables, schema=verification.schema)
        restore_target = engine.restore_target(url, name)
        request = LoadRequest(path=path, dump=dump, timeout=app.timeout)
        with restore_target.restored_copy(request) as copy:
            pragmas = app.database(target.database).pragmas
            writer = engine.open_for_writing(copy, name, timeout=app.timeout, pragmas=pragmas)
            with closing(writer) as db:
                yield db


@contextmanager
def _create_folder(parent: Path) -> Iterator[Path]:
    from dbctl.files import temp

    with report_file_errors(parent), temp.folder(parent, FOLDER_PREFIX) as folder:
        yield folder


def _select_parent_folder(app: App) -> Path:
    """Return the parent folder of a copy: next to the backups, where such data is expected, or the system's default."""
    import tempfile

    section = app.configured.backup
    if section and not is_foreign_address(section.repository):
        parent = (app.configured.folder / expand_home(section.repository)).parent
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return parent
    return Path(tempfile.gettempdir())


def _rehearse_database(
    target: MigrationTarget, db: Writable, selection: UpSelection, findings: Sequence[Finding]
) -> Rehearsal:
    """Run the migrations of one database on a copy, and compare rows and schema before and after; ``findings`` are of their files.

    Raises:
        RehearsalFailedError: a migration failed.
    """
    rows, schema, orphans = count_rows(db, target.ledger_tables), read_parts(db, target), _count_orphans(db)
    try:
        done = apply_all(target, db, selection)
    except MigrationFailedError as error:
        advice = f" {DATA_LOSS_HINT}" if isinstance(error, RowsLostError) else ""
        raise RehearsalFailedError(failure=str(error), target=target.name, advice=advice) from error
    rows_after = count_rows(db, target.ledger_tables)
    return Rehearsal(
        migrations=[
            RehearsedMigration(
                **{name: getattr(migration, name) for name in RehearsedMigration.__struct_fields__}
            )
            for migration in done
        ],
        rows=[
            TableRows(target=target.name, table=table, before=rows.get(table), after=rows_after.get(table))
            for table in sorted({*rows, *rows_after})
            if rows.get(table) != rows_after.get(table)
        ],
        schema=[
            SchemaChange(
                target=target.name,
                place=difference.place,
                before=difference.expected,
                after=difference.actual,
            )
            for difference in compare(schema, read_parts(db, target))
        ],
        findings=[
            *findings,
            *_find_problems(target.name, find_losses(rows, rows_after), orphans, _count_orphans(db)),
        ],
    )


def _find_problems(
    target: str, losses: Sequence[RowLoss], before: OrphanCounts, after: OrphanCounts
) -> Iterator[Finding]:
    """Yield lost rows, and rows that have become orphaned."""
    if losses:
        message = f"rows are deleted, as the file allows: {describe_losses(losses)}"
        yield Finding(target=target, severity="warning", code="rows-lost", message=message)
    for key, orphans in after.items():
        if orphans.count > (before[key].count if key in before else 0):
            columns = ", ".join(orphans.columns)
            message = f"{format_count(orphans.count, 'row')} of {orphans.table} ({columns}) refer to missing rows of {orphans.referenced_table}"
            yield Finding(target=target, severity="error", code="foreign-key-orphans", message=message)


def _count_orphans(db: Writable) -> OrphanCounts:
    orphaned = db.checks.find_checkable_orphans() if db.checks else ()
    return {(orphans.table, *orphans.columns): orphans for orphans in orphaned}


def _describe_change(before: object, after: object) -> str:
    """Return ``before → after`` as text; a missing value is ``none``, unlike 0."""
    return " → ".join("none" if value in (None, "") else str(value) for value in (before, after))
