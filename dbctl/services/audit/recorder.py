"""Record the writes of one command: an intent before each commit, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec

from dbctl.config.model import AuditConfig
from dbctl.errors.operations import AuditUnavailableError
from dbctl.model import Struct, now
from dbctl.services.events.changes.log import ChangeLog, note_gap, read_anchor_file
from dbctl.services.events.changes.records import COMMITTED, FAILED, Anchor, TableChange, read_key

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
        log: ChangeLog | None,
        author: Author,
        settings: AuditConfig,
        *,
        app: str,
        warn: Callable[[str], None],
        receive_anchor: Callable[[Anchor], None] = lambda _anchor: None,
        outcomes: list[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write nothing yet.

        Args:
            log: the log; None: there is no directory for it.
            author: who runs the command.
            settings: of the configuration.
            app: the name of the app.
            warn: receives the first failure.
            receive_anchor: receives the end of the log after each record.
            outcomes: of operations, which are recorded with the next operation or the end of the run; None: at once.
        """
        self._log, self._author, self._app, self.settings = log, author, app, settings
        self._warn, self._receive_anchor, self._outcomes = warn, receive_anchor, outcomes
        self._has_warned = False
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
        anchor = self._append({**author, **record, **self._link(), "changes": changes}, is_required=True)
        return anchor.sequence if anchor else None

    def end(
        self,
        operation: int | None,
        result: str,
        databases: Sequence[str],
        rows: Mapping[str, int] | None = None,
    ) -> None:
        """Record the result of an operation in databases; without a record of its beginning, do nothing."""
        if operation is None:
            return
        record: dict[str, Any] = {"kind": "outcome", "operation": operation, "result": result, "time": now()}
        if rows is not None:
            record["rows"] = rows
        record = {**record, "databases": databases, **self._link()}
        if self._outcomes is None:
            # After the commit, a failure must not look like one of the change.
            self._append(
                record, is_required=False
            )  # it waits for the disk: a run of a fleet stores the anchor outside
        else:
            self._outcomes.append(_to_builtins(record))

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
        anchors = read_anchor_file(self._log.folder) if self._log else ()
        return (str(self._log.folder), str(anchors[0])) if self._log and anchors else ("", "")

    def read_key(self) -> bytes:
        """Return the key of the digests of secrets.

        Raises:
            AuditUnavailableError: it cannot be read or created.
        """
        if self._key is None:
            self._key = read_key(self._require_log().folder)
        return self._key

    def _require_log(self) -> ChangeLog:
        if self._log is None:
            raise AuditUnavailableError(path="(none)", reason="runs are not recorded")
        return self._log

    def _link(self) -> Mapping[str, int]:
        return {"undoes": self.undoes} if self.undoes else {}

    def _append(self, record: Mapping[str, Any], *, is_required: bool) -> Anchor | None:
        try:
            records = [*(self._outcomes or ()), _to_builtins(record)]
            anchor = self._require_log().append(records)
        except AuditUnavailableError as error:
            self._refuse_or_report(error, is_required=is_required)
            return None
        if self._outcomes:
            self._outcomes.clear()
        self._receive_anchor(anchor)
        return anchor

    def _refuse_or_report(self, error: AuditUnavailableError, *, is_required: bool) -> None:
        if self.settings.required and is_required:
            raise error
        if self._log and is_required:
            note_gap(self._log.folder)
        if not self._has_warned and (self._log or self.settings.required):
            self._warn(f"this change is not in the audit log: {error}")
        self._has_warned = True


def _to_builtins(value: object) -> Any:
    return msgspec.to_builtins(value, str_keys=True, builtin_types=(Decimal,))
