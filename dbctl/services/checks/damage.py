"""Checks of the integrity of databases: damage, orphaned rows, full-text indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dbctl.config.secrets import MASK
from dbctl.engines.contract.checks import Checks, IndexDifference, OrphanedRows
from dbctl.engines.contract.database import Condition, InSubquery, Not
from dbctl.errors.base import Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.model import Finding, Severity, format_count, group
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.app.validation import truncate
from dbctl.services.search.indexes.text import TEXT_INDEX_HINT, check_text_indexes

REINDEX_HINT = Remedy(
    "Keep a copy. The table keeps its rows when the index is rebuilt with: `maintain reindex`"
)
AMBIGUOUS_HINT = Remedy(
    "Either the table or the index may be damaged; a rebuilt index contains the values of the table. Keep a copy, correct the rows, and rebuild the index"
    " last; read both with: `restore recover --to FILE`"
)
#: Rows whose values are listed if an index differs from its table.
LISTED_DIFFERENCES = 3
DUPLICATE_HINT = Remedy(
    "Two rows have the same unique value. Keep a copy and delete one of them; then rebuild the index with: `maintain reindex`"
)
VIOLATION_HINT = (
    "Correct or delete these rows: the app cannot write them again, and a dump with them cannot be loaded."
)
LOST_COMMITS_HINT = "After a crash, the last commit may be incomplete. Otherwise keep a copy of file and -wal before the app starts again."
ORPHANS_HINT = "Delete these rows, or restore the rows that they refer to."


@check("corrupt")
def check_damage(subject: Subject) -> Sequence[Finding]:
    """Return the damage of a database or table, and rows that violate constraints; later checks omit what depends on damaged rows."""
    checks = subject.db.checks
    if checks is None:
        subject.damage = [subject.finding("info", "not-checked", "its engine has no integrity check")]
    else:
        lines = checks.find_damage(quick=subject.quick, table=subject.table)
        values = [line for line in lines if checks.concerns_values(line)]
        subject.broken_indexes = [line for line in lines if checks.concerns_text_index(line)]
        damage = [line for line in lines if line not in {*values, *subject.broken_indexes}]
        subject.damage = list(_describe_damage(subject, checks, damage))
        violations = [
            subject.finding("error", "constraint-violated", message, VIOLATION_HINT)
            for message in group_lines(values)
        ]
        # Only a newer SQLite reports them here. The check of such indexes is omitted by a quick run, and opens the file to write.
        broken = [
            subject.finding("error", "text-index-damaged", line, TEXT_INDEX_HINT)
            for line in subject.broken_indexes
        ]
        unchecked = [subject.finding("info", "not-checked", text) for text in checks.list_unchecked()]
        return [*subject.damage, *broken, *violations, *unchecked]
    return subject.damage


@check("commits-lost", needs=Needs.SCAN)
def check_commits(subject: Subject) -> Iterator[Finding]:
    """Yield commits that cannot be read."""
    checks = require(subject.db.checks)
    if not subject.table and (count := checks.count_lost_commits()):
        message = (
            f"{format_count(count, 'commit')} in the -wal cannot be read: the data before them is damaged"
        )
        yield subject.finding("warning", "commits-lost", message, LOST_COMMITS_HINT)


@check("foreign-key-orphans")
def check_references(subject: Subject) -> Iterator[Finding]:
    """Yield rows that refer to missing rows; an error is less serious if the app does not enforce foreign keys."""
    checks = require(subject.db.checks)
    try:
        yield from _check_foreign_keys(subject, checks, subject.table)
        yield from _check_owned_rows(subject)
    except QueryFailedError as error:
        yield Finding.from_error(
            subject.target, error, "error" if subject.section.foreign_keys else "warning"
        )


@check("key-not-unique")
def check_schema(subject: Subject) -> Iterator[Finding]:
    """Yield what the engine advises about tables."""
    checks = require(subject.db.checks)
    require(checks.gives_advice)
    settings = subject.app.profile.settings
    app_keys = {f"{section.table}.{section.row.key}" for section in settings if section.row}
    for warning in checks.schema_findings(subject.table):
        if warning.column not in app_keys:  # the app sets that key, without a sequence
            yield warning.locate(subject.target)


@check("text-index-damaged", needs=Needs.SCAN)
def check_indexes(subject: Subject) -> Sequence[Finding]:
    """Return the damage of full-text indexes."""
    checks = require(subject.db.checks)
    indexes = require([name for name in checks.list_text_indexes() if subject.table in ("", name)])
    unreported = [
        name
        for name in indexes
        if not any(checks.concerns_text_index(line, name) for line in subject.broken_indexes)
    ]
    return list(check_text_indexes(subject.app, subject.database, unreported)) if unreported else []


def _describe_damage(subject: Subject, checks: Checks, lines: Sequence[str]) -> Iterator[Finding]:
    """Yield damage as reported by the engine; one finding per damaged index."""
    target = subject.target
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
        yield Finding(target, "error", "corrupt", message, checks.damage_remedy.write(subject.app.name))
    for name, index_lines in indexes.items():
        more_note = f", and {len(index_lines) - 1} more" if len(index_lines) > 1 else ""
        message = f"index {name} does not agree with its table ({index_lines[0]}{more_note})"
        differences = checks.find_index_differences(name, LISTED_DIFFERENCES)
        if differences:
            message += f": {'; '.join(_list_values(subject, differences))}"
        hint = (
            checks.damage_remedy
            if other_lines
            else DUPLICATE_HINT
            if name in duplicated
            else AMBIGUOUS_HINT
            if differences
            else REINDEX_HINT
        )
        yield Finding(target, "error", "index-damaged", message, hint.write(subject.app.name))


def _list_values(subject: Subject, differences: Sequence[IndexDifference]) -> Iterator[str]:
    """Yield the different values of a table and its index for the same row; secrets are masked."""
    secret = find_secret_columns(subject.app, subject.database, subject.db, [differences[0].table])
    for row in differences:
        masked = secret.get(row.table, ())
        for column, *values in zip(row.columns, row.in_table, row.in_index, strict=True):
            in_table, in_index = (MASK if column in masked else truncate(ascii(value)) for value in values)
            yield f"{row.row}, {column}: {in_table} in the table, {in_index} in the index"


def group_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield one line of each kind, with the number of lines that differ only in their numbers."""
    kinds = group((re.sub(r"[0-9]+", "0", line), line) for line in lines)
    for first, *others in kinds.values():
        yield f"{first} (and {len(others)} more of this kind)" if others else first


