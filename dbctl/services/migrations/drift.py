"""``migrate drift``: compare the live schema with the result of the applied migrations."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from dbctl.engines.contract import Readable, Schema, SchemaReader, require_part
from dbctl.model import Finding, Findings, Severity, format_count
from dbctl.services.app import App
from dbctl.services.migrations.execution import refuse_mismatch, replay
from dbctl.services.migrations.files import MigrationFile
from dbctl.services.migrations.ledger import DatabaseState, MigrationTarget, read_state
from dbctl.services.migrations.schema_diff import Difference, Part, Parts, compare, split_schema
from dbctl.services.migrations.status import find_targets

MISSING_HINT = "The migration is recorded, but this part is missing. Back up the database, then run the statement of that file by hand."
CHANGED_HINT = "It was changed by hand, or created by an older version of the file. Back up the database before you correct it."
HARMLESS_EXTRA_HINT = "It was created by hand, or by a migration that was removed. No action is required."
EXTRA_HINT = (
    "It was created by hand, or by a migration that was removed. It may cause or reject writes unexpectedly."
)
SEVERITY_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


def drift(app: App, database: str = "", folder: Path | None = None, *, variant: str = "") -> Findings:
    """Compare each database with the schema that its applied migrations create in an empty database; writes nothing.

    The migrations run in a scratch database, in the order of the folder, as in a new installation. The ledger itself is
    not compared.

    Raises:
        MigrationFilesMissingError, LedgerMissingError: the database and the folder do not belong together.
        ReplayFailedError, MigrationInvalidError: a migration cannot be run again.
        DbctlError: a database or a folder cannot be read.
    """
    findings: list[Finding] = []
    checked = 0
    for configured in find_targets(app, database, folder, variant=variant):
        reader = app.engine(configured.database).open_for_reading(
            app.url(configured.database), configured.name, timeout=app.timeout
        )
        with closing(reader) as db:
            state = read_state(configured, db)
            target = state.target
            refuse_mismatch(state)
            live_parts = split_schema(read_schema(db), target.ledger_tables)
        findings += _find_limitations(target, state)
        if state.is_empty or not _list_names_to_replay(state):
            continue
        count, differences = find_differences(app, target, state, live_parts)
        checked += count
        findings += [_create_finding(target, difference, maker) for difference, maker in differences]
    findings.sort(key=lambda finding: SEVERITY_ORDER.index(finding.severity))
    return Findings(checked=checked, findings=findings)


def find_differences(
    app: App, target: MigrationTarget, state: DatabaseState, live_parts: Parts
) -> tuple[int, Sequence[tuple[Difference, str]]]:
    """Compare a live schema with the schema that the applied migrations create in an empty database.

    Returns:
        The number of compared parts; each difference with the name of the migration that creates the part, or ''.
    """
    files = [target.folder.files[name] for name in _list_names_to_replay(state)]
    expected = _replay_schema(app, target, files, state.checksums)
    differences = [
        difference
        for difference in compare(expected, live_parts)
        if difference.expected or not _is_created_by_app(target, difference.part)
    ]
    if differences:
        rebuilt = _replay_schema_with_rebuilt_indexes(app, target, files, state.checksums)
        differences = [
            difference
            for difference in differences
            if not rebuilt or live_parts.get(difference.part) != rebuilt.get(difference.part)
        ]
    differing_parts = [difference.part for difference in differences if difference.expected]
    makers = _find_makers(app, target, files, state.checksums, differing_parts)
    return len(expected), [(difference, makers.get(difference.part, "")) for difference in differences]


def _is_created_by_app(target: MigrationTarget, part: Part) -> bool:
    """Return whether the profile declares the part as created by the app itself."""
    names = [part.name] if part.kind in ("view", "trigger") else [part.table]
    if part.kind == "column":
        names.append(f"{part.table}.{part.name}")
    patterns = [pattern.lower() for pattern in target.section.unmanaged]
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in patterns)


def _list_names_to_replay(state: DatabaseState) -> list[str]:
    """Return the names of the migrations to run, without files that a recorded file of the same number replaces."""
    applied = set(state.names_in("applied", "changed"))
    groups = [set(names) for names in state.target.section.one_of if applied.intersection(names)]
    replaced = {name for names in groups for name in names - applied}
    return [name for name in state.names_in("applied", "changed", "baseline") if name not in replaced]


def _replay_schema(
    app: App, target: MigrationTarget, files: Sequence[MigrationFile], checksums: Mapping[str, str]
) -> Parts:
    with closing(app.engine(target.database).open_scratch(app.url(target.database), target.name)) as scratch:
        deque(replay(target, files, scratch, checksums), maxlen=0)
        return split_schema(read_schema(scratch), target.ledger_tables)


def _replay_schema_with_rebuilt_indexes(
    app: App, target: MigrationTarget, files: Sequence[MigrationFile], checksums: Mapping[str, str]
) -> Parts:
    """Return the expected schema after ``search index repair`` has rebuilt the full-text indexes.

    Empty if the database has no full-text search.
    """
    searches = [search for search in app.profile.search if search.text and search.database == target.database]
    if not searches:
        return {}
    from dbctl.services.search import rebuild_index

    with closing(app.engine(target.database).open_scratch(app.url(target.database), target.name)) as scratch:
        deque(replay(target, files, scratch, checksums), maxlen=0)
        for search in searches:
            rebuild_index(search, scratch)
        return split_schema(read_schema(scratch), target.ledger_tables)


def _find_makers(
    app: App,
    target: MigrationTarget,
    files: Sequence[MigrationFile],
    checksums: Mapping[str, str],
    differing: Collection[Part],
) -> dict[Part, str]:
    """Return the last migration that changed each of the parts.

    The migrations run once more, and the whole schema is read after each. That is slow, so only parts that differ are
    looked up.
    """
    makers = dict[Part, str]()
    if not differing:
        return makers
    before: Parts = {}
    with closing(app.engine(target.database).open_scratch(app.url(target.database), target.name)) as scratch:
        for name in replay(target, files, scratch, checksums):
            after = split_schema(read_schema(scratch), target.ledger_tables)
            makers |= {part: name for part in differing if before.get(part) != after.get(part)}
            before = after
    return makers


def read_schema(db: Readable) -> Schema:
    """Return the whole live schema.

    Raises:
        NotSupportedError: the engine cannot describe it.
    """
    hint = "The engine cannot describe its whole schema."
    return require_part(db, SchemaReader, "comparing schemas", hint).schema()


def _find_limitations(target: MigrationTarget, database_state: DatabaseState) -> Iterator[Finding]:
    """Yield the limitations of the comparison: migrations that it could not include, or only with another text."""
    retired, pending, changed = (
        database_state.names_in(state) for state in ("retired", "pending", "changed")
    )
    retired = [
        name for name in retired if database_state.recorded_checksum(name) not in target.section.earlier
    ]
    if retired and not _list_names_to_replay(database_state):
        message = f"nothing was compared: all applied migrations ({', '.join(retired)}) no longer have a file"
        yield Finding(target=target.name, severity="warning", code="not-compared", message=message)
    elif retired:
        message = f"{', '.join(retired)}: the app has removed the file since it was applied; its parts may be reported as extra"
        yield Finding(target=target.name, severity="info", code="retired", message=message)
    for name in changed:
        message = f"{name} changed after it was applied; the current text was compared"
        hint = "Show details with: dbctl migrate verify"
        yield Finding(target=target.name, severity="warning", code="changed", message=message, hint=hint)
    for name in _list_names_to_replay(database_state):
        checksum, file = database_state.recorded_checksum(name), target.folder.files[name]
        known = {"", file.checksum, *target.section.earlier}
        if name not in changed and checksum not in known and not file.describe_difference(checksum):
            message = f"{name} was applied with an earlier text; the current text was compared"
            yield Finding(target=target.name, severity="info", code="superseded-text", message=message)
    if pending:
        message = f"{format_count(len(pending), 'migration')} pending; their results are not expected yet"
        yield Finding(target=target.name, severity="info", code="pending", message=message)


def _create_finding(target: MigrationTarget, difference: Difference, maker: str) -> Finding:
    if not difference.actual:
        message, hint = (
            f"{difference.place} is missing: {difference.expected}; created by {maker}",
            MISSING_HINT,
        )
    elif not difference.expected:
        message = f"{difference.place} exists, but no migration creates it: {difference.actual}"
        hint = HARMLESS_EXTRA_HINT if difference.severity == "info" else EXTRA_HINT
    else:
        message, hint = (
            f"{difference.place}: {difference.actual} in the database, {difference.expected} by {maker}",
            CHANGED_HINT,
        )
    return Finding(
        target=target.name, severity=difference.severity, code=difference.code, message=message, hint=hint
    )
