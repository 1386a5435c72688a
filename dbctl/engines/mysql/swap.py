"""Load dumps into scratch databases, and move the tables of a loaded database to their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import Dump, DumpVerification, LoadRequest, LoadResult, StagedDump
from dbctl.engines.mysql import connection, foreign, stored_code
from dbctl.engines.mysql.accounts import AccountChanges, Accounts
from dbctl.engines.mysql.catalog import MySQLSchemaReader
from dbctl.engines.mysql.database import MySQLReader
from dbctl.engines.mysql.events import LoadedEvents
from dbctl.engines.mysql.load import TABLE_SETTINGS, load_dump, run_script
from dbctl.engines.mysql.opening import (
    ALLOW_CODE,
    TRUSTING,
    error_number,
    open_session,
    translate_error,
    unreachable_error,
)
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import escape_pattern, format_literal
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.dumps import (
    RETAINED_SUFFIX,
    UNCHANGED,
    RestoreServer,
    ServerRestore,
    StagedSwap,
    derived_name,
    new_scratch_name,
    scratch_name_pattern,
    suggest_scratch,
)
from dbctl.engines.servers.engine import ErrorContext
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sql.checks import digest_tables, require_loaded_rows
from dbctl.errors.backup import (
    DumpOverreachesError,
    ForeignDumpRefusedError,
    RestoreFailedError,
    RestoreUnfinishedError,
    RetainedDatabaseMissingError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, PrivilegeMissingError, UnreachableError
from dbctl.url import Url

#: The database that every server has, and every user may connect to.
CENTRAL = "information_schema"
TABLES = """select table_name from information_schema.tables
where table_schema = {} and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""


class MySQLServer(RestoreServer[Session]):
    @contextmanager
    def central(self, timeout: float = SHORT_TIMEOUT, *, read_only: bool = False) -> Iterator[Session]:
        url = structs.replace(self.url, path=CENTRAL)
        with suggest_scratch():
            session = open_session(url, self.target, timeout=timeout, read_only=read_only)
        try:
            session.remove_time_limit()
            yield session
        finally:
            session.drop()

    def exists(self, central: Session, name: str) -> bool:
        return bool(central.read_properties(name))

    def require_retained(self, central: Session, dump: Dump) -> None:
        """Refuse to restore a retained database that was dropped.

        Raises:
            RetainedDatabaseMissingError: it does not exist.
        """
        if not self.exists(central, dump.metadata["kept"]):
            raise RetainedDatabaseMissingError(target=self.target, name=dump.metadata["kept"])

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()
            if error_number(error) in (0, 1040, 1045, 2002, 2003, 2006, 2013):
                raise unreachable_error(error, self.target, self.url) from None
            context = ErrorContext(url=self.url, target=self.target, timeout=SHORT_TIMEOUT, schema=self.name)
            raise translate_error(error, context, "", writing=True, broken=False) from error


def create_statement(name: str, metadata: Mapping[str, str]) -> str:
    """Return the statement that creates a database with the properties of ``metadata``."""
    return f"create database {ident(name)}{properties_clause(metadata)}"


def properties_clause(metadata: Mapping[str, str]) -> str:
    """Return the clause for the character set and the comment of ``metadata``; empty without a valid character set."""
    charset, collation = metadata.get("charset", ""), metadata.get("collation", "")
    if not (re.fullmatch(r"\w+", charset) and re.fullmatch(r"\w+", collation)):
        return ""
    comment = f" comment {quote_literal(metadata['comment'])}" if "comment" in metadata else ""
    return f" character set {charset} collate {collation}{comment}"


VERSIONED = """select table_name from information_schema.tables
where table_schema = {} and table_type = 'SYSTEM VERSIONED' order by 1"""
MAY_NOT_CREATE = 1044
#: The settings with which a client runs a script, except those that the script itself sets.
LIKE_CLIENT = f"set session sql_mode = '{stored_code.PLAIN_MODE}', lock_wait_timeout = default"
#: Precedes the code objects in the script of a retained database.
CODE_MARKER = "-- What is no table follows.\n"
DANGLING_KEYS = """select table_name, constraint_name from information_schema.referential_constraints
where constraint_schema = {0} and unique_constraint_schema = {1} order by 1, 2"""


