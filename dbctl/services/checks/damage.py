"""Check the integrity of an app's databases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from msgspec import structs

from dbctl import progress
from dbctl.engines.contract import (
    Advisor,
    Checks,
    Condition,
    IndexDifference,
    InSubquery,
    Not,
    OrphanedRows,
    Readable,
)
from dbctl.errors import (
    CorruptError,
    DatabaseNotConfiguredError,
    DbctlError,
    Exit,
    PrivilegeMissingError,
    QueryFailedError,
    Remedy,
    SchemaMismatchError,
)
from dbctl.model import CheckResult, Finding, Findings, Row, Severity, Struct, format_count
from dbctl.profiles import parse_row_path
from dbctl.services.app import MASK, App, find_secret_columns, truncate
from dbctl.services.checks.deployment import find_interrupted_restore
from dbctl.services.checks.stored_rows import find_mixed_times, find_stored_violations
from dbctl.services.search.indexes import check_text_indexes

REINDEX_HINT = Remedy(
    "Keep a copy. The table keeps its rows when the index is rebuilt with", "maintain reindex"
)
AMBIGUOUS_HINT = Remedy(
    "Either the table or the index may be damaged; a rebuilt index contains the values of the table. Keep a copy, correct the rows, and"
    " rebuild the index last; read both with",
    "restore recover --to FILE",
)
#: Rows whose values are listed if an index differs from its table.
LISTED_DIFFERENCES = 3
DUPLICATE_HINT = Remedy(
    "Two rows have the same unique value. Keep a copy and delete one of them; then rebuild the index with",
    "maintain reindex",
)
LOST_COMMITS_HINT = "After a crash, the last commit may be incomplete. Otherwise keep a copy of file and -wal before the app starts again."
ORPHANS_HINT = "Delete these rows, or restore the rows that they refer to."


class DatabaseState(Struct, frozen=True):
    """The result of the check of one database."""

    target: str
    state: Literal["ok"] | Severity  #: the worst severity of its findings


class DatabasesChecked(CheckResult, frozen=True, kw_only=True):
    """Result of ``integrity check``."""

    databases: Sequence[DatabaseState] = ()  #: the checked databases; omitted for a fleet

    def summary(self) -> Sequence[Row]:
        return [structs.asdict(database) for database in self.databases]


class CheckReport(Struct, frozen=True, kw_only=True):
    """The findings of a check, and the exit code of the command."""

    findings: Findings
    status: Exit


def check(app: App, *, quick: bool = False, table: str = "") -> CheckReport:
    """Check every configured database; an error in one does not prevent the checks of the others.

    Args:
        app: the app.
        quick: whether to skip slow checks.
        table: restricts the check to one table.

    Raises:
        SchemaMismatchError: no database has that table.
        DatabaseNotConfiguredError: the only selected database is not configured.
    """
    targets, findings, failures = list[str](), list(find_interrupted_restore(app)), list[DbctlError]()
    databases = {
        name: app.profile.databases[name] for name in app.profile.databases if app.only in ("", name)
    }
    for name, section in progress.list_parts(databases.items(), "database"):
        try:
            db = app.reader(name)
            if table and table not in db.tables():
                continue
            findings += _check_database(app, name, db, failures, quick=quick, table=table)
        except DatabaseNotConfiguredError as error:
            if app.only == name:
                raise
            if not section.optional:
                findings.append(Finding.from_error(app.target(name), error, "warning"))
            continue
        except DbctlError as error:
            failures.append(error)
            findings.append(Finding.from_error(app.target(name), error))
        targets.append(app.target(name))
    if table and not (targets or findings):
        raise SchemaMismatchError(target=app.name, missing=f"table {table}", purpose="--table")
    return CheckReport(
        findings=DatabasesChecked(
            checked=len(targets),
            unit="database",
            findings=findings,
            databases=[DatabaseState(target, _find_state(target, findings)) for target in targets],
        ),
        status=find_exit_status(findings, failures),
    )


def _find_state(target: str, findings: Sequence[Finding]) -> Literal["ok"] | Severity:
    severities = [finding.severity for finding in findings if finding.target == target]
    return max(severities, key=get_args(Severity).index, default="ok")


def _check_database(
    app: App, name: str, db: Readable, failures: list[DbctlError], *, quick: bool, table: str
) -> list[Finding]:
    """Return the findings of one database; tables without read privileges do not prevent the checks of the others."""
    try:
        return list(_find_problems(app, name, db, quick=quick, table=table))
    except PrivilegeMissingError:
        if table:
            raise
    findings: list[Finding] = []
    for table_name in (entry.name for entry in db.tables().values() if not entry.is_view):
        try:
            findings += list(_find_problems(app, name, db, quick=quick, table=table_name))
        except PrivilegeMissingError as error:
            failures.append(error)
            findings.append(Finding.from_error(app.target(name), error))
    return findings


def _find_problems(app: App, name: str, db: Readable, *, quick: bool, table: str) -> Iterator[Finding]:
    target = app.target(name)
    checks = db.part(Checks)
    if checks is None:
        message = "its engine has no integrity check"
        yield Finding(target, "info", "not-checked", message)
        return
    damage = list(_check_damage(app, name, checks, checks.find_damage(quick=quick, table=table)))
    yield from damage
    if not (quick or table) and (lost_commits := checks.count_lost_commits()):
        yield Finding(
            target, "warning", "commits-lost", _describe_lost_commits(lost_commits), LOST_COMMITS_HINT
        )
    damaged = any(finding.code == CorruptError.code for finding in damage)
    try:
        yield from _check_foreign_keys(app, name, checks, table)
        yield from _check_owned_rows(app, name, db, table)
    except (QueryFailedError, CorruptError) as error:
        if not (damaged and isinstance(error, CorruptError)):  # already reported, with its location
            yield Finding.from_error(target, error, "error" if app.database(name).foreign_keys else "warning")
    if not (quick or damage):  # rows of a damaged table are not reliable
        yield from find_stored_violations(app, name, db, table)
        yield from find_mixed_times(app, name, db, table)
    if advisor := db.part(Advisor):
        app_keys = {
            f"{settings.table}.{settings.row.key}" for settings in app.profile.settings if settings.row
        }
        for warning in advisor.schema_findings(table):
            if warning.column not in app_keys:  # the app sets that key, without a sequence
                yield warning.locate(target)
    indexes = [index for index in checks.list_text_indexes() if not quick and table in ("", index)]
    if indexes:
        yield from check_text_indexes(app, name, indexes)


def _check_damage(app: App, database: str, checks: Checks, lines: Sequence[str]) -> Iterator[Finding]:
    """Yield damage as reported by the engine; one finding per damaged index."""
    target = app.target(database)
    indexes: dict[str, list[str]] = {}
    duplicated: set[str] = set()
    other_lines: list[str] = []
    for line in lines:
        index_damage = checks.parse_index_damage(line)
        if index_damage is None:
            other_lines.append(line)
            continue
        indexes.setdefault(index_damage.index, []).append(line)
        duplicated |= {index_damage.index} if index_damage.has_duplicates else set()
    for message in group_lines(other_lines):
        yield Finding(target, "error", "corrupt", message, CorruptError.remedy.write(app.name))
    for name, index_lines in indexes.items():
        more_note = f", and {len(index_lines) - 1} more" if len(index_lines) > 1 else ""
        message = f"index {name} does not agree with its table ({index_lines[0]}{more_note})"
        differences = checks.find_index_differences(name, LISTED_DIFFERENCES)
        if differences:
            message += f": {'; '.join(_list_values(app, database, differences))}"
        hint = (
            CorruptError.remedy
            if other_lines
            else DUPLICATE_HINT
            if name in duplicated
            else AMBIGUOUS_HINT
            if differences
            else REINDEX_HINT
        )
        yield Finding(target, "error", "index-damaged", message, hint.write(app.name))


def _list_values(app: App, database: str, differences: Sequence[IndexDifference]) -> Iterator[str]:
    """Yield the different values of a table and its index for the same row; secrets are masked."""
    secret = find_secret_columns(app, database, app.reader(database), [differences[0].table])
    for row in differences:
        masked = secret.get(row.table, ())
        for column, *values in zip(row.columns, row.in_table, row.in_index, strict=True):
            in_table, in_index = (MASK if column in masked else truncate(ascii(value)) for value in values)
            yield f"{row.row}, {column}: {in_table} in the table, {in_index} in the index"


def group_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield one line of each kind, with the number of lines that differ only in their numbers."""
    kinds = dict[str, list[str]]()
    for line in lines:
        kinds.setdefault(re.sub(r"[0-9]+", "0", line), []).append(line)
    for first, *others in kinds.values():
        yield f"{first} (and {len(others)} more of this kind)" if others else first


