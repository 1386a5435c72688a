"""Restore target: a database on a server.

A dump cannot be loaded in one transaction, because each CREATE TABLE commits. So it is loaded into a new database and
verified, and then one statement renames all tables: the old ones into a third database, where they are retained until
the next restore, and the new ones into their place. Triggers, views, routines and events cannot be renamed: they are
dumped as a script before, and created again afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

import pymysql
from msgspec import structs

from dbctl.engines.contract import Dump, LoadResult, RestoreStrategy, RetainedDatabase, TrialRestore
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.dump import describe_server
from dbctl.engines.mysql.backup.names import DATABASES, RETAINED_SUFFIX, derived_name
from dbctl.engines.mysql.backup.restore_server import CENTRAL, CHARSET, TABLES, RestoreServer
from dbctl.engines.mysql.backup.scratch_database import ScratchDatabases
from dbctl.engines.mysql.backup.table_swap import CODE_MARKER, TableSwap, rename_statement
from dbctl.engines.mysql.connection import DbctlLock, MySQLConnection, Session
from dbctl.engines.mysql.types import format_literal
from dbctl.engines.sql import ident
from dbctl.errors import NotSupportedError
from dbctl.files import Progress, no_progress, release_nothing
from dbctl.url import Url

#: Whether a database contains user objects.
HAS_OBJECTS = """select exists (select 1 from information_schema.tables where table_schema = {0})
or exists (select 1 from information_schema.routines where routine_schema = {0})
or exists (select 1 from information_schema.events where event_schema = {0})"""
#: The databases with the accounts and the state of the server.
SYSTEM = frozenset({"information_schema", "mysql", "performance_schema", "sys"})


class MySQLRestoreTarget:
    """A MySQL or MariaDB database as the target of a restore."""

    requires_load = True

    def __init__(self, url: Url, target: str) -> None:
        self._server = RestoreServer(url, target)
        self._scratch_databases, self._swap = ScratchDatabases(self._server), TableSwap(self._server)

    def exists(self) -> bool:
        with self._server.translate_errors(), self._server.central() as central:
            return self._server.exists(central, self._server.name)

    def identity(self) -> str:
        # Some systems ignore the case of names, so names that differ only in case identify the same database.
        with self._server.translate_errors(), self._server.central() as central:
            return f"{describe_server(central)['system']}/{self._server.name.casefold()}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._server.url)

    def has_content(self) -> bool:
        with self._server.translate_errors(), self._server.central() as central:
            return central.run(HAS_OBJECTS.format(format_literal(self._server.name))) == [(1,)]

    def files(self) -> Sequence[Path]:
        return ()  # the server owns them

    def block_writers(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Block no writers: the replaced tables are retained under another name, with all later writes."""
        del dump, timeout
        return nullcontext(release_nothing)

    def require_space(self, required_bytes: int) -> None:
        """Do nothing: a server does not report its free space."""

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        # The lock is valid on the whole server, so it works even if the database is missing.
        url = structs.replace(self._server.url, path=CENTRAL)
        connection = MySQLConnection(url, self._server.target, timeout=timeout, read_only=False)
        with closing(connection), DbctlLock(connection, self._server.name).acquire(purpose):
            yield

    def strategy(self, dump: Dump) -> RestoreStrategy:
        self._refuse_system_database()
        with self._server.translate_errors(), self._server.central() as central:
            location, source_system = self._describe_location(central), dump.metadata.get("system", "")
            stored_code.require_recreatable(central, self._server.name, self._server.target)
            if dump.form == "kept":
                self._server.require_retained(central, dump)
                steps = [f"swap the tables of {dump.metadata['kept']} and {location}"]
                return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
            self._server.refuse_newer(dump, central)
            notes = []
            if source_system not in ("", describe_server(central)["system"]):
                notes = [
                    f"note: the backup is from another server: {dump.metadata['database']} at {dump.metadata['at']}"
                ]
            if not self._server.exists(central, self._server.name):
                return RestoreStrategy(method="new", steps=[f"create {location}", *notes])
        steps = [
            f"load into a new database next to {location}, verify it, and swap their tables in one statement",
            "create triggers, views, routines and events again",
        ]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=[*steps, *notes])

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        with self._server.translate_errors(), self._server.central() as central:
            name, tables = (
                derived_name(self._server.name, f"{RETAINED_SUFFIX}{stamp}"),
                stored_code.list_names(central, TABLES, self._server.name),
            )
            ((charset, collation),) = central.run(CHARSET.format(format_literal(self._server.name)))
            metadata = {
                **describe_server(central),
                "kept": name,
                "database": self._server.name,
                "tables": str(len(tables)),
                "charset": str(charset),
                "collation": str(collation),
            }
            moves = rename_statement(tables, name, self._server.name)
            note = (
                f"-- A restore replaced {self._server.target}. Its previous tables are in database {name} of the server\n"
                "-- until the next restore. dbctl restore undo restores them; by hand, after removing everything from\n"
                f"-- {self._server.name}:\nset sql_mode = concat(@@sql_mode, ',ANSI_QUOTES');\n{moves};\n"
                f"set sql_mode = default;\nuse `{self._server.name.replace('`', '``')}`;\n{CODE_MARKER}"
            )
            return RetainedDatabase(
                metadata=metadata,
                revert_script=note
                + self._swap.dump_code(central, self._server.name).decode(errors="replace"),
            )

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        names = [dump.metadata["kept"] for dump in retained]
        with self._server.translate_errors(), self._server.central() as central:
            return [name for name in names if not self._server.exists(central, name)]

    def markers(self) -> Mapping[str, str]:
        return {}  # the retained database identifies the state

    def _refuse_system_database(self) -> None:
        if self._server.name.casefold() in SYSTEM:
            raise NotSupportedError(
                feature="a restore",
                subject=f"{self._server.target}, a system database",
                hint="Nothing was changed. Choose another database.",
            )

    def prepare(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[None]:
        """Do nothing: a restore needs no preparation here."""
        del path, dump, timeout
        return nullcontext()

    def load(
        self,
        path: Path,
        dump: Dump,
        *,
        timeout: float,
        retained: Mapping[str, str] = {},
        progress: Progress = no_progress,
        release_locks: Callable[[], None] = release_nothing,
        can_consume: bool = False,
    ) -> LoadResult:
        del release_locks, can_consume  # no session is blocked, and the dump is only read
        self._refuse_system_database()
        with self._server.translate_errors(), self._server.central(timeout) as central:
            exists = self._server.exists(central, self._server.name)
            stored_code.require_recreatable(central, self._server.name, self._server.target)
            if dump.form == "kept":
                remarks = self._swap.restore_retained(central, path, dump, retained.get("kept", ""), timeout)
                return LoadResult(method="swapped" if exists else "new", remarks=remarks)
            self._server.refuse_newer(dump, central)
            remarks = list[str]()
            with self._scratch_databases.create(central, dump, remarks, timeout) as url:
                self._scratch_databases.load(central, url, path, dump, timeout, progress)
                with self._swap.lock(central):
                    remarks += self._swap.swap(central, url.path, retained.get("kept", ""), dump, timeout)
        return LoadResult(method="swapped" if exists else "new", remarks=remarks)

    def drop_retained(self, retained: Mapping[str, str]) -> Sequence[str]:
        pattern, remarks = (
            re.compile(rf"{re.escape(derived_name(self._server.name, RETAINED_SUFFIX))}\d{{8}}_\d{{6}}"),
            [],
        )
        with self._server.translate_errors(), self._server.central() as central:
            for (database,) in central.run(DATABASES):
                if pattern.fullmatch(str(database)) and database != retained.get("kept"):
                    try:
                        central.run(f"drop database {ident(str(database))}")
                    except pymysql.Error as error:
                        remarks.append(f"retained database {database} could not be dropped: {error.args[-1]}")
        return remarks

    @contextmanager
    def restored_copy(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self.trial_restore(path, dump, timeout=timeout) as trial:
            yield trial.url

    @contextmanager
    def trial_restore(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[TrialRestore]:
        """Yield a temporary database with the loaded dump and its verification; it is dropped at the end."""
        with self._server.translate_errors(), self._server.central(timeout) as central:
            self._server.refuse_newer(dump, central)
            remarks = list[str]()
            with self._scratch_databases.create(central, dump, remarks, timeout) as url:
                verification = self._scratch_databases.load(central, url, path, dump, timeout, no_progress)
                yield TrialRestore(url=url, verification=verification, remarks=remarks)

    def _describe_location(self, session: Session) -> str:
        return f"database {self._server.name} of the server at {describe_server(session)['at']} ({session.server.version_text})"
