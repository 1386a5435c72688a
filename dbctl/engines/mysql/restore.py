"""Restore target: a database on a server.

A dump cannot be loaded in one transaction, because each CREATE TABLE commits. So it is loaded into a new database and
verified, and then one statement renames all tables: the old ones into a third database, where they are retained until
the next restore, and the new ones into their place. Triggers, views, routines and events cannot be renamed: they are
dumped as a script before, and created again afterwards, in the packet of the rename.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from msgspec import structs

from dbctl.engines.contract.dumps import (
    Dump,
    LoadRequest,
    MissingRole,
    RestoreStrategy,
    RestoreTarget,
    RetainedDatabase,
    RolePolicy,
    StagedDump,
    TrialRestore,
)
from dbctl.engines.mysql import foreign, stored_code
from dbctl.engines.mysql.accounts import Accounts
from dbctl.engines.mysql.catalog import IS_OUTSIDE
from dbctl.engines.mysql.connection import DbctlLock, MySQLConnection
from dbctl.engines.mysql.dialect import parse_server
from dbctl.engines.mysql.dump import describe_server
from dbctl.engines.mysql.dump_programs import find_program
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.session import FOLDS, Session
from dbctl.engines.mysql.swap import (
    CENTRAL,
    CODE_MARKER,
    TABLES,
    MySQLServer,
    RetainedSwap,
    ScratchRestore,
    rename_clauses,
)
from dbctl.engines.mysql.values import format_literal
from dbctl.engines.servers.dumps import RETAINED_SUFFIX, derived_name, is_derived_name, unsupported_dump_error
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import RestoreFailedError
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

#: Whether a database contains user objects.
HAS_OBJECTS = """select exists (select 1 from information_schema.tables where table_schema = {0})
or exists (select 1 from information_schema.routines where routine_schema = {0})
or exists (select 1 from information_schema.events where event_schema = {0})"""
#: Foreign keys of other databases that refer to existing tables of one, and follow them when they are renamed.
FOLLOWING_KEYS = f"""select r.constraint_schema, r.table_name, r.constraint_name from information_schema.referential_constraints r
join information_schema.tables t on t.table_schema = r.unique_constraint_schema and t.table_name = r.referenced_table_name
where {IS_OUTSIDE} order by 1, 2, 3"""
#: The databases with the accounts and the state of the server.
SYSTEM = frozenset({"information_schema", "mysql", "performance_schema", "sys"})


def _refuse_unloadable(server: MySQLServer, dump: Dump, central: Session) -> None:
    """Refuse a dump that the server cannot load: of another product, a newer version, or with names that it folds.

    Raises:
        RestoreFailedError: the server cannot load it.
    """
    own = central.server
    dump_server = parse_server(dump.metadata.get("server", own.version_text), server.target)
    if dump_server.product != own.product or dump_server.version[:2] > own.version[:2]:
        raise RestoreFailedError(
            target=server.target,
            reason=f"it is from {dump_server.product} {dump_server.version_text}, and this server is {own.product} {own.version_text}",
            hint=f"Use a server of {dump_server.product} of that version or later.",
        )
    find_program("client", own, server.target, server.url)
    if names := central.list_folded_names(dump.tables):
        raise RestoreFailedError(
            target=server.target,
            reason=f"the server {FOLDS}, such as {names[0]}",
            hint=Remedy(
                "Use another server: it gets this setting before its data folder is created. Or give the tables of the app names in lower case, and back it up with: `backup create`"
            ),
        )


class MySQLRestoreTarget(RestoreTarget):
    requires_load = True

    def __init__(self, url: Url, target: str) -> None:
        self._server = MySQLServer(url, target)

    def exists(self) -> bool:
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            return self._server.exists(central, self._server.name)

    def read_version(self) -> str:
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            return ".".join(map(str, central.server.version))

    def identity(self) -> str:
        # Some systems ignore the case of names, so names that differ only in case identify the same database.
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            return f"{describe_server(central)['system']}/{self._server.name.casefold()}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._server.url)

    def has_content(self) -> bool:
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            return central.run(HAS_OBJECTS.format(format_literal(self._server.name))) == [(1,)]

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
            self._require_replaceable(central)
            if dump.form == "kept":
                self._server.require_retained(central, dump)
                steps = [f"swap the tables of {dump.metadata['kept']} and {location}"]
                return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
            _refuse_unloadable(self._server, dump, central)
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

    def find_missing_roles(self, dump: Dump, policy: RolePolicy) -> Sequence[MissingRole]:
        server = self._server
        with server.translate_errors(), server.central() as central:
            return Accounts(central, server.target).find_missing(dump, policy)

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        with self._server.translate_errors(), self._server.central() as central:
            name = derived_name(self._server.name, f"{RETAINED_SUFFIX}{stamp}")
            tables = stored_code.list_names(central, TABLES, self._server.name)
            metadata = {
                **describe_server(central),
                "kept": name,
                "database": self._server.name,
                "tables": str(len(tables)),
                **central.read_properties(self._server.name),
            }
            moves = ", ".join(rename_clauses(tables, name, self._server.name))
            statement = f"rename table {moves}" if moves else "select 'no tables'"
            note = (
                f"-- A restore replaced {self._server.target}. Its previous tables are in database {name} of the server\n"
                "-- until the next restore. dbctl restore undo restores them; by hand, after removing everything from\n"
                f"-- {self._server.name}:\nset sql_mode = concat(@@sql_mode, ',ANSI_QUOTES');\n{statement};\n"
                f"set sql_mode = default;\nuse {quote(self._server.name)};\n{CODE_MARKER}"
            )
            code = stored_code.dump_script(self._server.url, central, self._server.name, self._server.target)
            return RetainedDatabase(metadata=metadata, revert_script=note + code.decode(errors="replace"))

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        names = [dump.metadata["kept"] for dump in retained]
        with self._server.translate_errors(), self._server.central() as central:
            return [name for name in names if not self._server.exists(central, name)]

    def _refuse_system_database(self) -> None:
        if self._server.name.casefold() in SYSTEM:
            raise NotSupportedError(
                feature="a restore",
                subject=f"{self._server.target}, a system database",
                hint="Nothing was changed. Choose another database.",
            )

    def _require_replaceable(self, central: Session) -> None:
        """Refuse to replace objects that other objects need, or that this user could not create again.

        Raises:
            PrivilegeMissingError: as ``require_recreatable``.
            RestoreFailedError: foreign keys of other databases refer to tables: they would follow the replaced ones.
        """
        server = self._server
        stored_code.require_recreatable(central, server.name, server.target)
        for schema, table, key in central.run(FOLLOWING_KEYS.format(format_literal(server.name))):
            if not is_derived_name(str(schema)):
                place = f"{quote(str(schema))}.{quote(str(table))}"
                raise RestoreFailedError(
                    target=server.target,
                    reason=f"foreign key {key} of {schema}.{table} refers to a table that would be replaced",
                    hint=f"Drop it, and add it again after the restore: ALTER TABLE {place} DROP FOREIGN KEY {quote(str(key))};",
                )

    @contextmanager
    def stage(self, request: LoadRequest) -> Iterator[StagedDump]:
        self._refuse_system_database()
        server = self._server
        with server.translate_errors(), server.central(request.timeout) as central:
            self._require_replaceable(central)
            restore = ScratchRestore(server, request, central)
            if request.dump.form == "kept":
                yield RetainedSwap(restore, exists=server.exists(central, server.name))
                return
            _refuse_unloadable(server, request.dump, central)
            with restore.stage() as staged:
                yield staged

    def drop_retained(self, is_dropped: Callable[[str], bool]) -> Sequence[str]:
        pattern = re.compile(rf"{re.escape(derived_name(self._server.name, RETAINED_SUFFIX))}\d{{8}}_\d{{6}}")
        remarks = list[str]()
        with self._server.translate_errors(), self._server.central() as central:
            for (database,) in central.run(foreign.DATABASES):
                if pattern.fullmatch(str(database)) and is_dropped(str(database)):
                    statement = f"drop database {ident(str(database))}"
                    remarks += foreign.try_drop(central, f"retained database {database}", statement)
        return remarks

    @contextmanager
    def trial_restore(self, request: LoadRequest) -> Iterator[TrialRestore]:
        """Yield a temporary database with the loaded dump and its verification; it is dropped at the end."""
        server = self._server
        with server.translate_errors(), server.central(request.timeout) as central:
            try:
                _refuse_unloadable(server, request.dump, central)
            except RestoreFailedError as error:
                location, reason = describe_server(central)["at"], str(error.context["reason"])
                raise unsupported_dump_error(location, reason, str(error.context["hint"])) from None
            restore = ScratchRestore(server, request, central)
            with restore.prepare_accounts(temporary=True) as accounts, restore.create_database() as url:
                verification = restore.load(url, accounts)
                # rights of other accounts would outlive the database
                restore.remarks += accounts.grant(central, url.path, only_created=True)
                yield TrialRestore(url=url, verification=verification, remarks=restore.remarks)

    def _describe_location(self, session: Session) -> str:
        return f"database {self._server.name} of the server at {describe_server(session)['at']} ({session.server.version_text})"
