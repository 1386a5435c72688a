"""A SQLite file, or the text of one, that somebody else made: into a file of its own, with nothing beside it.

The text is run in a new file under SQLite's own watch: it can make tables there and fill them, and reach nothing else.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from dbctl import signals
from dbctl.engines.file_type import Content, TakenIn
from dbctl.engines.sqlite.errors import Place, name_of, unmade
from dbctl.engines.sqlite.files import SIDE_FILES, quoted
from dbctl.errors import CorruptError
from dbctl.files import new_file

#: Between two looks for a signal: steps of SQLite's machine.
STEPS = 10_000
#: Bytes of the longest statement: what one row may take, twice over, as a blob is written.
LONGEST = 2 << 30
PAGE = 4096
MODULES = frozenset({"fts3", "fts4", "fts5", "rtree", "rtree_i32"})
#: What a dump does to tables. All else is refused: another file, another database, pragmas, functions that reach out.
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
FUNCTIONS_DENIED = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_WORDS = re.compile(r"\s*(\w+)(?:\s+(\w+))?")
_PRAGMA = re.compile(r"\s*pragma\s+(?:foreign_keys|writable_schema)\s*=\s*\w+\s*;\s*\Z", re.IGNORECASE)
#: How ``sqlite3`` writes a virtual table, which cannot be made by a statement before its own tables are there.
_VIRTUAL = re.compile(
    r"\s*insert\s+into\s+sqlite_(?:schema|master)\s*\(type,\s*name,\s*tbl_name,\s*rootpage,\s*sql\)\s*"
    r"values\s*\('table','((?:[^']|'')+)','\1',0,'(create virtual table (?:[^']|'')+)'\)\s*;\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_MODULE = re.compile(r"create virtual table .*?\susing\s+\"?(\w+)", re.IGNORECASE | re.DOTALL)


def take_in(plain: Path, destination: Path, content: Content, target: str, *, most: int) -> TakenIn:
    """Make ``destination`` of a private copy of what somebody else left, which may be used up.

    Args:
        plain: the copy, unpacked; copies of its ``-wal`` and ``-journal`` stand beside it where it had some.
        destination: the new file, mode 0600.
        content: what it is.
        target: for messages.
        most: bytes that it may become.

    Raises:
        CorruptError: it cannot be opened, or is not whole.
        DiskFullError: there is no room.
    """
    if content == "sqlite-sql":
        with new_file(destination, brief=True):
            pass
        _run(plain, destination, target, most)
    else:
        plain.rename(destination)
        for suffix in SIDE_FILES:
            if (beside := Path(f"{plain}{suffix}")).exists():
                beside.rename(f"{destination}{suffix}")
    place = Place(target=target, path=destination, timeout=0, reading=False)
    try:
        with closing(sqlite3.connect(destination, isolation_level=None)) as made:
            (mode,) = made.execute("pragma journal_mode").fetchone()
            facts = {
                name: str(made.execute(f"pragma {name}").fetchone()[0]) for name in ("page_size", "encoding")
            }
            # What stood beside it is taken in by this, and nothing will grow beside it when it is opened.
            made.execute("pragma journal_mode = delete")
            (pages,) = made.execute("pragma page_count").fetchone()
            behind = destination.stat().st_size - pages * int(facts["page_size"])
    except sqlite3.Error as error:
        raise unmade(error, place) from error
    if behind:  # of neither SQLite itself takes notice
        wrong = "stand behind its last page" if behind > 0 else "of its last page are missing"
        raise CorruptError(target=target, reason=f"{abs(behind):,} bytes {wrong}")
    return TakenIn(facts={"journal_mode": str(mode), "sqlite": sqlite3.sqlite_version, **facts})


def _run(script: Path, destination: Path, target: str, most: int) -> None:
    line, last = 1, ""
    try:
        with (
            script.open("rb") as file,
            closing(
                sqlite3.connect(f"file://{quoted(destination)}?mode=rw", uri=True, isolation_level=None)
            ) as made,
        ):
            for pragma in (f"page_size = {PAGE}", "journal_mode = off", "synchronous = off"):
                made.execute(f"pragma {pragma}")
            made.execute(f"pragma max_page_count = {max(1, most // PAGE)}")
            made.execute("pragma trusted_schema = off")
            made.set_progress_handler(_signalled, STEPS)
            made.execute("begin")
            for line, sql in _statements(file):
                last = _one(made, sql, line)
            if last == "commit":
                made.execute("commit")
    except UnicodeDecodeError as error:
        raise CorruptError(target=target, reason=f"line {line}: it is not UTF-8") from error
    except ValueError as error:
        raise CorruptError(target=target, reason=str(error)) from error
    except sqlite3.Error as error:
        signals.check()
        if name_of(error) == "SQLITE_FULL":
            raise unmade(
                error, Place(target=str(destination.parent), path=destination, timeout=0, reading=False)
            ) from error
        raise CorruptError(target=target, reason=f"line {line}: {error}") from error
    if last != "commit":
        raise CorruptError(target=target, reason="its end is missing")


def _signalled() -> int:
    return signals.received() is not None


def _one(made: sqlite3.Connection, sql: str, line: int) -> str:
    """Run one statement, as far as a dump has to; return its first word."""
    found = _WORDS.match(_bare(sql))
    first = found[1].lower() if found else ""
    if first in ("begin", "commit", "end"):  # all of it is one transaction, which is ours
        return "commit" if first == "end" else first
    if first == "rollback":
        raise ValueError(f"line {line}: it was made of a damaged database, and calls itself not whole")
    if first == "pragma":
        if not _PRAGMA.match(sql):
            raise ValueError(f"line {line}: a dump has no business with {' '.join(sql.split())[:60]}")
        return first
    if virtual := _VIRTUAL.match(sql):
        _make_virtual(made, virtual, line)
        return first
    made.set_authorizer(_watch)
    try:
        made.execute(sql)
    except sqlite3.DatabaseError as error:
        if name_of(error) == "SQLITE_AUTH" or "not authorized" in str(error) or "prohibited" in str(error):
            told = " ".join(sql.split())[:60]
            raise ValueError(f"line {line}: a dump has no business with {told}") from error
        raise
    finally:
        made.set_authorizer(None)
    return first


def _make_virtual(made: sqlite3.Connection, told: re.Match[str], line: int) -> None:
    """Enter a virtual table as the text does; its own tables follow there, and SQLite learns of it with the next opening."""
    name, sql = (text.replace("''", "'") for text in told.groups())
    module = _MODULE.match(sql)
    if module is None or module[1].lower() not in MODULES:
        raise ValueError(f"line {line}: it wants a virtual table of a kind that is not made here")
    made.execute("pragma writable_schema = on")
    try:
        made.execute(
            "insert into sqlite_master (type, name, tbl_name, rootpage, sql) values ('table', ?, ?, 0, ?)",
            (name, name, sql),
        )
    finally:
        made.execute("pragma writable_schema = off")


def _watch(action: int, first: str | None, second: str | None, database: str | None, _by: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in FUNCTIONS_DENIED else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_CREATE_VTABLE:
        return sqlite3.SQLITE_OK if (second or "").lower() in MODULES else sqlite3.SQLITE_DENY
    if action not in ALLOWED or (database == "temp"):
        return sqlite3.SQLITE_DENY
    del first
    return sqlite3.SQLITE_OK


def _bare(sql: str) -> str:
    """Return a statement without the comments before it."""
    return re.sub(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)*", "", sql, flags=re.DOTALL)


def _statements(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the line on which each statement begins, and the statement.

    Raises:
        ValueError: it ends inside of one, or one is too long.
    """
    held, begun, size = list[str](), 1, 0
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
        text = raw.decode()
        if not held:
            if not text.strip():
                continue
            begun = number
        held.append(text)
        size += len(raw)
        if size > LONGEST:
            raise ValueError(f"line {begun}: a statement without an end")
        if text.rstrip().endswith(";") or "--" in text:
            whole = "".join(held)
            if sqlite3.complete_statement(whole):
                signals.check()
                yield begun, whole
                held, size = [], 0
    left = "".join(held)
    if _bare(f"{left}\n").strip():
        raise ValueError("its end is missing")
