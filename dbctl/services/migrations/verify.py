"""``migrate verify``: compare the files with the ledger, and check the files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import DbctlError, MigrationInvalidError
from dbctl.model import Finding, Findings, Severity, format_count
from dbctl.profiles.model import Format
from dbctl.services.app import App
from dbctl.services.migrations.drift import find_differences, read_schema
from dbctl.services.migrations.files import Folder
from dbctl.services.migrations.ledger import DatabaseState, Migration, MigrationTarget
from dbctl.services.migrations.schema_diff import describe_difference, split_schema
from dbctl.services.migrations.status import find_targets, load_state

#: The beginning of a migration name, for messages.
NAME_PREFIXES: Mapping[Format, str] = {
    "numbered": "three digits and _ or -",
    "prisma": "fourteen digits (a timestamp) and _",
}
#: Minimum number of digits of a version that is a date or timestamp.
TIMESTAMP_DIGITS = 8


def verify(app: App, database: str = "", folder: Path | None = None, *, variant: str = "") -> Findings:
    """Compare every file with the ledger and check the files; writes nothing.

    Raises:
        DbctlError: a database or a folder cannot be read.
    """
    findings: list[Finding] = []
    checked = 0
    for configured in find_targets(app, database, folder, variant=variant):
        state = load_state(app, configured)
        target = state.target
        checked += len(state.migrations)
        findings += _compare_with_ledger(target, state)
        findings += _find_unpublished(target, state)
        findings += _compare_without_checksum(app, target, state)
        findings += _check_files(
            target, {migration.name for migration in state.migrations if migration.state == "applied"}
        )
        findings += _check_numbers(target, state.names_in("duplicate-version"))
    return Findings(checked=checked, findings=findings)


def _create_finding(
    target: MigrationTarget, severity: Severity, code: str, message: str, hint: str = ""
) -> Finding:
    return Finding(target=target.name, severity=severity, code=code, message=message, hint=hint)


def _compare_with_ledger(target: MigrationTarget, state: DatabaseState) -> Iterator[Finding]:
    if not (state.has_ledger or state.is_empty):
        table = target.ledger.table
        yield _create_finding(
            target, "error", "ledger-missing", f"the database has tables but no ledger ({table})"
        )
    for migration in state.migrations:
        yield from _find_byte_differences(target, migration)
        if migration.state == "changed":
            message = f"{migration.name} changed after it was applied"
            yield _create_finding(
                target, "error", "changed", message, "Restore the previous text of the file."
            )
        elif migration.state == "ahead":
            message = f"{migration.name} was applied and comes after all files: the database is newer than the files"
            yield _create_finding(target, "error", "ahead", message, "Install the newer version of the app.")
        elif migration.state == "duplicate-version":
            message = f"{migration.name} is pending and has the number of another migration"
            yield _create_finding(target, "error", "duplicate-version", message, "Give it an unused number.")
        elif migration.state == "failed":
            yield _create_interrupted_finding(target, state, migration)
        elif migration.state == "missing-file":
            hint = "" if target.folder.is_custom else "Set [apps.NAME.migrations], or use --migrations DIR."
            yield _create_finding(
                target, "error", "missing-file", f"{migration.name} was applied but has no file", hint
            )
        elif migration.state == "out-of-order":
            message = f"{migration.name} is pending, but later migrations are applied"
            yield _create_finding(target, "error", "out-of-order", message)
        elif migration.state == "retired":
            yield _create_finding(
                target, "info", "retired", f"{migration.name} was applied; the app has removed its file since"
            )


def _find_unpublished(target: MigrationTarget, state: DatabaseState) -> Iterator[Finding]:
    """Yield custom files whose text is neither recorded in the ledger nor published by the app."""
    for migration in state.migrations:
        file, published = (
            target.folder.files.get(migration.name),
            target.section.published.get(migration.name, ()),
        )
        if not (migration.state == "applied" and file and published and target.folder.is_custom):
            continue
        shipped = [
            folder.files[migration.name].checksum
            for folder in target.shipped_folders.values()
            if migration.name in folder.files
        ]
        if not any(map(file.matches_checksum, [*published, *shipped, migration.checksum or ""])):
            message = f"{migration.name} changed after it was applied: the app has not published this text"
            hint = "Restore the app's text; if the app is newer than this dbctl, compare both texts."
            yield _create_finding(target, "error", "changed", message, hint)


def _compare_without_checksum(app: App, target: MigrationTarget, state: DatabaseState) -> Iterator[Finding]:
    """Yield differences between the schema and the result of files without a checksum in the ledger."""
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
        live_parts = split_schema(read_schema(app.reader(target.database)), target.ledger_tables)
        _, differences = find_differences(app, target, state, live_parts)
    except DbctlError as error:
        message = f"{problem}, and their result cannot be compared: {error}"
        yield _create_finding(target, "warning", "not-compared", message)
        return
    for difference, maker in differences:
        if difference.severity == "info" or (maker and maker not in without_checksum):
            continue
        change = f"{maker} may have changed after it was applied" if maker else "a file may have changed"
        message = f"{change}: {describe_difference(difference)}"
        hint = "The ledger has no checksum. Show all differences of the schema with: dbctl migrate drift"
        yield _create_finding(target, difference.severity, "differs", message, hint)


def _create_interrupted_finding(
    target: MigrationTarget, state: DatabaseState, migration: Migration
) -> Finding:
    detail = f": {migration.detail}" if migration.detail else ""
    hint = (
        f"Examine its effects, then complete it with {target.foreign.runner}."
        if target.foreign
        else f"Examine its effects. Revert them, then run dbctl migrate repair {migration.name} --failed; or complete them,"
        f" then run dbctl migrate mark {migration.name} --applied."
    )
    if partial := state.partial.get(migration.name):
        hint = (
            f"Find out whether it has run, and record that: dbctl migrate repair {migration.name} --statement done (or undone)"
            if partial.unknown_step
            else f"Correct the next statements in its file; dbctl migrate {partial.direction} continues there."
        )
    return _create_finding(target, "error", "failed", f"{migration.name} began but did not end{detail}", hint)


def _find_byte_differences(target: MigrationTarget, migration: Migration) -> Iterator[Finding]:
    """Yield an applied file that differs from the recorded text only in line ends or byte order mark."""
    file, checksum = target.folder.files.get(migration.name), (migration.checksum or "").lower()
    if (
        file
        and checksum not in ("", file.checksum, file.flyway_checksum)
        and (difference := file.describe_difference(checksum))
    ):
        message = f"{migration.name} has the applied text; only {difference} differ"
        hint = "Runners that compare bytes report it as changed: disable line end conversion in the checkout."
        yield _create_finding(target, "info", "same-text", message, hint)


def _check_files(target: MigrationTarget, applied: set[str]) -> Iterator[Finding]:
    language = registry.load_engine(target.engine).script_dialect
    for name, file in target.folder.files.items():
        try:
            file.parse_up(language)
            file.parse_down(language)
        except MigrationInvalidError as error:
            # An applied file does not have to run again.
            severity: Severity = "warning" if name in applied else "error"
            yield _create_finding(
                target, severity, "unusable", f"{file.path.name}: {error.context['reason']}"
            )
    for name in target.folder.ignored:
        prefix = NAME_PREFIXES.get(target.folder.format, "digits")
        reason = (
            "its up file is missing"
            if name.endswith(".down.sql") and target.folder.format == "pairs"
            else f"its name does not begin with {prefix}"
        )
        message = f"{name} is not a migration: {reason}"
        yield _create_finding(target, "info", "ignored", message)


def _check_numbers(target: MigrationTarget, duplicates: Collection[str]) -> Iterator[Finding]:
    for name in target.folder.shared_numbers:
        is_alternative = any(name in names for names in target.section.one_of)
        if name not in duplicates and not is_alternative:  # duplicates are reported as errors already
            yield _create_finding(
                target, "info", "duplicate-number", f"{name} shares its number with another file"
            )
    for first, last in _find_gaps(target.folder):
        message = f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
        yield _create_finding(target, "info", "gap", message)


def _find_gaps(folder: Folder) -> Iterator[tuple[int, int]]:
    expected = 0
    # Timestamps are not consecutive.
    if any(len(file.version) >= TIMESTAMP_DIGITS for file in folder.files.values()):
        return
    for number in dict.fromkeys(file.order_key[0] for file in folder.files.values()):
        if expected and number > expected:
            yield expected, number - 1
        expected = number + 1
