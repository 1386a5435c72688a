"""Restore target: a database on a server, which may be missing or in use.

If the role has the privileges, a restore loads a new database next to the old one, verifies it, and swaps the names;
the old database is retained, closed to connections, until the next restore. Otherwise the restore replaces the content
in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from urllib.parse import quote, unquote

import psycopg
from msgspec import structs

from dbctl.engines.contract.dumps import (
    Dump,
    LoadRequest,
    LoadResult,
    MissingRole,
    RestoreStrategy,
    RestoreTarget,
    RetainedDatabase,
    RolePolicy,
    StagedDump,
    TrialRestore,
    release_nothing,
)
from dbctl.engines.postgresql import dump_statements, foreign
from dbctl.engines.postgresql import properties as database_properties
from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, OWN_FUNCTION, OWN_RELATION, PUBLIC, read_scope
from dbctl.engines.postgresql.connection import DbctlLock, PostgreSQLConnection, lock_key
from dbctl.engines.postgresql.dump_programs import major_version
from dbctl.engines.postgresql.errors import unreachable_error
from dbctl.engines.postgresql.load import LoadTarget, find_psql, list_sessions, lock_tables, swap_lock_key
from dbctl.engines.postgresql.properties import Roles
from dbctl.engines.postgresql.restore_methods import (
    WITHOUT_STANDBYS,
    PostgreSQLServer,
    ScratchRestore,
    find_retained,
    new_properties,
    refuse_newer,
    restore_in_place,
)
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.dumps import RETAINED_SUFFIX, derived_name, unsupported_dump_error
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import ForeignDumpRefusedError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

#: Tables of users; of schema $1, or of all.
_OWN_TABLE = f"""c.relkind in ('r', 'p') and c.relpersistence <> 't' and {IN_USER_SCHEMA}
  and $1::text in ('', n.nspname::text) and {OWN_RELATION}"""
#: The database and its oldest table: after a restore in place the tables have new ids.
MARKERS = f"""select (select oid from pg_catalog.pg_database where datname = current_database()), min(c.oid)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where {_OWN_TABLE}"""
#: Tables that are about to be replaced, and may be written until then.
TABLES = f"""select format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where {_OWN_TABLE} order by 1"""
#: Tables that this role may not drop, with their owners.
FOREIGN_TABLES = f"""select c.relname::text, pg_get_userbyid(c.relowner)::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where {_OWN_TABLE} and not pg_has_role(c.relowner, 'USAGE') and not pg_has_role(n.nspowner, 'USAGE') order by 1"""
#: Whether a database contains user objects; objects of extensions in the template are ignored.
HAS_OBJECTS = f"""select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where {IN_USER_SCHEMA} and {OWN_RELATION})
or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where {IN_USER_SCHEMA} and {OWN_FUNCTION})
or exists (select from pg_catalog.pg_largeobject_metadata)"""


class _InPlace(StagedDump):
    """A dump that replaces the content of a database in one transaction."""

    def __init__(self, server: PostgreSQLServer, request: LoadRequest) -> None:
        self._server, self._request = server, request

    def swap(self) -> LoadResult:
        return restore_in_place(self._server, self._request)


class PostgreSQLRestoreTarget(RestoreTarget):
    requires_load = True

    def __init__(self, url: Url, target: str) -> None:
        self._server = PostgreSQLServer(url, target)

    def exists(self) -> bool:
        try:
            with closing(
                open_session(self._server.url, self._server.target, timeout=SHORT_TIMEOUT, read_only=True)
            ) as session:
                schema = session.url_schema
                return not schema or bool(session.run("select to_regnamespace($1)", ident(schema))[0][0])
        except psycopg.Error as error:
            with suppress(psycopg.Error), self._server.central(read_only=True) as central:
                if database_properties.read_properties(central, self._server.name) is None:
                    return False
            raise unreachable_error(error, self._server.target, self._server.url) from None

    def read_version(self) -> str:
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            ((version,),) = central.run("select split_part(current_setting('server_version'), ' ', 1)")
        return str(version)

    def identity(self) -> str:
        with self._server.translate_errors(), self._server.central(read_only=True) as central:
            server = database_properties.describe_server(central)
        return f"{server.get('system', server['at'])}/{self._server.name}"

    def address(self, dump: Dump) -> str:
        schema = self._server.schema or quote(dump.metadata.get("schema", ""))
        return f"{self._server.url}?schema={schema}" if schema else str(self._server.url)

    def has_content(self) -> bool:
        # the whole database, not only the schema of the URL
        url = self._server.sibling_url(self._server.name)
        with self._server.translate_errors(), self._server.open_session(url, read_only=True) as session:
            return session.run(HAS_OBJECTS) == [(True,)]

    @contextmanager
    def block_writers(self, dump: Dump, *, timeout: float) -> Iterator[Callable[[], None]]:
        """Block writers of tables that are replaced in place; a retained database needs no lock, since it contains later writes.

        The lock belongs to the transaction that replaces the rows. It covers the existing tables: the safety backup lacks
        later changes of large objects, and tables that are created later.
        """
        server = self._server
        with ExitStack() as stack:
            release: Callable[[], None] = release_nothing
            with server.translate_errors():
                if self.strategy(dump).method == "in place":
                    session = stack.enter_context(server.open_session(server.url, timeout=timeout))
                    rows = session.run(TABLES, read_scope(session))
                    place = LoadTarget(session, server.name, server.target, timeout)
                    tables = [str(table) for (table,) in rows]
                    release = stack.enter_context(lock_tables(tables, place, dump.metadata))
            yield release

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        """Lock the database, and its name in another database, in case the database is missing."""
        server = self._server
        with ExitStack() as stack:

            def open_connection(url: Url) -> PostgreSQLConnection:
                connection = PostgreSQLConnection(url, server.target, timeout=timeout, read_only=False)
                return stack.enter_context(closing(connection))

            central = server.central_url
            if central is not None:
                lock = DbctlLock(open_connection(central), lock_key(f"{server.name}/{server.schema}"))
                stack.enter_context(lock.acquire(purpose))
                lock.wait_for_killed_restore(swap_lock_key(server.name))
            if central is None or self.exists():
                stack.enter_context(DbctlLock(open_connection(server.url)).acquire(purpose))
            yield

    def strategy(self, dump: Dump) -> RestoreStrategy:
        server = self._server
        if server.name in TEMPLATES:
            raise NotSupportedError(
                feature="a restore",
                subject=f"{server.target}, a template for new databases",
                hint="Nothing was changed. Choose another database.",
            )
        if dump.form != "kept":
            _require_same_schema(server, dump)
        with server.translate_errors():
            if server.central_url is None:
                return _in_place_strategy(server, dump, "no other database of the server accepts connections")
            with server.open_session(server.central_url) as central:
                return _select(server, central, dump)

    def find_missing_roles(self, dump: Dump, policy: RolePolicy) -> Sequence[MissingRole]:
        server = self._server
        with server.translate_errors(), server.open_session(server.central_url or server.url) as session:
            return Roles(session, server.target).find_missing(dump, policy)

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        with self._server.translate_errors(), self._server.central() as central:
            live = database_properties.read_properties(central, self._server.name)
            if live is None:
                raise RetainedDatabaseMissingError(target=self._server.target, name=self._server.name)
            name = derived_name(self._server.name, f"{RETAINED_SUFFIX}{stamp}")
            metadata = {**live.to_metadata(), **database_properties.describe_server(central), "kept": name}
        temporary = ident(derived_name(self._server.name, "_aside"))
        note = (
            f"-- A restore replaced {self._server.target}. Its previous content is database {name} of the server until the next\n"
            "-- restore. dbctl restore undo restores it; by hand, connected to another database, without other sessions:\n"
            f"begin;\nalter database {ident(self._server.name)} rename to {temporary};\n"
            f"alter database {ident(name)} rename to {ident(self._server.name)};\n"
            f"alter database {ident(self._server.name)} allow_connections true;\ncommit;\n"
        )
        return RetainedDatabase(metadata=metadata, revert_script=note)

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        with self._server.translate_errors(), self._server.central() as central:
            existing = set(central.run("select datname, oid::text from pg_catalog.pg_database"))
        names = [(dump.metadata["kept"], dump.metadata["oid"]) for dump in retained]
        return [name for name, oid in names if (name, oid) not in existing]

    def markers(self) -> Mapping[str, str]:
        schema = unquote(self._server.schema)
        with self._server.translate_errors(), self._server.open_session(self._server.url) as session:
            ((database, table),) = session.run(MARKERS, schema)
        return {"database_oid": str(database), "table_oid": str(table)} if table else {}

    @contextmanager
    def stage(self, request: LoadRequest) -> Iterator[StagedDump]:
        server, is_retained = self._server, request.dump.form == "kept"
        with server.translate_errors():
            if not is_retained and self.strategy(request.dump).method == "in place":
                yield _InPlace(server, request)
                return
            with server.central(request.timeout) as central:
                restore = ScratchRestore(server, request, central)
                with restore.stage_retained() if is_retained else restore.stage() as staged:
                    yield staged

    @contextmanager
    def trial_restore(self, request: LoadRequest) -> Iterator[TrialRestore]:
        """Yield a temporary database with the loaded dump and its verification; it is dropped at the end."""
        server, dump = self._server, request.dump
        with server.translate_errors(), server.central(request.timeout) as central:
            central.run(f"set {WITHOUT_STANDBYS}")
            restore = ScratchRestore(server, request, central)
            with restore.prepare_roles(temporary=True) as roles:
                _require_trial(server, central, dump)
                # Neither affects the rows, and another server may lack them.
                properties = structs.replace(new_properties(dump, server.name), owner="", tablespace="")
                with restore.create_database(properties) as url:
                    head = ""
                    if dump.is_partial:
                        with server.open_session(server.url) as live:
                            head = "\n".join(str(sql) for (sql,) in live.run(database_properties.TYPES))
                    with restore.loading_without_standbys(url.path, properties):
                        verification = restore.load(url, roles, head)
                    yield TrialRestore(url=url, verification=verification, remarks=restore.remarks)

    def drop_retained(self, is_dropped: Callable[[str], bool]) -> Sequence[str]:
        pattern = f"^{re.escape(derived_name(self._server.name, RETAINED_SUFFIX))}(\\d{{8}}_\\d{{6}}|new_[0-9a-f]{{8}})$"
        remarks = []
        with self._server.translate_errors(), self._server.central() as central:
            for (database,) in central.run(
                "select datname from pg_catalog.pg_database where datname ~ $1 and not datallowconn", pattern
            ):
                if not is_dropped(str(database)):
                    continue
                try:
                    central.run(f"drop database {ident(str(database))}")
                except psycopg.Error as error:
                    reason = error.diag.message_primary
                    remarks.append(f"retained database {database} could not be dropped: {reason}")
        return remarks


#: Templates for new databases.
TEMPLATES = ("template0", "template1")
#: An extension that a server allows in one database only, so that no other one can be a trial or take its name; and the setting with that database.
CRON = "pg_cron"
CRON_DATABASE = "select pg_catalog.current_setting('cron.database_name', true)"
AVAILABLE_EXTENSIONS = "select name from pg_catalog.pg_available_extensions"
RIGHTS = """select current_user::text, rolsuper or rolcreatedb,
  rolsuper or coalesce((select pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') from pg_catalog.pg_database d where d.datname = $1), true)
from pg_catalog.pg_roles where rolname = current_user"""


def _require_trial(server: PostgreSQLServer, central: Session, dump: Dump) -> None:
    """Refuse a trial restore on a server that cannot load the dump, although the dump may be valid.

    Raises:
        PrivilegeMissingError: this role may not create databases.
        NotSupportedError: the server is older than the dump, or lacks an extension.
    """
    ((user, creates, _),) = central.run(RIGHTS, server.name)
    if not creates:
        raise _create_denied_error(server.target, str(user))
    try:
        refuse_newer(dump, central, server.target)
    except RestoreFailedError as error:
        location = database_properties.describe_server(central)["at"]
        reason = str(error.context["reason"])
        raise unsupported_dump_error(location, reason, str(error.context["hint"])) from None
    _require_extensions(central, dump, "")
    if dump.foreign:
        foreign.require_rights(central, server.target)


def _list_extensions(dump: Dump) -> list[str]:
    return [item.partition(" ")[0] for item in dump.metadata.get("extensions", "").split(", ") if item]


def _require_extensions(central: Session, dump: Dump, name: str) -> None:
    """Refuse a database ``name``, or, if it is empty, any other than that of the dump, that cannot have the extensions of the dump."""
    required, location = _list_extensions(dump), database_properties.describe_server(central)["at"]
    ((only,),) = central.run(CRON_DATABASE)  # NULL: its library is not loaded
    if CRON in required and only not in (None, name):
        raise unsupported_dump_error(
            location, f"its setting cron.database_name allows {CRON} only in database {only}"
        )
    available = {str(name) for (name,) in central.run(AVAILABLE_EXTENSIONS)}
    if missing := [name for name in required if name not in available]:
        raise unsupported_dump_error(
            location,
            f"it lacks extensions of the dump: {', '.join(missing)}",
            "Install their packages there.",
        )


def _select(server: PostgreSQLServer, central: Session, dump: Dump) -> RestoreStrategy:
    live = database_properties.read_properties(central, server.name)
    location = _describe_location(central, server.name)
    ((user, creates, owns),) = central.run(RIGHTS, server.name)
    connected = list_sessions(central, server.name)
    end_steps = [f"end the sessions of {server.name} ({len(connected)}): {', '.join(connected)}"]
    end_steps = end_steps if connected else []
    if dump.form == "kept":
        find_retained(central, dump, server.target)
        steps = [f"rename {dump.metadata['kept']} to replace {location}", *end_steps]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
    refuse_newer(dump, central, server.target)
    find_psql(central, dump.metadata, server.target)
    if dump.foreign:
        foreign.require_rights(central, server.target)
    notes = _describe_other_server(central, dump)
    if live is None:
        if not creates:
            raise _create_denied_error(server.target, str(user))
        _require_extensions(central, dump, server.name)
        return RestoreStrategy(method="new", steps=[f"create {location}", *notes])
    schema = server.read_scope(central)
    if schema:
        return _in_place_strategy(server, dump, f"objects outside of schema {schema} are not replaced")
    if not (creates and owns):
        missing = f"ALTER ROLE {ident(str(user))} CREATEDB" if owns else f"its owner is {live.owner}"
        return _in_place_strategy(server, dump, f"{user} may not rename it ({missing})")
    if CRON in _list_extensions(dump):
        return _in_place_strategy(server, dump, f"no other database of the server may have {CRON}")
    steps = [f"load into a new database next to {location}, verify it, and swap the names"]
    return RestoreStrategy(method="swapped", retains_previous=True, steps=[*steps, *end_steps, *notes])


def _in_place_strategy(server: PostgreSQLServer, dump: Dump, reason: str) -> RestoreStrategy:
    if dump.foreign:
        raise ForeignDumpRefusedError(
            target=server.target,
            reason=f"a foreign dump needs a separate database: {reason}",
            hint="Load it with restore apply --to NEW-DATABASE, or copy rows with --table NAME --merge missing.",
        )
    with server.open_session(server.url) as session:
        refuse_newer(dump, session, server.target)
        find_psql(session, dump.metadata, server.target)
        location = _describe_location(session, server.name)
        notes = _describe_other_server(session, dump)
        _require_owner(session, server)
    steps = [f"empty {location} and fill it in one transaction, which blocks all other sessions: {reason}"]
    return RestoreStrategy(method="in place", steps=[*steps, *notes])


def _require_owner(session: Session, server: PostgreSQLServer) -> None:
    """Raise PrivilegeMissingError for a role that may not drop the tables that a restore in place replaces."""
    refused = {
        str(name): str(owner) for name, owner in session.run(FOREIGN_TABLES, server.read_scope(session))
    }
    if refused:
        owners = ", ".join(sorted(set(refused.values())))
        raise PrivilegeMissingError(
            target=server.target,
            reason=f"only the owner of {', '.join(refused)} may replace it",
            hint=f"Nothing was changed. Sign in as {owners}, or as a superuser.",
        )


def _require_same_schema(server: PostgreSQLServer, dump: Dump) -> None:
    """Refuse to empty the schema that the URL names and then to fill another one.

    A dump of the whole database is treated as ``public``, which means the whole database unless there are other schemas.
    """
    requested, dumped = unquote(server.schema), dump.metadata.get("schema", "")
    if requested and requested != (dumped or PUBLIC):
        raise NotSupportedError(
            feature=f"restoring {f'schema {dumped}' if dumped else 'a whole database'}",
            subject=f"{server.target}, whose URL names schema {requested}",
            hint="Nothing was changed. A restore does not rename schemas: remove schema= from the URL, or choose another database.",
        )


def _describe_location(session: Session, name: str) -> str:
    server = database_properties.describe_server(session)
    system = f", system {server['system']}" if "system" in server else ""
    return f"database {name} of the server at {server['at']} (PostgreSQL {major_version(server['server'])}{system})"


def _create_denied_error(target: str, user: str) -> PrivilegeMissingError:
    return PrivilegeMissingError(
        target=target,
        reason=f"role {user} may not create databases",
        hint=f"Nothing was changed. As a superuser: ALTER ROLE {ident(user)} CREATEDB;",
    )


def _describe_other_server(session: Session, dump: Dump) -> list[str]:
    """Return a note if the dump is from another server than this one, and for each tablespace that this one lacks."""
    missing = [
        f"note: {dump_statements.describe_missing(name)}"
        for name in dump_statements.find_missing(session, dump)
    ]
    source = dump.metadata.get("system", "")
    system = database_properties.describe_server(session).get("system", "")
    if source in ("", system) or not system:
        return missing
    return [
        *missing,
        f"note: the backup is from another server: database {dump.metadata['database']} at {dump.metadata['at']}, system {source}",
    ]
