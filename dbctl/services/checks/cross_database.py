"""Check the consistency of data that an app stores in several places or databases, beyond foreign keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from dbctl.engines.contract import Condition, Readable
from dbctl.engines.sql import ident, is_storable
from dbctl.errors import DatabaseNotConfiguredError, DbctlError, NotSupportedError
from dbctl.model import Finding, Findings, format_count
from dbctl.profiles.model import CrossLink, InvariantQuery, KeySearch, Rebuild, Recount, is_optional
from dbctl.services.app import App, LiveTable, find_column, unconfigured, users_database
from dbctl.services.checks import known_problems
from dbctl.services.checks.damage import CheckReport, find_exit_status
from dbctl.services.checks.deployment import find_interrupted_restore
from dbctl.services.checks.duplicated_columns import DuplicatedColumns
from dbctl.services.sessions import create_recount

#: Values per query, which bounds the memory for large tables.
BATCH = 5_000
EXAMPLES = 5
REPAIR_HINT = "Repair them with: dbctl integrity repair"
MISSING_HINT = (
    "The app creates such a row only together with the other row. List them with: dbctl integrity repair"
)
NO_TABLE_HINT = "The app creates the table with the first row. If it existed, check the path, or restore it from a backup."
DERIVED_HINT = "The row was computed from an older text and must be recomputed."
DUPLICATE_HINT = "The app adds a second row when it recomputes the first; searches return both."
PLACEHOLDER_HINT = "Delete them with: dbctl integrity repair --delete-orphans"


def cross_check(app: App) -> CheckReport:
    """Check references between databases, stored counts, invariants, and exposed keys.

    Raises:
        FeatureMissingError: the profile defines no such checks.
    """
    sections: list[CrossLink | Recount | Rebuild | InvariantQuery | KeySearch] = [
        *app.profile.link,
        *app.profile.recount,
        *app.profile.invariant,
        *app.profile.key_search,
        *app.profile.rebuild,
    ]
    app.require_section(sections, "cross checks")
    findings, failures = list(find_interrupted_restore(app)), list[DbctlError]()
    checked = 0
    for section in sections:
        name = users_database(app) if isinstance(section, Rebuild) else app.resolve_database(section)
        databases = {name, section.to} if isinstance(section, CrossLink) else {name}
        if app.only and databases != {app.only}:
            continue
        if app.database(name).optional and name not in app.configured.databases:
            findings += unconfigured.check_unconfigured(app, name)
            continue  # a missing database contains no references
        try:
            new_findings = _run_check(app, name, section)
        except DatabaseNotConfiguredError as error:
            message = f"{section.name}: {error}"
            findings.append(Finding(app.target(name), "info", "not-checked", message, error.hint))
            continue
        except DbctlError as error:
            failures.append(error)
            findings.append(Finding.from_error(str(error.context.get("target", app.target(name))), error))
            continue
        if new_findings is not None:
            checked += len(section.figures) if isinstance(section, Rebuild) else 1
            findings += new_findings
    # Several checks may fail for the same reason.
    findings = list(dict.fromkeys(findings))
    return CheckReport(
        findings=Findings(checked=checked, unit="relation", findings=findings),
        status=find_exit_status(findings, failures),
    )


def _run_check(
    app: App, name: str, section: CrossLink | Recount | Rebuild | InvariantQuery | KeySearch
) -> list[Finding] | None:
    """Return the findings of one check, or None if it does not apply to the deployment."""
    if isinstance(section, CrossLink):
        return _check_link(app, name, section)
    if isinstance(section, InvariantQuery):
        problem = known_problems.find_flaw(app, app.reader(name), section)
        return [_create_flaw_finding(app, name, section, problem.message)] if problem else []
    if isinstance(section, Recount):
        return _check_recount(app, name, section)
    if isinstance(section, KeySearch):
        return list(known_problems.find_exposed_keys(app, name, section))
    figures = create_recount(app, app.reader(name), section)
    if figures is None:
        return None
    recounts = [
        Recount(
            name=f"{section.name}, {figure}",
            sql=figures.wrong_rows_sql(figure),
            severity=section.severity,
            hint=section.hint,
        )
        for figure in section.figures
    ]
    return [finding for recount in recounts for finding in _check_recount(app, name, recount) or ()]


def _create_flaw_finding(app: App, name: str, flaw: InvariantQuery, message: str) -> Finding:
    return Finding(app.target(name), flaw.severity, "invariant-violated", message, flaw.hint)


def _check_link(app: App, name: str, link: CrossLink) -> list[Finding] | None:
    db = app.reader(name)
    live_table = db.tables().get(link.table)
    if link.optional and live_table is None:
        return _check_missing_table(app, name, link)
    if live_table and find_column(live_table, link.column) is None and is_optional(link.column):
        return None
    if link.repeats or link.every:
        return list(_check_duplicated(app, name, link))
    other_db = app.reader(link.to)
    link_column = LiveTable(app.profile, db, link.table, link.name).column(link.column)
    targets = [target.rpartition(".")[::2] for target in link.targets]
    first, *others = targets
    targets = [first, *(pair for pair in others if pair[0] in other_db.tables())]
    missing_values, renamed_values, values = _UnmatchedValues(), _UnmatchedValues(), 0
    former_targets = [link.renamed_from.rpartition(".")[::2]] if link.renamed_from else []
    former_targets = [
        (table, column)
        for table, name in former_targets
        if (column := find_column(other_db.tables().get(table), name))
    ]
    for batch in _read_batches(db, link.table, link_column):
        values += len(batch)
        missing = _find_missing(
            other_db, targets, [value for value in batch if value not in link.placeholders]
        )
        unknown = _find_missing(other_db, former_targets, missing)
        missing_values.add(batch, unknown)
        renamed_values.add(
            batch, [value for value in missing if value not in set(unknown)] if former_targets else []
        )
    target, column_name = app.target(name), f"{link.table}.{link_column}"
    findings = []
    if renamed_values.values:
        message = f"{link.name}: {format_count(renamed_values.rows, 'row')} of {link.table} use former keys of {link.to}: {renamed_values.format_examples()}"
        findings.append(Finding(target, "warning", "renamed-key", message, REPAIR_HINT))
    if missing_values.values:
        verb = "is" if missing_values.values == 1 else "are"
        message = (
            f"{link.name}: {missing_values.values} of {format_count(values, 'value')} of {column_name} {verb} not in {link.to}"
            f" ({format_count(missing_values.rows, 'row')}): {missing_values.format_examples()}"
        )
        findings.append(Finding(target, link.severity, "missing-reference", message, link.hint))
    return findings


def _check_missing_table(app: App, name: str, link: CrossLink) -> list[Finding] | None:
    """Return a finding for a missing table, or None if it would be empty."""
    table = link.targets[0].rpartition(".")[0]
    row_count = app.reader(link.to).count(table) if link.every else 0
    if not row_count:
        return None
    verb = "has" if row_count == 1 else "have"
    message = (
        f"{link.name}: table {link.table} is missing; {format_count(row_count, 'row')} of {table} in {link.to}"
        f" {verb} no row there"
    )
    return [Finding(app.target(name), "warning", "missing-rows", message, NO_TABLE_HINT)]


class _UnmatchedValues:
    """Values without a matching row: their number, the number of rows, and examples."""

    def __init__(self) -> None:
        self.values = self.rows = 0
        self._examples: list[object] = []

    def add(self, batch: Mapping[object, int], values: Sequence[object]) -> None:
        self.values += len(values)
        self.rows += sum(batch[value] for value in values)
        self._examples += values[: EXAMPLES - len(self._examples)]

    def format_examples(self) -> str:
        return _format_examples(self._examples, self.values)


def _find_missing(
    other_db: Readable, targets: Sequence[tuple[str, str]], values: Sequence[object]
) -> list[object]:
    """Return the values that no target column contains, first those that none can store."""
    unstorable = [value for value in values if not _is_text_storable(value)]
    remaining = [value for value in values if _is_text_storable(value)]
    for table, column in targets:
        existing = set()
        if remaining:
            existing = {
                row[0] for row in other_db.select(table, [column], [Condition(column, "in", remaining)])
            }
        remaining = [value for value in remaining if value not in existing]
    return unstorable + remaining


def _check_duplicated(app: App, name: str, link: CrossLink) -> Iterator[Finding]:
    """Yield the differences between duplicated rows and their originals."""
    duplicated = DuplicatedColumns(app, name, link)
    comparison = duplicated.compare()
    target, table = app.target(name), link.table
    if comparison.unmatched.count:
        message = (
            f"{link.name}: {comparison.unmatched_rows} of {format_count(comparison.rows, 'row')} of {table} have no row of {duplicated.other_table}"
            f" in {link.to}: {_format_examples(comparison.unmatched.examples, comparison.unmatched.count)}"
        )
        yield Finding(target, link.severity, "missing-reference", message, link.hint)
    if link.every and comparison.missing.count:
        verb = "has" if comparison.missing.count == 1 else "have"
        message = (
            f"{link.name}: {comparison.missing.count} of {format_count(comparison.other_rows, 'row')} of {duplicated.other_table} in {link.to} {verb}"
            f" no row of {table}: {_format_examples(comparison.missing.examples, comparison.missing.count)}"
        )
        yield Finding(target, "warning", "missing-rows", message, MISSING_HINT)
    for column, sample in comparison.differing.items():
        message = (
            f"{link.name}: {table}.{column} differs from {duplicated.other_table}.{duplicated.columns[column]} in"
            f" {format_count(sample.count, 'row')}: {_format_examples(sample.examples, sample.count)}"
        )
        hint = DERIVED_HINT if column in link.derived else REPAIR_HINT
        yield Finding(target, "warning", "copy-differs", message, hint)
    if differing := _compare_by_user(app, duplicated):
        yield Finding(
            target=target,
            severity="info",
            code="per-user",
            message=f"{link.name}: {format_count(len(differing), 'user')} with different numbers of rows in {table} than in {duplicated.other_table}: {_format_examples(differing[:EXAMPLES], len(differing))}",
        )
    if comparison.duplicates.count:
        message = f"{link.name}: {format_count(comparison.duplicates.count, 'row')} of {table} are duplicates: {_format_examples(comparison.duplicates.examples, comparison.duplicates.count)}"
        yield Finding(target, "warning", "duplicate", message, DUPLICATE_HINT)
    if comparison.placeholders.count:
        message = f"{link.name}: {format_count(comparison.placeholders.count, 'row')} of {table} are placeholders: {_format_examples(comparison.placeholders.examples, comparison.placeholders.count)}"
        yield Finding(target, "info", "placeholder", message, PLACEHOLDER_HINT)


def _compare_by_user(app: App, duplicated: DuplicatedColumns) -> list[str]:
    """Return the users with different numbers of rows on both sides, largest difference first."""
    users = app.profile.users
    if users is None or app.resolve_database(users) != duplicated.link.to:
        return []
    keys = [
        reference.columns[0]
        for reference in duplicated.other_db.references(users.table)
        if reference.table == duplicated.other_table
    ]
    differences = list[tuple[int, str]]()
    for column, other_column in duplicated.columns.items():
        if other_column in keys:
            counts = duplicated.db.count_by(duplicated.link.table, column)
            other_counts = duplicated.other_db.count_by(duplicated.other_table, other_column)
            differences += [
                (abs(counts.get(user, 0) - other_count), f"{user} {counts.get(user, 0)}, not {other_count}")
                for user, other_count in other_counts.items()
                if counts.get(user, 0) != other_count
            ]
    return [text for _, text in sorted(differences, key=lambda entry: -entry[0])]


def _read_batches(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    """Yield batches of the values of a column, with the number of rows of each."""
    try:
        yield from _query_batches(db, ident(table), ident(column))
    except NotSupportedError:  # without SQL, all values are read into memory
        counts = iter(db.count_by(table, column).items())
        while batch := {value: count for value, count in islice(counts, BATCH) if value is not None}:
            yield batch


def _query_batches(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    where, parameters = f"{column} is not null", dict[str, object]()
    while True:
        sql = f"select {column}, count(*) from {table} where {where} group by {column} order by {column} limit {BATCH}"
        batch = {value: int(str(count)) for value, count in db.query(sql, parameters)}
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        last = list(batch)[-1]
        where = f"{column} > :last" if _is_text_storable(last) else f"{column} > cast(:last as text)"
        parameters = {
            "last": last if _is_text_storable(last) else str(last).encode("utf-8", "surrogateescape")
        }


def _is_text_storable(value: object) -> bool:
    """Whether another database can store the value: text must be valid UTF-8."""
    return not isinstance(value, str) or is_storable(value)


def _format_figure(value: object) -> object:
    return "none" if value is None else value


def _check_recount(app: App, name: str, recount: Recount) -> list[Finding] | None:
    db = app.reader(name)
    if any(table not in db.tables() for table in recount.needs):
        return None
    sql = f"select q.*, count(*) over () from ({recount.sql}) q limit {EXAMPLES}"
    rows = db.query(sql)
    if not rows:
        return []
    total = int(str(rows[0][-1]))
    examples = [
        f"{', '.join(map(str, key))}: stored {_format_figure(stored)}, counted {_format_figure(actual)}"
        for *key, stored, actual, _ in rows
    ]
    message = f"{recount.name}: {total} disagree{'s' if total == 1 else ''} with a recount ({_format_examples(examples, total, '; ')})"
    return [Finding(app.target(name), recount.severity, "recount", message, recount.hint)]


def _format_examples(examples: Sequence[object], total: int, separator: str = ", ") -> str:
    """Return examples as text, with invalid bytes escaped."""
    readable = (
        str("NULL" if example is None else example)
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
        for example in examples
    )
    return separator.join(readable) + (" …" if total > len(examples) else "")
