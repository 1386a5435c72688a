"""``transfer switch``: copy what changed since the copy, while the application is stopped, and end the transfer."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import Readable
from dbctl.errors import SourceChangingError, TransferMissingError, TransferSchemaChangedError
from dbctl.model import ChangeResult, Effect, Plan, Row
from dbctl.services.app import Operation
from dbctl.services.transfer.compare import Advance, digest_table, ignore_rows
from dbctl.services.transfer.copies import Copy, open_copy
from dbctl.services.transfer.copy import Destination, SyncResult, synchronize
from dbctl.services.transfer.endpoints import Endpoints
from dbctl.services.transfer.parts import require_rows, require_scripts
from dbctl.services.transfer.run import (
    TransferredTable,
    describe_digests,
    explain_failure,
    finish_copy,
    verify_digests,
)
from dbctl.services.transfer.schema import SchemaOptions, detach, read_schema
from dbctl.services.transfer.state import TransferState, drop_state, has_state, load_state
from dbctl.services.transfer.tables import TransferTable, list_exclusions, select_tables


class SwitchResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer switch``."""

    is_timed = True

    source: str
    destination: str
    changes: Sequence[SyncResult]  #: what was copied since ``transfer run``, by table
    tables: Sequence[TransferredTable]
    rows: int
    next_steps: Sequence[str]  #: what the admin changes now

    @property
    def effect(self) -> Effect | None:
        counts = {
            "tables": len(self.tables),
            "rows equal": self.rows,
            "changes since the copy": sum(
                change.added + change.changed + change.deleted for change in self.changes
            ),
        }
        return Effect("switched", "database", place=f"to {self.destination}", counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        return self.next_steps

    def summary(self) -> Sequence[Row]:
        changes = {change.table: change for change in self.changes}
        return [
            {
                "table": table.table,
                "rows": table.rows,
                "added": change.added,
                "changed": change.changed,
                "deleted": change.deleted,
                "digest": table.digest,
            }
            for table in self.tables
            for change in [changes.get(table.table, SyncResult(table=table.table))]
        ]


class SwitchTransfer(Operation):
    """Make the destination equal to the source once more, and hand over to it."""

    purpose = "transfer switch"

    def __init__(self, endpoints: Endpoints, *, advance: Advance = ignore_rows) -> None:
        super().__init__(endpoints.app, endpoints.target)
        self._endpoints, self._advance = endpoints, advance

    def plan(self) -> Plan:
        """Return the steps; reads only.

        Raises:
            TransferMissingError: the destination has no finished copy.
        """
        endpoints = self._endpoints
        with endpoints.open_destination_for_reading() as db:
            if db is None or not has_state(db):
                raise TransferMissingError(
                    target=str(endpoints.destination_url), url=endpoints.destination_url
                )
        steps = [
            f"block writers of {endpoints.source_url}, as far as its engine can: the application must be stopped",
            "copy rows that were added, changed or deleted since the copy",
            "compare each table with the source",
            f"remove the state of the transfer from {endpoints.destination_url}",
        ]
        # rows that anything else wrote into the destination since the copy are replaced
        title = f"Switch {self.target} to {endpoints.destination_url}"
        return self._create_plan(title, steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> SwitchResult:
        """Copy the changes, verify, and end the transfer.

        Raises:
            TransferMissingError: the destination has no finished copy.
            TransferSchemaChangedError: the source has another schema than at the copy.
            SourceChangingError: the application still writes to the source.
            TransferDifferentError: the destination has other rows; the transfer is not ended.
        """
        del confirmed  # the plan does not depend on rows
        endpoints = self._endpoints
        self.plan()
        source = endpoints.open_source()
        rows = require_rows(source)
        with rows.block_writers(self._list_tables(source)), endpoints.open_destination(self.purpose) as db:
            state = load_state(db, endpoints.identity)
            if state.phase == "schema":
                raise TransferMissingError(target=db.target, url=endpoints.destination_url)
            with rows.snapshot(), explain_failure():
                copy = open_copy(endpoints, source, db, SchemaOptions(is_derived=True, copies_ledgers=False))
                if copy.fingerprint != state.fingerprint:
                    raise TransferSchemaChangedError(target=self.target, url=endpoints.destination_url)
                destination, tables = copy.open(db), copy.list_tables()
                changes = self._catch_up(copy, destination, state, tables)
            with rows.snapshot():  # of a later state, in which nothing may have changed
                changing = [
                    table.name
                    for table in tables
                    if digest_table(copy.rows, table.name, table.columns, advance=self._advance)
                    != state.tables[table.name].digest
                ]
            if changing:
                raise SourceChangingError(target=self.target, tables=", ".join(changing))
            digests = verify_digests(endpoints, state, destination.rows, tables, self._advance)
            drop_state(db)
        return SwitchResult(
            source=str(endpoints.source_url),
            destination=str(endpoints.destination_url),
            changes=changes,
            tables=describe_digests(digests),
            rows=sum(digest.rows for digest in digests.values()),
            next_steps=self._describe_next_steps(),
        )

    def _list_tables(self, source: Readable) -> list[str]:
        exclusions = list_exclusions(self._endpoints.app, self._endpoints.database, source)
        return [table.name for table in select_tables(read_schema(source), exclusions)]

    def _catch_up(
        self,
        copy: Copy,
        destination: Destination,
        state: TransferState,
        tables: Sequence[TransferTable],
    ) -> list[SyncResult]:
        """Make all tables equal to the snapshot, without constraints between them until the end."""
        db = destination.db
        with require_scripts(db).schema_transaction():
            detach(destination, state, indexes=False)
            state.enter_phase("copy")
        changes = list[SyncResult]()
        with destination.sink.bulk_load():
            for table in tables:
                if change := synchronize(copy.rows, destination, state, table, self._advance):
                    changes.append(change)
        finish_copy(copy, destination, state)
        return changes

    def _describe_next_steps(self) -> list[str]:
        endpoints = self._endpoints
        name, url = endpoints.database, endpoints.destination_url
        steps = [f'set {name} = "{url}" in [apps.{self.app}.databases] of the configuration']
        environment = endpoints.app.database(name).environment
        if environment and environment.url:
            steps.append(f"set {environment.url} of the app to the new address")
        steps.append(f"to go back, start the app with {endpoints.source_url}, which is unchanged")
        return steps
