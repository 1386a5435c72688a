"""Open a SQLite file, or a private database in memory, for writing; transactions."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.engines.sqlite.errors import MISSING
from dbctl.engines.sqlite.files import may_reappear
from dbctl.errors.base import RUN_AS_OWNER, DbctlError
from dbctl.errors.connection import CommitUnsyncedError, NotADatabaseError, QueryFailedError, ReadOnlyError
from dbctl.errors.usage import ValueInvalidError
from dbctl.files.atomic import sync_directory

if TYPE_CHECKING:
    from dbctl.engines.sqlite.rows import GuardedDatabase


T = TypeVar("T")

#: Page cache in kibibytes, which SQLite expects as a negative number: 64 MB halve the time of a large DELETE. Readers
#: use SQLite's default of 2 MB: filling a larger cache takes longer than reading from the kernel's cache. Files are
#: not memory-mapped: a process that truncates a mapped file kills its readers with SIGBUS.
CACHE_PRAGMA = ("cache_size", "-64000")
#: Without a -wal, deleting the journal commits a change, and the deletion must be synced too: a journal that reappears
#: after a power failure reverts the change, and if the file was truncated, its last pages are lost.
DURABLE_PRAGMA = ("synchronous", "extra")
#: The values of ``synchronous``: SQLite reads any other as ``normal``.
SYNCHRONOUS = ("off", "normal", "full", "extra", "0", "1", "2", "3")
DEFINITIONS = "select type || ' ' || name, sql from sqlite_master where sql is not null order by rowid"


def refuse_unsafe(path: Path, target: str) -> None:
    """Refuse to write a file without write access, or with a second hard link.

    Raises:
        ReadOnlyError: the file or its directory is not writable, or the file has a second hard link.
    """
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        reason, hint = "is not writable for this user", RUN_AS_OWNER
        if any(os.statvfs(place).f_flag & os.ST_RDONLY for place in (path, path.parent)):
            reason, hint = (
                "is mounted read-only",
                "Mount it for writing; after disk errors (see dmesg), check it first.",
            )
        raise ReadOnlyError(
            target=target, reason=f"{path} or its directory {reason}", hint=f"Nothing was changed. {hint}"
        )
    if path.stat().st_nlink > 1:
        raise ReadOnlyError(
            target=target,
            reason=f"{path} has a second hard link, whose users would not read the journal of this one",
            hint="Nothing was changed. Remove the other link, or replace it with a symbolic link.",
        )


class WriteConnection(SQLiteConnection):
    """A SQLite file opened for reading and writing; its ``journal_mode`` is not changed."""

    read_only = False

    def __init__(self, path: Path, target: str, options: OpenOptions) -> None:
        """Open ``path``; foreign keys are always on."""
        super().__init__(path, target, timeout=options.timeout)
        self.depth = 0  #: number of nested transactions
        self._begin = f"begin {'exclusive' if options.exclusive else 'immediate'}"
        self.opened_state: tuple[int, ...] = ()  #: device, inode, size and modification time
        self.schema_version = 0  #: when the connection was opened
        try:
            self._open(options.create, options.pragmas)
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        if create is not None and not os.path.lexists(self.path):
            self._create_empty()
        self.opened_state = self._read_file_state()
        size = self.opened_state[2]
        if size == 1:  # SQLite would treat it as a new file and overwrite it
            raise NotADatabaseError(target=self.target, path=self.path, engine="SQLite")
        refuse_unsafe(self.path, self.target)
        self._connect("mode=rw")
        created = create if create and size == 0 else {}  # new, or left empty by a killed process
        if created or pragmas:
            self._check_pragmas([*created.items(), *pragmas.items()])
        fixed = (("foreign_keys", "1"), CACHE_PRAGMA, DURABLE_PRAGMA)
        for name, value in (*created.items(), *fixed, *pragmas.items()):
            self.run(f"pragma {name} = {value}")
        # The version is read here, because each statement has a cost under the lock of another process.
        ((_, enforces, version),) = self.fetch(
            "select (select count(*) from sqlite_master), foreign_keys, schema_version from pragma_foreign_keys, pragma_schema_version"
        )
        if not enforces:
            raise QueryFailedError(
                target=self.target, reason="this build of SQLite does not enforce foreign keys"
            )
        self.schema_version = int(str(version))

    def _check_pragmas(self, pragmas: Sequence[tuple[str, str]]) -> None:
        """Refuse pragmas of a profile, which is written by hand, that SQLite would ignore or weaken, or that are no words."""
        known = {str(name) for (name,) in self.run("select name from pragma_pragma_list")}
        for name, value in pragmas:
            reason = "" if name.lower() in known else "SQLite has no such pragma"
            if not value.removeprefix("-").isalnum():
                reason = "its value is not a word"
            if name.lower() == "synchronous" and value.lower() not in SYNCHRONOUS:
                reason = "it is not off, normal, full or extra"
            if reason:
                raise ValueInvalidError(name="pragma", value=f"{name} = {value}", reason=reason)

    def _create_empty(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            try:
                if os.geteuid() == 0:  # the app, which owns the directory, must be able to open the file
                    folder = self.path.parent.stat()
                    os.fchown(descriptor, folder.st_uid, folder.st_gid)
            finally:
                os.close(descriptor)
            sync_directory(self.path.parent)
        except FileExistsError:  # another process created it first
            return
        except OSError as error:
            raise self._unreachable_error(error.strerror or str(error)) from error

    def translate(self, error: sqlite3.Error) -> DbctlError:
        match = re.match(MISSING, str(error))
        if match and (objects := self._list_callers(match[2])):
            return QueryFailedError(
                target=self.target,
                reason=f"SQLite lacks the {match[1]} {match[2]}, which is in the definition of {', '.join(objects)}",
                hint=f"Change these rows in the app, which defines it: another {match[1]} may have other results.",
            )
        return super().translate(error)

    def _list_callers(self, name: str) -> Sequence[str]:
        """Return what has a function or a collation in its definition; empty if that cannot be read."""
        try:
            definitions = self.driver.execute(DEFINITIONS).fetchall()
        except (sqlite3.Error, UnicodeError):
            return ()
        return [item for item, sql in definitions if re.search(rf"(?i)(?<!\w){re.escape(name)}(?!\w)", sql)]

    @cached_property
    def database(self) -> GuardedDatabase:
        """The ``Database`` of sqlite-utils on this connection, which only commands that write have to import."""
        from dbctl.engines.sqlite.rows import GuardedDatabase

        return GuardedDatabase(self)

    @contextmanager
    def query_only(self) -> Iterator[None]:
        self.run("pragma query_only = 1")
        try:
            yield
        finally:
            self.run("pragma query_only = 0")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin a transaction, commit at the end, roll back on any exception; nested, it is a savepoint."""
        nested = self.depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release s{nested}", f"rollback to s{nested}")
            if nested
            else (self._begin, "commit", "rollback")
        )
        try:
            self.run(begin)
            self.depth += 1
            yield
            self.run(commit)
        except BaseException as error:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            if not nested:
                self._raise_if_unsynced(error.__cause__)
            raise
        finally:
            self.depth = nested
            if not nested:
                self.memo.clear()

    def _roll_back(self, sql: str) -> None:
        self.notify_change()  # changes of the schema may be rolled back, too
        if self._connection is None or not self._connection.in_transaction:
            return  # some errors end the transaction
        try:
            self._connection.execute(sql)
        except sqlite3.Error:
            self.close()  # closing rolls back; the first error is the one to report

    def _raise_if_unsynced(self, error: BaseException | None) -> None:
        """Raise CommitUnsyncedError if a failed change may reappear and cannot be removed from the -wal."""
        if not may_reappear(error, self.path):
            return
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a reader may still use other frames
                self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        if may_reappear(error, self.path):
            raise CommitUnsyncedError(target=self.target, path=self.path, reason=error) from error

    def require_transaction(self) -> None:
        """Refuse a write outside a transaction, where SQLite would commit it at once."""
        if not self.depth:
            raise RuntimeError("write outside a transaction")
        if not self.driver.in_transaction:
            raise QueryFailedError(target=self.target, reason="an earlier error ended the transaction")

    def write(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, without a retry: the transaction has the lock, and an iterator yields once."""
        self.require_transaction()
        return self.retry_while_locked(call, seconds=0)

    def execute_write(self, sql: str, parameters: Mapping[str, object] = {}) -> int:
        """Run a statement that sqlite-utils has no method for; return the number of its rows."""
        self.require_transaction()
        return int(self.database.execute(sql, dict(parameters)).rowcount)

    def defer_references(self) -> None:
        """Check foreign keys at the end of the transaction."""
        self.require_transaction()
        self.run("pragma defer_foreign_keys = 1")


class ScratchConnection(WriteConnection):
    """An empty database in memory, which leaves no files and needs no disk space."""

    def __init__(self, target: str) -> None:
        # SQLite requires a name; no file is created
        super().__init__(Path("/scratch"), target, OpenOptions())

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        del create, pragmas  # there is no file to create or configure
        self._connect("mode=memory")
        self.run("pragma foreign_keys = 1")
