"""``migrate drift``: compare the live schema with the result of the applied migrations."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from dbctl.engines.contract.database import Readable, Writable, require_supported
from dbctl.engines.contract.schema import Schema
from dbctl.errors.base import Remedy
from dbctl.model import Finding, Findings, Severity, format_count
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.migrations.execution.plan import refuse_mismatch
from dbctl.services.migrations.execution.run import replay
from dbctl.services.migrations.files.loader import MigrationFile
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, read_state
from dbctl.services.migrations.schema_diff import Difference, Part, Parts, compare, split_schema
from dbctl.services.migrations.status import open_for_reading

MISSING_HINT = "The migration is recorded, but this part is missing. Back up the database, then run the statement of that file by hand."
CHANGED_HINT = "It was changed by hand, or created by an older version of the file. Back up the database before you correct it."
HARMLESS_EXTRA_HINT = "It was created by hand, or by a migration that was removed. No action is required."
EXTRA_HINT = (
    "It was created by hand, or by a migration that was removed. It may cause or reject writes unexpectedly."
)
SEVERITY_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


class SchemaReplay(NamedTuple):
    """Migrations that run in an empty scratch database, in the order of the folder, as in a new installation."""

    app: App
    target: MigrationTarget
    files: Sequence[MigrationFile]
    checksums: Mapping[str, str] = {}  #: by name, the checksum in the ledger; see ``replay``

    def open_scratch(self) -> closing[Writable]:
        """Open an empty scratch database."""
        engine, url = self.app.engine(self.target.database), self.app.url(self.target.database)
        return closing(engine.open_scratch(url, self.target.name))

    @contextmanager
    def open_result(self) -> Iterator[Writable]:
        """Open a scratch database in which all migrations have run."""
        with self.open_scratch() as scratch:
            deque(replay(self.target, self.files, scratch, self.checksums), maxlen=0)
            yield scratch

    def read_final_parts(self, searches: Sequence[Search] = ()) -> Parts:
        """Return the schema after all migrations, and after ``search index repair`` has rebuilt the indexes of ``searches``."""
        with self.open_result() as scratch:
            if searches:
                from dbctl.services.search.indexes.text import build_index

                for search in searches:
                    build_index(search, scratch, replace=True)
            return read_parts(scratch, self.target)

    def find_makers(self, differing: Collection[Part]) -> dict[Part, str]:
        """Return the last migration that changed each of the parts.

        The whole schema is read after each migration. That is slow, so only parts that differ are looked up.
        """
        makers = dict[Part, str]()
        if not differing:
            return makers
        before: Parts = {}
        with self.open_scratch() as scratch:
            for name in replay(self.target, self.files, scratch, self.checksums):
                after = read_parts(scratch, self.target)
                makers |= {part: name for part in differing if before.get(part) != after.get(part)}
                before = after
        return makers


def drift(app: App, targets: Sequence[MigrationTarget]) -> Findings:
    """Compare each database with the schema that its applied migrations create in an empty database; writes nothing.

    The ledger itself is not compared.

    Raises:
        MigrationFilesMissingError, LedgerMissingError: the database and the folder do not belong together.
        ReplayFailedError, MigrationInvalidError: a migration cannot be run again.
        DbctlError: a database cannot be read.
    """
    findings: list[Finding] = []
    checked = 0
    for configured in targets:
        with open_for_reading(app, configured) as db:
            state = read_state(configured, db)
            refuse_mismatch(state)
            live_parts = read_parts(db, state.target)
        findings += _find_limitations(state)
        if state.is_empty or not _list_names_to_replay(state):
            continue
        count, differences = find_differences(app, state, live_parts)
        checked += count
        findings += [_create_finding(state.target, difference, maker) for difference, maker in differences]
    findings.sort(key=lambda finding: SEVERITY_ORDER.index(finding.severity))
    return Findings(checked=checked, unit="schema part", findings=findings)


def find_differences(
    app: App, state: DatabaseState, live_parts: Parts
) -> tuple[int, Sequence[tuple[Difference, str]]]:
    """Compare a live schema with the schema that the applied migrations create in an empty database.

    Returns:
        The number of compared parts; each difference with the name of the migration that creates the part, or ''.
    """
    target = state.target
    files = [target.folder.files[name] for name in _list_names_to_replay(state)]
    schema_replay = SchemaReplay(app, target, files, state.checksums)
    expected = schema_replay.read_final_parts()
    differences = [
        difference
        for difference in compare(expected, live_parts)
        if difference.expected or not _is_created_by_app(target, difference.part)
    ]
    searches = [search for search in app.profile.search if search.text and search.database == target.database]
    if differences and searches:
        rebuilt = schema_replay.read_final_parts(searches)
        differences = [
            difference
            for difference in differences
            if live_parts.get(difference.part) != rebuilt.get(difference.part)
        ]
    makers = schema_replay.find_makers([difference.part for difference in differences if difference.expected])
    return len(expected), [(difference, makers.get(difference.part, "")) for difference in differences]


def _is_created_by_app(target: MigrationTarget, part: Part) -> bool:
    """Return whether the profile declares the part as created by the app itself."""
    names = [part.name] if part.kind in ("view", "trigger") else [part.table]
    if part.kind == "column":
        names.append(f"{part.table}.{part.name}")
    if part.kind == "partition":
        names.append(part.name)
    patterns = [pattern.lower() for pattern in target.section.unmanaged]
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in patterns)


def _list_names_to_replay(state: DatabaseState) -> list[str]:
    """Return the names of the migrations to run, without files that a recorded file of the same number replaces."""
    applied = set(state.names_in("applied", "changed"))
    groups = [set(names) for names in state.target.section.one_of if applied.intersection(names)]
    replaced = {name for names in groups for name in names - applied}
    return [name for name in state.names_in("applied", "changed", "baseline") if name not in replaced]


def read_schema(db: Readable) -> Schema:
    """Return the whole live schema.

    Raises:
        NotSupportedError: the engine cannot describe it.
    """
    hint = "The engine cannot describe its whole schema."
    return require_supported(db, db.schema_reader, "comparing schemas", hint).schema()


def read_parts(db: Readable, target: MigrationTarget) -> Parts:
    """Return the parts of the whole live schema without the ledger; raises as ``read_schema``."""
    return split_schema(read_schema(db), target.ledger_tables)


def _find_limitations(state: DatabaseState) -> Iterator[Finding]:
    """Yield the limitations of the comparison: migrations that it could not include, or only with another text."""
    target, names, changed = state.target, _list_names_to_replay(state), state.names_in("changed")

    def limitation(severity: Severity, code: str, message: str, hint: str = "") -> Finding:
        return Finding(target=target.name, severity=severity, code=code, message=message, hint=hint)

    retired = [
        name for name in state.names_in("retired") if state.checksums[name] not in target.section.earlier
    ]
    if retired and not names:
        message = f"nothing was compared: all applied migrations ({', '.join(retired)}) no longer have a file"
        yield limitation("warning", "not-compared", message)
    elif retired:
        message = f"{', '.join(retired)}: the app has removed the file since it was applied; its parts may be reported as extra"
        yield limitation("info", "retired", message)
    for name in changed:
        message = f"{name} changed after it was applied; the current text was compared"
        yield limitation("warning", "changed", message, Remedy("Show details with: `migrate verify`").write())
    for name in names:
        checksum, file = state.checksums.get(name, ""), target.folder.files[name]
        known = {"", file.checksum, *target.section.earlier}
        if name not in changed and checksum not in known and not file.describe_difference(checksum):
            message = f"{name} was applied with an earlier text; the current text was compared"
            yield limitation("info", "superseded-text", message)
    if pending := state.names_in("pending"):
        message = f"{format_count(len(pending), 'migration')} pending; their results are not expected yet"
        yield limitation("info", "pending", message)


def _create_finding(target: MigrationTarget, difference: Difference, maker: str) -> Finding:
    place, expected, actual = difference.place, difference.expected, difference.actual
    if not actual:
        message, hint = f"{place} is missing: {expected}; created by {maker}", MISSING_HINT
    elif not expected:
        message = f"{place} exists, but no migration creates it: {actual}"
        hint = HARMLESS_EXTRA_HINT if difference.severity == "info" else EXTRA_HINT
    else:
        message, hint = f"{place}: {actual} in the database, {expected} by {maker}", CHANGED_HINT
    return Finding(target.name, difference.severity, difference.code, message, hint)
