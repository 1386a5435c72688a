"""``migrate drift``: the live schema against the one that the applied migrations make."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Capability, Describes, Readable, Schema
from dbctl.errors import NotSupportedError
from dbctl.model import Finding, Findings, Severity, counted
from dbctl.services.app import App
from dbctl.services.migrations.files import MigrationFile
from dbctl.services.migrations.ledger import Standing, Track, standing
from dbctl.services.migrations.schema_diff import Difference, Part, Parts, compared, parts
from dbctl.services.migrations.status import tracks
from dbctl.services.migrations.up import refuse_strangers, replay

LACKING = "Recorded is not run. Keep a copy of the database, then run what makes it by hand: the statement stands in that file."
CHANGED = "It was changed by hand, or made by an older text of the migration. Keep a copy before you bring it in line."
HARMLESS = "It was made by hand, or by a migration that is gone. Nothing has to be done about it."
BESIDES = (
    "It was made by hand, or by a migration that is gone. It may do, or refuse, what the app does not expect."
)
GRAVEST_FIRST: tuple[Severity, ...] = ("error", "warning", "info")


def drift(app: App, asked: str = "", given: Path | None = None, *, shape: str = "") -> Findings:
    """Compare each database with what its applied migrations make of an empty one; nothing of it is written.

    The migrations run in a database in memory, in the order of the folder: what a new installation with the same
    migrations would have. The ledger itself is left out.

    Raises:
        MigrationsUnsoundError, LedgerMissingError: nothing tells that database and folder belong together.
        ReplayFailedError, MigrationInvalidError: a migration cannot be run anew.
        DbctlError: a database or a folder cannot be looked at.
    """
    found: list[Finding] = []
    checked = 0
    for unlooked in tracks(app, asked, given, shape=shape):
        opened = registry.open_for_reading(app.url(unlooked.database), unlooked.target, timeout=app.timeout)
        with closing(opened) as db:
            stands = standing(unlooked, db)
            track = stands.track
            refuse_strangers(track, stands)
            live = parts(schema_of(db), track.ledgers)
        found += _remarks(track, stands)
        if stands.empty or not _replayed(stands):
            continue
        number, told = differences(app, track, stands, live)
        checked += number
        found += [_finding(track, one, maker) for one, maker in told]
    found.sort(key=lambda one: GRAVEST_FIRST.index(one.severity))
    return Findings(checked=checked, findings=found)


def differences(
    app: App, track: Track, stands: Standing, live: Parts
) -> tuple[int, Sequence[tuple[Difference, str]]]:
    """Compare a live schema with what the applied migrations make of an empty database.

    Returns:
        How many parts were compared, and each difference with the migration that makes the part; empty where none does.
    """
    files = [track.folder.files[name] for name in _replayed(stands)]
    wanted = _wanted(app, track, files, stands.checksums)
    told = [one for one in compared(wanted, live) if one.wanted or not _besides(track, one.part)]
    if told:
        repaired = _repaired(app, track, files, stands.checksums)
        told = [one for one in told if not repaired or live.get(one.part) != repaired.get(one.part)]
    differing = [one.part for one in told if one.wanted]
    makers = _makers(app, track, files, stands.checksums, differing)
    return len(wanted), [(one, makers.get(one.part, "")) for one in told]


def _besides(track: Track, part: Part) -> bool:
    """Whether it belongs to what the app makes by itself, as its profile says."""
    names = [part.name] if part.kind in ("view", "trigger") else [part.table]
    if part.kind == "column":
        names.append(f"{part.table}.{part.name}")
    patterns = [pattern.lower() for pattern in track.told.besides]
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in patterns)


def _replayed(stands: Standing) -> list[str]:
    """Return the names of the migrations that made the schema, without those that another of the same number replaces."""
    applied = set(stands.named("applied", "changed"))
    groups = [set(names) for names in stands.track.told.one_of if applied.intersection(names)]
    replaced = {name for names in groups for name in names - applied}
    return [name for name in stands.named("applied", "changed", "baseline") if name not in replaced]


def _wanted(app: App, track: Track, files: Sequence[MigrationFile], checksums: Mapping[str, str]) -> Parts:
    """Return what migrations make."""
    with closing(registry.open_scratch(app.url(track.database), track.target)) as scratch:
        deque(replay(track, files, scratch, checksums), maxlen=0)
        return parts(schema_of(scratch), track.ledgers)


def _repaired(app: App, track: Track, files: Sequence[MigrationFile], checksums: Mapping[str, str]) -> Parts:
    """Return what migrations make once ``search index repair`` has replaced the indexes of searches.

    Where nothing is to be replaced, there is nothing to compare with.
    """
    searches = [one for one in app.profile.search if one.text and one.database == track.database]
    if not searches:
        return {}
    from dbctl.services.search import remake_index

    with closing(registry.open_scratch(app.url(track.database), track.target)) as scratch:
        deque(replay(track, files, scratch, checksums), maxlen=0)
        for search in searches:
            remake_index(search, scratch)
        return parts(schema_of(scratch), track.ledgers)


def _makers(
    app: App,
    track: Track,
    files: Sequence[MigrationFile],
    checksums: Mapping[str, str],
    differing: Collection[Part],
) -> dict[Part, str]:
    """Return which of the migrations made each of some parts as it is in the end.

    They run once more, and after each the whole schema is told, which of many takes long: only what differs is worth it.
    """
    makers = dict[Part, str]()
    if not differing:
        return makers
    before: Parts = {}
    with closing(registry.open_scratch(app.url(track.database), track.target)) as scratch:
        for name in replay(track, files, scratch, checksums):
            after = parts(schema_of(scratch), track.ledgers)
            makers |= {part: name for part in differing if before.get(part) != after.get(part)}
            before = after
    return makers


def schema_of(db: Readable) -> Schema:
    """Return the whole live schema.

    Raises:
        NotSupportedError: the engine does not tell it.
    """
    if Capability.SCHEMA not in db.capabilities or not isinstance(db, Describes):
        raise NotSupportedError(
            what="comparing schemas", by=db.target, instead="Its engine does not tell its whole schema."
        )
    return db.schema()


def _remarks(track: Track, stands: Standing) -> Iterator[Finding]:
    """Yield what the comparison does not rest on, so that nobody takes it for more than it is."""
    retired, pending, changed = (stands.named(state) for state in ("retired", "pending", "changed"))
    retired = [name for name in retired if stands.recorded_checksum(name) not in track.told.earlier]
    if retired and not _replayed(stands):
        message = f"nothing was compared: all that was applied ({', '.join(retired)}) has no file any more"
        yield Finding(target=track.target, severity="warning", code="not-compared", message=message)
    elif retired:
        message = f"{', '.join(retired)}: applied, and the app has removed the file since; what it made may count as extra here"
        yield Finding(target=track.target, severity="info", code="retired", message=message)
    for name in changed:
        message = f"{name} changed after it was applied; the text of today was compared"
        hint = "dbctl migrate verify tells more."
        yield Finding(target=track.target, severity="warning", code="changed", message=message, hint=hint)
    for name in _replayed(stands):
        checksum, file = stands.recorded_checksum(name), track.folder.files[name]
        known = {"", file.checksum, *track.told.earlier}
        if name not in changed and checksum not in known and not file.difference(checksum):
            message = f"{name} was applied in an earlier text than that of today, which was compared"
            yield Finding(target=track.target, severity="info", code="earlier-text", message=message)
    if pending:
        message = f"{counted(len(pending), 'migration')} pending; what they will make is not expected yet"
        yield Finding(target=track.target, severity="info", code="pending", message=message)


def _finding(track: Track, one: Difference, maker: str) -> Finding:
    if not one.found:
        message, hint = f"{one.place} is missing: {one.wanted}; {maker} makes it", LACKING
    elif not one.wanted:
        message = f"{one.place} is there, and no migration makes it: {one.found}"
        hint = HARMLESS if one.severity == "info" else BESIDES
    else:
        message, hint = f"{one.place}: {one.found} here, {one.wanted} by {maker}", CHANGED
    return Finding(target=track.target, severity=one.severity, code=one.code, message=message, hint=hint)
