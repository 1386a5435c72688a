"""``migrate verify``: the files against the ledger, and the files by themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import DbctlError, MigrationInvalidError
from dbctl.model import Finding, Findings, Severity, counted
from dbctl.profiles.model import Format
from dbctl.services.app import App
from dbctl.services.migrations.drift import differences, schema_of
from dbctl.services.migrations.files import Folder
from dbctl.services.migrations.ledger import Migration, Standing, Track
from dbctl.services.migrations.schema_diff import in_words, parts
from dbctl.services.migrations.status import look, tracks

#: How the name of a migration begins, in words.
BEGINS: Mapping[Format, str] = {
    "numbered": "three digits and _ or -",
    "prisma": "fourteen digits, a moment, and _",
}
#: Digits of a version that is a moment: a day, or a day and a time of it.
MOMENT = 8


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
        found += _unpublished(track, standing)
        found += _without_checksum(app, track, standing)
        found += _files(track, {one.name for one in standing.migrations if one.state == "applied"})
        found += _numbers(track, standing.named("duplicate-version"))
    return Findings(checked=checked, findings=found)


def _finding(track: Track, severity: Severity, code: str, message: str, hint: str = "") -> Finding:
    return Finding(target=track.target, severity=severity, code=code, message=message, hint=hint)


def _against_ledger(track: Track, standing: Standing) -> Iterator[Finding]:
    if not (standing.recorded or standing.empty):
        table = track.ledger.table
        yield _finding(track, "error", "ledger-missing", f"there are tables but no ledger ({table})")
    for one in standing.migrations:
        yield from _other_ends(track, one)
        if one.state == "changed":
            message = f"{one.name} changed after it was applied"
            yield _finding(track, "error", "changed", message, "Put the old text back.")
        elif one.state == "ahead":
            message = (
                f"{one.name} was applied, and comes after all files: the database is newer than they are"
            )
            yield _finding(track, "error", "ahead", message, "Install the app's newer version.")
        elif one.state == "duplicate-version":
            message = f"{one.name} was not run, and has the number of another migration"
            yield _finding(track, "error", "duplicate-version", message, "Give it a number of its own.")
        elif one.state == "failed":
            yield _unended(track, standing, one)
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


def _unpublished(track: Track, standing: Standing) -> Iterator[Finding]:
    """Yield the app's own files that are neither what the ledger records nor a text that the app has published."""
    for one in standing.migrations:
        file, published = track.folder.files.get(one.name), track.told.published.get(one.name, ())
        if not (one.state == "applied" and file and published and track.folder.own):
            continue
        shipped = [
            folder.files[one.name].checksum for folder in track.shipped.values() if one.name in folder.files
        ]
        if not any(map(file.is_known_by, [*published, *shipped, one.checksum or ""])):
            message = f"{one.name} changed after it was applied: its text is none that the app has published"
            hint = "Put the app's text back; or, where the app is newer than this dbctl, compare both."
            yield _finding(track, "error", "changed", message, hint)


def _without_checksum(app: App, track: Track, standing: Standing) -> Iterator[Finding]:
    """Yield how the schema differs from what files make of which the ledger holds no checksum."""
    unproven = {
        one.name
        for one in standing.migrations
        if one.state in ("applied", "baseline") and one.name in track.folder.files and not one.checksum
    }
    if not unproven:
        return
    what = f"the ledger holds no checksum of {counted(len(unproven), 'migration')}"
    try:
        live = parts(schema_of(app.reader(track.database)), track.ledgers)
        _, told = differences(app, track, standing, live)
    except DbctlError as error:
        message = f"{what}, and what they make cannot be compared: {error}"
        yield _finding(track, "warning", "not-compared", message)
        return
    for one, maker in told:
        if one.severity == "info" or (maker and maker not in unproven):
            continue
        by = f"{maker} may have changed after it was applied" if maker else "a file may have changed"
        message = f"{by}: {in_words(one)}"
        hint = "The ledger holds no checksum; dbctl migrate drift tells every difference of the schema."
        yield _finding(track, one.severity, "differs", message, hint)


def _unended(track: Track, standing: Standing, one: Migration) -> Finding:
    told = f": {one.detail}" if one.detail else ""
    hint = (
        f"Look at what it left behind, then let {track.foreign.runner} settle it."
        if track.foreign
        else f"Look at what it left behind. Take that back, then dbctl migrate repair {one.name} --failed; or complete it,"
        f" then dbctl migrate mark {one.name} --applied."
    )
    if half := standing.unfinished.get(one.name):
        hint = (
            f"Look whether it was done, and record that: dbctl migrate repair {one.name} --statement done (or undone)."
            if half.unknown
            else f"Correct what follows in its file; dbctl migrate {half.way} goes on there."
        )
    return _finding(track, "error", "failed", f"{one.name} was begun and did not come to its end{told}", hint)


def _other_ends(track: Track, one: Migration) -> Iterator[Finding]:
    """Tell of a file that is what was applied, but for what no statement is made of."""
    file, checksum = track.folder.files.get(one.name), (one.checksum or "").lower()
    if (
        file
        and checksum not in ("", file.checksum, file.checksum_of_lines)
        and (what := file.difference(checksum))
    ):
        message = f"{one.name} is the text that was applied; only {what} differ"
        hint = "A runner that compares bytes would call it changed: check the files out without conversion."
        yield _finding(track, "info", "same-text", message, hint)


def _files(track: Track, applied: set[str]) -> Iterator[Finding]:
    language = registry.language(track.engine)
    for name, file in track.folder.files.items():
        try:
            file.up(language)
            file.down(language)
        except MigrationInvalidError as error:
            # What the app has run already does not have to run here.
            severity: Severity = "warning" if name in applied else "error"
            yield _finding(track, severity, "unusable", f"{file.path.name}: {error.facts['reason']}")
    for name in track.folder.ignored:
        begins = BEGINS.get(track.folder.format, "digits")
        lacks = (
            "there is no way up beside it"
            if name.endswith(".down.sql") and track.folder.format == "pairs"
            else f"its name does not begin with {begins}"
        )
        message = f"{name} is no migration: {lacks}"
        yield _finding(track, "info", "ignored", message)


def _numbers(track: Track, twins: Collection[str]) -> Iterator[Finding]:
    for name in track.folder.shared_numbers:
        stands_for_another = any(name in names for names in track.told.one_of)
        if name not in twins and not stands_for_another:  # twins are errors, told already
            yield _finding(track, "info", "duplicate-number", f"{name} shares its number with another file")
    for first, last in _gaps(track.folder):
        message = f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
        yield _finding(track, "info", "gap", message)


def _gaps(folder: Folder) -> Iterator[tuple[int, int]]:
    expected = 0
    if any(len(file.version) >= MOMENT for file in folder.files.values()):  # moments are no row of numbers
        return
    for number in dict.fromkeys(file.place[0] for file in folder.files.values()):
        if expected and number > expected:
            yield expected, number - 1
        expected = number + 1
