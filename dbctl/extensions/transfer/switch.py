"""``transfer switch``: keep the writers of the source out, copy what changed since the copy, and end the transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbctl.errors.base import DbctlError, Remedy
from dbctl.extensions.transfer.compare import digest_table
from dbctl.extensions.transfer.copies import Copy, open_copy
from dbctl.extensions.transfer.copy import (
    Destination,
    SyncResult,
    TransferState,
    drop_state,
    has_state,
    load_state,
    synchronize,
)
from dbctl.extensions.transfer.endpoints import Endpoints, name_options
from dbctl.extensions.transfer.errors import (
    SourceChangingError,
    TransferLedgerError,
    TransferMissingError,
    TransferSchemaChangedError,
)
from dbctl.extensions.transfer.portable.contract import RowSource, require, require_scripts
from dbctl.extensions.transfer.portable.write_lock import WriteLock
from dbctl.extensions.transfer.run import (
    TransferredTable,
    describe_digests,
    explain_failure,
    finish_copy,
    verify_digests,
)
from dbctl.extensions.transfer.schema import SchemaOptions, detach
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.model import ChangeResult, Effect, Plan, Row, join_first
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation, retry_conflicts

UNLOCK = Remedy("`transfer switch --unlock`")
#: Changes of the schema that an error names.
MAX_CHANGES = 5
#: Of the schema that was copied.
OPTIONS = SchemaOptions(is_derived=True, copies_ledgers=False)


class SwitchResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer switch``."""

    is_timed = True

    source: str
    destination: str
    changes: Sequence[SyncResult]  #: what was copied since ``transfer run``, by table
    tables: Sequence[TransferredTable]
    rows: int
    locked: Sequence[str]  #: the tables of the source that refuse writes
    next_steps: Sequence[str]  #: what the admin changes now

    @property
    def effect(self) -> Effect | None:
        counts = {
            "tables": len(self.tables),
            "rows equal": self.rows,
            "changes since the copy": sum(
                change.added + change.changed + change.deleted for change in self.changes
            ),
            "tables of the source locked": len(self.locked),
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
    """Make the destination equal to the source once more, and hand over to it.

    The tables of the source refuse writes from the beginning, and also afterwards: a write that another session was about to
    make is copied or refused, but not left behind.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(endpoints.app, endpoints.target)
        self._endpoints = endpoints

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
        lock = require(endpoints.open_source(), WriteLock)
        steps = [
            f"make all tables of {endpoints.source_url} refuse writes, until {UNLOCK.write(self.app)}; not refused: {lock.exceptions}",
            "copy rows that were added, changed or deleted since the copy",
            "compare each table with the source",
            f"remove the state of the transfer from {endpoints.destination_url}",
        ]
        # rows that anything else wrote into the destination since the copy are replaced
        title = f"Switch {self.target} to {endpoints.destination_url}"
        return self._create_plan(title, steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> SwitchResult:
        """Copy the changes, verify, and end the transfer.

        If it fails, the source accepts writes again.

        Raises:
            TransferMissingError: the destination has no finished copy.
            TransferSchemaChangedError: the source has another schema than at the copy.
            TransferLedgerError: the ledgers of the app's migrations differ.
            SourceChangingError: the source was changed in a way that its engine cannot refuse.
            TransferDifferentError: the destination has other rows; the transfer is not ended.
        """
        del confirmed  # the plan does not depend on rows
        endpoints = self._endpoints
        self.plan()
        with self._keep_writers_out() as locked, endpoints.open_destination() as db:
            source = endpoints.open_source()
            rows = require(source, RowSource)
            state = load_state(db, endpoints.identity)
            if state.phase == "schema":
                raise TransferMissingError(target=db.target, url=endpoints.destination_url)
            with rows.snapshot():
                copy = open_copy(endpoints, source, db, OPTIONS)
                self._refuse_schema_changes(copy, state)
                for ledger, difference in copy.compare_ledgers():
                    raise TransferLedgerError(
                        ledger=ledger, difference=difference, url=endpoints.destination_url
                    )
                destination, tables = copy.open(db), copy.list_tables()
                with explain_failure():
                    changes = self._catch_up(copy, destination, state, tables)
            with rows.snapshot():  # of a later state, in which nothing may have changed
                self._refuse_schema_changes(open_copy(endpoints, source, db, OPTIONS), state)
                changing = [
                    table.name
                    for table in tables
                    if digest_table(copy.rows, table.name, table.columns) != state.tables[table.name].digest
                ]
            if changing:
                raise SourceChangingError(target=self.target, tables=", ".join(changing))
            digests = verify_digests(endpoints, state, destination.rows, tables)
            with require_scripts(db).schema_transaction():
                destination.create(copy.final)
            drop_state(db)
        return SwitchResult(
            source=str(endpoints.source_url),
            destination=str(endpoints.destination_url),
            changes=changes,
            tables=describe_digests(digests),
            rows=sum(digest.rows for digest in digests.values()),
            locked=locked,
            next_steps=self._describe_next_steps(),
        )

    @contextmanager
    def _keep_writers_out(self) -> Iterator[Sequence[str]]:
        """Lock the source, and unlock it if the block fails; yield the locked tables."""
        endpoints = self._endpoints
        try:
            with endpoints.app.writer(endpoints.database) as source:
                lock = require(source, WriteLock)
                retry_conflicts(lock.lock)
                locked = lock.list_locked()
            yield locked
        except BaseException as error:
            try:
                self._unlock()
            except DbctlError:
                if isinstance(error, DbctlError):
                    error.hint = f"The source may refuse writes; allow them with: {UNLOCK.write(self._endpoints.app.name)}"
            raise

    def _unlock(self) -> None:
        endpoints = self._endpoints
        with endpoints.app.writer(endpoints.database) as source:
            retry_conflicts(require(source, WriteLock).unlock)

    def _refuse_schema_changes(self, copy: Copy, state: TransferState) -> None:
        if changes := state.list_schema_changes(copy.fingerprints):
            raise TransferSchemaChangedError(
                target=self.target,
                changes=join_first(changes, MAX_CHANGES),
                url=self._endpoints.destination_url,
            )

    def _catch_up(
        self, copy: Copy, destination: Destination, state: TransferState, tables: Sequence[TransferTable]
    ) -> list[SyncResult]:
        """Make all tables equal to the snapshot, without constraints between them until the end."""
        db = destination.db
        with require_scripts(db).schema_transaction():
            detach(destination, state, indexes=False)
        changes = list[SyncResult]()
        with destination.sink.bulk_load():
            for table in tables:
                if change := synchronize(copy.rows, destination, state, table):
                    changes.append(change)
        finish_copy(copy, destination, state)
        return changes

    def _describe_next_steps(self) -> list[str]:
        endpoints = self._endpoints
        name, url = endpoints.database, endpoints.destination_url
        steps = [
            f'set {name} = "{url.command_text}"{name_options(url)} in [apps.{self.app}.databases] of the configuration'
        ]
        environment = endpoints.app.database(name).environment
        if environment and environment.url:
            steps.append(f"set {environment.url} of the app to the new address")
        steps.append(
            f"{endpoints.source_url} refuses writes; to go back, run {UNLOCK.write(self.app)} with this address, and start the app with it"
        )
        return steps


class UnlockResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer switch --unlock``."""

    source: str
    tables: Sequence[str]  #: that refused writes

    @property
    def effect(self) -> Effect | None:
        if not self.tables:
            return None
        return Effect("unlocked", "table", count=len(self.tables), place=f"of {self.source}")

    def summary(self) -> Sequence[Row]:
        return [{"table": table} for table in self.tables]


class UnlockSource(Operation):
    """Let the tables of a database accept writes that a switch made refuse them."""

    def __init__(self, app: App) -> None:
        self._database = app.only or app.main_database
        super().__init__(app, app.target(self._database))

    def plan(self) -> Plan:
        """Return the locked tables; reads only."""
        tables = require(self._app.reader(self._database), WriteLock).list_locked()
        steps = [f"let {table} accept writes" for table in tables]
        return self._create_plan(f"Unlock {self.target}", steps)

    def apply(self, confirmed: str | None = None) -> UnlockResult:
        """Unlock all tables.

        Raises:
            BusyError: a session used a table until the timeout.
        """
        del confirmed  # no row is lost
        with self._app.writer(self._database) as db:
            lock = require(db, WriteLock)
            tables = lock.list_locked()
            retry_conflicts(lock.unlock)
        return UnlockResult(source=str(self._app.url(self._database)), tables=tables)