class ScratchRestore(ServerRestore[MySQLServer, Session]):
    """Loads a dump into a new database, whose tables may take the place of the old ones, which remain in another database."""

    _code = b""  #: the script of what else than tables was replaced

    def __init__(self, server: MySQLServer, request: LoadRequest, central: Session) -> None:
        super().__init__(server, request, central)
        self._events = LoadedEvents()

    def prepare_accounts(self, *, temporary: bool = False) -> AbstractContextManager[AccountChanges]:
        """Apply the policy for missing accounts; raises as ``ServerRoles.create_missing``."""
        accounts = Accounts(self._central, self._server.target)
        return accounts.prepare(self._request, self.remarks, temporary=temporary)

    @contextmanager
    def create_database(self) -> Iterator[Url]:
        """Create a database, and drop it at the end; leftovers of killed processes are dropped, too.

        A foreign dump gets a scratch user, which is dropped as well.
        """
        server, central, request = self._server, self._central, self._request
        pattern = re.compile(scratch_name_pattern(server.name))
        for (leftover,) in central.run(foreign.DATABASES):
            names = connection.scratch_lock_name(str(leftover)), connection.lock_name(str(leftover))
            if pattern.search(str(leftover)) and all(
                central.run(connection.acquire_sql(name)) == [(1,)] for name in names
            ):
                self.remarks += foreign.remove(central, str(leftover))
        for account in list(foreign.list_abandoned(central)):
            with suppress(pymysql.Error):
                central.run(f"drop user {account}")
        name = new_scratch_name(server.name)
        self._reserve(name)
        try:
            # An anonymised copy is dumped from it, and its proof does not search the comment.
            properties = {key: text for key, text in request.dump.metadata.items() if key != "comment"}
            central.run(create_statement(name, properties))
        except pymysql.Error as error:
            if error_number(error) != MAY_NOT_CREATE:
                raise
            grant_pattern = escape_pattern(derived_name(server.name, RETAINED_SUFFIX))
            hint = f"As an administrator: GRANT ALL ON `{grant_pattern}%`.* TO {central.account};"
            reason = f"{central.account} may not create databases next to it"
            if request.dump.foreign:
                raise ForeignDumpRefusedError(target=server.target, reason=reason, hint=hint) from error
            hint = f"Nothing was changed. {hint}"
            raise PrivilegeMissingError(target=server.target, reason=reason, hint=hint) from error
        url, prepared = structs.replace(server.url, path=name), None
        try:
            if request.dump.foreign:
                prepared = foreign.list_prepared(central)
                user, password = foreign.create_user(central, name, server.target)
                url = structs.replace(url, user=user, password=password)
                foreign.require_confined(url, server.target, timeout=request.timeout)
            yield url
        finally:
            with signals.block_signals(), suppress(pymysql.Error):
                self.remarks += foreign.remove(central, name, prepared)

    def load(self, url: Url, accounts: AccountChanges) -> DumpVerification:
        """Load the dump into a new database, and compare its rows, as the user of ``url``."""
        request, central = self._request, self._central
        name, dump, target = url.path, request.dump, self._server.target
        rewrite = (
            # without definers, the loading user becomes the definer
            partial(foreign.change_definers, target=target, change=lambda _: b"")
            if dump.foreign
            else accounts.make_filter(target)
        )
        try:
            settings = self._list_settings(url)
            load_dump(request, url, central.server, target, self._events, rewrite=rewrite, settings=settings)
            with closing(MySQLReader(url, target, timeout=request.timeout)) as reader:
                reader.connection.session.remove_time_limit()
                tables = stored_code.list_names(central, TABLES, name)
                row_counts = {table: reader.count(table) for table in tables if table in reader.tables()}
                for table in stored_code.list_names(central, VERSIONED, name):
                    history = f"{ident(name)}.{ident(table)} for system_time all"
                    row_counts[table] = int(str(central.run(f"select count(*) from {history}")[0][0]))
                fingerprint = MySQLSchemaReader(reader).fingerprint()
                content = digest_tables(reader, {table: dump.tables[table] for table in dump.digests})
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or not central.open:
                raise
            reason = error.context["reason"]
            hint = ALLOW_CODE if TRUSTING in str(reason) else ""
            raise DumpOverreachesError(target=target, reason=reason, hint=hint) from error
        if dump.schema not in ("", fingerprint) and (engine := central.find_enforced_engine()):
            reason = f"enforce_storage_engine is {engine}: tables of InnoDB would lose foreign keys and transactions"
            raise RestoreFailedError(target=target, reason=reason, hint=UNCHANGED)
        require_loaded_rows(dump, row_counts, content, target=target, hint=UNCHANGED)
        if row_counts:
            central.run(f"analyze table {', '.join(f'{ident(name)}.{ident(table)}' for table in row_counts)}")
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)

    def _list_settings(self, url: Url) -> Sequence[str]:
        """Return the settings of a load that the server and the user of ``url`` permit."""
        target, timeout = self._server.target, self._request.timeout
        with closing(open_session(url, target, timeout=timeout, read_only=False)) as session:
            return session.try_settings(TABLE_SETTINGS)

    @contextmanager
    def stage(self) -> Iterator[StagedSwap]:
        """Load into a new database, and verify it; grant the rights of accounts on the database at the end, if it is new."""
        server, central = self._server, self._central
        exists = server.exists(central, server.name)
        with self.prepare_accounts() as accounts, self.create_database() as url:
            self.load(url, accounts)
            self.remarks += self._describe_uses_of_original(url.path)
            staged = StagedSwap(self, url.path, exists=exists)
            yield staged
            staged.drop_old()
            if not exists:  # rights on a database remain when it is replaced
                self.remarks += accounts.grant(central, server.name)

    def _describe_uses_of_original(self, loaded: str) -> Iterator[str]:
        """Yield a remark if the database has another name than the dumped one, and its code names that one."""
        original = self._request.dump.metadata.get("database", self._server.name)
        if original != self._server.name and (
            names := stored_code.find_uses(self._central, loaded, original)
        ):
            yield f"{', '.join(names)}: the statements name the database {original}, and use that one, not this one"

    def _reserve(self, name: str) -> None:
        self._central.run(connection.acquire_sql(connection.scratch_lock_name(name)))

    def _drop_old(self, name: str) -> None:
        # The restore is complete, even if its connection is lost now; the next one drops what remains.
        drop = f"drop database if exists {ident(name)}"
        self.remarks += foreign.try_drop(self._central, f"the replaced database {name}", drop)

    def swap(self, new: str, old: str, *, exists: bool) -> None:
        del exists  # a missing database is created empty
        self._code = self.move(new, old)

    def swap_back(self, new: str, old: str, *, exists: bool) -> None:
        del new  # it is empty
        if not exists:
            with signals.block_signals():
                self._central.run(f"drop database {ident(self._server.name)}")
            self.drop_old(old)
            return
        metadata = self._central.read_properties(old)
        dump = structs.replace(self._request.dump, foreign=False, metadata=metadata)
        request = structs.replace(self._request, dump=dump, retained={})
        reverse = ScratchRestore(self._server, request, self._central)
        with self._report_unfinished():
            reverse.move_back(old, self._code)

    def move_back(self, source: str, code: bytes) -> None:
        """Swap with the tables of ``source``, which gets its code objects first, so that a failure changes nothing."""
        try:
            self._recreate_code(source, b"".join(self._events.disable([code])))
        except BaseException:
            with signals.block_signals():
                stored_code.drop_code(self._central, source)
            raise
        old_name = self.reserve_old_name()
        self.move(source, old_name)
        self.drop_old(old_name)
        with signals.block_signals():
            self._central.run(f"drop database {ident(source)}")

    def move(self, source: str, old_name: str) -> bytes:
        """Move all objects of ``source`` into the database, and its tables into ``old_name``; return the script of its code objects.

        Other dbctl processes wait until the server has finished the swap, even if this process is killed. Otherwise a restore
        that begins before that would mistake the new tables for the old ones, and drop the retained ones.

        Raises:
            RestoreUnfinishedError: the tables were moved, or may have been, and code objects are missing.
        """
        name = connection.swap_lock_name(connection.lock_name(self._server.name))
        # The holder of the lock of the database has already waited for it.
        if self._central.run(connection.acquire_sql(name)) != [(1,)]:
            raise BusyError(target=self._server.target, holder=" by another restore", waited="0")
        try:
            return self._swap_tables(source, old_name)
        finally:
            with signals.block_signals(), suppress(pymysql.Error):
                self._central.run(f"select release_lock({format_literal(name)})")

    def _swap_tables(self, source: str, old_name: str) -> bytes:
        server, central, request = self._server, self._central, self._request
        dump = request.dump
        script, definitions = b"", list[stored_code.Definition]()
        if dump.foreign:
            with server.central(request.timeout) as session:
                definitions = foreign.read_definitions(session, source, self._events)
        else:
            script = stored_code.dump_script(server.url, central, source, server.target)
            script = self._events.enable(script)
        routine_rights = stored_code.read_routine_rights(central, server.name)
        signals.raise_if_interrupted()
        with ExitStack() as created:
            if not (exists := server.exists(central, server.name)):
                self._create(server.name, dump.metadata, created)
            before = stored_code.dump_script(server.url, central, server.name, server.target)
            broken_views = stored_code.find_broken_views(central, server.name)
            unreadable = stored_code.find_broken_views(central, source)
            old, new = (
                stored_code.list_names(central, TABLES, database) for database in (server.name, source)
            )
            moves = [*rename_clauses(old, server.name, old_name), *rename_clauses(new, source, server.name)]
            statements = [f"use {ident(server.name)}"]
            for database in (server.name, source):  # broken views cannot be created again
                statements += stored_code.list_drops(central, database, keep_views=broken_views)
            statements += (f"drop view {ident(view)}" for view in set(broken_views) & set(new))
            statements += [f"rename table {', '.join(moves)}"] if moves else []
            completion, code = self._list_completion(source), stored_code.to_packet(script, central.server)
            packet = ";\n".join([*statements, *completion, LIKE_CLIENT, ""]).encode() + code
            # No text of a foreign dump is parsed in a packet.
            if not (is_complete := bool(code) and len(packet) < central.max_statement_bytes):
                packet = ";\n".join(statements).encode()
            self._create(old_name, central.read_properties(server.name), created)
            created.pop_all()
        completed = 0
        with signals.block_signals():
            try:
                for _ in central.run_packet(packet):
                    completed += 1
            except BaseException as error:
                with self._report_unfinished(error):
                    if completed >= len(statements):
                        raise
                    # No table was moved: code objects are created again.
                    self._recreate_code(server.name, before, keep_views=broken_views)
                    for database in [old_name] if exists else [old_name, server.name]:
                        central.run(f"drop database {ident(database)}")
                raise
            if not is_complete:
                with self._report_unfinished():
                    self._complete_tables(completion, script, definitions)
            self.remarks += (f"view {view} was broken and is not retained" for view in broken_views)
            self.remarks += (f"view {view} cannot be read and is not restored" for view in unreadable)
            self._drop_dangling_keys(old_name)
            self.remarks += stored_code.grant_routine_rights(central, server.name, routine_rights)
        return before

    def _create(self, name: str, metadata: Mapping[str, str], created: ExitStack) -> None:
        """Create an empty database, which ``created`` drops."""
        with signals.block_signals():
            self._central.run(create_statement(name, metadata))
            created.callback(self._central.run, f"drop database {ident(name)}")

    def _list_completion(self, source: str) -> list[str]:
        """Return the statements that complete the tables of ``source`` after they were moved."""
        name, metadata = self._server.name, self._request.dump.metadata
        alters = (
            [f"alter database {ident(name)}{properties_clause(metadata)}"] if "charset" in metadata else []
        )
        return [*alters, *stored_code.list_repointing(self._central, name, source)]

    def _complete_tables(
        self, completion: Sequence[str], script: bytes, definitions: Sequence[stored_code.Definition]
    ) -> None:
        """Complete moved tables, and create what is no table, by several statements."""
        server = self._server
        for statement in completion:
            self._central.run(statement)
        self._recreate_code(server.name, script)
        if definitions:
            with server.central(self._request.timeout) as session:
                self.remarks += foreign.create_objects(session, server.name, definitions)

    def restore_retained(self) -> None:
        """Move the tables of a retained database to their original place."""
        server, central, dump = self._server, self._central, self._request.dump
        source = dump.metadata["kept"]
        server.require_retained(central, dump)
        script = self._request.path.read_bytes().partition(CODE_MARKER.encode())[2]
        if not stored_code.list_names(central, TABLES, source) and dump.metadata["tables"] != "0":
            # The restore that retained it failed before its tables were renamed; at most its code objects were dropped.
            with signals.block_signals(), self._report_unfinished():
                self._recreate_code(server.name, script)
            return
        self.move_back(source, script)

    def _drop_dangling_keys(self, retained_name: str) -> None:
        """Drop foreign keys of retained tables that referred to no table, and would refer to a new one."""
        names = format_literal(retained_name), format_literal(self._server.name)
        for table, key in self._central.run(DANGLING_KEYS.format(*names)):
            self._central.run(
                f"alter table {ident(retained_name)}.{ident(str(table))} drop foreign key {ident(str(key))}"
            )
            self.remarks.append(f"foreign key {key} of {table} referred to no table and is not retained")

    @contextmanager
    def _report_unfinished(self, first: BaseException | None = None) -> Iterator[None]:
        """Report a failure as an unfinished restore; ``first`` is an earlier error, if any."""
        try:
            yield
        except (DbctlError, pymysql.Error) as error:
            reason = first or error
            message = reason.args[-1] if isinstance(reason, pymysql.Error) else reason
            raise RestoreUnfinishedError(target=self._server.target, reason=message) from error

    def _recreate_code(self, database: str, script: bytes, *, keep_views: Sequence[str] = ()) -> None:
        server, central = self._server, self._central
        stored_code.drop_code(central, database, keep_views=keep_views)
        url, timeout = structs.replace(server.url, path=database), self._request.timeout
        run_script([script], url, central.server, server.target, timeout=timeout, interruptible=False)


class RetainedSwap(StagedDump):
    """A retained database, which gets its original place again."""

    def __init__(self, restore: ScratchRestore, *, exists: bool) -> None:
        self._restore, self._exists = restore, exists

    def swap(self) -> LoadResult:
        self._restore.restore_retained()
        return LoadResult(method="swapped" if self._exists else "new", remarks=self._restore.remarks)


def rename_clauses(tables: Sequence[str], source: str, target: str) -> list[str]:
    return [f"{ident(source)}.{ident(name)} to {ident(target)}.{ident(name)}" for name in tables]
