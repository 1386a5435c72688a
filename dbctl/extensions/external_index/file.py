"""Search a SQLite file through its external index, if that is valid."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from msgspec import structs

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import AnyOf, Condition, Query, Where
from dbctl.engines.sql.catalog import Row, Statement, is_storable, lower_ascii
from dbctl.engines.sqlite.connection import build_uri
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ExternalIndexInvalidError
from dbctl.extensions.external_index.contract import ExternalIndexSpec, ExternalIndexState
from dbctl.extensions.external_index.definition import (
    META,
    PLACES,
    SCHEMA_NAME,
    TEXTS,
    ExternalIndexDefinition,
)
from dbctl.model import Struct

SUFFIX = ".dbctl-search-{name}"
MAGIC, HEADER = b"SQLite format 3\0", 100


class FileState(Struct, frozen=True):
    """The state of a file before SQLite opens it."""

    reason: str  #: why the file must not be used; empty if it may
    identity: tuple[int, ...]  #: device, inode, size, time
    bytes: int
    modified_ns: int


def index_path(database: Path, folder: Path | None, name: str) -> Path:
    """Return the path of the index of ``database`` in ``folder``; None: next to the database."""
    suffix = SUFFIX.format(
        name="".join(letter if _is_safe(letter) else f"%{ord(letter):x}" for letter in name)
    )
    if folder is None:
        return database.with_name(database.name + suffix)
    return folder / f"{database.name}-{crc32(os.fsencode(database)):08x}{suffix}"


def _is_safe(letter: str) -> bool:
    """Whether every file system allows the letter in a file name."""
    return letter.isascii() and (letter.isalnum() or letter in "_-")


def inspect_file(path: Path, owner: int) -> FileState | None:
    """Return the state of a file, read without SQLite; None if the file is missing.

    The file is trusted if it belongs to the user id ``owner``, that of the owner of the database, to root or to this user.
    """
    try:
        status = path.lstat()
        reason = _distrust_reason(path, status, owner)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return FileState(error.strerror or str(error), (), 0, 0)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return FileState(reason, identity, status.st_size, status.st_mtime_ns)


def _distrust_reason(path: Path, status: os.stat_result, owner: int) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is a symbolic link" if stat.S_ISLNK(status.st_mode) else "it is not a regular file"
    if status.st_uid not in {0, os.geteuid(), owner}:
        return f"it belongs to the user {status.st_uid}, who is neither the current user nor the owner of the database"
    if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users than its owner may write it"
    if status.st_nlink != 1:
        return "it has a second hard link"
    return _damage_reason(path, status.st_size)


def _damage_reason(path: Path, byte_count: int) -> str:
    """Return why the file cannot be a closed SQLite file; empty if it can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        header = file.read(HEADER)
    if len(header) < HEADER or not header.startswith(MAGIC):
        return "it is not a SQLite file"
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if byte_count != pages * (1 << 16 if page_size == 1 else page_size):
        return "its size differs from the size in its header"
    return ""


T = TypeVar("T")

_SHADOWS = frozenset({"texts_config", "texts_data", "texts_idx"})


class _AttachedFile(Struct, frozen=True):
    """The attached file, and its state when it was attached."""

    path: Path
    state: FileState


