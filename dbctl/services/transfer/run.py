"""``transfer run``: create the schema, copy the rows, verify them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl import progress
from dbctl.engines.contract import Readable, RowSource, Writable
from dbctl.errors import DbctlError, TransferDifferentError
from dbctl.model import ChangeResult, Closing, Plan, Row, Struct, format_count
from dbctl.services.app import Operation
from dbctl.services.transfer.check import refuse_unstorable_values
from dbctl.services.transfer.copy import Destination, copy_table, synchronize
from dbctl.services.transfer.digest import Advance, TableDigest, digest_table, ignore_rows
from dbctl.services.transfer.endpoints import Endpoints
from dbctl.services.transfer.parts import require_rows, require_schemas, require_scripts
from dbctl.services.transfer.schema import (
    SchemaOptions,
    SchemaOrigin,
    TransferSchema,
    attach,
    create_schema,
    derive_schema,
    detach,
    read_schema,
    select_schema,
)
from dbctl.services.transfer.state import TransferState
from dbctl.services.transfer.tables import TransferTable, build_tables, list_exclusions
from dbctl.services.transfer.values import pair_columns

#: The hint of an error during the copy.
CONTINUE = "The source is unchanged, and copied rows remain. Correct the cause, then run the command again."


class TransferredTable(Struct, frozen=True, kw_only=True):
    """One verified table."""

    table: str
    rows: int
    digest: str  #: of the content, equal on every engine; hexadecimal


class TransferResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer run``."""

    source: str
    destination: str
    schema: SchemaOrigin
    tables: Sequence[TransferredTable]
    rows: int
    resumed: bool  #: whether it continued an interrupted transfer
    copy_seconds: float
    verify_seconds: float

    @property
    def closing(self) -> Closing:
        details = [format_count(len(self.tables), "table"), f"{format_count(self.rows, 'row')} equal"]
        return Closing(f"Copied to {self.destination}", details, is_timed=True)

    def summary(self) -> Sequence[Row]:
        return [{"table": table.table, "rows": table.rows, "digest": table.digest} for table in self.tables]


class RunTransfer(Operation):
    """Copy the rows of a database into an empty database of any engine, or continue an interrupted copy."""

    purpose = "transfer run"

    def __init__(
        self, endpoints: Endpoints, options: SchemaOptions, *, advance: Advance = ignore_rows
    ) -> None:
        super().__init__(endpoints.app, endpoints.target)
        self._endpoints, self._options, self._advance = endpoints, options, advance

    def plan(self) -> Plan:
        """Return the tables to copy; reads only."""
        from dbctl.services.transfer.plan import plan_transfer

        return plan_transfer(self._endpoints, self._options).to_plan()

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
        with endpoints.open_destination(self.purpose) as db, require_rows(source).snapshot():
            state = endpoints.begin_state(db)
            state.begin_run()
            is_resumed = state.was_interrupted
            schema = self._create_schema(source, db, state)
            destination = Destination.open(db)
            tables = pair_tables(endpoints, schema, db)
            if not state.tables:
                refuse_unstorable_values(source, db, tables)
            started = time.monotonic()
            with explain_failure():
                with destination.sink.bulk_load():
                    self._copy(require_rows(source), destination, state, tables)
                finish_copy(source, db, state)
            copied = time.monotonic()
            digests = verify_digests(endpoints, state, destination.rows, tables, self._advance)
            with db.transaction():
                state.enter_phase("copied")
            return TransferResult(
                source=str(endpoints.source_url),
                destination=str(endpoints.destination_url),
                schema=schema.origin,
                tables=describe_digests(digests),
                rows=sum(digest.rows for digest in digests.values()),
                resumed=is_resumed,
                copy_seconds=round(copied - started, 3),
                verify_seconds=round(time.monotonic() - copied, 3),
            )

    def _create_schema(self, source: Readable, db: Writable, state: TransferState) -> TransferSchema:
        endpoints = self._endpoints
        exclusions = list_exclusions(endpoints.app, endpoints.database, source)
        schema = select_schema(endpoints, source, exclusions, self._options)
        if state.phase == "schema":
            if not schema.migrations:
                schema, _ = derive_schema(schema, db)
            create_schema(schema, db, state)
        elif state.phase != "copy":
            with require_scripts(db).schema_transaction():
                detach(db, state, indexes=False)
                state.enter_phase("copy")
        return schema

    def _copy(
        self, rows: RowSource, destination: Destination, state: TransferState, tables: Sequence[TransferTable]
    ) -> None:
        for table in progress.list_parts(tables, "table"):
            progress.start_stage(f"copying {table.name}")
            copy_table(rows, destination, state, table, self._advance)
        if state.was_interrupted:
            for table in tables:
                synchronize(rows, destination, state, table, self._advance)


@contextmanager
def explain_failure() -> Iterator[None]:
    """Change the hint of an error, which assumes that a command is one transaction."""
    try:
        yield
    except DbctlError as error:
        error.hint = CONTINUE
        raise


def pair_tables(endpoints: Endpoints, schema: TransferSchema, db: Readable) -> list[TransferTable]:
    """Return the tables with the columns of both sides.

    Raises:
        TransferSchemaError: the destination lacks a table or a column.
    """
    pairs = pair_columns(schema.source, read_schema(db))
    target = endpoints.destination.target(endpoints.database)
    return build_tables(schema.source.tables, pairs, time_form=endpoints.time_form, target=target)


def finish_copy(source: Readable, db: Writable, state: TransferState) -> None:
    """Set the sequences, and create indexes, foreign keys and triggers."""
    with db.transaction():
        state.enter_phase("finish")
    attach(db, state)
    scripts = require_scripts(db)
    numbers = require_schemas(source).read_counters()
    with scripts.schema_transaction():
        for sql in require_schemas(db).set_counters(numbers):
            scripts.run_statement(sql)


def verify_digests(
    endpoints: Endpoints,
    state: TransferState,
    rows: RowSource,
    tables: Sequence[TransferTable],
    advance: Advance,
) -> Mapping[str, TableDigest]:
    """Compare each table of the destination with the rows that were read from the source; return the digests.

    Raises:
        TransferDifferentError: a table differs.
    """
    digests = {
        table.name: digest_table(rows, table.name, table.columns, advance=advance)
        for table in progress.list_parts(tables, "table")
    }
    if differing := [name for name, digest in digests.items() if state.tables[name].digest != digest]:
        raise TransferDifferentError(target=endpoints.target, tables=", ".join(differing))
    return digests


def describe_digests(digests: Mapping[str, TableDigest]) -> list[TransferredTable]:
    """Return the digests for output."""
    return [
        TransferredTable(table=name, rows=digest.rows, digest=digest.hexadecimal)
        for name, digest in digests.items()
    ]
