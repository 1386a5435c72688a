"""Record the writes of one command: an intent before each commit, and its outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from dbctl.config.model import AuditConfig
from dbctl.errors.operations import AuditUnavailableError
from dbctl.model import Struct, now
from dbctl.services.events.changes.log import append_changes, note_gap, read_anchor_file, settle_gap
from dbctl.services.events.changes.records import COMMITTED, FAILED, Anchor, TableChange, read_key
from dbctl.services.events.store import EventStore, storable_text

#: Values of the author that are omitted.
_EMPTY: tuple[object, ...] = ("", None, [])


class Author(Struct, frozen=True, kw_only=True):
    """Who runs which command."""

    user: str
    host: str
    command: str
    sudo_user: str = ""
    acting_as: str = ""
    arguments: Sequence[str] = ()  #: without secrets
    config: str = ""
    run: int | None = None  #: the id of the run in the journal


class OperationRecorder:
    """Writes the records of one command; a failure is a warning, unless the audit log is required."""

    def __init__(
        self,
        store: EventStore | None,
        author: Author,
        settings: AuditConfig,
        *,
        app: str,
        find_address: Callable[[str], str],
        warn: Callable[[str], None],
        receive_anchor: Callable[[Anchor], None] = lambda _anchor: None,
        outcomes: list[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write nothing yet.

        Args:
            store: has the log; None: there is no directory for it.
            author: who runs the command.
            settings: of the configuration.
            app: the name of the app.
            find_address: returns where a database of the app is, by its name.
            warn: receives the first failure.
            receive_anchor: receives the end of the log after each record.
            outcomes: of operations, which are recorded with the next operation or the end of the run; None: at once.
        """
        self._store, self._author, self._app, self.settings = store, author, app, settings
        self._find_address = find_address
        self._warn, self._receive_anchor, self._outcomes = warn, receive_anchor, outcomes
        self._has_warned = False
        #: the warning that the change that was begun is not in the log, once it is made
        self._unrecorded = ""
        self._gap: Path | None = None  #: the file that notes it
        self._key: bytes | None = None
        self.undoes: int | None = None  #: the operation that the command reverts

    def begin(
        self, databases: Sequence[str], create_changes: Callable[[], Sequence[TableChange]] | None = None
    ) -> int | None:
        """Record the changes that will be committed, and sync the log.

        Args:
            databases: the names of the databases that are written.
            create_changes: returns the changes; None: they are not known. Without any change, nothing is recorded.

        Returns:
            The number of the operation; None: nothing was recorded.

        Raises:
            AuditUnavailableError: it was not recorded, and the audit log is required.
        """
        try:
            changes = create_changes() if create_changes else []
        except AuditUnavailableError as error:
            self._refuse_or_report(error, is_required=True)
            return None
        if create_changes and not changes:
            return None
        author = {name: value for name, value in _to_builtins(self._author).items() if value not in _EMPTY}
        record = {"kind": "intent", "operation": 0, "app": self._app, "databases": databases}
        record["addresses"] = {name: self._find_address(name) for name in databases}
        return self._append({**author, **record, "changes": changes}, is_required=True)

    def end(
        self,
        operation: int | None,
        result: str,
        databases: Sequence[str],
        rows: Mapping[str, int] | None = None,
        *,
        is_unchanged: bool = False,
    ) -> None:
        """Record the result of an operation in databases; without a record of its beginning, warn unless nothing was changed."""
        if operation is None:
            if not is_unchanged:
                self._report_unrecorded()
            if self._gap:
                settle_gap(self._gap, is_unchanged=is_unchanged)
            self._unrecorded, self._gap = "", None
            return
        record: dict[str, Any] = {"kind": "outcome", "operation": operation, "result": result, "time": now()}
        if rows is not None:
            record["rows"] = rows
        record["databases"] = databases
        # After the commit, a failure must not look like one of the change.
        self._append(record, is_required=False)

    @contextmanager
    def record_block(
        self, databases: Sequence[str], count_rows: Callable[[], Mapping[str, int] | None] = lambda: None
    ) -> Iterator[None]:
        """Record a block as one operation whose rows are only counted, or not known.

        Raises:
            AuditUnavailableError: as ``begin``.
        """
        operation = self.begin(databases)
        try:
            yield
        except BaseException:  # transactions before the failure may have been committed
            self.end(operation, FAILED, databases, count_rows())
            raise
        self.end(operation, COMMITTED, databases, count_rows())

    def find_end(self) -> tuple[str, str]:
        """Return the folder of the log, and its anchor after the last run; empty: nothing is recorded."""
        anchors = read_anchor_file(self._store.folder) if self._store else ()
        return (
            (storable_text(str(self._store.folder)), str(anchors[0])) if self._store and anchors else ("", "")
        )

    def read_key(self) -> bytes:
        """Return the key of the digests of secrets.

        Raises:
            AuditUnavailableError: it cannot be read or created.
        """
        if self._key is None:
            self._key = read_key(self._require_store().folder)
        return self._key

    def _require_store(self) -> EventStore:
        if self._store is None:
            raise AuditUnavailableError(path="(none)", reason="runs are not recorded")
        return self._store

    def _append(self, record: Mapping[str, Any], *, is_required: bool) -> int | None:
        """Append a record after the outcomes that wait for it, or let an outcome wait; return the number of an appended record."""
        link = {"undoes": self.undoes} if self.undoes else {}
        records = [*(self._outcomes or ()), _to_builtins({**record, **link})]
        if self._outcomes is not None and not is_required:
            self._outcomes[:] = records
            return None
        try:
            # it waits for the disk: a run of a fleet stores the anchor outside
            anchor = append_changes(self._require_store(), records)
        except AuditUnavailableError as error:
            self._refuse_or_report(error, is_required=is_required)
            return None
        if self._outcomes:
            self._outcomes.clear()
        self._receive_anchor(anchor)
        return anchor.sequence

    def _refuse_or_report(self, error: AuditUnavailableError, *, is_required: bool) -> None:
        if self.settings.required and is_required:
            raise error
        if self._store and is_required:
            self._gap = note_gap(self._store.folder, f".{os.urandom(4).hex()}")
        if self._store or self.settings.required:
            self._unrecorded = f"this change is not in the audit log: {error}"
        if not is_required:  # the change was made
            self._report_unrecorded()

    def _report_unrecorded(self) -> None:
        if self._unrecorded and not self._has_warned:
            self._warn(self._unrecorded)
            self._has_warned = True


def _to_builtins(value: object) -> Any:
    return msgspec.to_builtins(value, str_keys=True, builtin_types=(Decimal,))
