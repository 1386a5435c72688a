"""Import the log of changes of older versions: files of JSON Lines, whose records keep their numbers, text and hashes."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dbctl.errors import AuditUnavailableError
from dbctl.files import atomic, find_planted
from dbctl.services.events.changes.export import find_first_number, read_file
from dbctl.services.events.changes.log import begin_log, insert_record, read_end
from dbctl.services.events.changes.records import StoredRecord, decode_record
from dbctl.services.events.changes.verify import count_problems
from dbctl.services.events.store import LEGACY_LOG

if TYPE_CHECKING:
    import sqlite3

IMPORTED = ".imported"
#: Seconds to wait for a writer, which needs milliseconds.
_BUSY_SECONDS, _RETRY_SECONDS = 2.0, 0.002


@contextmanager
def import_changes(connection: sqlite3.Connection, folder: Path) -> Iterator[None]:
    """Insert the records of the files in a transaction, which the block commits; then the files are renamed.

    A process that was killed before it renamed them has committed all of their records, or none. Files that have other records than a store
    with records remain, and ``audit verify`` reports them.

    Raises:
        OSError: a file is locked, or cannot be renamed.
    """
    with ExitStack() as stack:
        paths = [
            path
            for path in folder.glob(f"{LEGACY_LOG}*")
            if path.suffix != IMPORTED and not find_planted(path)
        ]
        # A writer of an older version has the lock while it appends, and opens the file by its name again.
        for path in paths:
            _lock(stack.enter_context(atomic.open_regular(path, follow=False)))
        paths = sorted(filter(_is_readable, paths), key=_sort_key)
        if read_end(connection) is None:
            _insert(connection, paths)
        elif not all(_has_record(connection, record, text) for record, text in _read_records(paths)):
            paths = []
        yield
        for path in paths:
            path.rename(path.with_name(f"{path.name}{IMPORTED}"))


def _lock(file: IO[bytes]) -> None:
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _is_readable(path: Path) -> bool:
    """Whether a file can be read to its end; another one, such as a damaged archive, remains."""
    with suppress(AuditUnavailableError):
        for _ in read_file(path):
            pass
        return True
    return False


def _sort_key(path: Path) -> tuple[bool, int, str]:
    """Return the order of a file: by its first record; a current file without one is the newest."""
    number = find_first_number(path)
    return (path.name == LEGACY_LOG and not number, number, str(path))


def _read_records(paths: Sequence[Path]) -> Iterator[tuple[StoredRecord, bytes]]:
    for path in paths:
        for line in read_file(path):
            if record := decode_record(line.content):
                yield record, line.content.removesuffix(b"\n")


def _insert(connection: sqlite3.Connection, paths: Sequence[Path]) -> None:
    for _, text in _read_records(paths):
        with suppress(OverflowError):  # of an edited number, which is one of the problems
            insert_record(connection, text, conflict="ignore")
    begin_log(connection, problems=count_problems(paths))


def _has_record(connection: sqlite3.Connection, record: StoredRecord, text: bytes) -> bool:
    sql = "select 1 from changes where seq = ? and record = ?"
    return connection.execute(sql, (record.sequence, text)).fetchone() is not None
