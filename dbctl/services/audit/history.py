"""Queries of the audit log: lists of operations, one operation, and its records for export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from dbctl.errors import AuditInvalidError, OperationNotFoundError
from dbctl.model import Page, Struct
from dbctl.services.audit.files import decode_line, read_lines
from dbctl.services.audit.records import COMMITTED, OPEN, Operation, OperationDetails, StoredRecord
from dbctl.services.audit.verify import verify_log


class OperationFilter(Struct, frozen=True, kw_only=True):
    """The operations that ``audit list`` selects."""

    app: str = ""  #: an app, an instance, or a fleet with all of its instances
    command: str = ""  #: ``users set-role``, or a group: ``users``
    since: datetime | None = None
    limit: int


def list_operations(folder: Path, selected: OperationFilter) -> Page[Operation]:
    """Return operations, newest first.

    Raises:
        AuditUnavailableError: the log cannot be read.
    """
    entries = [entry for entry in _read_entries(folder).values() if _matches(entry.intent, selected)]
    columns = Operation.__struct_fields__
    newest = (entry.describe() for entry in entries[::-1][: selected.limit])
    return Page(
        items=[Operation(**{name: getattr(item, name) for name in columns}) for item in newest],
        total=len(entries),
        limit=selected.limit,
        column_names=columns,
        empty_message="no changes are recorded",
    )


def show_operation(folder: Path, number: int, *, is_verified: bool = False) -> OperationDetails:
    """Return one operation with its changes; ``is_verified``: only if the log is intact.

    Raises:
        OperationNotFoundError: the log does not have it.
        AuditInvalidError: the log is not intact.
        AuditUnavailableError: the log cannot be read.
    """
    entry = _read_entries(folder, only=number).get(number)
    if entry is None:
        raise OperationNotFoundError(number=number)
    if is_verified:
        errors = [finding for finding in verify_log(folder).findings if finding.severity == "error"]
        if errors:
            raise AuditInvalidError(path=errors[0].file, reason=errors[0].message)
    return entry.describe()


def export_lines(folder: Path, others: Iterable[Path] = ()) -> Iterator[str]:
    """Yield the line of each record, also of rotated files; lines that are no records are omitted.

    Raises:
        AuditUnavailableError: the log cannot be read.
    """
    for line in read_lines(folder, others):
        if decode_line(line.content):
            yield line.content.decode()


def export_records(folder: Path, others: Iterable[Path] = ()) -> Page[dict[str, Any]]:
    """Return each record as in ``export_lines``; raises as it."""
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    records = [decoder.decode(line) for line in export_lines(folder, others)]
    return Page(items=records, total=len(records))


class _Entry:
    """The records of one operation."""

    def __init__(self, intent: StoredRecord) -> None:
        self.intent, self.result = intent, OPEN
        self.undone_by: int | None = None
        self._pending = set(intent.databases)
        self._rows: Mapping[str, int] | None = None

    def add_outcome(self, outcome: StoredRecord) -> None:
        """Add the result in some of the databases: the operation is committed if all of them are."""
        self._pending -= set(outcome.databases)
        self._rows = outcome.rows or self._rows
        if self.result == OPEN and (outcome.result != COMMITTED or not self._pending):
            self.result = outcome.result

    def describe(self) -> OperationDetails:
        """Return the operation."""
        record = self.intent
        rows = {f"{change.database}.{change.table}": change.rows for change in record.changes}
        names = ("operation", "time", "command", "app", "databases", "user", "acting_as", "undoes")
        details = ("arguments", "changes", "sudo_user", "host", "config", "run", "hash")
        return OperationDetails(
            **{name: getattr(record, name) for name in (*names, *details)},
            rows=self._rows or rows,
            result=self.result,
            undone_by=self.undone_by,
        )


def _read_entries(folder: Path, only: int | None = None) -> dict[int, _Entry]:
    """Return operations by number; with ``only``, one operation and those that undo it, otherwise without rows."""
    entries = dict[int, _Entry]()
    for line in read_lines(folder):
        record = decode_line(line.content, with_images=only is not None)
        if record is None or (only is not None and only not in (record.operation, record.undoes)):
            continue
        if record.kind == "intent":
            entries[record.operation] = _Entry(record)
        elif record.kind == "outcome" and (entry := entries.get(record.operation)):
            entry.add_outcome(record)
            if entry.result == COMMITTED and (undone := entries.get(record.undoes or 0)):
                undone.undone_by = record.operation
    return entries


def _matches(intent: StoredRecord, selected: OperationFilter) -> bool:
    return (
        (selected.app in ("", intent.app) or intent.app.startswith(f"{selected.app}/"))
        and f"{intent.command} ".startswith(f"{selected.command} " if selected.command else "")
        and (selected.since is None or intent.time >= selected.since)
    )