def _describe_lost_commits(count: int) -> str:
    return f"{format_count(count, 'commit')} in the -wal cannot be read: the data before them is damaged"


def _check_foreign_keys(app: App, name: str, checks: Checks, table: str) -> Iterator[Finding]:
    section = app.database(name)
    severity: Severity = "error" if section.foreign_keys else "warning"
    owner = section.owner or "the program that writes it"
    hint = (
        ORPHANS_HINT
        if section.foreign_keys
        else f"{owner[:1].upper()}{owner[1:]} does not enforce foreign keys."
    )
    for orphans in checks.find_orphaned_rows(table):
        yield Finding(app.target(name), severity, "foreign-key-orphans", _describe_orphans(orphans), hint)


def _describe_orphans(orphans: OrphanedRows) -> str:
    verb = "refers" if orphans.count == 1 else "refer"
    example = f" ({orphans.example})" if orphans.count == 1 else f" (the first: {orphans.example})"
    text = f"{format_count(orphans.count, 'row')} of {orphans.table} {verb} to missing rows of {orphans.referenced_table} ({', '.join(orphans.columns)})"
    return text + (example if orphans.example else "")


def _check_owned_rows(app: App, name: str, db: Readable, table: str) -> Iterator[Finding]:
    """Yield rows of deleted users in columns that only the profile declares as references."""
    section = app.profile.users
    if section is None or app.resolve_database(section) != name or section.table not in db.tables():
        return
    tables = db.tables()
    declared = {
        (reference.table, reference.columns[0])
        for reference in db.references(section.table)
        if len(reference.columns) == 1
    }
    for owned in section.owned:
        step, *later_steps = parse_row_path(owned)
        child, column = step.table, step.column
        if (
            later_steps
            or step.text
            or (child, column) in declared
            or child not in tables
            or table not in ("", child)
        ):
            continue
        if column not in tables[child].columns:
            continue
        has_user = InSubquery([column], section.table, [section.id.column])
        row_count = db.count(child, [Condition(column, "!=", None), Not(has_user)])
        if row_count:
            orphans = OrphanedRows(
                table=child, columns=[column], referenced_table=section.table, count=row_count, example=None
            )
            yield Finding(
                app.target(name), "warning", "foreign-key-orphans", _describe_orphans(orphans), ORPHANS_HINT
            )


def find_exit_status(findings: list[Finding], failures: list[DbctlError]) -> Exit:
    """Return the exit code of failed checks, otherwise that of the first failure."""
    failed = {error.code: error.exit_status for error in failures}
    statuses = [
        failed.get(finding.code, Exit.CHECK_FAILED) for finding in findings if finding.severity == "error"
    ]
    return Exit.CHECK_FAILED if Exit.CHECK_FAILED in statuses else next(iter(statuses), Exit.OK)
