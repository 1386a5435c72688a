"""Location, definition and validity of the external index of a SQLite file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar
from zlib import crc32

from dbctl.engines.contract import ExternalIndexSpec, ExternalIndexState
from dbctl.engines.sql import Statement
from dbctl.engines.sqlite.files import quote_for_uri
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.errors import DbctlError, ExternalIndexInvalidError
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

    Args:
        path: the file.
        owner: user id of the owner of the database; a file is trusted if it belongs to this owner, root or this user.
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

#: Schema name of the attached file, and its tables: metadata, one position per row, the texts.
SCHEMA_NAME = "dbctl_external_index"
META, PLACES, TEXTS = (f"{SCHEMA_NAME}.{name}" for name in ("meta", "places", "texts"))
#: Version of the content of the file.
FORMAT = 2
#: Names of the rowid, unless a column has the same name.
ROWID_NAMES = ("rowid", "_rowid_", "oid")
_SHADOWS = frozenset({"texts_config", "texts_data", "texts_idx"})
#: Whether LIKE matches BLOBs, and folds non-ASCII letters, as does lower(): depends on the build of SQLite.
_BUILD_OPTIONS = "select cast(x'61' as blob) like 'a', 'é' like 'É', lower('É') = 'É'"


class _AttachedFile(Struct, frozen=True):
    """The attached file, and its state when it was attached."""

    path: Path
    state: FileState


class SQLiteExternalIndexState(SQLiteReader):
    """State and definition of the external index, for search and creation."""

    _attached_file: _AttachedFile | None = None  #: None after the connection was closed

    def _open(self, *, unlocked: bool) -> None:
        self._attached_file = None
        super()._open(unlocked=unlocked)

    # State ----------------------------------------------------------------------------------------------------

    def external_index_path(self, folder: Path | None, name: str) -> Path:
        return index_path(self.path, folder, name)

    def open_external_index(self, spec: ExternalIndexSpec, paths: Sequence[Path]) -> ExternalIndexState:
        states = []
        for path in paths:
            state = self._inspect(spec, path)
            if state.state == "fresh":
                return state
            states.append(state)
        return next((candidate for candidate in states if candidate.state != "missing"), states[0])

    def _inspect(self, spec: ExternalIndexSpec, path: Path) -> ExternalIndexState:
        file_state = inspect_file(path, self.path.stat().st_uid)
        self._fetch("select 1", {})  # opens the database again if it was replaced
        if file_state is None:
            return ExternalIndexState(path=path, state="missing", reason=self._unsupported_reason(spec))
        if file_state.reason:
            return ExternalIndexState(
                path=path, state="broken", reason=file_state.reason, bytes=file_state.bytes
            )
        if reason := self._unstable_reason():
            return ExternalIndexState(path=path, state="stale", reason=reason, bytes=file_state.bytes)
        opened_state = self._opened_state
        try:
            return self._attach_and_check(spec, path, file_state)
        except (DbctlError, ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            self._detach()
            if self._opened_state != opened_state:  # opened again, without the attached file
                reason = f"{self.path.name} has changed since then"
                return ExternalIndexState(path=path, state="stale", reason=reason, bytes=file_state.bytes)
            reason = f"it cannot be read: {error}"
            return ExternalIndexState(path=path, state="broken", reason=reason, bytes=file_state.bytes)

    def _attach_and_check(
        self, spec: ExternalIndexSpec, path: Path, file_state: FileState
    ) -> ExternalIndexState:
        """Attach a file and compare it with the expected definition."""
        self._attach(path, "mode=ro&immutable=1")
        self._attached_file = _AttachedFile(path, file_state)

        def build_state(
            kind: Literal["fresh", "stale", "broken"], reason: str, created_at: datetime | None = None
        ) -> ExternalIndexState:
            if kind != "fresh":
                self._detach()
            return ExternalIndexState(
                path=path, state=kind, reason=reason, bytes=file_state.bytes, created_at=created_at
            )

        definitions, entries = self._table_definitions(spec), self._fetch(_catalog_sql(SCHEMA_NAME), {})
        tables = {str(name): str(sql) for kind, name, sql in entries if kind == "table"}
        if len(tables) != len(entries) or tables.keys() != definitions.keys() | _SHADOWS:
            return build_state("broken", "it is a different kind of SQLite file")
        metadata = {str(key): value for key, value in self._fetch(f"select key, value from {META}", {})}  # noqa: S608 - constant names
        created_at = datetime.fromtimestamp(int(str(metadata["created_at"])), UTC)
        if int(str(metadata["sealed"])) * 10**9 != file_state.modified_ns:
            return build_state("broken", "it was modified after it was created", created_at)
        if metadata["definition"] != self._describe_definition(spec) or any(
            tables[name] != sql for name, sql in definitions.items()
        ):
            return build_state(
                "stale", "it was created by another version of dbctl, or for another profile", created_at
            )
        now = self._read_database_state()
        if any(metadata[name] != now[name] for name in now):
            return build_state("stale", f"{self.path.name} was changed since it was created", created_at)
        return build_state("fresh", "", created_at)

    def _attach(self, path: Path, parameters: str) -> None:
        self._detach()
        self._require_connection().set_authorizer(None)
        try:
            self._run(
                f"attach :file as {SCHEMA_NAME}", {"file": f"file://{quote_for_uri(path)}?{parameters}"}
            )
        finally:
            self._set_authorizer(None)

    def _detach(self) -> None:
        self._attached_file = None
        self._require_connection().set_authorizer(None)
        try:
            if any(name == SCHEMA_NAME for _, name, _ in self._run("pragma database_list", {})):
                self._run(f"detach {SCHEMA_NAME}", {})
        finally:
            self._set_authorizer(None)

    def _unstable_reason(self) -> str:
        """Return why the state of the database is not in its file alone; empty if it is."""
        return "" if self._unlocked else f"changes of the app are not yet in {self.path.name} itself"

    def _unsupported_reason(self, spec: ExternalIndexSpec) -> str:
        """Return why the table cannot have an external index; empty if it can."""
        query = "select 1 from pragma_table_list where schema = 'main' and type = 'table' and not wr and name = :name"
        if not self._fetch(query, {"name": spec.table}) or not self._rowid_name(spec.table):
            return f"{spec.table} has no rowids"
        ((_, folds_unicode, lower_keeps_unicode),) = self._fetch(_BUILD_OPTIONS, {})
        return (
            ""
            if lower_keeps_unicode and not folds_unicode
            else "this build of SQLite folds non-ASCII letters"
        )

    def _rowid_name(self, table: str) -> str:
        column_names = {name.lower() for name in self._require_table(table).columns}
        return next((name for name in ROWID_NAMES if name not in column_names), "")

    def _read_database_state(self) -> dict[str, object]:
        """Return values that differ after any change of the database, and between databases."""
        schema = repr(self._fetch(_catalog_sql("main"), {}))
        with self.path.open("rb") as file:  # unlocked, so closing the file drops no locks
            counter = int.from_bytes(file.read(100)[24:28], "big")
        return {
            "size": self._opened_state[2],
            "mtime_ns": self._opened_state[3],
            "counter": counter,
            "schema": schema,
        }

    # Definition -----------------------------------------------------------------------------------------------

    def _table_definitions(self, spec: ExternalIndexSpec) -> dict[str, str]:
        """Return the tables of the file, each with the statement that SQLite stores for it."""
        condition_columns = "".join(
            f", k{position} integer" for position in range(len(spec.stored_conditions))
        )
        texts = ", ".join(f"c{position}" for position in range(len(spec.columns)))
        options = "content='', columnsize=0, tokenize='trigram case_sensitive 1'"
        return {
            "meta": "CREATE TABLE meta (key text, value)",
            "places": f"CREATE TABLE places (place integer primary key, number integer not null{condition_columns})",
            "texts": f"CREATE VIRTUAL TABLE texts using fts5({texts}, {options})",
        }

    def _fill_statements(self, spec: ExternalIndexSpec) -> list[tuple[str, Mapping[str, object]]]:
        """Return the statements that fill the tables."""
        statement = Statement(spec.table)
        table, rowid = self._quote_table(spec.table), self._rowid_name(spec.table)
        tests = [
            f"(({self._build_condition(statement, spec.table, condition, 't0')}) is true)"
            for condition in spec.stored_conditions
        ]
        names = ", ".join(["number", *(f"k{position}" for position in range(len(tests)))])
        order = ", ".join([*self._order_terms(statement, spec.table, spec.order), f"t0.{rowid}"])
        rows = f"select {', '.join([f't0.{rowid}', *tests])} from {table} t0 order by {order}"  # noqa: S608 - names are checked and quoted
        names_of_texts = ", ".join(f"c{position}" for position in range(len(spec.columns)))
        values = ", ".join(self._text_expressions(spec))
        source = f"{PLACES} p cross join {table} t0 on t0.{rowid} = p.number"
        texts = f"select p.place, {values} from {source} order by p.place"  # noqa: S608 - names are quoted
        return [
            (f"insert into {PLACES} ({names}) {rows}", statement.parameters),
            (f"insert into {TEXTS} (rowid, {names_of_texts}) {texts}", {}),
            (f"insert into {TEXTS} (texts) values ('optimize')", {}),  # noqa: S608 - names are quoted
        ]

    def _text_expressions(self, spec: ExternalIndexSpec) -> Iterator[str]:
        """Yield SQL for the text of each column of ``t0`` that LIKE compares, up to a NUL, in lower case."""
        ((blobs, _, _),) = self._fetch(_BUILD_OPTIONS, {})
        by_bytes = self._fetch("pragma encoding", {}) == [("UTF-8",)]  # text may contain invalid UTF-8
        for column in spec.columns:
            name = self._quote_column(spec.table, column, "t0")
            text = f"cast({name} as text)"
            if by_bytes:
                raw = f"cast({name if blobs else text} as blob)"
                cut = f"cast(substr({raw}, 1, instr({raw}, x'00') - 1) as text)"
            else:
                cut = f"substr({text}, 1, instr({text}, char(0)) - 1)"
            text_sql = f"lower(case when instr({text}, char(0)) then {cut} else {text} end)"
            yield text_sql if blobs else f"case when typeof({name}) <> 'blob' then {text_sql} end"

    def _describe_definition(self, spec: ExternalIndexSpec) -> str:
        return repr([FORMAT, self._table_definitions(spec), self._fill_statements(spec)])

    # Queries --------------------------------------------------------------------------------------------------

    def _read_attached(self, read: Callable[[], T]) -> T:
        """Return the result of ``read``, if neither the attached file nor the database changed during the call."""

        def read_if_attached() -> T:
            if self._attached_file is None:
                raise self._invalid_error(f"{self.path.name} has changed since then")
            return read()

        try:
            result = self._retry_if_changed(read_if_attached)
        except ExternalIndexInvalidError:
            raise
        except DbctlError as error:
            raise self._invalid_error(str(error)) from error

        if (
            self._attached_file is None
            or inspect_file(self._attached_file.path, self.path.stat().st_uid) != self._attached_file.state
        ):
            raise self._invalid_error("it has changed since then")
        return result

    def _invalid_error(self, reason: str) -> ExternalIndexInvalidError:
        path = self._attached_file.path if self._attached_file else f"next to {self.path.name}"
        return ExternalIndexInvalidError(target=self.target, path=path, reason=reason)


def _catalog_sql(schema: str) -> str:
    return f"select type, name, coalesce(sql, '') from {schema}.sqlite_master order by type, name"  # noqa: S608 - constant names
