"""``transfer run``: create the schema, copy the rows; ``transfer verify``: compare the content of both databases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl import progress
from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError, Exit
from dbctl.extensions.transfer.check import refuse_problems
from dbctl.extensions.transfer.compare import MAX_DIFFERENCES, TableComparison, TableDigest, digest_table
from dbctl.extensions.transfer.comparison.differing_rows import RowValues
from dbctl.extensions.transfer.copies import Copy, NativeCopy, drop_refused_copy, open_copy
from dbctl.extensions.transfer.copy import Destination, TransferState, copy_table, has_state, synchronize
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.errors import TransferDestinationMissingError, TransferDifferentError
from dbctl.extensions.transfer.portable.contract import (
    LineColumn,
    RowSource,
    exchange_kind,
    require,
    require_scripts,
)
from dbctl.extensions.transfer.portable.write_lock import WriteProof, WriteProofs
from dbctl.extensions.transfer.schema import SchemaOptions, SchemaOrigin, attach, detach, read_schema
from dbctl.extensions.transfer.tables import TransferTable, pair_columns
from dbctl.extensions.transfer.user_trial import UserTrial, try_new_user
from dbctl.model import ChangeResult, Closing, Effect, Plan, Row, Struct, format_count
from dbctl.services.app.change import Operation

#: The hint of an error during the copy.
CONTINUE = "The source is unchanged, and copied rows remain. Correct the cause, then run the command again."


class TransferredTable(Struct, frozen=True, kw_only=True):
    """One verified table."""

    table: str
    rows: int
    digest: str  #: of the lines of both sides, hexadecimal


class TransferResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer run``."""

    is_timed = True

    source: str
    destination: str
    schema: SchemaOrigin
    tables: Sequence[TransferredTable]
    rows: int
    resumed: bool  #: whether it continued an interrupted transfer
    copy_seconds: float
    verify_seconds: float
    #: generated columns whose values, which the destination computes, are not all those of the source
    computed_differently: Sequence[str]

    @property
    def effect(self) -> Effect | None:
        place, counts = f"to {self.destination}", {"rows equal": self.rows}
        return Effect("copied", "table", count=len(self.tables), place=place, counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        return [
            f"generated column {name} has other values than in the source"
            for name in self.computed_differently
        ]

    def summary(self) -> Sequence[Row]:
        return [{"table": table.table, "rows": table.rows, "digest": table.digest} for table in self.tables]


class RunTransfer(Operation):
    """Copy the rows of a database into an empty database of any engine, or continue an interrupted copy."""

    def __init__(self, endpoints: Endpoints, options: SchemaOptions) -> None:
        super().__init__(endpoints.app, endpoints.target)
        self._endpoints, self._options = endpoints, options

    def plan(self) -> Plan:
        """Return the tables to copy; reads only.

        Raises:
            ValuesUnstorableError: the destination would not accept the copy; a copy that is continued has tried that.
            And as ``plan_transfer``.
        """
        from dbctl.extensions.transfer.plan import plan_transfer

        plan = plan_transfer(self._endpoints, self._options)
        with self._endpoints.open_destination_for_reading() as db:
            if db is None or not has_state(db):
                refuse_problems(self._endpoints.open_source(), plan.problems)
        return plan.to_plan()

    def apply(self, confirmed: str | None = None) -> TransferResult:
        """Copy and verify all tables.

        Raises:
            TransferDestinationError: the destination is not empty.
            ValuesUnstorableError: the destination cannot store some values; no row was copied.
            TransferDifferentError: the destination has other rows after the copy.
        """
        del confirmed  # an empty destination loses nothing
        endpoints = self._endpoints
        source = endpoints.open_source()
        with endpoints.open_destination() as db, require(source, RowSource).snapshot():
            copy = open_copy(endpoints, source, db, self._options)
            copy.require_fit()
            is_adopted = copy.origin == "destination"
            state = endpoints.begin_state(db, copy.fingerprints, copy.drop_statements, is_adopted=is_adopted)
            state.begin_run()
            is_resumed, destination = state.was_interrupted, copy.open(db)
            with drop_refused_copy(db, state, copy):
                _prepare_destination(copy, destination, state)
                tables = copy.list_tables()
                if not state.tables:
                    copy.refuse_problems()
            started = time.monotonic()
            with explain_failure():
                with destination.sink.bulk_load():
                    self._copy(copy.rows, destination, state, tables)
                finish_copy(copy, destination, state)
            copied = time.monotonic()
            digests = verify_digests(endpoints, state, destination.rows, tables)
            computed = find_computed_differences(endpoints, copy, db, tables)
            with db.transaction():
                copy.record_created(state)
            return TransferResult(
                source=str(endpoints.source_url),
                destination=str(endpoints.destination_url),
                schema=copy.origin,
                tables=describe_digests(digests),
                rows=sum(digest.rows for digest in digests.values()),
                resumed=is_resumed,
                copy_seconds=round(copied - started, 3),
                verify_seconds=round(time.monotonic() - copied, 3),
                computed_differently=computed,
            )

    def _copy(
        self, rows: RowSource, destination: Destination, state: TransferState, tables: Sequence[TransferTable]
    ) -> None:
        for table in progress.list_parts(tables, "table"):
            progress.start_stage(f"copying {table.name}")
            copy_table(rows, destination, state, table)
        if state.was_interrupted:
            for table in tables:
                synchronize(rows, destination, state, table)


@contextmanager
def explain_failure() -> Iterator[None]:
    """Change the hint of an error, which assumes that a command is one transaction."""
    try:
        yield
    except DbctlError as error:
        error.hint = CONTINUE
        raise


def _prepare_destination(copy: Copy, destination: Destination, state: TransferState) -> None:
    """Create the schema, or detach what an interrupted copy had attached."""
    if state.phase == "schema":
        copy.create_schema(destination, state)
    else:
        with require_scripts(destination.db).schema_transaction():
            detach(destination, state, indexes=False)


def finish_copy(copy: Copy, destination: Destination, state: TransferState) -> None:
    """Set the sequences, and create indexes, foreign keys and triggers."""
    attach(destination, state)
    copy.set_values(destination)


def verify_digests(
    endpoints: Endpoints, state: TransferState, rows: RowSource, tables: Sequence[TransferTable]
) -> Mapping[str, TableDigest]:
    """Compare each table of the destination with the rows that were read from the source; return the digests.

    Raises:
        TransferDifferentError: a table differs.
    """
    digests = {
        table.name: digest_table(rows, table.name, table.columns)
        for table in progress.list_parts(tables, "table")
    }
    if differing := [name for name, digest in digests.items() if state.tables[name].digest != digest]:
        raise TransferDifferentError(
            target=endpoints.target, tables=", ".join(differing), url=endpoints.destination_url
        )
    return digests


def find_computed_differences(
    endpoints: Endpoints, copy: Copy, destination: Readable, tables: Sequence[TransferTable]
) -> list[str]:
    """Return the generated columns of equal tables that have other values in the destination, whose functions may differ."""
    if isinstance(copy, NativeCopy):  # the same expressions of the same engine
        return []
    known, other = {table.name: table for table in tables}, read_schema(destination)
    result = list[str]()
    for pair in pair_columns(copy.schema.source, other, are_computed=True):
        if table := known.get(pair.table):
            column = LineColumn(name=pair.column, kind=exchange_kind(pair), time_form=endpoints.time_form)
            digests = [
                digest_table(rows, table.name, [*table.key, column])
                for rows in (copy.rows, copy.destination_rows)
            ]
            if digests[0] != digests[1]:
                result.append(f"{pair.table}.{pair.column}")
    return result


def describe_digests(digests: Mapping[str, TableDigest]) -> list[TransferredTable]:
    """Return the digests for output."""
    return [
        TransferredTable(table=name, rows=digest.rows, digest=digest.hexadecimal)
        for name, digest in digests.items()
    ]


#: What a new user is, by outcome.
_TRIALS = {"accepted": "is accepted", "refused": "is refused", "unknown": "could not be tried"}
#: Keys of differing rows in a result.
MAX_KEYS = 20


class VerifiedTable(Struct, frozen=True, kw_only=True):
    """The comparison of one table."""

    table: str
    source_rows: int
    destination_rows: int
    source_digest: str  #: of lines that are equal if both sides have the same values; hexadecimal
    destination_digest: str
    equal: bool
    missing: int  #: rows that only the source has
    changed: int  #: rows with other values
    extra: int  #: rows that only the destination has
    keys: Sequence[Row]  #: the primary keys of the first differing rows
    counted: bool  #: whether all differing rows are counted


class SchemaDifference(Struct, frozen=True, kw_only=True):
    """An object of the schema, or a counter, that differs."""

    kind: str
    name: str
    difference: str


class TransferVerification(Struct, frozen=True, kw_only=True):
    """Result of ``transfer verify``."""

    target: str
    source: str
    destination: str
    equal: bool
    tables: Sequence[VerifiedTable]
    objects: Sequence[SchemaDifference] = ()  #: of the schema
    #: numbers of the destination that are behind its rows, so that new rows fail
    counters: Sequence[str] = ()
    writes: Sequence[WriteProof] = ()  #: after the switch: whether tables of the destination accept new rows
    #: after the switch: whether the destination accepts a new user of the app
    new_user: UserTrial | None = None

    @property
    def closing(self) -> Closing:
        differing = sum(not table.equal for table in self.tables)
        details = [f"{differing} differ" if differing else "all rows equal" if self.objects else "all equal"]
        if self.objects:
            details.append(f"{format_count(len(self.objects), 'object')} of the schema differ")
        if self.counters:
            details.append(f"{format_count(len(self.counters), 'sequence')} behind the rows")
        texts = {"accepted": "accept new rows", "refused": "refuse new rows", "unknown": "could not be tried"}
        for outcome, text in texts.items():
            if count := sum(proof.outcome == outcome for proof in self.writes):
                details.append(f"{count} {text}")
        if self.new_user:
            details.append(f"a new user {_TRIALS[self.new_user.outcome]}")
        return Closing(f"Compared {format_count(len(self.tables), 'table')}", details, is_timed=True)

    @property
    def status(self) -> Exit:
        """The exit code of the command."""
        outcomes = [proof.outcome for proof in self.writes]
        is_refused = "refused" in [*outcomes, self.new_user.outcome if self.new_user else ""]
        return Exit.OK if self.equal and not self.counters and not is_refused else Exit.CHECK_FAILED

    @property
    def remarks(self) -> Sequence[str]:
        """The counters that are behind, the tables that refuse new rows, and what was tried with a new user."""
        refused = [proof for proof in self.writes if proof.outcome == "refused"]
        facts = self.new_user.facts if self.new_user else ()
        return [
            *self.counters,
            *(f"{proof.table} refuses new rows: {proof.reason}" for proof in refused),
            *facts,
        ]

    def summary(self) -> Sequence[Row]:
        fields = ("table", "source_rows", "destination_rows", "equal", "missing", "changed", "extra")
        return [{field: getattr(table, field) for field in fields} for table in self.tables]

    def sections(self) -> Mapping[str, Sequence[object]]:
        return {
            "objects": self.objects,
            "writes": [proof for proof in self.writes if proof.outcome != "accepted"],
        }


def verify_transfer(endpoints: Endpoints, *, tries_writes: bool = True) -> TransferVerification:
    """Compare the schema, the counters, and each table by count, by digest, and by key if they differ.

    A derived schema is compared as far as its statements were run, and with the schema that was copied. After the switch,
    a row of each table with generated keys is inserted and rolled back, and so is a user of the app, if ``tries_writes``.

    Raises:
        TransferDestinationMissingError: the destination does not exist.
        TransferSchemaError: the destination lacks a table or a column.
    """
    source = endpoints.open_source()
    with endpoints.open_destination_for_reading() as destination:
        if destination is None:
            raise TransferDestinationMissingError(url=endpoints.destination_url)
        with require(source, RowSource).snapshot(), require(destination, RowSource).snapshot():
            copy = open_copy(
                endpoints, source, destination, SchemaOptions(is_derived=True, copies_ledgers=False)
            )
            objects = [
                SchemaDifference(kind=kind, name=name, difference=difference)
                for kind, name, difference in copy.compare_schemas()
            ]
            missing = {part.name for part in objects if (part.kind, part.difference) == ("table", "missing")}
            tables = [table for table in copy.list_tables() if copy.name_object(table) not in missing]
            columns = find_missing_columns(source, destination, tables)
            tables = [table for table in tables if table.name not in columns]  # its rows cannot be compared
            objects += [
                SchemaDifference(kind="column", name=f"{table}.{column}", difference="missing")
                for table, names in columns.items()
                for column in names
            ]
            results = [
                verify_table(copy.rows, copy.destination_rows, table)
                for table in progress.list_parts(tables, "table")
            ]
            equal = [table for table, result in zip(tables, results, strict=True) if result.equal]
            objects += [
                SchemaDifference(kind="generated column", name=name, difference="other values")
                for name in find_computed_differences(endpoints, copy, destination, equal)
            ]
        counters, is_switched = find_late_counters(destination), tries_writes and not has_state(destination)
    return TransferVerification(
        target=endpoints.target,
        source=str(endpoints.source_url),
        destination=str(endpoints.destination_url),
        equal=not objects and all(result.equal for result in results),
        tables=results,
        objects=objects,
        counters=counters,
        writes=try_writes(endpoints) if is_switched else (),
        new_user=try_new_user(endpoints) if is_switched else None,
    )


def try_writes(endpoints: Endpoints) -> Sequence[WriteProof]:
    """Try whether the destination accepts new rows; nothing remains of them."""
    try:
        with endpoints.open_destination() as db:
            proofs = db.extension_part(WriteProofs)
            return proofs.try_writes() if proofs else ()
    except DbctlError as error:
        return [WriteProof(table="the database", outcome="refused", reason=str(error))]


def find_missing_columns(
    source: Readable, destination: Readable, tables: Sequence[TransferTable]
) -> Mapping[str, Sequence[str]]:
    """Return the columns of the source that tables of the destination lack, by table."""
    own, other = source.tables(), destination.tables()
    missing = {
        table.name: [name for name in own[table.name].columns if name not in other[table.name].columns]
        for table in tables
        if table.name in own and table.name in other
    }
    return {table: columns for table, columns in missing.items() if columns}


def find_late_counters(db: Readable) -> list[str]:
    """Return the sequences whose next value a row has already."""
    findings = db.checks.schema_findings() if db.checks else ()
    return [finding.message for finding in findings if finding.code == "sequence-behind"]


def verify_table(source: RowSource, destination: RowSource, table: TransferTable) -> VerifiedTable:
    """Compare one table, each side in a snapshot."""
    comparison = TableComparison(source, destination, table)
    left, right = comparison.source, comparison.destination
    differences = comparison.find_differences(MAX_DIFFERENCES, MAX_KEYS)
    keys, counts, values = differences.keys, differences.counts, RowValues(source, table)
    first = [*keys["only a"], *keys["changed"], *keys["only b"]][:MAX_KEYS]
    return VerifiedTable(
        table=table.name,
        source_rows=left.rows,
        destination_rows=right.rows,
        source_digest=left.hexadecimal,
        destination_digest=right.hexadecimal,
        equal=comparison.is_equal,
        missing=counts["only a"],
        changed=counts["changed"],
        extra=counts["only b"],
        keys=list(map(values.describe_key, first)),
        counted=differences.is_complete,
    )
