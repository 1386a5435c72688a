"""The changes of the event store: a table to which records are only appended, in the order of their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbctl.config.model import AuditConfig
from dbctl.errors.base import DbctlError
from dbctl.errors.operations import AuditUnavailableError, JournalCorruptError, JournalUnavailableError
from dbctl.files import atomic
from dbctl.files.atomic import sync_directory
from dbctl.model import now
from dbctl.services.events.changes.records import (
    NO_HASH,
    Anchor,
    StoredRecord,
    decode_record,
    parse_anchor,
    seal,
)
from dbctl.services.events.store import EventStore, give_to_owner

if TYPE_CHECKING:
    import sqlite3

    from dbctl.sqlite_library import Database


ANCHOR_NAME = "audit.anchor"
#: More than the length of two anchors.
_MAX_BYTES = 512
#: Limits of the configured program.
_SECONDS, _MAX_OUTPUT = 10, 1 << 16


def read_anchor_file(folder: Path) -> Sequence[Anchor]:
    """Return the anchors next to the store: of the last record that waited for the disk, and of the last one; empty: there are none."""
    try:
        with atomic.open_regular(folder / ANCHOR_NAME, follow=False) as file:
            anchors = [parse_anchor(line) for line in file.read(_MAX_BYTES).decode().splitlines()]
    except (OSError, UnicodeDecodeError):
        return []
    return [anchor for anchor in anchors if anchor]


def publish_anchor(folder: Path, settings: AuditConfig, text: str, newest: str) -> Iterator[str]:
    """Store an anchor outside of the store; yield why a part failed.

    A file that has a later end of the same log remains: processes publish in another order than they append.

    Args:
        folder: the directory for state.
        settings: where else it is stored.
        text: the anchor of the last record that waited for the disk. A power failure may lose later ones, which is no truncation.
        newest: the anchor of the last record, after which a new store continues.
    """
    known, anchor = [*read_anchor_file(folder)][-1:], parse_anchor(newest)
    if anchor and not (known and known[0].log == anchor.log and known[0].sequence >= anchor.sequence):
        try:
            # Syncing it would take longer than the change; after a power failure, the file may be the old one or empty.
            with atomic.write_atomically(
                folder / ANCHOR_NAME, replace=True, follow=False, sync=False
            ) as file:
                file.write(f"{text}\n{newest}\n")
                give_to_owner(file.fileno(), folder)
        except DbctlError as error:
            yield str(error)
    if settings.syslog:
        import syslog

        syslog.openlog("dbctl", facility=syslog.LOG_AUTHPRIV)
        syslog.syslog(syslog.LOG_NOTICE, f"audit {text}")
        syslog.closelog()
    if settings.anchor_command:
        from dbctl.files import limited_program

        try:
            limited_program.run(
                settings.anchor_command, seconds=_SECONDS, max_bytes=_MAX_OUTPUT, stdin=f"{text}\n".encode()
            )
        except limited_program.ProgramFailedError as error:
            yield f"{settings.anchor_command[0]}: {error}"


def list_run_anchors(db: Database | sqlite3.Connection) -> Iterator[Anchor]:
    """Yield the ends of the log after the recorded runs."""
    text = "cast(record as text)"
    anchor = f"case when json_valid({text}) then json_extract({text}, '$.audit') end"
    for (text,) in db.execute(f"select {anchor} from runs where {anchor} <> ''"):
        if parsed := parse_anchor(str(text)):
            yield parsed


#: An empty file, which a full disk can usually still have: changes since its time are not in the log. Until a change is made, its
#: file has a suffix.
GAP_NAME = "audit.gap"
#: Seconds to wait for other writers: a change without a record is worse than a delay.
BUSY_SECONDS = 5.0
#: The columns next to the record, which contains their values.
_SELECT_ID = "select value from meta where name = 'store'"
COLUMNS = ("seq", "hash", "kind", "time", "operation", "undoes", "app", "command")


def append_changes(store: EventStore, records: Sequence[Mapping[str, Any]]) -> Anchor:
    """Append records in one transaction, wait until the disk has them, and return the end of the log.

    The store may be open. ``operation`` 0 of a record becomes its number.

    Raises:
        AuditUnavailableError: nothing was appended.
    """
    with _translate_errors(store.path, (JournalUnavailableError, JournalCorruptError)):
        gaps = [*store.folder.glob(f"{GAP_NAME}*")]
        with store.writing(sync=True, seconds=BUSY_SECONDS) as connection:
            if gaps:
                records = [*records[:-1], {**records[-1], "gap": True}]
            anchor, is_replaced = append_records(connection, store.folder, records)
        for gap in gaps:
            gap.unlink(missing_ok=True)
        if is_replaced:
            # The records have the anchor; otherwise, each would state it until the file is replaced.
            with suppress(OSError):
                (store.folder / ANCHOR_NAME).unlink(missing_ok=True)
    return anchor


def note_gap(folder: Path, suffix: str = "") -> Path:
    """Note that a change, or its result, is not in the log, as far as possible; the next record states it.

    Returns:
        The file. With a ``suffix``, it is that of one change, for ``settle_gap``.
    """
    path = folder / f"{GAP_NAME}{suffix}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))
    return path


def settle_gap(path: Path, *, is_unchanged: bool) -> None:
    """Delete the file of a change that was not made, and give that of another one the common name."""
    with suppress(OSError):
        if is_unchanged:
            path.unlink()
        else:
            path.replace(path.with_name(GAP_NAME))


@contextmanager
def open_changes(folder: Path) -> Iterator[Database | None]:
    """Yield the store, which cannot be written; None: nothing was recorded.

    Raises:
        AuditUnavailableError: it cannot be opened.
        JournalCorruptError: it is damaged.
    """
    store = EventStore(folder)
    with _translate_errors(store.path, (JournalUnavailableError,)), store.reading() as db:
        yield db


@contextmanager
def _translate_errors(path: Path, kinds: tuple[type[DbctlError], ...]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise AuditUnavailableError(path=path, reason=error.context["reason"]) from error
    except OSError as error:
        raise AuditUnavailableError(path=path, reason=error.strerror or str(error)) from error


def append_records(
    connection: sqlite3.Connection, folder: Path, records: Sequence[Mapping[str, Any]]
) -> tuple[Anchor, bool]:
    """Append records in a transaction that has the lock of the store.

    Returns:
        The end of the log; whether the anchors next to the store are not those of its records: it is new, an older copy, or another one.
    """
    known = read_anchor_file(folder)
    end, has_known = read_end(connection, known[0] if known else None)
    is_replaced = end is None
    if end is None:
        # A store that was deleted is continued, so that its numbers are not used again.
        end = begin_log(connection, continued=known[-1] if known else None)
        sync_directory(folder)
    elif known:
        is_replaced = not has_known or known[0].log not in ("", end.log)
        if is_replaced:
            records = [{**records[0], "lost": str(known[0])}, *records[1:]]
    for values in records:
        end = _append(connection, end, values)
    return end, is_replaced


def read_end(connection: sqlite3.Connection, earlier: Anchor | None = None) -> tuple[Anchor | None, bool]:
    """Return the end of the log, None: it has no record; and whether it has the record of an earlier end."""
    has_record = "exists (select 1 from changes where seq = ? and hash = ?)"
    sql = f"select seq, hash, ({_SELECT_ID}), {has_record} from changes order by seq desc limit 1"
    row = connection.execute(sql, (earlier.sequence, earlier.hash) if earlier else (0, "")).fetchone()
    return (Anchor(sequence=row[0], hash=row[1], log=row[2] or ""), bool(row[3])) if row else (None, False)


def begin_log(
    connection: sqlite3.Connection, *, continued: Anchor | None = None, problems: int = 0
) -> Anchor:
    """Append the first record of the store; return it.

    Args:
        connection: in a transaction.
        continued: the end of a log that is missing; imported records are continued in any case.
        problems: how many the imported files have.
    """
    row = connection.execute(_SELECT_ID).fetchone()
    log = str(row[0]) if row else ""  # verification reports its absence
    continued = read_end(connection)[0] or continued or Anchor(sequence=0, hash=NO_HASH)
    start = {"kind": "start", "host": os.uname().nodename, "store": log}
    anchor = Anchor(sequence=continued.sequence, hash=continued.hash, log=log)
    return _append(connection, anchor, {**start, "problems": problems} if problems else start)


def _append(connection: sqlite3.Connection, previous: Anchor, values: Mapping[str, Any]) -> Anchor:
    sequence = previous.sequence + 1
    record = {"time": now(), **values, "sequence": sequence, "previous": previous.hash}
    if values.get("operation") == 0:
        record["operation"] = sequence
    text, digest = seal(record)
    insert_record(connection, text)
    return Anchor(sequence=sequence, hash=digest, log=previous.log)


def insert_record(connection: sqlite3.Connection, text: bytes, *, conflict: str = "abort") -> None:
    """Insert a valid record under its own number; ``conflict``: what happens if another record has it."""
    record = decode_record(text)
    if record is None:
        raise ValueError(text)
    marks = ", ".join("?" * (len(COLUMNS) + 1))
    connection.execute(
        f"insert or {conflict} into changes ({', '.join(COLUMNS)}, record) values ({marks})",
        (*list_columns(record), text),
    )


def list_columns(record: StoredRecord) -> tuple[object, ...]:
    time = record.time.isoformat(timespec="milliseconds")
    names = (record.operation, record.undoes, record.app, record.command)
    return (record.sequence, record.hash, record.kind, time, *names)
