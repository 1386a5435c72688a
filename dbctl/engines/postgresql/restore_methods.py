"""Load dumps into scratch databases, and replace the content of a database: in place, or by swapping it with another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from functools import cached_property

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import Dump, DumpVerification, LoadRequest, LoadResult
from dbctl.engines.postgresql import dump_statements, foreign
from dbctl.engines.postgresql import properties as database_properties
from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, PostgreSQLSchemaReader, quoted, read_scope
from dbctl.engines.postgresql.connection import lock_key
from dbctl.engines.postgresql.database import PostgreSQLReader
from dbctl.engines.postgresql.dump_limits import (
    RESTORE_DEFAULT_PRIVILEGES,
    empty_statement,
    remove_tail,
    row_count_check,
)
from dbctl.engines.postgresql.dump_programs import DumpScanner, create_missing_schemas, major_version
from dbctl.engines.postgresql.errors import translate_error, unreachable_error
from dbctl.engines.postgresql.load import DumpLoader, LoadTarget, Psql, rename_statements, swap_databases
from dbctl.engines.postgresql.properties import Properties, RoleChanges, Roles
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.dumps import (
    UNCHANGED,
    RestoreServer,
    ServerRestore,
    StagedSwap,
    new_scratch_name,
    scratch_name_pattern,
    suggest_scratch,
    unsupported_dump_error,
)
from dbctl.engines.servers.engine import ErrorContext
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.checks import digest_tables, require_loaded_rows
from dbctl.errors.backup import DumpOverreachesError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError, UnreachableError
from dbctl.url import Url

#: The event triggers of a dump must not run during its load: pg_dump fills materialized views after it has created them,
#: with an empty search path. Before version 17, replication is the only setting that stops them.
WITHOUT_EVENT_TRIGGERS = """do $dbctl$ begin if current_setting('is_superuser') = 'off' then return;
  elsif current_setting('server_version_num')::int >= 170000 then set event_triggers = off;
  else set session_replication_role = replica; end if; end $dbctl$;"""
#: Databases that every server has, to connect to while another one is renamed.
CENTRAL = ("postgres", "template1")


class PostgreSQLServer(RestoreServer[Session]):
    @property
    def schema(self) -> str:
        """The schema that the URL names, quoted as in a URL; empty without one."""
        return self.url.select_options("schema").removeprefix("schema=")

    def sibling_url(self, name: str) -> Url:
        """Return the URL of another database of the server, without a schema."""
        return structs.replace(self.url, path=name, options=self.url.omit_options("schema"))

    @cached_property
    def central_url(self) -> Url | None:
        """Return the URL of a database that every server has and that accepts connections, if any."""
        for name in CENTRAL:
            if name != self.name:
                url = self.sibling_url(name)
                with suppress(psycopg.Error):
                    open_session(url, self.target, timeout=SHORT_TIMEOUT, read_only=True).close()
                    return url
        return None

    def central(
        self, timeout: float = SHORT_TIMEOUT, *, read_only: bool = False
    ) -> AbstractContextManager[Session]:
        url = self.central_url or self.sibling_url(CENTRAL[0])
        return self.open_session(url, timeout=timeout, read_only=read_only)

    @contextmanager
    def open_session(
        self, url: Url, *, timeout: float = SHORT_TIMEOUT, read_only: bool = False
    ) -> Iterator[Session]:
        """Connect to ``url`` without a limit for statements."""
        with suggest_scratch():
            session = open_session(url, self.target, timeout=timeout, read_only=read_only)
        with closing(session):
            # Settings of the database or role are meant for the app.
            session.run("set statement_timeout = 0")
            yield session

    def open_catalog_first(self, name: str) -> AbstractContextManager[Session]:
        """Connect with ``pg_catalog`` first in the search path, since a dump may define objects with built-in names."""
        return self.open_session(foreign.catalog_first_url(self.sibling_url(name)))

    def read_scope(self, central: Session) -> str:
        """Return the schema of the app; check that both sessions are on the same server."""
        with self.open_session(self.url) as session:
            server = database_properties.describe_server(session)
            central_server = database_properties.describe_server(central)
            if server.get("system") != central_server.get("system"):
                # A host name with several servers, or a pooler.
                raise RestoreFailedError(
                    target=self.target,
                    reason=f"two servers answer at its address: {server['at']} and {central_server['at']}",
                    hint="Use the address of one server.",
                )
            return read_scope(session)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            signals.raise_if_interrupted()
            if error.sqlstate is None:
                raise unreachable_error(error, self.target, self.url) from None
            context = ErrorContext(
                url=self.url, target=self.target, timeout=SHORT_TIMEOUT, account=ident(self.url.user)
            )
            raise translate_error(error, context, "", writing=True, broken=False) from error


def find_retained(central: Session, dump: Dump, target: str) -> Properties:
    """Return the properties of the retained database of ``dump``.

    Raises:
        RetainedDatabaseMissingError: it was dropped, or its name belongs to another database.
    """
    name = dump.metadata["kept"]
    properties = database_properties.read_properties(central, name)
    if properties is None or str(properties.oid) != dump.metadata["oid"]:
        raise RetainedDatabaseMissingError(target=target, name=name)
    return properties


def refuse_newer(dump: Dump, session: Session, target: str) -> None:
    """Refuse a dump of a newer version than the server.

    Raises:
        RestoreFailedError: the server is older.
    """
    dump_version = major_version(dump.metadata.get("server", ""))
    server_version = session.info.server_version // 10000
    if dump_version > server_version:
        raise RestoreFailedError(
            target=target,
            reason=f"it is from PostgreSQL {dump_version}, and this server has version {server_version}",
            hint=f"Use a server of version {dump_version} or later.",
        )


#: Leftovers of killed restores and test restores: databases, and the roles that loaded them.
SCRATCH_NAMES = """select datname::text from pg_catalog.pg_database where datname ~ $1
union select rolname::text from pg_catalog.pg_roles where rolname ~ $1"""
#: A scratch database belongs to one server: the wait for a synchronous standby would protect nothing.
WITHOUT_STANDBYS = "synchronous_commit=local"
UNTRUSTED = "Install untrusted extensions in the live database first."


class ScratchRestore(ServerRestore[PostgreSQLServer, Session]):
    _other: Session  #: terminates sessions of the old database when the names are swapped

    def prepare_roles(self, *, temporary: bool = False) -> AbstractContextManager[RoleChanges]:
        """Apply the policy for missing roles; raises as ``ServerRoles.create_missing``."""
        roles = Roles(self._central, self._server.target)
        return roles.prepare(self._request, self.remarks, temporary=temporary)

    @contextmanager
    def create_database(self, properties: Properties) -> Iterator[Url]:
        """Create a database with the settings of ``properties``, and drop it at the end unless it was renamed.

        Leftovers of killed processes are dropped, too; a lock protects those in use. For a foreign dump the owner is a
        scratch role of the same name, which is dropped as well.
        """
        server, central, is_foreign = self._server, self._central, self._request.dump.foreign
        for (leftover,) in central.run(SCRATCH_NAMES, scratch_name_pattern(server.name)):
            locked = central.run("select pg_try_advisory_lock($1)", lock_key(str(leftover)))
            if locked == [(True,)]:
                self._drop(str(leftover))
        name = new_scratch_name(server.name)
        self._reserve(name)
        url, owner = structs.replace(server.url, path=name), properties.owner
        try:
            with self._without_standbys():
                if is_foreign:
                    url, owner = foreign.role_url(url, name, foreign.create_role(central, name)), name
                template = structs.replace(properties, owner=owner)
                try:
                    central.run(database_properties.create_statement(name, template))
                except (
                    psycopg.errors.WrongObjectType
                ) as error:  # the operating system of the server lacks the locale
                    location = database_properties.describe_server(central)["at"]
                    raise unsupported_dump_error(location, str(error.diag.message_primary)) from error
                if is_foreign:
                    foreign.require_sign_in(url, server.target, timeout=self._request.timeout)
                    with suppress(psycopg.Error, DbctlError), ExitStack() as stack:
                        # The live database may be missing.
                        live = stack.enter_context(server.open_catalog_first(server.name))
                        scratch = stack.enter_context(server.open_catalog_first(name))
                        foreign.install_extensions(live, scratch)
                self._copy_settings(name, properties)
            yield url
        finally:
            with signals.block_signals(), suppress(psycopg.Error):
                self._drop(name)

    @contextmanager
    def _without_standbys(self) -> Iterator[None]:
        """Wait for no synchronous standby: without one, neither a signal nor an error would remove the database."""
        ((previous,),) = self._central.run("select current_setting('synchronous_commit')")
        self._central.run(f"set {WITHOUT_STANDBYS}")
        try:
            yield
        finally:
            with suppress(psycopg.Error):
                self._central.run(f"set synchronous_commit = {previous}")

    @contextmanager
    def loading_without_standbys(self, name: str, properties: Properties) -> Iterator[None]:
        """Let all sessions in a scratch database wait for no standby; afterwards it has the settings of ``properties`` again.

        A copy of an app is dumped from such a database, with its settings.
        """
        user, database = self._central.info.user, ident(name)
        waits = [(role, WITHOUT_STANDBYS) for role in ("", user)]  # the setting of a role overrides the other
        self._copy_settings(name, structs.replace(properties, settings=waits))
        yield
        for subject in (f"database {database}", f"role {ident(user)} in database {database}"):
            with suppress(psycopg.Error):
                self._central.run(f"alter {subject} reset synchronous_commit")
        self._copy_settings(name, properties)

    def _drop(self, name: str) -> None:
        with self._without_standbys():
            self.remarks += foreign.remove(self._central, self._server.open_catalog_first, name)
        self._central.run("select pg_advisory_unlock($1)", lock_key(name))

    def _copy_settings(self, name: str, properties: Properties) -> None:
        """Copy the settings of a database, as far as this role may.

        Some affect how the text of a dump is read: the search path, and the format of money values.
        """
        for setting in properties.settings:
            with suppress(psycopg.Error):
                database_properties.apply_properties(
                    self._central,
                    name,
                    structs.replace(properties, settings=[setting], grants=None, comment=""),
                )

    def load(self, url: Url, roles: RoleChanges, head: str = "") -> DumpVerification:
        """Load the dump into a new database after the statements ``head``, compare its rows, and analyze it.

        Everything runs as the role of ``url``, for a foreign dump the scratch role.
        """
        server, request, central = self._server, self._request, self._central
        dump, target, timeout = request.dump, server.target, request.timeout
        rewrite: Callable[[Iterator[bytes]], Iterator[bytes]] = remove_tail if dump.is_partial else iter
        if dump.foreign:
            rewrite = foreign.make_statement_filter(target, self.remarks, rewrite)
        else:
            rewrite = dump_statements.make_filter(central, dump, url.path, self.remarks, rewrite)
            rewrite = roles.make_filter(self.remarks, rewrite)
        try:
            with (
                server.open_session(url, timeout=timeout) if dump.foreign else nullcontext(central) as session
            ):
                DumpLoader(
                    place=LoadTarget(session, url.path, target, timeout),
                    request=request,
                    before_sql=f"{WITHOUT_EVENT_TRIGGERS}\n{head}",
                    rewrite=rewrite,
                    atomic=dump.foreign,
                ).load()
            verification = self._verify(url)
            with closing(open_session(url, target, timeout=timeout, read_only=False, is_new=True)) as session:
                analyze(session)
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or central.broken:
                raise
            reason = error.context["reason"]
            hint = UNTRUSTED if "extension" in str(reason) else ""
            raise DumpOverreachesError(target=target, reason=reason, hint=hint) from error
        return verification

    def _verify(self, url: Url) -> DumpVerification:
        """Compare the rows of a loaded database with the dump."""
        dump, target = self._request.dump, self._server.target
        with closing(PostgreSQLReader(url, target, timeout=self._request.timeout)) as reader:
            if path := dump.metadata.get("path"):  # that of the destination may find another table by a name
                reader.connection.session.settings["search_path"] = ", ".join(map(ident, json.loads(path)))
                reader.connection.apply_settings()
            counts = reader.count_dump_rows(dump.tables)
            # A dump may lack the rows of a table, such as an unlogged table on a standby.
            row_counts = {name: rows for name, rows in counts.items() if rows or name in dump.tables}
            fingerprint = PostgreSQLSchemaReader(reader).fingerprint()
            content = digest_tables(reader, {name: dump.tables[name] for name in dump.digests})
        require_loaded_rows(dump, row_counts, content, target=target, hint=UNCHANGED)
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)

    @contextmanager
    def stage(self) -> Iterator[StagedSwap]:
        """Load into a new database, and verify it."""
        server, central, dump = self._server, self._central, self._request.dump
        with server.central(self._request.timeout) as self._other, self.prepare_roles() as roles:
            live = database_properties.read_properties(central, server.name)
            new = structs.replace(new_properties(dump, server.name), database=server.name)
            if new.tablespace in dump_statements.find_missing(central, dump):
                new = structs.replace(new, tablespace="")
            properties = live or roles.adapt_properties(new)
            with self.create_database(properties) as url:
                self.load(url, roles)
                if dump.foreign:
                    with (
                        server.open_catalog_first(url.path) as scratch,
                        server.open_catalog_first(server.name) if live else nullcontext() as old,
                    ):
                        self.remarks += foreign.transfer_ownership(central, scratch, old, url.path)
                    owner = ident(properties.owner or central.info.user)
                    central.run(f"alter database {ident(url.path)} owner to {owner}")
                database_properties.apply_properties(central, url.path, properties)
                self._require_same_properties(url.path, properties, replaces=live is not None)
                staged = StagedSwap(self, url.path, exists=live is not None)
                yield staged
                staged.drop_old()

    @contextmanager
    def stage_retained(self) -> Iterator[StagedSwap]:
        """Let a retained database get its original name again."""
        server = self._server
        find_retained(self._central, self._request.dump, server.target)
        exists = database_properties.read_properties(self._central, server.name) is not None
        with server.central(self._request.timeout) as self._other:
            staged = StagedSwap(self, self._request.dump.metadata["kept"], exists=exists)
            yield staged
            staged.drop_old()

    def _reserve(self, name: str) -> None:
        self._central.run("select pg_advisory_lock($1)", lock_key(name))

    def _drop_old(self, name: str) -> None:
        with suppress(psycopg.Error):
            self._central.run(f"drop database if exists {ident(name)}")
            self._central.run("select pg_advisory_unlock($1)", lock_key(name))

    def swap(self, new: str, old: str, *, exists: bool) -> None:
        self._swap(rename_statements(self._server.name, new, old, exists=exists), new)

    def swap_back(self, new: str, old: str, *, exists: bool) -> None:
        if exists:
            self.swap(old, new, exists=True)
        else:
            self._swap([f"alter database {ident(self._server.name)} rename to {ident(new)}"])

    def _swap(self, statements: Sequence[str], new: str = "") -> None:
        name, target, timeout = self._server.name, self._server.target, self._request.timeout
        swap_databases(self._central, self._other, statements, name, target, timeout=timeout, new=new)

    def _require_same_properties(self, name: str, properties: Properties, *, replaces: bool) -> None:
        """Refuse a new database that could not get the properties of the old one.

        Most properties of a foreign dump are unknown, and its grants and settings may name missing roles.
        """
        actual = database_properties.read_properties(self._central, name)
        expected, actual_texts = properties.transferable(), actual.transferable() if actual else {}
        required = {key for key, text in expected.items() if text} - {"comment", "grants", "settings"}
        keys = expected if replaces else required
        if differences := [key for key in expected if key in keys and actual_texts.get(key) != expected[key]]:
            reason = f"a new database cannot have the same properties: {', '.join(differences)}"
            raise RestoreFailedError(target=self._server.target, reason=reason, hint=UNCHANGED)


#: The tables of schema $1, or of all schemas if it is empty; ANALYZE of a partitioned table includes its partitions.
LOADED_TABLES = f"""select {quoted("n.nspname", "c.relname")}
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and not c.relispartition
  and {IN_USER_SCHEMA} and ($1 = '' or n.nspname = $1)"""


def analyze(session: Session, schema: str = "") -> list[str]:
    """Analyze the tables of a schema, by default of all, after a load; return a remark if that fails."""
    try:
        session.run("set statement_timeout = 0")
        # without names, ANALYZE also reads the catalogs of the system, which takes longer than the load of a small database
        if names := ", ".join(str(name) for (name,) in session.run(LOADED_TABLES, schema)):
            session.run(f"analyze {names}")
    except psycopg.Error as error:
        return [f"the database could not be analyzed: {error.diag.message_primary}"]
    return []


def restore_in_place(server: PostgreSQLServer, request: LoadRequest) -> LoadResult:
    """Empty the schemas of a database and fill them in one transaction: the one that blocks writers, if any."""
    remarks = list[str]()
    with server.open_session(server.url, timeout=request.timeout) as session:
        with Roles(session, server.target).prepare(request, remarks) as roles:
            rewrite = dump_statements.make_filter(
                session, request.dump, server.name, remarks, create_missing_schemas
            )
            DumpLoader(
                place=LoadTarget(session, server.name, server.target, request.timeout),
                request=request,
                before_sql=empty_statement(read_scope(session)),
                rewrite=roles.make_filter(remarks, rewrite),
                after_sql=_closing_statements,
                permanent=True,
            ).load(request.release_locks if isinstance(request.release_locks, Psql) else None)
        with signals.block_signals():
            return LoadResult(method="in place", remarks=[*remarks, *analyze(session, read_scope(session))])


def new_properties(dump: Dump, name: str) -> Properties:
    """Return the properties of a new database; a foreign dump only determines its encoding and collation."""
    metadata = {"database": name, **dump.metadata}
    if dump.foreign:
        used = ("encoding", "collation", "ctype", "provider", "locale")
        metadata = {"database": name, **{key: text for key, text in dump.metadata.items() if key in used}}
    return database_properties.from_metadata(metadata)


def _closing_statements(scanner: DumpScanner) -> str:
    return "\n".join(
        [
            RESTORE_DEFAULT_PRIVILEGES,
            *(row_count_check(schema, table, rows) for (schema, table), rows in scanner.rows.items()),
        ]
    )