class ExternalIndexFile:
    """The file of an external index, attached to the connection of a reader while it is valid."""

    def __init__(self, db: SQLiteReader) -> None:
        self._db, self._connection = db, db.connection
        self._attached_file: _AttachedFile | None = None  #: None after the connection was closed
        self._connection.on_change.append(self._forget)

    def _forget(self) -> None:
        self._attached_file = None

    @property
    def attached_path(self) -> Path:
        """The path of the attached file.

        Raises:
            ExternalIndexInvalidError: no file is attached.
        """
        if self._attached_file is None:
            raise self.invalid_error("it is not in use")
        return self._attached_file.path

    def define(self, spec: ExternalIndexSpec) -> ExternalIndexDefinition:
        return ExternalIndexDefinition(self._db, spec)

    def open(self, spec: ExternalIndexSpec, paths: Sequence[Path]) -> ExternalIndexState:
        """Use the first fresh index of some files, and return its state; without a fresh one, the state of the first that exists."""
        states = []
        for path in paths:
            state = self.inspect(spec, path)
            if state.state == "fresh":
                return state
            states.append(state)
        return next((candidate for candidate in states if candidate.state != "missing"), states[0])

    def inspect(self, spec: ExternalIndexSpec, path: Path) -> ExternalIndexState:
        """Use the file if it is a valid index, and return its state."""
        file_state = inspect_file(path, self._connection.path.stat().st_uid)
        self._connection.fetch("select 1")  # opens the database again if it was replaced
        if file_state is None:
            return ExternalIndexState(
                path=path, state="missing", reason=self.define(spec).unsupported_reason()
            )
        state = ExternalIndexState(
            path=path, state="broken", reason=file_state.reason, bytes=file_state.bytes
        )
        if state.reason:
            return state
        if reason := self.unstable_reason():
            return structs.replace(state, state="stale", reason=reason)
        opened_state = self._connection.opened_state
        try:
            self.attach(path, "mode=ro&immutable=1")
            self._attached_file = _AttachedFile(path, file_state)
            state = self._compare(spec, state, file_state.modified_ns)
        except (DbctlError, ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            if self._connection.opened_state == opened_state:
                state = structs.replace(state, reason=f"it cannot be read: {error}")
            else:  # opened again, without the attached file
                reason = f"{self._connection.path.name} has changed since then"
                state = structs.replace(state, state="stale", reason=reason)
        if state.state != "fresh":
            self.detach()
        return state

    def _compare(
        self, spec: ExternalIndexSpec, state: ExternalIndexState, modified_ns: int
    ) -> ExternalIndexState:
        """Return the state of the attached file, after comparing it with the definition and the database."""
        definition, entries = self.define(spec), self._connection.fetch(_catalog_sql(SCHEMA_NAME))
        definitions = definition.table_definitions()
        tables = {str(name): str(sql) for kind, name, sql in entries if kind == "table"}
        if len(tables) != len(entries) or tables.keys() != definitions.keys() | _SHADOWS:
            return structs.replace(state, reason="it is a different kind of SQLite file")
        metadata = {
            str(key): value for key, value in self._connection.fetch(f"select key, value from {META}")
        }
        created_at = datetime.fromtimestamp(int(str(metadata["created_at"])), UTC)
        state = structs.replace(state, created_at=created_at)
        if int(str(metadata["sealed"])) * 10**9 != modified_ns:
            return structs.replace(state, reason="it was modified after it was created")
        if metadata["definition"] != definition.describe() or any(
            tables[name] != sql for name, sql in definitions.items()
        ):
            reason = "it was created by another version of dbctl, or for another profile"
            return structs.replace(state, state="stale", reason=reason)
        now = self.read_database_state()
        if any(metadata[name] != now[name] for name in now):
            reason = f"{self._connection.path.name} was changed since it was created"
            return structs.replace(state, state="stale", reason=reason)
        return structs.replace(state, state="fresh")

    def attach(self, path: Path, parameters: str) -> None:
        """Attach a file to the connection instead of the attached one."""
        self.detach()
        self._connection.run(f"attach :file as {SCHEMA_NAME}", {"file": build_uri(path, parameters)})

    def detach(self) -> None:
        """Detach the attached file, if any."""
        self._attached_file = None
        if any(name == SCHEMA_NAME for _, name, _ in self._connection.run("pragma database_list")):
            self._connection.run(f"detach {SCHEMA_NAME}")

    def unstable_reason(self) -> str:
        """Return why the state of the database is not in its file alone; empty if it is."""
        return (
            ""
            if self._connection.is_unlocked
            else f"changes of the app are not yet in {self._connection.path.name} itself"
        )

    def read_database_state(self) -> dict[str, object]:
        """Return values that differ after any change of the database, and between databases."""
        schema = repr(self._connection.fetch(_catalog_sql("main")))
        with self._connection.path.open("rb") as file:  # unlocked, so closing the file drops no locks
            counter = int.from_bytes(file.read(100)[24:28], "big")
        return {
            "size": self._connection.opened_state[2],
            "mtime_ns": self._connection.opened_state[3],
            "counter": counter,
            "schema": schema,
        }

    def read_attached(self, read: Callable[[], T]) -> T:
        """Return the result of ``read``, if neither the attached file nor the database changed during the call."""

        def read_if_attached() -> T:
            if self._attached_file is None:
                raise self.invalid_error(f"{self._connection.path.name} has changed since then")
            return read()

        try:
            result = self._connection.retry_if_changed(read_if_attached)
        except ExternalIndexInvalidError:
            raise
        except DbctlError as error:  # its target would be the database
            raise self.invalid_error(str(error.context.get("reason", error))) from error

        if (
            self._attached_file is None
            or inspect_file(self._attached_file.path, self._connection.path.stat().st_uid)
            != self._attached_file.state
        ):
            raise self.invalid_error("it has changed since then")
        return result

    def invalid_error(self, reason: str) -> ExternalIndexInvalidError:
        """Return the error for an index that cannot be used."""
        path = self._attached_file.path if self._attached_file else f"next to {self._connection.path.name}"
        return ExternalIndexInvalidError(target=self._connection.target, path=path, reason=reason)


def _catalog_sql(schema: str) -> str:
    return f"select type, name, coalesce(sql, '') from {schema}.sqlite_master order by type, name"


#: A trigram index cannot find shorter words.
MIN_LENGTH = 3
#: LIKE refuses patterns of more than 50,000 bytes, and a letter may take eight bytes.
MAX_LENGTH = 5_000


class ExternalSearch:
    """Search through an external index: rows where any column contains all words, ignoring the case of ASCII letters.

    A result is valid only while the index and the database are as ``open_external_index`` read them; otherwise
    ``ExternalIndexInvalidError`` is raised.
    """

    def __init__(self, db: SQLiteReader) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog
        self._builder, self._file = db.builder, ExternalIndexFile(db)

    def can_find_word(self, word: str) -> bool:
        return is_storable(word) and MIN_LENGTH <= len(word) <= MAX_LENGTH

    def search_external(self, spec: ExternalIndexSpec, words: Sequence[str], query: Query) -> list[Row]:
        """Return rows of the indexed table as ``Readable.read_rows`` does; without ``words`` every row matches.

        Each returned row is compared with the words again.
        """
        statement = Statement(spec.table)
        sql = self._build_search(statement, spec, words, query)
        rows = self._file.read_attached(lambda: self._connection.rows(sql, statement.parameters))
        if not all(row[-1] for row in rows):
            raise self._file.invalid_error("it returns rows without the words")
        return [row[:-1] for row in rows]

    def count_external(
        self, spec: ExternalIndexSpec, words: Sequence[str], where: Sequence[Where] = ()
    ) -> int:
        """Return the number of rows that ``search_external`` returns without a limit."""
        statement = Statement(spec.table)
        other_conditions = [condition for condition in where if condition not in spec.stored_conditions]
        source = self._from_clause(spec, words, rows=bool(other_conditions))
        sql = f"select count(*) from {source}{self._index_conditions(statement, spec, words, where)}"
        return int(
            str(self._file.read_attached(lambda: self._connection.rows(sql, statement.parameters))[0][0])
        )

    def explain_external(self, spec: ExternalIndexSpec, words: Sequence[str], query: Query) -> Explanation:
        """Return how ``search_external`` would run, without running it."""
        statement = Statement(spec.table)
        sql = self._build_search(statement, spec, words, query)
        try:
            return self._db.explainer.explain_statement(sql, statement.parameters, statement.aliases)
        except DbctlError as error:
            raise self._file.invalid_error(str(error)) from error

    def _build_search(
        self, statement: Statement, spec: ExternalIndexSpec, words: Sequence[str], query: Query
    ) -> str:
        names = [self._catalog.quote_column(spec.table, column, "t0") for column in query.columns]
        tests = [
            self._builder.condition(
                statement, spec.table, AnyOf([Condition(c, "contains", word) for c in spec.columns]), "t0"
            )
            for word in words
        ]
        names.append(" and ".join(tests) or "1")
        conditions = self._index_conditions(statement, spec, words, query.where)
        if list(dict.fromkeys(query.order_by)) == list(spec.order):
            order_terms = ["x.rowid" if words else "p.place"]
        else:
            order_terms = self._builder.order_terms(statement, spec.table, query.order_by)
        sql = f"select {', '.join(names)} from {self._from_clause(spec, words, rows=True)}{conditions}"
        return f"{sql} order by {', '.join(order_terms)}{self._builder.limit_clause(statement, query)}"

    def _from_clause(self, spec: ExternalIndexSpec, words: Sequence[str], *, rows: bool) -> str:
        """Return the FROM clause; CROSS JOIN makes SQLite read the index first and then each matching row."""
        source = f"{TEXTS} x cross join {PLACES} p on p.place = x.rowid" if words else f"{PLACES} p"
        if rows:
            table, rowid = self._catalog.quote_table(spec.table), self._file.define(spec).rowid_name()
            source += f" cross join {table} t0 on t0.{rowid} = p.number"
        return source

    def _index_conditions(
        self, statement: Statement, spec: ExternalIndexSpec, words: Sequence[str], where: Sequence[Where]
    ) -> str:
        tests = []
        if words:
            expression = " ".join('"' + lower_ascii(word).replace('"', '""') + '"' for word in words)
            tests.append(f"x.texts match {statement.bind(expression)}")
        for condition in where:
            is_stored = condition in spec.stored_conditions
            tests.append(
                f"p.k{list(spec.stored_conditions).index(condition)} = 1"
                if is_stored
                else self._builder.condition(statement, spec.table, condition, "t0")
            )
        return f" where {' and '.join(tests)}" if tests else ""
