"""Queries of changes: lists of operations, and one operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbctl.errors.operations import AuditInvalidError, OperationNotFoundError
from dbctl.model import Page, Struct, split_batches
from dbctl.services.events.changes.log import open_changes
from dbctl.services.events.changes.records import (
    COMMITTED,
    FAILED,
    OPEN,
    PARTIAL,
    Operation,
    OperationDetails,
    StoredRecord,
    decode_record,
)
from dbctl.services.events.changes.verify import verify_log

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database

#: The largest number of a record, and the parameters of a statement.
_LARGEST, _KEYS = 2**63 - 1, 500


class OperationFilter(Struct, frozen=True, kw_only=True):
    """The operations that ``audit list`` selects."""

    app: str = ""  #: an app, an instance, or a fleet with all of its instances
    command: str = ""  #: ``users set-role``, or a group: ``users``
    since: datetime | None = None
    after: int | None = None  #: the number of the last operation of the previous page
    limit: int


def list_operations(folder: Path, selected: OperationFilter) -> Page[Operation]:
    """Return operations, newest first; ``total`` is the number of operations from this page on.

    Raises:
        AuditUnavailableError, JournalCorruptError: the store cannot be read.
    """
    with open_changes(folder) as db:
        numbers, total = _select(db, selected) if db else ([], 0)
        entries = _read_entries(db, numbers) if db else {}
    columns = Operation.__struct_fields__
    is_filtered = selected != OperationFilter(limit=selected.limit)
    newest = (entries[number].describe() for number in numbers if number in entries)
    return Page(
        items=[Operation(**{name: getattr(item, name) for name in columns}) for item in newest],
        total=total,
        limit=selected.limit,
        column_names=columns,
        empty_message="no recorded change matches" if is_filtered else "no changes are recorded",
        next_key=[str(numbers[-1])] if len(numbers) < total else (),
    )


def show_operation(folder: Path, number: int, *, is_verified: bool = False) -> OperationDetails:
    """Return one operation with its changes; ``is_verified``: only if the log is intact.

    Raises:
        OperationNotFoundError: the log does not have it.
        AuditInvalidError: the log is not intact.
        AuditUnavailableError, JournalCorruptError: the store cannot be read.
    """
    with open_changes(folder) as db:
        numbers = [number] if db and number <= _LARGEST else []
        entry = _read_entries(db, numbers, with_images=True).get(number) if db else None
    if entry is None:
        raise OperationNotFoundError(number=number)
    if is_verified:
        errors = [finding for finding in verify_log(folder).findings if finding.severity == "error"]
        if errors:
            raise AuditInvalidError(path=errors[0].file, reason=errors[0].message)
    return entry.describe()


def _select(db: Database, selected: OperationFilter) -> tuple[Sequence[int], int]:
    """Return the numbers of the newest operations, and how many there are."""
    where, values = ["kind = 'intent'"], list[object]()
    if selected.app:
        where.append("(app = ? or substr(app, 1, ?) = ?)")
        values += [selected.app, len(selected.app) + 1, f"{selected.app}/"]
    if selected.command:
        where.append("(command = ? or substr(command, 1, ?) = ?)")
        values += [selected.command, len(selected.command) + 1, f"{selected.command} "]
    if selected.since:
        where.append("time >= ?")
        values.append(selected.since.isoformat(timespec="milliseconds"))
    if selected.after:
        where.append("seq < ?")
        values.append(selected.after)
    source = f"from changes where {' and '.join(where)}"
    (total,) = db.execute(f"select count(*) {source}", values).fetchone()
    sql = f"select seq {source} order by seq desc limit ?"
    return [row[0] for row in db.execute(sql, (*values, selected.limit))], total


class _Entry:
    """The records of one operation."""

    def __init__(self, intent: StoredRecord) -> None:
        self.intent = intent
        self.undone_by: int | None = None
        self._results: dict[str, str] = {}  #: by database
        self._rows: Mapping[str, int] | None = None

    def add_outcome(self, outcome: StoredRecord) -> None:
        """Add the result in some of the databases."""
        self._results |= dict.fromkeys(outcome.databases, outcome.result)
        self._rows = outcome.rows or self._rows

    @property
    def result(self) -> str:
        results = set(self._results.values())
        if not results or not self._results.keys() >= set(self.intent.databases):
            return OPEN  # also if the commit of one is in doubt, and the others failed
        if FAILED in results:
            return PARTIAL if COMMITTED in results else FAILED
        return COMMITTED

    def describe(self) -> OperationDetails:
        """Return the operation; of one that is partial, without the changes of databases whose commit failed."""
        record, rolled_back = self.intent, set[str]()
        if self.result == PARTIAL:
            rolled_back = {name for name, result in self._results.items() if result == FAILED}
        changes = [change for change in record.changes if change.database not in rolled_back]
        rows = {f"{change.database}.{change.table}": change.rows for change in changes}
        names = ("operation", "time", "command", "app", "databases", "user", "acting_as", "undoes")
        details = ("arguments", "sudo_user", "host", "config", "addresses", "run", "hash")
        return OperationDetails(
            **{name: getattr(record, name) for name in (*names, *details)},
            changes=changes,
            rows=self._rows or rows,
            result=self.result,
            undone_by=self.undone_by,
        )


def _read_entries(db: Database, numbers: Sequence[int], *, with_images: bool = False) -> dict[int, _Entry]:
    """Return operations, and those that undo them, by number."""
    undoing = _read_column(db, "undoes", numbers, "operation")
    entries = dict[int, _Entry]()
    for text in _read_column(db, "operation", [*numbers, *undoing], "cast(record as blob)"):
        record = decode_record(text or b"", with_images=with_images)
        if record and record.kind == "intent":
            entries[record.operation] = _Entry(record)
        elif record and record.kind == "outcome" and (entry := entries.get(record.operation)):
            entry.add_outcome(record)
            if entry.result == COMMITTED and (undone := entries.get(record.undoes or 0)):
                undone.undone_by = record.operation
    return entries


def _read_column(db: Database, key: str, numbers: Sequence[int], column: str) -> list[Any]:
    """Return a column of the records whose ``key`` is one of the numbers, in the order of the log."""
    rows = list[tuple[int, Any]]()
    for part in split_batches(numbers, _KEYS):
        marks = ", ".join("?" * len(part))
        rows += db.execute(f"select seq, {column} from changes where {key} in ({marks})", part)
    return [value for _, value in sorted(dict(rows).items())]
