"""Import a SQLite file or an SQL dump that dbctl did not create into a single new file.

A dump runs in a new file with an authorizer: it can create and fill tables there, and access nothing else. ``executescript``
of sqlite-utils would read all of it into memory, and would not separate the statements that are not allowed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from dbctl import signals
from dbctl.engines.contract.dumps import Content
from dbctl.engines.contract.engine import ImportedDump
from dbctl.engines.sqlite.connection import connect
from dbctl.engines.sqlite.errors import ErrorContext, get_error_name, translate_create_error
from dbctl.engines.sqlite.files import SIDE_FILES
from dbctl.errors.connection import CorruptError
from dbctl.files import atomic
from dbctl.files.atomic import create_empty

#: Virtual-machine steps between two checks for signals.
STEPS = 10_000
#: Twice the maximum size of a row, because a dump writes each byte of a BLOB as two digits.
MAX_STATEMENT_BYTES = 2 << 30
PAGE_BYTES = 4096
MODULES = frozenset({"fts3", "fts4", "fts5", "rtree", "rtree_i32"})
#: Actions that dumps need; others are denied: other files and databases, pragmas, functions with side effects.
ALLOWED = frozenset(
    {
        sqlite3.SQLITE_ANALYZE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_UPDATE,
    }
)
#: ``trusted_schema = off`` instead would also refuse JSON functions in constraints, which Django writes: SQLite up to 3.40 does not
#: mark them as harmless.
FUNCTIONS_DENIED = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_WORDS = re.compile(r"\s*(\w+)(?:\s+(\w+))?")
_PRAGMA = re.compile(r"\s*pragma\s+(?:foreign_keys|writable_schema)\s*=\s*\w+\s*;\s*\Z", re.IGNORECASE)
#: Newer shells write it before the numbers of automatic keys; only SQLite can create the table, with the first one that has such keys.
_SEQUENCES = re.compile(
    r"create\s+table\s+if\s+not\s+exists\s+sqlite_sequence\s*\(name,\s*seq\)\s*;\s*\Z", re.IGNORECASE
)
#: Written although no table has such keys any more, so that the new database lacks the table.
_NO_SEQUENCES = re.compile(r"delete\s+from\s+sqlite_sequence\s*;\s*\Z", re.IGNORECASE)
_HAS_SEQUENCES = "select 1 from sqlite_master where name = 'sqlite_sequence'"
#: How ``sqlite3`` dumps a virtual table, because CREATE would conflict with its shadow tables.
_VIRTUAL = re.compile(
    r"\s*insert\s+into\s+sqlite_(?:schema|master)\s*\(type,\s*name,\s*tbl_name,\s*rootpage,\s*sql\)\s*"
    r"values\s*\('table','((?:[^']|'')+)','\1',0,'(create virtual table (?:[^']|'')+)'\)\s*;\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_MODULE = re.compile(r"create virtual table .*?\susing\s+\"?(\w+)", re.IGNORECASE | re.DOTALL)


def import_dump(
    plain: Path, destination: Path, content: Content, target: str, *, max_bytes: int
) -> ImportedDump:
    """Create ``destination`` with mode 0600 from a private copy of a foreign file, which may be consumed.

    Args:
        plain: the decompressed copy; copies of its ``-wal`` and ``-journal``, if any, are next to it.
        destination: the new file.
        content: the kind of the copy.
        target: for messages.
        max_bytes: maximum size of a file that is created from SQL.

    Raises:
        CorruptError: the file cannot be opened, or is incomplete.
        DiskFullError: not enough free space.
    """
    if content == "sqlite-sql":
        with atomic.translate_errors(destination, destination.parent):
            create_empty(destination)
        _run_script(plain, destination, target, max_bytes)
    else:
        plain.rename(destination)
        for suffix in SIDE_FILES:
            if (side_file := Path(f"{plain}{suffix}")).exists():
                side_file.rename(f"{destination}{suffix}")
    context = ErrorContext(target=target, path=destination)
    try:
        with closing(sqlite3.connect(destination, isolation_level=None)) as db:
            (journal_mode,) = db.execute("pragma journal_mode").fetchone()
            metadata = {
                name: str(db.execute(f"pragma {name}").fetchone()[0]) for name in ("page_size", "encoding")
            }
            # This merges the side files, and opening the file will create no new ones.
            db.execute("pragma journal_mode = delete")
            (pages,) = db.execute("pragma page_count").fetchone()
            extra_bytes = destination.stat().st_size - pages * int(metadata["page_size"])
    except sqlite3.Error as error:
        raise translate_create_error(error, context) from error
    if extra_bytes:  # SQLite ignores both
        problem = "follow its last page" if extra_bytes > 0 else "of its last page are missing"
        raise CorruptError(target=target, reason=f"{abs(extra_bytes):,} bytes {problem}")
    return ImportedDump(
        metadata={"journal_mode": str(journal_mode), "sqlite": sqlite3.sqlite_version, **metadata}
    )


def _run_script(script: Path, destination: Path, target: str, max_bytes: int) -> None:
    line, last = 1, ""
    try:
        with script.open("rb") as file, closing(connect(destination, "mode=rw")) as db:
            for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = off", "synchronous = off"):
                db.execute(f"pragma {pragma}")
            db.execute(f"pragma max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
            db.set_progress_handler(lambda: signals.received_signal() is not None, STEPS)
            db.execute("begin")
            for line, sql in _read_statements(file):
                last = _run_statement(db, sql, line)
            if last == "commit":
                db.execute("commit")
    except UnicodeDecodeError as error:
        raise CorruptError(target=target, reason=f"line {line}: not UTF-8") from error
    except ValueError as error:
        raise CorruptError(target=target, reason=str(error)) from error
    except sqlite3.Error as error:
        signals.raise_if_interrupted()
        if get_error_name(error) == "SQLITE_FULL":
            raise translate_create_error(
                error, ErrorContext(target=str(destination.parent), path=destination)
            ) from error
        raise CorruptError(target=target, reason=f"line {line}: {error}") from error
    if last != "commit":
        raise CorruptError(target=target, reason="its end is missing")


def _run_statement(db: sqlite3.Connection, sql: str, line: int) -> str:
    """Run one statement if a dump may contain it; return its first word."""
    text = _strip_comments(sql)
    match = _WORDS.match(text)
    first = match[1].lower() if match else ""
    if first in ("begin", "commit", "end"):  # everything runs in one transaction of dbctl
        return "commit" if first == "end" else first
    if first == "rollback":
        raise ValueError(f"line {line}: the dump of a damaged database is marked as incomplete")
    if first == "pragma":
        if not _PRAGMA.match(text):
            raise ValueError(f"line {line}: not allowed in a dump: {' '.join(sql.split())[:60]}")
        return first
    if _SEQUENCES.match(text) or (
        _NO_SEQUENCES.match(text) and db.execute(_HAS_SEQUENCES).fetchone() is None
    ):
        return first
    if virtual := _VIRTUAL.match(text):
        _create_virtual_table(db, virtual, line)
        return first
    db.set_authorizer(_authorize)
    try:
        db.execute(sql)
    except sqlite3.DatabaseError as error:
        if (
            get_error_name(error) == "SQLITE_AUTH"
            or "not authorized" in str(error)
            or "prohibited" in str(error)
        ):
            excerpt = " ".join(sql.split())[:60]
            raise ValueError(f"line {line}: not allowed in a dump: {excerpt}") from error
        raise
    finally:
        db.set_authorizer(None)
    return first


def _create_virtual_table(db: sqlite3.Connection, match: re.Match[str], line: int) -> None:
    """Insert a virtual table into the catalog, as the dump does; SQLite reads it when the file is opened next."""
    name, sql = (text.replace("''", "'") for text in match.groups())
    module = _MODULE.match(sql)
    if module is None or module[1].lower() not in MODULES:
        raise ValueError(f"line {line}: the module of this virtual table is not supported")
    db.execute("pragma writable_schema = on")
    try:
        db.execute(
            "insert into sqlite_master (type, name, tbl_name, rootpage, sql) values ('table', ?, ?, 0, ?)",
            (name, name, sql),
        )
    finally:
        db.execute("pragma writable_schema = off")


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, _by: str | None
) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in FUNCTIONS_DENIED else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_CREATE_VTABLE:
        return sqlite3.SQLITE_OK if (second or "").lower() in MODULES else sqlite3.SQLITE_DENY
    if action not in ALLOWED or (database == "temp"):
        return sqlite3.SQLITE_DENY
    del first
    return sqlite3.SQLITE_OK


def _strip_comments(sql: str) -> str:
    """Return a statement without leading comments."""
    return re.sub(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)*", "", sql, flags=re.DOTALL)


def _read_statements(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the first line number and the text of each statement.

    Raises:
        ValueError: the file ends inside a statement, or a statement is too long.
    """
    lines, start, size = list[str](), 1, 0
    for line_number, raw in enumerate(iter(lambda: file.readline(MAX_STATEMENT_BYTES + 1), b""), 1):
        text = raw.decode()
        if not lines:
            if not text.strip():
                continue
            start = line_number
        lines.append(text)
        size += len(raw)
        if size > MAX_STATEMENT_BYTES:
            raise ValueError(f"line {start}: a statement does not end")
        if text.rstrip().endswith(";") or "--" in text:
            statement = "".join(lines)
            if sqlite3.complete_statement(statement):
                signals.raise_if_interrupted()
                yield start, statement
                lines, size = [], 0
    remainder = "".join(lines)
    if _strip_comments(f"{remainder}\n").strip():
        raise ValueError("its end is missing")