def _check_foreign_keys(subject: Subject, checks: Checks, table: str) -> Iterator[Finding]:
    section = subject.section
    severity: Severity = "error" if section.foreign_keys else "warning"
    owner = section.owner or "the program that writes it"
    hint = (
        ORPHANS_HINT
        if section.foreign_keys
        else f"{owner[:1].upper()}{owner[1:]} does not enforce foreign keys."
    )
    try:
        result = checks.find_orphaned_rows(table)
    except QueryFailedError as error:  # SQLite checks no table if a foreign key of one has no unique target
        if table:
            yield Finding.from_error(subject.target, error, severity)
        for name in () if table else subject.db.tables():
            yield from _check_foreign_keys(subject, checks, name)
        return
    for orphans in result:
        yield Finding(subject.target, severity, "foreign-key-orphans", _describe_orphans(orphans), hint)


def _describe_orphans(orphans: OrphanedRows) -> str:
    verb = "refers" if orphans.count == 1 else "refer"
    example = f" ({orphans.example})" if orphans.count == 1 else f" (the first: {orphans.example})"
    text = f"{format_count(orphans.count, 'row')} of {orphans.table} {verb} to missing rows of {orphans.referenced_table} ({', '.join(orphans.columns)})"
    return text + (example if orphans.example else "")


def _check_owned_rows(subject: Subject) -> Iterator[Finding]:
    """Yield rows of deleted users in columns that only the profile declares as references."""
    section, db, table = subject.app.profile.users, subject.db, subject.table
    if section is None or not subject.has_users or section.table not in db.tables():
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
                subject.target, "warning", "foreign-key-orphans", _describe_orphans(orphans), ORPHANS_HINT
            )
