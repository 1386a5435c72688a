"""Build the external index of a SQLite file, in a file that is complete or absent, and compare it with the database."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dbctl import signals
from dbctl.engines.sql.catalog import Statement
from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteReader
from dbctl.errors.connection import (
    BusyError,
    ChangedWhileReadError,
    ExternalIndexInvalidError,
    FileFailedError,
    report_file_errors,
)
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.external_index.contract import ExternalIndexSpec, ExternalIndexState
from dbctl.extensions.external_index.definition import META, PLACES, SCHEMA_NAME, TEXTS
from dbctl.extensions.external_index.file import MIN_LENGTH, ExternalSearch, index_path
from dbctl.files import atomic
from dbctl.files.atomic import create_empty, sync_name
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.contract.fulltext import IndexFault


#: Number of rows that a new index must find before it replaces the old one.
VERIFIED_ROWS = 200
#: Coarsest resolution of file times in seconds, and seconds between two checks of the clock or two tries for the lock.
COARSE_SECONDS, RETRY_SECONDS = 2, 0.05


class _FaultQuery(Struct, frozen=True):
    """A query for faults of one kind; it returns a name of each faulty row."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    sql: str
    parameters: Mapping[str, object] = {}


class ExternalIndexes(ExternalSearch):
    """The part of a reader that builds, checks and searches an external index."""

    def external_index_path(self, folder: Path | None, name: str) -> Path:
        """Return the path of an index file in ``folder``, or next to the database."""
        return index_path(self._connection.path, folder, name)

    def open_external_index(self, spec: ExternalIndexSpec, paths: Sequence[Path]) -> ExternalIndexState:
        """As ``ExternalIndexFile.open``."""
        return self._file.open(spec, paths)

    # Creation -------------------------------------------------------------------------------------------------

    def create_external_index(self, spec: ExternalIndexSpec, path: Path) -> ExternalIndexState:
        """Build or rebuild the index file atomically, and verify it.

        Only users who may read the database may read the file.

        Raises:
            BusyError: another dbctl process builds one there.
            ChangedWhileReadError: the database was written concurrently.
            DiskFullError, FileFailedError: it cannot be written.
            NotSupportedError: the table has no row numbers, or its app is writing.
            ExternalIndexInvalidError: the built index is not correct.
        """
        self._connection.fetch("select 1")
        reason = self._file.define(spec).unsupported_reason() or self._file.unstable_reason()
        if reason:
            hint = "Nothing was created. Stop the app that writes the database, then run this again." * (
                not self._connection.is_unlocked
            )
            raise NotSupportedError(
                feature=f"a search index of {spec.table}",
                subject=f"{self._catalog.target}: {reason}",
                hint=hint,
            )
        with create_partial(path, self._catalog.target, timeout=self._connection.timeout) as new_path:
            seal(new_path, self._connection.path, self._fill_index(spec, new_path))
            state = self._file.inspect(spec, new_path)
            is_incomplete = state.state == "fresh" and (
                self.count_external(spec, ()) != self._db.count(spec.table)
                or self._find_faults([self._build_text_query(spec, VERIFIED_ROWS)])
            )
            self._file.detach()
            if state.state != "fresh" or is_incomplete:
                reason = state.reason or "it does not find every row"
                raise ExternalIndexInvalidError(target=self._catalog.target, path=path, reason=reason)
            install(new_path, path)
        return self._file.inspect(spec, path)

    def _fill_index(self, spec: ExternalIndexSpec, path: Path) -> int:
        """Fill an empty file; return the even second that marks it as complete, which every file system can store."""
        definition = self._file.define(spec)
        self._wait_for_distinct_mtime()
        initial_state, created_at = self._connection.opened_state, int(datetime.now(UTC).timestamp())
        metadata = {
            "definition": definition.describe(),
            "created_at": created_at,
            "sealed": created_at - created_at % 2,
            **self._file.read_database_state(),
        }
        self._file.attach(path, "mode=rw")
        try:
            for pragma in (
                "query_only = 0",
                f"{SCHEMA_NAME}.journal_mode = off",
                f"{SCHEMA_NAME}.synchronous = off",
            ):
                self._connection.run(f"pragma {pragma}")
            self._connection.run("begin")
            for name, sql in definition.table_definitions().items():
                self._connection.run(sql.replace(f" TABLE {name}", f" TABLE {SCHEMA_NAME}.{name}", 1))
            for sql, parameters in definition.fill_statements():
                self._connection.run(sql, parameters)
            for key, value in metadata.items():
                self._connection.run(
                    f"insert into {META} values (:key, :value)", {"key": key, "value": value}
                )
            self._connection.run("commit")
        finally:
            self._connection.open()
        if self._connection.opened_state != initial_state or not self._connection.is_unlocked:
            raise ChangedWhileReadError(target=self._catalog.target)
        return created_at - created_at % 2

    def _wait_for_distinct_mtime(self) -> None:
        """Wait until later changes get another file time, on file systems with a resolution of two seconds."""
        while (
            self._connection.opened_state[3] % 10**9 == 0
            and 0 <= time.time() - self._connection.opened_state[3] // 10**9 <= COARSE_SECONDS
        ):
            signals.raise_if_interrupted()
            time.sleep(RETRY_SECONDS)

    def drop_external_index(self, path: Path) -> None:
        """Delete the index file, and the partial files of killed processes.

        Raises:
            FileFailedError: it cannot be deleted, or is not a file.
        """
        self._file.detach()
        remove(path)

    # Verification ---------------------------------------------------------------------------------------------

    def find_external_index_faults(self, spec: ExternalIndexSpec, *, rows: int) -> Sequence[IndexFault]:
        """Compare the open index with the database: the stored values of every row, and the text of ``rows`` rows."""
        return self._find_faults([*self._build_fault_queries(spec), self._build_text_query(spec, rows)])

    def external_index_differs(self, spec: ExternalIndexSpec) -> bool:
        """Whether a rebuilt temporary index would differ from the open one; closes the open one."""
        import tempfile

        from dbctl.files import temp

        path = self._file.attached_path
        current_digest = self._file.read_attached(self._digest_content)
        with temp.folder(Path(tempfile.gettempdir()), ".dbctl-search-") as folder:
            rebuilt = folder / path.name
            rebuilt.touch(mode=0o600)
            self._fill_index(spec, rebuilt)
            self._file.attach(rebuilt, "mode=ro&immutable=1")
            rebuilt_digest = self._digest_content()
            self._file.detach()
        return current_digest != rebuilt_digest or self._file.inspect(spec, path).state != "fresh"

    def _digest_content(self) -> str:
        """Return a digest of the content of the attached file."""
        import hashlib

        digest = hashlib.sha256()
        for table in (PLACES, f"{SCHEMA_NAME}.texts_data", f"{SCHEMA_NAME}.texts_idx"):
            for row in self._connection.driver.execute(f"select * from {table} order by 1, 2"):
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _find_faults(self, queries: Sequence[_FaultQuery]) -> list[IndexFault]:
        from dbctl.engines.contract.fulltext import IndexFault

        faults = []
        for query in queries:
            sql = f"select count(*), min(q.i) from ({query.sql}) q"
            ((count, example),) = self._file.read_attached(
                partial(self._connection.rows, sql, query.parameters)
            )
            if count:
                faults.append(IndexFault(kind=query.kind, count=int(str(count)), example=str(example)))
        return faults

    def _build_fault_queries(self, spec: ExternalIndexSpec) -> Iterator[_FaultQuery]:
        """Yield queries for rows that are missing, stray, duplicate, out of order, or have wrong conditions."""
        table = self._catalog.quote_table(spec.table)
        rowid = self._file.define(spec).rowid_name()
        row_name = self._row_name_sql(spec)
        statement = Statement(spec.table)
        differences = [
            f"p.k{position} is not (({self._builder.condition(statement, spec.table, condition, 't0')}) is true)"
            for position, condition in enumerate(spec.stored_conditions)
        ]
        unknown = f"t0.{rowid} not in (select number from {PLACES})"
        yield _FaultQuery("missing", f"select {row_name} as i from {table} t0 where {unknown}")
        known = f"select t0.{rowid} from {table} t0"
        yield _FaultQuery("stray", f"select number as i from {PLACES} where number not in ({known})")
        yield _FaultQuery(
            "duplicate", f"select number as i from {PLACES} group by number having count(*) > 1"
        )
        if differences:
            sql = f"select {row_name} as i from {self._join_sql(spec)} where {' or '.join(differences)}"
            yield _FaultQuery("stale", sql, statement.parameters)
        statement = Statement(spec.table)
        order = ", ".join([*self._builder.order_terms(statement, spec.table, spec.order), f"t0.{rowid}"])
        moved = f"select {row_name} as i, p.place as a, row_number() over (order by {order}) as b from {self._join_sql(spec)}"
        yield _FaultQuery("stale", f"select i from ({moved}) where a <> b", statement.parameters)

    def _build_text_query(self, spec: ExternalIndexSpec, rows: int) -> _FaultQuery:
        """Return a query for rows whose text is not found, among about ``rows`` evenly selected rows."""
        step = max(1, self._db.count(spec.table) // rows)
        terms = []
        for position, text in enumerate(self._file.define(spec).text_expressions()):
            phrase = f"'c{position} : \"' || replace({text}, '\"', '\"\"') || '\" '"
            terms.append(f"case when length({text}) >= {MIN_LENGTH} then {phrase} else '' end")
        match = f"select 1 from {TEXTS} x where x.texts match q.phrase and x.rowid = q.place"
        source = f"select {self._row_name_sql(spec)} as i, p.place, {' || '.join(terms)} as phrase from {self._join_sql(spec)}"
        sql = f"select i from ({source} where p.place % :step = 0) q where q.phrase <> '' and not exists ({match})"
        return _FaultQuery("stale", sql, {"step": step})

    def _join_sql(self, spec: ExternalIndexSpec) -> str:
        return f"{PLACES} p join {self._catalog.quote_table(spec.table)} t0 on t0.{self._file.define(spec).rowid_name()} = p.number"

    def _row_name_sql(self, spec: ExternalIndexSpec) -> str:
        key = self._catalog.primary_key(spec.table)
        return (
            self._catalog.quote_column(spec.table, key[0], "t0")
            if key
            else f"t0.{self._file.define(spec).rowid_name()}"
        )


#: A text in the first page of each index, also of one of another version and of one that was damaged later.
MARK = b"CREATE TABLE places (place integer primary key"
#: The size of the largest page of SQLite.
PAGE_SIZE = 1 << 16
#: The name of an unfinished file, also of a dbctl that was killed.
PARTIAL = ".{name}.dbctl-{number}.partial"
#: The holder of the lock of a folder.
HOLDER = " by another dbctl that creates a search index in the same folder"
#: The attribute in which Linux stores access control lists.
ACCESS_LIST = "system.posix_acl_access"


def require_replaceable(path: Path) -> None:
    """Refuse a directory, and a file with content that is not an index; of a link, only the link would be lost.

    Raises:
        FileFailedError: dbctl did not create it, or may not read it.
    """
    with report_file_errors(path):
        if not os.path.lexists(path) or stat.S_ISLNK(path.lstat().st_mode):
            return
        if path.is_dir():
            raise FileFailedError(path=path, reason="a directory has this name; move it away first")
        content = b""
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(PAGE_SIZE)
    if content and MARK not in content:
        raise FileFailedError(path=path, reason="dbctl did not create this file; move it away first")


@contextmanager
def create_partial(path: Path, target: str, *, timeout: float) -> Iterator[Path]:
    """Yield an empty file next to ``path`` and remove it at the end; a lock prevents concurrent creation.

    Raises:
        BusyError: another process had the lock for all of ``timeout`` seconds.
        FileFailedError: the file cannot be created.
    """
    with ExitStack() as stack:
        with atomic.translate_errors(path.parent, path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(_lock_folder(path, target, timeout))
        partial = path.with_name(PARTIAL.format(name=path.name, number=secrets.token_hex(4)))
        with report_file_errors(path):
            create_empty(partial)
        try:
            yield partial
        finally:
            with signals.block_signals(), suppress(OSError):
                partial.unlink()


@contextmanager
def _lock_folder(path: Path, target: str, timeout: float) -> Iterator[None]:
    """Lock the folder of a file, and remove the leftovers of killed processes; on a file system without locks, nothing."""
    from dbctl.files.lock import wait_for_lock  # searches do not need it

    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            wait_for_lock(
                target, timeout, partial(fcntl.flock, folder, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: HOLDER
            )
        except OSError:
            pass  # a file system without locks
        else:
            _remove_leftovers(path)
        yield
    finally:
        os.close(folder)


def _remove_leftovers(path: Path) -> None:
    begin, end = PARTIAL.format(name=path.name, number="\0").split("\0")
    for leftover in path.parent.iterdir():
        if leftover.name.startswith(begin) and leftover.name.endswith(end):
            with suppress(OSError):
                leftover.unlink()


def seal(partial: Path, database: Path, timestamp: int) -> None:
    """Make a complete file readable by the readers of ``database``, set the time that marks it as complete, and sync it.

    Raises:
        FileFailedError: one of these steps failed.
    """
    with atomic.translate_errors(partial, partial.parent):
        status = database.stat()
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o600 | (_copy_ownership(descriptor, status, database) & 0o044))
            os.utime(descriptor, (timestamp, timestamp))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy_ownership(descriptor: int, owner: os.stat_result, database: Path) -> int:
    """Give a file the owner and group of another; return the mode to copy, 0 if they cannot have the same readers."""
    with suppress(OSError):  # only members of a group may give it a file
        os.fchown(descriptor, owner.st_uid if os.geteuid() == 0 else -1, owner.st_gid)
    status = os.fstat(descriptor)
    is_shared = (status.st_uid, status.st_gid) == (owner.st_uid, owner.st_gid)
    return stat.S_IMODE(owner.st_mode) if is_shared and not _has_access_list(database) else 0


def _has_access_list(path: Path) -> bool:
    try:
        return ACCESS_LIST in os.listxattr(path)
    except (OSError, AttributeError):  # not supported by the file system or the platform
        return False


def install(partial: Path, path: Path) -> None:
    """Rename a complete file to ``path``, replacing an old file or link.

    Raises:
        FileFailedError: the file cannot be renamed.
        FileUnsyncedError: the file was renamed, but the folder could not be synced.
    """
    with report_file_errors(path):
        partial.rename(path)
    sync_name(path)


def remove(path: Path) -> None:
    """Remove a file and the leftovers of unfinished ones.

    Raises:
        FileFailedError: the file cannot be removed.
    """
    with atomic.translate_errors(path, path.parent), suppress(NotADirectoryError):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            with (
                suppress(BusyError),
                _lock_folder(path, path.name, 0),
            ):  # another process may create a new one
                pass


def create_parts(db: SQLiteDatabase) -> Sequence[object]:
    return [ExternalIndexes(db)] if isinstance(db, SQLiteReader) else []
