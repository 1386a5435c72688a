"""``migrate baseline``: create a ledger and record the migrations whose results the schema already contains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple, cast

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.migrations import MigrationsMismatchError
from dbctl.errors.usage import PlanChangedError
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.migrations.drift import SchemaReplay, read_parts
from dbctl.services.migrations.execution.executor import create_missing_ledger, require_script_runner
from dbctl.services.migrations.execution.plan import state_done
from dbctl.services.migrations.execution.run import replay
from dbctl.services.migrations.files.loader import MigrationFile
from dbctl.services.migrations.ledger.ledger import MigrationTarget, read_records
from dbctl.services.migrations.ledger.state import DatabaseState, NamedMigration, match_variants, read_state
from dbctl.services.migrations.schema_diff import Difference, Parts, compare, describe_difference

#: Differences that an error message lists before it counts the others.
MAX_LISTED_DIFFERENCES = 40
#: The schema is compared after the last migration; while none matches, after this many times as many of the last ones.
#: A comparison after each of thousands of migrations would take too long.
SEARCH_FACTOR = 8


class BaselinedMigration(NamedMigration, frozen=True, kw_only=True):
    """One migration that was recorded without being run."""


class BaselineResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``migrate baseline``."""

    items: Sequence[BaselinedMigration]
    #: between the live schema and the result of these migrations; ``migrate drift`` lists them
    differences: int

    @property
    def effect(self) -> Effect | None:
        if not self.items:
            return None
        counts = {"differences": self.differences}
        return Effect("recorded", "migration", count=len(self.items), place="as applied", counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        if not self.differences:
            return ()
        return [
            Remedy("{count} from the result of these migrations. List them with: `migrate drift`").write(
                facts={"count": format_count(self.differences, "difference")}
            )
        ]

    def summary(self) -> Sequence[dict[str, object]]:
        return [{"database": migration.database, "name": migration.name} for migration in self.items]


class _SchemaMatch(Struct, frozen=True):
    """The migrations whose results a live schema contains."""

    files: Sequence[MigrationFile]
    differences: int
    recorded_names: frozenset[str] = frozenset()  #: that another runner's ledger records, too


class Baseline(Operation):
    """Record migrations as applied in every database that has tables and no ledger."""

    def __init__(self, app: App, targets: Sequence[MigrationTarget]) -> None:
        super().__init__(app, targets[0].name if len(targets) == 1 else "")
        self._targets = targets

    def plan(self) -> Plan:
        """Return the migrations to record. They run in a scratch database; the live database is only read.

        Raises:
            MigrationsMismatchError: the live schema does not contain the result of the first migration.
        """
        steps: list[str] = []
        rows: dict[str, int] = {}
        for target, match in self._match_targets():
            table = target.ledger.table
            if table not in self._app.reader(target.database).tables():
                steps.append(f"create the ledger {table} in {target.database}")
            steps += [
                f"record {file.name} as applied without running it: the schema contains its result"
                + (
                    f", and the ledger of {target.foreign.runner} records it"
                    if target.foreign and file.name in match.recorded_names
                    else ""
                )
                for file in match.files
            ]
            rows[table] = rows.get(table, 0) + len(match.files)
        return self._create_plan("Record a baseline", steps, rows)

    def apply(self, confirmed: str | None = None) -> BaselineResult:
        """Create each ledger with its rows in one transaction.

        Raises:
            PlanChangedError: a ledger was created in a database since the plan.
        """
        del confirmed  # no confirmation: nothing is destroyed
        done: list[BaselinedMigration] = []
        differences = 0
        for target, match in self._match_targets():
            try:
                self._record(target, match.files)
            except DbctlError as error:
                state_done(error, target, done)
                raise
            done += [
                BaselinedMigration(
                    app=target.app, database=target.database, version=file.version, name=file.name
                )
                for file in match.files
            ]
            differences += match.differences
        return BaselineResult(items=done, differences=differences)

    def _record(self, target: MigrationTarget, files: Sequence[MigrationFile]) -> None:
        with self._app.writer(target.database) as db, require_script_runner(db).schema_transaction():
            if target.ledger.table in db.tables() and read_records(target, db):
                raise PlanChangedError(target=target.name)
            ledger = create_missing_ledger(target, db)
            for file in files:
                db.insert(ledger.table.name, ledger.create_row(file, 0))

    def _match_targets(self) -> list[tuple[MigrationTarget, _SchemaMatch]]:
        matches = []
        for configured in self._targets:
            db = self._app.reader(configured.database, allow_empty=True)
            state = read_state(configured, db)
            target = state.target
            if target.foreign or not (state.has_ledger or state.is_empty):
                target, match = _select_variant(self._app, target, requested=configured.variant)
                if target.foreign:
                    _refuse_disagreement(target, target.foreign.runner, state, match)
                    match = structs.replace(match, recorded_names=frozenset(_list_recorded_names(state)))
                matches.append((target, match))
        return matches


def _list_recorded_names(state: DatabaseState) -> list[str]:
    """Return the names of the migrations that a ledger records as applied or failed."""
    return state.names_in("applied", "baseline", "failed")


def _refuse_disagreement(
    target: MigrationTarget, runner: str, state: DatabaseState, match: _SchemaMatch
) -> None:
    """Refuse a database whose schema and the ledger of another runner disagree.

    Raises:
        MigrationsMismatchError: the message names the first migration in which they differ.
    """
    recorded_names = _list_recorded_names(state)
    contained_names = {file.name for file in match.files}
    # A ledger without any of the file names, such as that of programs, cannot be compared.
    for name in target.folder.files if any(name in recorded_names for name in target.folder.files) else ():
        if (name in recorded_names) != (name in contained_names):
            difference = (
                f"{runner} records {name}, but the schema does not contain its result"
                if name in recorded_names
                else f"the schema contains the result of {name}, but {runner} does not record it"
            )
            raise _create_mismatch(target, difference, 1)


def _select_variant(
    app: App, target: MigrationTarget, *, requested: str
) -> tuple[MigrationTarget, _SchemaMatch]:
    """Return the migrations of the variant that the live schema has, and the match.

    Variants whose required tables exist are tried first, because a small variant may match the schema of a larger one.
    Of several variants that match, the one with the fewest differences is returned.

    Raises:
        MigrationsMismatchError: no variant matches; the message is about the variant with the fewest differences.
    """
    db = app.reader(target.database)
    live_parts = read_parts(db, target)
    refusals: list[MigrationsMismatchError] = []
    for group in [[requested]] if requested or not target.variant_folders else _rank_variants(target, db):
        matches: list[tuple[MigrationTarget, _SchemaMatch]] = []
        for variant in group:
            for candidate in _iterate_candidates(target, variant):
                try:
                    matches.append((candidate, _match_schema(app, candidate, live_parts)))
                except MigrationsMismatchError as error:
                    refusals.append(error)
            if any(not match.differences for _, match in matches):
                break
        if matches:
            return min(matches, key=lambda candidate: (candidate[1].differences, -len(candidate[1].files)))
    raise min(refusals, key=lambda error: cast("int", error.context["count"]))


def _rank_variants(target: MigrationTarget, db: Readable) -> Sequence[Sequence[str]]:
    """Return the largest variant of each folder, in two groups: required tables exist, required tables are missing."""
    variants = target.section.variant
    present = set(match_variants(variants, target.variant_folders, db, ()))
    likely = {variant.directory for variant in variants if variant.name in present}
    directories = {variant.name: variant.directory for variant in variants}
    # the variant with the most migrations of each folder, in the order of the profile
    largest: dict[str, str] = {}
    for name, folder in target.variant_folders.items():
        other = target.variant_folders.get(largest.get(directories[name], ""))
        if other is None or len(folder.files) > len(other.files):
            largest[directories[name]] = name
    return [
        [name for directory, name in largest.items() if (directory in likely) is is_likely]
        for is_likely in (True, False)
    ]


def _iterate_candidates(target: MigrationTarget, variant: str) -> Iterator[MigrationTarget]:
    """Yield the migrations of a variant, once for each selection of files that share a number.

    The app runs one of the files that share a number.
    """
    if variant:
        target = structs.replace(target, variant=variant, folder=target.variant_folders[variant])
    files = target.folder.files
    groups = [[name for name in names if name in files] for names in target.section.one_of]
    for selected in product(*filter(None, groups)):
        alternatives = {name for names in groups for name in names}.difference(selected)
        remaining = {name: file for name, file in files.items() if name not in alternatives}
        yield structs.replace(target, folder=structs.replace(target.folder, files=remaining))


def _match_schema(app: App, target: MigrationTarget, live_parts: Parts) -> _SchemaMatch:
    """Return the first migrations of a folder, up to the last one whose result the live schema contains.

    The schema contains the result if no part of it is missing or different. A missing index is accepted, unless a
    migration creates indexes only and all of them are missing.

    Raises:
        MigrationsMismatchError: no migration matches, or the schema contains only a part of the migrations after the match.
    """
    compared_count = 1  # usually all were applied
    while (
        trial := _run_and_compare(app, target, live_parts, compared_count)
    ).match is None and compared_count < len(target.folder.files):
        compared_count *= SEARCH_FACTOR
    partial_tables = [
        part.table
        for part in trial.expected_parts
        if part.kind == "table" and part in live_parts and part not in trial.matched_parts
    ]
    if trial.match is None:
        listed = "; ".join(map(describe_difference, trial.missing[:MAX_LISTED_DIFFERENCES]))
        omitted = len(trial.missing) - MAX_LISTED_DIFFERENCES
        listed += f"; and {omitted} more" if omitted > 0 else ""
        raise _create_mismatch(target, listed or "the folder has no migrations", len(trial.missing))
    if partial_tables:
        last_match, tables = trial.match.files[-1].name, ", ".join(partial_tables)
        reason = f"migrations after {last_match} are partly applied: table {tables}"
        raise _create_mismatch(target, reason, len(partial_tables))
    return trial.match


def _create_mismatch(target: MigrationTarget, differences: str, count: int) -> MigrationsMismatchError:
    return MigrationsMismatchError(
        target=target.name, folder=target.folder.path, differences=differences, count=count
    )


class _TrialRun(NamedTuple):
    """Result of running the migrations of a folder in a scratch database."""

    match: _SchemaMatch | None  #: up to the last migration that matches
    matched_parts: Parts  #: parts that these create
    expected_parts: Parts  #: parts that all migrations create
    missing: Sequence[Difference]  #: errors of the first migration that does not match


def _run_and_compare(app: App, target: MigrationTarget, live_parts: Parts, compared_count: int) -> _TrialRun:
    """Run the migrations of a folder; after each of the last ``compared_count`` ones, compare the result with the live schema."""
    match: _SchemaMatch | None = None
    missing: list[Difference] = []
    applied: list[MigrationFile] = []
    matched_parts: Parts = {}
    expected: Parts = {}
    files = list(target.folder.files.values())
    with SchemaReplay(app, target, files).open_scratch() as scratch:
        for number, name in enumerate(replay(target, files, scratch), 1 - (len(files) - compared_count)):
            applied.append(target.folder.files[name])
            if number < 0:
                continue
            before, expected = expected, read_parts(scratch, target)
            if not number:  # the state before the first migration to compare
                continue
            new_parts = [
                part
                for part, value in expected.items()
                if before.get(part) != value and not (part.kind == "table" and part in before)
            ]
            differences = list(compare(expected, live_parts))
            errors = [difference for difference in differences if difference.severity == "error"]
            if not errors and (
                not new_parts or any(live_parts.get(part) != before.get(part) for part in new_parts)
            ):
                # Parts of later migrations exist, too; they are not differences yet.
                count = sum(bool(difference.expected) for difference in differences)
                match, matched_parts = _SchemaMatch(list(applied), count), expected
            missing = missing or errors
    return _TrialRun(match, matched_parts, expected, missing)
