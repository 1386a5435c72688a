"""Restore target: a database on a server.

A dump cannot be loaded in one transaction, because each CREATE TABLE commits. So it is loaded into a new database and
verified, and then one statement renames all tables: the old ones into a third database, where they are retained until
the next restore, and the new ones into their place. Triggers, views, routines and events cannot be renamed: they are
dumped as a script before, and created again afterwards.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import (
    Dump,
    DumpVerification,
    LoadResult,
    RestoreStrategy,
    RetainedDatabase,
    TrialRestore,
)
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.dump import describe_server
from dbctl.engines.mysql.backup.foreign import scratch_role
from dbctl.engines.mysql.backup.foreign import stored_code as foreign
from dbctl.engines.mysql.backup.load import UNCHANGED, load_dump, run_script
from dbctl.engines.mysql.backup.names import (
    DATABASES,
    RETAINED_SUFFIX,
    SCRATCH_SUFFIX,
    derived_name,
    scratch_name_pattern,
)
from dbctl.engines.mysql.errors import ErrorContext, error_number, translate_error, unreachable_error
from dbctl.engines.mysql.reader import SHORT_TIMEOUT, MySQLReader
from dbctl.engines.mysql.session import Session, open_session, parse_server
from dbctl.engines.mysql.types import format_literal
from dbctl.engines.mysql.writer import MySQLWriter
from dbctl.engines.sql import digest_tables, find_differences, ident
from dbctl.errors import (
    BusyError,
    DbctlError,
    DumpOverreachesError,
    ForeignDumpRefusedError,
    NotSupportedError,
    PrivilegeMissingError,
    RestoreFailedError,
    RestoreUnfinishedError,
    RetainedDatabaseMissingError,
    UnreachableError,
)
from dbctl.files import Progress, no_progress, release_nothing
from dbctl.url import Url

#: The database that every server has, and every user may connect to.
CENTRAL = "information_schema"
#: Precedes the code objects in the script of a retained database.
CODE_MARKER = "-- What is no table follows.\n"
CHARSET = "select default_character_set_name, default_collation_name from information_schema.schemata where schema_name = {}"
TABLES = """select table_name from information_schema.tables
where table_schema = {} and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""
VERSIONED = """select table_name from information_schema.tables
where table_schema = {} and table_type = 'SYSTEM VERSIONED' order by 1"""
DANGLING_KEYS = """select table_name, constraint_name from information_schema.referential_constraints
where constraint_schema = {0} and unique_constraint_schema = {1} order by 1, 2"""
#: Whether a database contains user objects.
HAS_OBJECTS = """select exists (select 1 from information_schema.tables where table_schema = {0})
or exists (select 1 from information_schema.routines where routine_schema = {0})
or exists (select 1 from information_schema.events where event_schema = {0})"""
MAY_NOT_CREATE = 1044
UNTRUSTED = "Check the dump. With a binary log, triggers and functions need SET GLOBAL log_bin_trust_function_creators = 1."
#: The databases with the accounts and the state of the server.
SYSTEM = frozenset({"information_schema", "mysql", "performance_schema", "sys"})


