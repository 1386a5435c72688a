"""Records of changes as JSON Lines, whose hashes remain valid, and files with such lines."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from gzip import GzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dbctl.errors.base import Remedy
from dbctl.errors.operations import (
    AuditInvalidError,
    AuditUnavailableError,
    JournalCorruptError,
    JournalUnavailableError,
)
from dbctl.files import atomic
from dbctl.files.codecs import SUFFIXES
from dbctl.model import Finding, Page
from dbctl.services.events.changes.log import open_changes
from dbctl.services.events.changes.records import decode_exactly, decode_record
from dbctl.services.events.legacy import list_unimported
from dbctl.services.events.store import FILE_NAME, LEGACY_LOG, LEGACY_NAME

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database


class Line(NamedTuple):
    """A record as text, which may have been edited."""

    path: Path  #: of the store, or of a file
    number: int  #: of the line, from 1; in the store, the number of the record
    content: bytes
    columns: tuple[object, ...] | None = None  #: of the store


def export_lines(folder: Path, *, since: int = 0) -> Iterator[str]:
    """Yield the line of each record after number ``since``.

    Raises:
        AuditUnavailableError, JournalCorruptError: the store cannot be read.
        AuditInvalidError: a record is not one line of JSON; those before it were yielded.
    """
    with open_changes(folder) as db:
        for line in read_lines(db, folder, since=since):
            if decode_record(line.content) is None or b"\n" in line.content:
                raise AuditInvalidError(path=line.path, reason=f"record {line.number} cannot be read")
            yield f"{line.content.decode()}\n"


def export_records(folder: Path, *, since: int = 0) -> Page[dict[str, Any]]:
    """Return the records as in ``export_lines``; raises as it."""
    records = [dict(decode_exactly(line.encode())) for line in export_lines(folder, since=since)]
    return Page(items=records, total=len(records))


def read_lines(db: Database | None, folder: Path, *, columns: str = "null", since: int = 0) -> Iterator[Line]:
    """Yield the records of the store, the oldest first; ``columns``: those that are read with each record."""
    if db is None:
        return
    sql = f"select seq, cast(record as blob), {columns} from changes where seq > ? order by seq"
    for number, content, *values in db.execute(sql, (since,)):
        yield Line(folder / FILE_NAME, number, content or b"", tuple(values))


def read_file(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, which programs that rotate logs may have compressed with gzip.

    Raises:
        AuditUnavailableError: it cannot be read.
    """
    with _open(path) as file:
        for number, content in enumerate(file, 1):
            yield Line(path, number, content)


def find_first_number(path: Path) -> int:
    """Return the number of the first record of a file; 0: it has none. Raises as ``read_file``."""
    records = (decode_record(line.content) for line in read_file(path))
    return next((record.sequence for record in records if record), 0)


@contextmanager
def _open(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        with atomic.open_regular(path) as file:
            yield GzipFile(fileobj=file) if path.suffix == SUFFIXES["gzip"] else file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AuditUnavailableError(path=path, reason=reason, hint="Check the path, and the file.") from error


UNIMPORTED_HINT = Remedy("Compare it with the log, and move it away: `audit verify {file}`")


def find_unimported(folder: Path, target: str) -> Iterator[Finding]:
    """Yield a finding about each journal and log in a folder that was not imported."""
    log = folder / LEGACY_LOG
    # also one with imported records, to which an older version would append
    paths = {log} if log.exists() else set[Path]()
    with suppress(JournalUnavailableError, JournalCorruptError):  # the store is damaged, which is reported
        paths.update(list_unimported(folder))
    for path in sorted(paths):
        message = f"an older version wrote {path}, which was not imported: the log existed"
        hint = UNIMPORTED_HINT.write(facts={"file": path})
        if path.name == LEGACY_NAME:
            hint = "Its runs may have ends of the log. Compare them with the log, and move the file away."
        yield Finding(target, "warning", "audit-gap", message, hint, target)
