"""``transfer run``: create the schema, copy the rows, verify them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl import progress
from dbctl.engines.contract.portable import RowSource
from dbctl.errors.base import DbctlError
from dbctl.errors.transfer import TransferDifferentError
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct
from dbctl.services.app.change import Operation
from dbctl.services.transfer.compare import Advance, TableDigest, digest_table, ignore_rows
from dbctl.services.transfer.copies import Copy, drop_refused_copy, open_copy
from dbctl.services.transfer.copy import Destination, copy_table, synchronize
from dbctl.services.transfer.endpoints import Endpoints
from dbctl.services.transfer.parts import require_rows, require_scripts
from dbctl.services.transfer.schema import (
    SchemaOptions,
    SchemaOrigin,
    attach,
    detach,
)
from dbctl.services.transfer.state import TransferState
from dbctl.services.transfer.tables import TransferTable

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

    @property
    def effect(self) -> Effect | None:
        place, counts = f"to {self.destination}", {"rows equal": self.rows}
        return Effect("copied", "table", count=len(self.tables), place=place, counts=counts)

    def summary(self) -> Sequence[Row]:
        return [{"table": table.table, "rows": table.rows, "digest": table.digest} for table in self.tables]


class RunTransfer(Operation):
    """Copy the rows of a database into an empty database of any engine, or continue an interrupted copy."""

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
        with endpoints.open_destination() as db, require_rows(source).snapshot():
            copy = open_copy(endpoints, source, db, self._options)
            copy.require_fit()
            state = endpoints.begin_state(
                db, copy.fingerprints, lambda: copy.drop_statements(db), is_adopted=copy.is_adopted
            )
            state.begin_run()
            is_resumed, destination = state.was_interrupted, copy.open(db)
            with drop_refused_copy(db, state, copy):
                _prepare_destination(copy, destination, state)
                tables = copy.list_tables()
                if not state.tables:
                    copy.refuse_problems(db, tables)
            started = time.monotonic()
            with explain_failure():
                with destination.sink.bulk_load():
                    self._copy(copy.rows, destination, state, tables)
                finish_copy(copy, destination, state)
            copied = time.monotonic()
            digests = verify_digests(endpoints, state, destination.rows, tables, self._advance)
            with db.transaction():
                copy.record_created(db, state)
            return TransferResult(
                source=str(endpoints.source_url),
                destination=str(endpoints.destination_url),
                schema=copy.origin,
                tables=describe_digests(digests),
                rows=sum(digest.rows for digest in digests.values()),
                resumed=is_resumed,
                copy_seconds=round(copied - started, 3),
                verify_seconds=round(time.monotonic() - copied, 3),
            )

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


def _prepare_destination(copy: Copy, destination: Destination, state: TransferState) -> None:
    """Create the schema, or detach what an interrupted copy had attached."""
    if state.phase == "schema":
        copy.create_schema(destination.db, state)
    else:
        with require_scripts(destination.db).schema_transaction():
            detach(destination, state, indexes=False)


def finish_copy(copy: Copy, destination: Destination, state: TransferState) -> None:
    """Set the sequences, and create indexes, foreign keys and triggers."""
    attach(destination, state)
    copy.set_values(destination.db)


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
        raise TransferDifferentError(
            target=endpoints.target, tables=", ".join(differing), url=endpoints.destination_url
        )
    return digests


def describe_digests(digests: Mapping[str, TableDigest]) -> list[TransferredTable]:
    """Return the digests for output."""
    return [
        TransferredTable(table=name, rows=digest.rows, digest=digest.hexadecimal)
        for name, digest in digests.items()
    ]