class MySQLRestoreTarget:
    """A MySQL or MariaDB database as the target of a restore."""

    requires_load = True

    def __init__(self, url: Url, target: str) -> None:
        self._url, self._target, self._name = url, target, url.path

    # State and plan ------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        with self._translate_errors(), self._central() as central:
            return self._exists(central, self._name)

    def identity(self) -> str:
        # Some systems ignore the case of names, so names that differ only in case identify the same database.
        with self._translate_errors(), self._central() as central:
            return f"{describe_server(central)['system']}/{self._name.casefold()}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._url)

    def has_content(self) -> bool:
        with self._translate_errors(), self._central() as central:
            return central.run(HAS_OBJECTS.format(format_literal(self._name))) == [(1,)]

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
        url = structs.replace(self._url, path=CENTRAL)
        with closing(_NamedLockSession(url, self._target, timeout=timeout)) as lock_session:
            lock_session.lock_name = locks.lock_name(self._name)
            with lock_session.lock(purpose):
                yield

    def strategy(self, dump: Dump) -> RestoreStrategy:
        self._refuse_system_database()
        with self._translate_errors(), self._central() as central:
            location, source_system = self._describe_location(central), dump.metadata.get("system", "")
            stored_code.require_recreatable(central, self._name, self._target)
            if dump.form == "kept":
                self._require_retained(central, dump)
                steps = [f"swap the tables of {dump.metadata['kept']} and {location}"]
                return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
            _refuse_newer(dump, central, self._target)
            notes = []
            if source_system not in ("", describe_server(central)["system"]):
                notes = [
                    f"note: the backup is from another server: {dump.metadata['database']} at {dump.metadata['at']}"
                ]
            if not self._exists(central, self._name):
                return RestoreStrategy(method="new", steps=[f"create {location}", *notes])
        steps = [
            f"load into a new database next to {location}, verify it, and swap their tables in one statement",
            "create triggers, views, routines and events again",
        ]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=[*steps, *notes])

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        with self._translate_errors(), self._central() as central:
            name, tables = (
                derived_name(self._name, f"{RETAINED_SUFFIX}{stamp}"),
                stored_code.list_names(central, TABLES, self._name),
            )
            ((charset, collation),) = central.run(CHARSET.format(format_literal(self._name)))
            metadata = {
                **describe_server(central),
                "kept": name,
                "database": self._name,
                "tables": str(len(tables)),
                "charset": str(charset),
                "collation": str(collation),
            }
            moves = _rename_statement(tables, name, self._name)
            note = (
                f"-- A restore replaced {self._target}. Its previous tables are in database {name} of the server\n"
                "-- until the next restore. dbctl restore undo restores them; by hand, after removing everything from\n"
                f"-- {self._name}:\nset sql_mode = concat(@@sql_mode, ',ANSI_QUOTES');\n{moves};\n"
                f"set sql_mode = default;\nuse `{self._name.replace('`', '``')}`;\n{CODE_MARKER}"
            )
            return RetainedDatabase(
                metadata=metadata,
                revert_script=note + self._dump_code(central, self._name).decode(errors="replace"),
            )

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        names = [dump.metadata["kept"] for dump in retained]
        with self._translate_errors(), self._central() as central:
            return [name for name in names if not self._exists(central, name)]

    def markers(self) -> Mapping[str, str]:
        return {}  # the retained database identifies the state

    # Restore -------------------------------------------------------------------------------------------------------

    def _refuse_system_database(self) -> None:
        if self._name.casefold() in SYSTEM:
            raise NotSupportedError(
                feature="a restore",
                subject=f"{self._target}, a system database",
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
        with self._translate_errors(), self._central(timeout) as central:
            exists = self._exists(central, self._name)
            stored_code.require_recreatable(central, self._name, self._target)
            if dump.form == "kept":
                remarks = self._restore_retained(central, path, dump, retained.get("kept", ""), timeout)
                return LoadResult(method="swapped" if exists else "new", remarks=remarks)
            _refuse_newer(dump, central, self._target)
            remarks = list[str]()
            with self._create_scratch_database(central, dump, remarks, timeout) as url:
                self._load_scratch(central, url, path, dump, timeout, progress)
                with self._lock_swap(central):
                    remarks += self._swap_tables(central, url.path, retained.get("kept", ""), dump, timeout)
        return LoadResult(method="swapped" if exists else "new", remarks=remarks)

    def drop_retained(self, retained: Mapping[str, str]) -> Sequence[str]:
        pattern, remarks = (
            re.compile(rf"{re.escape(derived_name(self._name, RETAINED_SUFFIX))}\d{{8}}_\d{{6}}"),
            [],
        )
        with self._translate_errors(), self._central() as central:
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
        with self._translate_errors(), self._central(timeout) as central:
            _refuse_newer(dump, central, self._target)
            remarks = list[str]()
            with self._create_scratch_database(central, dump, remarks, timeout) as url:
                verification = self._load_scratch(central, url, path, dump, timeout, no_progress)
                yield TrialRestore(url=url, verification=verification, remarks=remarks)

    def _load_scratch(
        self, central: Session, url: Url, path: Path, dump: Dump, timeout: float, progress: Progress
    ) -> DumpVerification:
        """Load a dump into a new database, and compare its rows, as the user of ``url``."""
        scratch_name = url.path
        try:
            load_dump(
                path,
                url,
                central.server,
                self._target,
                database=dump.metadata.get("database", ""),
                tables=dump.tables,
                timeout=timeout,
                progress=progress,
                change=partial(foreign.remove_definers, target=self._target) if dump.foreign else iter,
            )
            with closing(MySQLReader(url, self._target, timeout=timeout)) as reader:
                tables = stored_code.list_names(central, TABLES, scratch_name)
                versioned = stored_code.list_names(central, VERSIONED, scratch_name)
                row_counts = {name: reader.count(name) for name in tables if name in reader.tables()}
                row_counts |= {
                    name: stored_code.count_versions(central, scratch_name, name) for name in versioned
                }
                fingerprint = reader.fingerprint()
                content = digest_tables(reader, {name: dump.tables[name] for name in dump.digests})
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or not central.open:
                raise
            raise DumpOverreachesError(
                target=self._target, reason=error.context["reason"], hint=UNTRUSTED
            ) from error
        if row_counts != dict(dump.tables):
            names = sorted(
                name for name in {*row_counts, *dump.tables} if row_counts.get(name) != dump.tables.get(name)
            )
            raise RestoreFailedError(
                target=self._target,
                reason=f"row counts of {', '.join(names)} differ from the dump after the load",
                hint=UNCHANGED,
            )
        if others := find_differences(content, dump.digests):
            raise RestoreFailedError(
                target=self._target,
                reason=f"content of {', '.join(others)} differs from the dump after the load",
                hint=UNCHANGED,
            )
        if row_counts:
            central.run(
                f"analyze table {', '.join(f'{ident(scratch_name)}.{ident(name)}' for name in row_counts)}"
            )
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)

    def _restore_retained(
        self, central: Session, path: Path, dump: Dump, retained_name: str, timeout: float
    ) -> Sequence[str]:
        """Swap the tables of a retained database back."""
        source = dump.metadata["kept"]
        self._require_retained(central, dump)
        script = path.read_bytes().partition(CODE_MARKER.encode())[2]
        if not stored_code.list_names(central, TABLES, source) and dump.metadata["tables"] != "0":
            # The restore that retained it failed before its tables were renamed; at most its code objects were dropped.
            with signals.block_signals(), self._report_unfinished(None):
                self._recreate_code(central, self._name, script, timeout)
            return ()
        try:  # first in the retained database, so that a failure changes nothing
            self._recreate_code(central, source, script, timeout)
        except BaseException:
            with signals.block_signals():
                stored_code.drop_code(central, source)
            raise
        with self._lock_swap(central):
            remarks = self._swap_tables(central, source, retained_name, dump, timeout)
        with signals.block_signals():
            central.run(f"drop database {ident(source)}")
        return remarks

    @contextmanager
    def _lock_swap(self, central: Session) -> Iterator[None]:
        """Make other dbctl processes wait until the server has finished the swap, even if this process is killed.

        Otherwise a restore that begins before that would mistake the new tables for the old ones, and drop the retained ones.
        """
        name = locks.swap_lock_name(locks.lock_name(self._name))
        # The holder of the lock of the database has already waited for it.
        if central.run(locks.acquire_sql(name)) != [(1,)]:
            raise BusyError(target=self._target, holder=" by another restore", waited="0")
        try:
            yield
        finally:
            with signals.block_signals(), suppress(pymysql.Error):
                central.run(locks.release_sql(name))

    def _swap_tables(
        self, central: Session, source: str, retained_name: str, dump: Dump, timeout: float
    ) -> Sequence[str]:
        """Move all objects of ``source`` into the database, and its tables into ``retained_name``.

        Raises:
            RestoreUnfinishedError: the tables were moved, or may have been, and code objects are missing.
        """
        script = b"" if dump.foreign else self._dump_code(central, source)
        definitions = self._read_definitions(source, timeout) if dump.foreign else []
        routine_rights = stored_code.read_routine_rights(central, self._name)
        signals.raise_if_interrupted()
        if not (exists := self._exists(central, self._name)):
            central.run(_create_statement(self._name, dump.metadata))
        old_name = retained_name or derived_name(self._name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
        before, broken_views = (
            self._dump_code(central, self._name),
            stored_code.find_broken_views(central, self._name),
        )
        unreadable = stored_code.find_broken_views(central, source)
        ((charset, collation),) = central.run(CHARSET.format(format_literal(self._name)))
        central.run(_create_statement(old_name, {"charset": str(charset), "collation": str(collation)}))
        with signals.block_signals():
            try:
                for database in (self._name, source):
                    # Broken views cannot be created again.
                    stored_code.drop_code(central, database, keep_views=broken_views)
                old, new = (
                    stored_code.list_names(central, TABLES, database) for database in (self._name, source)
                )
                for view in set(broken_views) & set(new):
                    central.run(f"drop view {ident(self._name)}.{ident(view)}")
                moves = [
                    *_rename_clauses(old, self._name, old_name),
                    *_rename_clauses(new, source, self._name),
                ]
                if moves:
                    central.run(f"rename table {', '.join(moves)}")
            except BaseException as error:  # no table was moved: code objects are created again
                with self._report_unfinished(error):
                    self._recreate_code(central, self._name, before, timeout, keep_views=broken_views)
                    for database in [old_name] if exists else [old_name, self._name]:
                        central.run(f"drop database {ident(database)}")
                raise
            with self._report_unfinished(None):
                if "charset" in dump.metadata:
                    central.run(f"alter database {ident(self._name)}{_charset_clause(dump.metadata)}")
                stored_code.repoint_sequences(central, self._name, source)
                self._recreate_code(central, self._name, script, timeout)
                warnings = self._create_definitions(definitions, timeout)
            remarks = [*warnings, *(f"view {view} was broken and is not retained" for view in broken_views)]
            remarks += (f"view {view} cannot be read and is not restored" for view in unreadable)
            remarks += self._drop_dangling_keys(central, old_name)
            remarks += stored_code.grant_routine_rights(central, self._name, routine_rights)
            if not retained_name:
                central.run(f"drop database {ident(old_name)}")
        return remarks

    def _drop_dangling_keys(self, central: Session, retained_name: str) -> Iterator[str]:
        """Drop foreign keys of retained tables that referred to no table, and would refer to a new one; yield a remark each."""
        for table, key in central.run(
            DANGLING_KEYS.format(format_literal(retained_name), format_literal(self._name))
        ):
            central.run(
                f"alter table {ident(retained_name)}.{ident(str(table))} drop foreign key {ident(str(key))}"
            )
            yield f"foreign key {key} of {table} referred to no table and is not retained"

    def _read_definitions(self, source: str, timeout: float) -> list[foreign.Definition]:
        """Return the code objects that a foreign dump has defined."""
        with self._central(timeout) as session:
            return foreign.read_definitions(session, source)

    def _create_definitions(self, definitions: Sequence[foreign.Definition], timeout: float) -> list[str]:
        """Create code objects of a foreign dump in the database; return warnings."""
        if not definitions:
            return []
        with self._central(timeout) as session:
            return foreign.create_objects(session, self._name, definitions)

    def _dump_code(self, central: Session, database: str) -> bytes:
        return stored_code.dump_script(self._url, central, database, self._target)

    @contextmanager
    def _report_unfinished(self, first: BaseException | None) -> Iterator[None]:
        """Report a failure as an unfinished restore; ``first`` is an earlier error, if any."""
        try:
            yield
        except (DbctlError, pymysql.Error) as error:
            reason = first or error
            message = reason.args[-1] if isinstance(reason, pymysql.Error) else reason
            raise RestoreUnfinishedError(target=self._target, reason=message) from error

    def _recreate_code(
        self,
        central: Session,
        database: str,
        script: bytes,
        timeout: float,
        *,
        keep_views: Sequence[str] = (),
    ) -> None:
        stored_code.drop_code(central, database, keep_views=keep_views)
        url = structs.replace(self._url, path=database)
        run_script([script], url, central.server, self._target, timeout=timeout, interruptible=False)

    @contextmanager
    def _create_scratch_database(
        self, central: Session, dump: Dump, remarks: list[str], timeout: float
    ) -> Iterator[Url]:
        """Create a scratch database, and drop it at the end; leftovers of killed processes are dropped, too.

        A foreign dump gets a scratch user, which is dropped as well.
        """
        pattern = scratch_name_pattern(self._name)
        for (leftover,) in central.run(DATABASES):
            if pattern.fullmatch(str(leftover)) and central.run(
                locks.acquire_sql(locks.lock_name(str(leftover)))
            ) == [(1,)]:
                remarks += scratch_role.remove(central, str(leftover))
        for account in list(scratch_role.list_abandoned(central)):
            with suppress(pymysql.Error):
                central.run(f"drop user {account}")
        name = derived_name(self._name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
        central.run(locks.acquire_sql(locks.lock_name(name)))
        try:
            central.run(_create_statement(name, dump.metadata))
        except pymysql.Error as error:
            if error_number(error) != MAY_NOT_CREATE:
                raise
            grant_pattern = derived_name(self._name, RETAINED_SUFFIX).replace("_", "\\_")
            grant = f"GRANT ALL ON `{grant_pattern}%`.* TO {central.account};"
            reason = f"{central.account} may not create databases next to it"
            if dump.foreign:
                raise ForeignDumpRefusedError(
                    target=self._target, reason=reason, hint=f"As an administrator: {grant}"
                ) from error
            raise PrivilegeMissingError(
                target=self._target,
                reason=reason,
                hint=f"Nothing was changed. As an administrator: {grant}",
            ) from error
        url, prepared = structs.replace(self._url, path=name), None
        try:
            if dump.foreign:
                prepared = scratch_role.list_prepared(central)
                user, password = scratch_role.create_user(central, name, self._target)
                url = scratch_role.user_url(url, name, user, password)
                scratch_role.require_confined(url, self._target, timeout=timeout)
            yield url
        finally:
            with signals.block_signals(), suppress(pymysql.Error):
                remarks += scratch_role.remove(central, name, prepared)

    # Connections ---------------------------------------------------------------------------------------------------

    def _require_retained(self, central: Session, dump: Dump) -> None:
        if not self._exists(central, dump.metadata["kept"]):
            raise RetainedDatabaseMissingError(target=self._target, name=dump.metadata["kept"])

    def _exists(self, central: Session, name: str) -> bool:
        return bool(central.run(CHARSET.format(format_literal(name))))

    def _describe_location(self, session: Session) -> str:
        return f"database {self._name} of the server at {describe_server(session)['at']} ({session.server.version_text})"

    @contextmanager
    def _central(self, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        url = structs.replace(self._url, path=CENTRAL)
        session = open_session(url, self._target, timeout=timeout, read_only=False)
        try:
            yield session
        finally:
            session.drop()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert driver errors to dbctl errors."""
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()
            if error_number(error) in (0, 1040, 1045, 2002, 2003, 2006, 2013):
                raise unreachable_error(error, self._target) from None
            context = ErrorContext(
                target=self._target, timeout=SHORT_TIMEOUT, database=self._name, blockers=lambda: ""
            )
            raise translate_error(error, context, "", writing=True, broken=False) from error


class _NamedLockSession(MySQLWriter):
    """A session to another database that locks this one by its name."""

    lock_name = ""

    def _lock_name(self) -> str:
        return self.lock_name


def _create_statement(name: str, metadata: Mapping[str, str]) -> str:
    return f"create database {ident(name)}{_charset_clause(metadata)}"


def _charset_clause(metadata: Mapping[str, str]) -> str:
    charset, collation = metadata.get("charset", ""), metadata.get("collation", "")
    if not (re.fullmatch(r"\w+", charset) and re.fullmatch(r"\w+", collation)):
        return ""
    return f" character set {charset} collate {collation}"


def _rename_clauses(tables: Sequence[str], source: str, target: str) -> list[str]:
    return [f"{ident(source)}.{ident(name)} to {ident(target)}.{ident(name)}" for name in tables]


def _rename_statement(tables: Sequence[str], source: str, target: str) -> str:
    return (
        f"rename table {', '.join(_rename_clauses(tables, source, target))}"
        if tables
        else "select 'no tables'"
    )


def _refuse_newer(dump: Dump, session: Session, target: str) -> None:
    dump_server = parse_server(dump.metadata.get("server", session.server.version_text), target)
    server = session.server
    if dump_server.product != server.product or dump_server.version[:2] > server.version[:2]:
        raise RestoreFailedError(
            target=target,
            reason=f"it is from {dump_server.product} {dump_server.version_text}, and this server is {server.product} {server.version_text}",
            hint=f"Use a server of {dump_server.product} of that version or later.",
        )
