"""``migrate verify``: compare the files with the ledger, and check the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dbctl.engines import registry
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.migrations import MigrationInvalidError
from dbctl.model import Finding, Findings, Severity, format_count
from dbctl.profiles.model.databases import Format
from dbctl.services.app.app import App
from dbctl.services.migrations.drift import find_differences, read_parts
from dbctl.services.migrations.files.loader import Folder
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, Migration, State
from dbctl.services.migrations.schema_diff import describe_difference
from dbctl.services.migrations.status import load_state

#: The beginning of a migration name, for messages.
NAME_PREFIXES: Mapping[Format, str] = {
    "numbered": "three digits and _ or -",
    "prisma": "digits (usually a timestamp) and _",
}
#: Minimum number of digits of a version that is a date or timestamp.
TIMESTAMP_DIGITS = 8


class _StateFinding(NamedTuple):
    message: str
    hint: Remedy | str = ""
    severity: Severity = "error"


FINDINGS: Mapping[State, _StateFinding] = {
    "changed": _StateFinding(
        "{name} changed after it was applied",
        Remedy(
            "Restore the previous text of the file, or accept the current one with: `migrate repair --checksums --db {database}`"
        ),
    ),
    "ahead": _StateFinding(
        "{name} was applied and comes after all files: the database is newer than the files",
        "Install the newer version of the app.",
    ),
    "duplicate-version": _StateFinding(
        "{name} is pending and has the number of another migration", "Give it an unused number."
    ),
    "missing-file": _StateFinding("{name} was applied but has no file"),
    "out-of-order": _StateFinding("{name} is pending, but later migrations are applied"),
    "retired": _StateFinding("{name} was applied; the app has removed its file since", severity="info"),
}
INTERRUPTED_HINT = Remedy(
    "Examine its effects. Revert them, then run: `migrate repair {name} --failed --db {database}`; or complete them, then run: `migrate mark {name} --applied --db {database}`"
)
UNKNOWN_HINT = Remedy(
    "Find out whether it has run. If it has, run: `migrate repair {name} --statement done --db {database}`; otherwise: `migrate repair {name} --statement undone --db {database}`"
)
CONTINUE_HINTS = {
    "up": Remedy("Correct the next statements in its file, then continue with: `migrate up`"),
    "down": Remedy(
        "Correct the next statements in its file, then continue with: `migrate down --db {database}`"
    ),
}
UNRECORDED_HINT = Remedy("Create it from the schema with: `migrate baseline --db {database}`")
SHIPPED_FOLDER_HINT = "Set [apps.NAME.migrations], or use --migrations DIR."


def verify(app: App, targets: Sequence[MigrationTarget]) -> Findings:
    """Compare every file with the ledger and check the files; writes nothing.

    Raises:
        DbctlError: a database cannot be read.
    """
    states = [load_state(app, target) for target in targets]
    checks = (_compare_with_ledger, _compare_without_checksum, _check_files, _check_numbers)
    return Findings(
        checked=sum(len(state.migrations) for state in states),
        unit="migration",
        findings=[finding for state in states for check in checks for finding in check(app, state)],
    )


def _create_finding(
    state: DatabaseState,
    severity: Severity,
    code: str,
    message: str,
    hint: Remedy | str = "",
    *,
    name: str = "",
) -> Finding:
    """Return a finding, about the migration of this name if there is one."""
    file = state.target.folder.files.get(name)
    path = str(file.path) if file else None
    text = (
        hint if isinstance(hint, str) else hint.write(facts={"name": name, "database": state.target.database})
    )
    return Finding(state.target.name, severity, code, message, text, file=path)


def _compare_with_ledger(_app: App, state: DatabaseState) -> Iterator[Finding]:
    if not (state.has_ledger or state.is_empty):
        table = state.target.ledger.table
        message = f"the database has tables but no ledger ({table})"
        yield _create_finding(state, "error", "ledger-missing", message, UNRECORDED_HINT)
    for migration in state.migrations:
        yield from _find_byte_differences(state, migration)
        if migration.state == "failed":
            yield _create_interrupted_finding(state, migration)
        elif finding := FINDINGS.get(migration.state):
            is_shipped = migration.state == "missing-file" and not state.target.folder.is_custom
            hint = SHIPPED_FOLDER_HINT if is_shipped else finding.hint
            message = finding.message.format(name=migration.name)
            if migration.state == "changed" and _had_published_text(state.target, migration):
                message += ": the app has not published this text"
            yield _create_finding(
                state, finding.severity, migration.state, message, hint, name=migration.name
            )


def _had_published_text(target: MigrationTarget, migration: Migration) -> bool:
    """Return whether the app published the texts of a migration, and the recorded text is unknown or one of them."""
    published = target.section.published.get(migration.name, ())
    return bool(published) and (not migration.checksum or migration.checksum.lower() in published)


def _compare_without_checksum(app: App, state: DatabaseState) -> Iterator[Finding]:
    """Yield differences between the schema and the result of files without a checksum in the ledger."""
    target = state.target
    without_checksum = {
        migration.name
        for migration in state.migrations
        if migration.state in ("applied", "baseline")
        and migration.name in target.folder.files
        and not migration.checksum
    }
    if not without_checksum:
        return
    problem = f"the ledger has no checksum for {format_count(len(without_checksum), 'migration')}"
    try:
        live_parts = read_parts(app.reader(target.database), target)
        _, differences = find_differences(app, state, live_parts)
    except DbctlError as error:
        message = f"{problem}, and their result cannot be compared: {error}"
        yield _create_finding(state, "warning", "not-compared", message)
        return
    for difference, maker in differences:
        if difference.severity == "info" or (maker and maker not in without_checksum):
            continue
        change = f"{maker} may have changed after it was applied" if maker else "a file may have changed"
        message = f"{change}: {describe_difference(difference)}"
        hint = Remedy("The ledger has no checksum. Show all differences of the schema with: `migrate drift`")
        yield _create_finding(state, difference.severity, "result-differs", message, hint)


def _create_interrupted_finding(state: DatabaseState, migration: Migration) -> Finding:
    foreign = state.target.foreign
    detail = f": {migration.detail}" if migration.detail else ""
    hint = f"Examine its effects, then complete it with {foreign.runner}." if foreign else INTERRUPTED_HINT
    if partial := state.partial.get(migration.name):
        hint = UNKNOWN_HINT if partial.unknown_step else CONTINUE_HINTS[partial.direction]
    message = f"{migration.name} began but did not end{detail}"
    return _create_finding(state, "error", "failed", message, hint, name=migration.name)


def _find_byte_differences(state: DatabaseState, migration: Migration) -> Iterator[Finding]:
    """Yield an applied file that differs from the recorded text only in line ends or byte order mark."""
    file, checksum = state.target.folder.files.get(migration.name), (migration.checksum or "").lower()
    if (
        file
        and checksum not in ("", file.checksum, file.flyway_checksum)
        and (difference := file.describe_difference(checksum))
    ):
        message = f"{migration.name} has the applied text; only {difference} differ"
        hint = "Runners that compare bytes report it as changed: disable line end conversion in the checkout."
        yield _create_finding(state, "info", "same-text", message, hint, name=migration.name)


def _check_files(_app: App, state: DatabaseState) -> Iterator[Finding]:
    target, applied = state.target, set(state.names_in("applied"))
    language = registry.load_engine(target.engine).script_dialect
    for name, file in target.folder.files.items():
        try:
            file.parse_up(language)
            file.parse_down(language)
        except MigrationInvalidError as error:
            # An applied file does not have to run again.
            severity: Severity = "warning" if name in applied else "error"
            message = f"{file.path.name}: {error.context['reason']}"
            yield _create_finding(state, severity, "unusable", message, name=name)
    for name in target.folder.ignored:
        prefix = NAME_PREFIXES.get(target.folder.format, "digits")
        reason = (
            "its up file is missing"
            if name.endswith(".down.sql") and target.folder.format == "pairs"
            else f"its name does not begin with {prefix}"
        )
        message = f"{name} is not a migration: {reason}"
        yield _create_finding(state, "info", "file-ignored", message)


def _check_numbers(_app: App, state: DatabaseState) -> Iterator[Finding]:
    target, duplicates = state.target, set(state.names_in("duplicate-version"))
    for name in target.folder.shared_numbers:
        is_alternative = any(name in names for names in target.section.one_of)
        if name not in duplicates and not is_alternative:  # duplicates are reported as errors already
            message = f"{name} shares its number with another file"
            yield _create_finding(state, "info", "duplicate-number", message, name=name)
    for first, last in _find_gaps(target.folder):
        message = f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
        yield _create_finding(state, "info", "number-gap", message)


def _find_gaps(folder: Folder) -> Iterator[tuple[int, int]]:
    expected = 0
    # Timestamps are not consecutive.
    if any(len(file.version) >= TIMESTAMP_DIGITS for file in folder.files.values()):
        return
    for number in dict.fromkeys(file.order_key[0] for file in folder.files.values()):
        if expected and number > expected:
            yield expected, number - 1
        expected = number + 1
