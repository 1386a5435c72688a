"""``migrate verify``: the files against the ledger, and the files by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import MigrationInvalidError
from dbctl.model import Finding, Findings, Severity
from dbctl.services.apps import App
from dbctl.services.migrate import look, tracks
from dbctl.services.migration_files import Folder
from dbctl.services.migration_ledger import Migration, Standing, Track

#: How the name of a migration begins, in words.
BEGINS = {"numbered": "three digits and _ or -", "prisma": "fourteen digits, a moment, and _"}


def verify(app: App, asked: str = "", given: Path | None = None, *, shape: str = "") -> Findings:
    """Compare every file with the ledger, and look into the files; nothing is written.

    Raises:
        DbctlError: a database or a folder cannot be looked at.
    """
    found: list[Finding] = []
    checked = 0
    for unlooked in tracks(app, asked, given, shape=shape):
        standing = look(app, unlooked)
        track = standing.track
        checked += len(standing.migrations)
        found += _against_ledger(track, standing)
        found += _files(app, track, {one.name for one in standing.migrations if one.state == "applied"})
        found += _numbers(track, {one.name for one in standing.migrations if one.state == "pending"})
    return Findings(checked=checked, findings=found)


def _finding(track: Track, severity: Severity, code: str, message: str, hint: str = "") -> Finding:
    return Finding(target=track.target, severity=severity, code=code, message=message, hint=hint)


def _against_ledger(track: Track, standing: Standing) -> Iterator[Finding]:
    if not (standing.recorded or standing.empty):
        table = track.told.ledger.table
        yield _finding(track, "error", "ledger-missing", f"there are tables but no ledger ({table})")
    for one in standing.migrations:
        if one.state == "changed":
            yield _changed(track, one)
        elif one.state == "failed":
            message = f"{one.name} was begun and did not come to its end"
            hint = (
                f"Look at what it left behind, then mark its row of {track.told.ledger.table} as rolled back."
            )
            yield _finding(track, "error", "failed", message, hint)
        elif one.state == "missing-file":
            hint = "" if track.folder.own else "Set [apps.NAME.migrations], or give --migrations DIR."
            yield _finding(track, "error", "missing-file", f"{one.name} was applied, and has no file", hint)
        elif one.state == "out-of-order":
            message = f"{one.name} is pending, and later ones were applied"
            yield _finding(track, "error", "out-of-order", message)
        elif one.state == "retired":
            yield _finding(
                track, "info", "retired", f"{one.name} was applied; the app has removed its file since"
            )


def _changed(track: Track, one: Migration) -> Finding:
    what = track.folder.files[one.name].difference(one.checksum or "")
    message = f"{one.name} changed after it was applied" + (f": only in {what}" if what else "")
    hint = "Check the files out without conversion of line ends." if what else "Put the old text back."
    return _finding(track, "error", "changed", message, hint)


def _files(app: App, track: Track, applied: set[str]) -> Iterator[Finding]:
    split = partial(registry.split_script, app.url(track.database))
    for name, file in track.folder.files.items():
        try:
            file.statements(split)
        except MigrationInvalidError as error:
            # What the app has run already does not have to run here.
            severity: Severity = "warning" if name in applied else "error"
            yield _finding(track, severity, "unusable", f"{file.path.name}: {error.facts['reason']}")
    for name in track.folder.ignored:
        message = f"{name} is no migration: its name does not begin with {BEGINS[track.folder.format]}"
        yield _finding(track, "info", "ignored", message)


def _numbers(track: Track, pending: set[str]) -> Iterator[Finding]:
    shared = track.folder.shared_numbers
    for name in shared:
        severity: Severity = "error" if name in pending else "info"
        yield _finding(track, severity, "duplicate-number", f"{name} shares its number with another file")
    for first, last in _gaps(track.folder):
        message = f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
        yield _finding(track, "info", "gap", message)


def _gaps(folder: Folder) -> Iterator[tuple[int, int]]:
    if folder.format == "prisma":  # moments are no row of numbers
        return
    expected = 0
    for number in dict.fromkeys(file.place[0] for file in folder.files.values()):
        if expected and number > expected:
            yield expected, number - 1
        expected = number + 1
