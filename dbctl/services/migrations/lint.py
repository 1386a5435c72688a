"""``migrate lint``: what the files of migrations may do to a database with rows and users, told before they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Hazard, Language, Script
from dbctl.errors import DatabaseMissingError, Exit, MigrationInvalidError
from dbctl.model import Finding, Findings, Severity, Value
from dbctl.services.app import App
from dbctl.services.migrations.files import Allowed, MigrationFile, Steps
from dbctl.services.migrations.ledger import Track
from dbctl.services.migrations.lint_rules import KINDS
from dbctl.services.migrations.status import look, tracks

#: What ``-- dbctl: allow-data-loss`` says.
LOSSES = frozenset({"drops-table", "drops-column", "deletes-all", "deletes-rows", "updates-all"})
#: Codes that stand for a guideline, and are told where the app has it alone.
GUIDED = frozenset({"no-if-not-exists", "no-if-exists", "no-insert-or-ignore"})
#: What matters of a way down, which runs when somebody wants its change gone.
OF_DOWN = frozenset({"reaches-out", "no-if-exists"})
#: Layouts in which every migration can say how it is taken back.
WITH_DOWN = ("up-down", "dbmate", "goose", "pairs")
#: Lines above the first statement that say nothing of what it is for.
_NO_PURPOSE = re.compile(r"\W*(?:--\s*(?:up|down|migrate:.*|\+goose.*|dbctl\s*:.*))?\W*", re.IGNORECASE)


class _Read(Value, frozen=True):
    """A file that can be run."""

    file: MigrationFile
    up: Steps
    down: Steps | None


def lint(app: App, asked: str = "", given: Path | None = None, *, every: bool = False) -> Findings:
    """Look over the files that are pending; nothing is written.

    Where there is no database yet, every file is. Of a folder that was ``given``, too, and where ``every`` one is wanted:
    then no database is opened, or has to be there.

    Raises:
        DbctlError: a database or a folder cannot be looked at.
    """
    alone = every or given is not None
    found: list[Finding] = []
    checked = 0
    for track in tracks(app, asked, given, connects=not alone):
        for one, names in all_of(track) if alone else [_pending(app, track)]:
            checked += len(names)
            found += findings(one, names)
    return Findings(checked=checked, findings=found)


def status(found: Findings, *, strict: bool) -> Exit:
    """Return how the command ends."""
    grave = ("error", "warning") if strict else ("error",)
    return Exit.UNSOUND if any(one.severity in grave for one in found.findings) else Exit.OK


def _pending(app: App, track: Track) -> tuple[Track, Sequence[str]]:
    try:
        found = look(app, track)
    except DatabaseMissingError:
        return track, list(track.folder.files)
    return found.track, found.named("pending", "out-of-order", "duplicate-version", "failed")


def all_of(track: Track) -> Iterator[tuple[Track, Sequence[str]]]:
    """Yield all files, of each shape where there are several."""
    for folder in track.shapes.values() or [track.folder]:
        yield structs.replace(track, folder=folder), list(folder.files)


def findings(track: Track, names: Sequence[str]) -> list[Finding]:
    """Return what there is to tell of the files of these names; those before them are read, too."""
    language, found, read = registry.language(track.engine), dict[str, list[Finding]](), list[_Read]()
    for file in track.folder.files.values():
        found[file.name] = []
        try:
            read.append(_Read(file, file.up(language), file.down(language)))
        except MigrationInvalidError as error:
            reason = str(error.facts["reason"])
            found[file.name].append(_finding(track, file, "error", "unusable", reason, "up refuses it."))
    ways = language.hazards(script(one.up) for one in read)
    for one, hazards in zip(read, ways, strict=True):
        if one.file.name in names:
            found[one.file.name] += _of_file(track, language, one, hazards)
    return [one for name in names if name in found for one in found[name]]


def script(steps: Steps) -> Script:
    """Return one way as an engine judges it."""
    return Script(statements=steps.statements, outside=steps.section.outside)


def _of_file(track: Track, language: Language, one: _Read, hazards: Sequence[Hazard]) -> Iterator[Finding]:
    up = [*hazards, *_of_ledger(track, language, one.up), *_of_text(track, one)]
    if one.up.section.loses_rows:
        up = [hazard for hazard in up if hazard.code not in LOSSES]
    yield from _told(track, one.file, one.up, up)
    if one.down:
        (hazards,) = language.hazards([script(one.down)])
        down = [hazard for hazard in hazards if hazard.code in OF_DOWN]
        yield from _told(track, one.file, one.down, [*down, *_of_ledger(track, language, one.down)])


def _of_ledger(track: Track, language: Language, steps: Steps) -> Iterator[Hazard]:
    own = {name.lower() for name in track.ledgers if name}
    for line, sql in steps.statements:
        for name in language.effect(sql).drops:
            if name.lower() in own:
                yield Hazard(line, "drops-ledger", f"{name}, which it drops, records what has run")


def _of_text(track: Track, one: _Read) -> Iterator[Hazard]:
    """Yield what the file tells beside its statements."""
    file, section = one.file, one.up.section
    for line in section.hidden:
        yield Hazard(
            line, "marker-hidden", "the app's own runner takes this for the line where the way up ends"
        )
    line, sql = one.up.statements[0]
    *above, beside = file.text().removeprefix("\ufeff").splitlines()[:line]
    if all(
        _NO_PURPOSE.fullmatch(said) for said in (*above, beside.partition(sql.partition("\n")[0][:-1])[0])
    ):
        yield Hazard(0, "no-purpose", "no comment at its top says what it is for")
    if one.down is None and (section.begins or file.format in WITH_DOWN):
        yield Hazard(0, "no-down", "it has no way down")
    known = any(file.name in names for names in track.told.one_of)  # to the app, which runs one of them
    if track.ledger.version and file.name in track.folder.shared_numbers and not known:
        yield Hazard(0, "shared-number", "another file has its number, by which the ledger tells them apart")


def _told(track: Track, file: MigrationFile, steps: Steps, hazards: Sequence[Hazard]) -> Iterator[Finding]:
    """Yield the findings of one way, but for those that the file allows."""
    lines = [line for line, _ in steps.statements]
    for hazard in sorted(hazards, key=lambda one: one.line):
        guideline = hazard.code.removeprefix("no-")
        is_asked = guideline in track.told.guidelines
        if hazard.code in GUIDED and not is_asked:
            continue
        if not any(_covers(one, hazard, lines) for one in steps.section.allowed):
            severity: Severity = "warning" if is_asked else KINDS[hazard.code].severity
            yield _finding(
                track,
                file,
                severity,
                hazard.code,
                hazard.message,
                KINDS[hazard.code].hint,
                line=hazard.line,
                path=steps.path,
            )


def _covers(one: Allowed, hazard: Hazard, lines: Sequence[int]) -> bool:
    if one.code != hazard.code:
        return False
    return one.everywhere or hazard.line == next((line for line in lines if line > one.line), None)


def _finding(
    track: Track,
    file: MigrationFile,
    severity: Severity,
    code: str,
    message: str,
    hint: str,
    *,
    line: int = 0,
    path: Path | None = None,
) -> Finding:
    place = (path or file.path).relative_to(track.folder.path)
    where = f"{place}:{line}" if line else str(place)
    return Finding(
        target=track.target, severity=severity, code=code, message=f"{where}: {message}", hint=hint
    )
