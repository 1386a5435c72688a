"""Restore target: a database on a server, which may be missing or in use.

If the role has the privileges, a restore loads a new database next to the old one, verifies it, and swaps the names;
the old database is retained, closed to connections, until the next restore. Otherwise the restore replaces the content
in one transaction.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import psycopg
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
from dbctl.engines.postgresql.backup import database_properties, partial
from dbctl.engines.postgresql.backup.database_properties import Properties
from dbctl.engines.postgresql.backup.dump_scanner import DumpScanner, create_missing_schemas
from dbctl.engines.postgresql.backup.empty_schemas import (
    RESTORE_DEFAULT_PRIVILEGES,
    empty_statement,
    row_count_check,
)
from dbctl.engines.postgresql.backup.foreign import make_statement_filter, scratch_role
from dbctl.engines.postgresql.backup.load import UNCHANGED, Psql, load_dump, lock_tables, major_version
from dbctl.engines.postgresql.backup.names import (
    RETAINED_SUFFIX,
    SCRATCH_SUFFIX,
    derived_name,
    scratch_name_pattern,
)
from dbctl.engines.postgresql.backup.rename_swap import (
    list_sessions,
    rename_statements,
    swap_databases,
    swap_lock_key,
)
from dbctl.engines.postgresql.errors import ErrorContext, translate_error, unreachable_error
from dbctl.engines.postgresql.locks import lock_key
from dbctl.engines.postgresql.reader import SHORT_TIMEOUT, PostgreSQLReader
from dbctl.engines.postgresql.schema import PUBLIC, read_scope, resolve_scope
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.writer import PostgreSQLWriter
from dbctl.engines.sql import digest_tables, find_differences, ident
from dbctl.errors import (
    DbctlError,
    DumpOverreachesError,
    ForeignDumpRefusedError,
    NotSupportedError,
    PrivilegeMissingError,
    RestoreFailedError,
    RetainedDatabaseMissingError,
    UnreachableError,
)
from dbctl.files import Progress, no_progress, release_nothing
from dbctl.url import Url

#: Databases that every server has, to connect to while another one is renamed.
CENTRAL = ("postgres", "template1")
#: Templates for new databases.
TEMPLATES = ("template0", "template1")
RIGHTS = b"""select current_user::text, rolsuper or rolcreatedb,
  rolsuper or coalesce((select pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') from pg_catalog.pg_database d where d.datname = $1), true)
from pg_catalog.pg_roles where rolname = current_user"""
#: Leftovers of killed restores and test restores: databases, and the roles that loaded them.
SCRATCH_NAMES = b"""select datname::text from pg_catalog.pg_database where datname ~ $1
union select rolname::text from pg_catalog.pg_roles where rolname ~ $1"""
UNTRUSTED = "Check the dump. Install untrusted extensions in the live database first."
#: The database and its oldest table: after a restore in place the tables have new ids.
MARKERS = """select (select oid from pg_catalog.pg_database where datname = current_database()), min(c.oid)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
and $1::text in ('', n.nspname::text) and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')"""
#: Tables that are about to be replaced, and may be written until then; of one schema, or of all.
TABLES = b"""select format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and (n.nspname = $1 or $1 = '') and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by 1"""
#: Whether a database contains user objects; objects of extensions in the template are ignored.
HAS_OBJECTS = """select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'))
or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'))
or exists (select from pg_catalog.pg_largeobject_metadata)"""


class PostgreSQLRestoreTarget:
    """A PostgreSQL database as the target of a restore."""

    requires_load = True

    def __init__(self, url: Url, target: str) -> None:
        self._url, self._target, self._name = url, target, url.path

    # State and plan -----------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        try:
            with closing(
                open_session(self._url, self._target, timeout=SHORT_TIMEOUT, read_only=True)
            ) as session:
                schema = session.url_schema
                return not schema or bool(
                    session.execute(b"select to_regnamespace($1)", [ident(schema)]).fetchall()[0][0]
                )
        except psycopg.Error as error:
            with suppress(psycopg.Error), self._central() as central:
                if database_properties.read_properties(central, self._name) is None:
                    return False
            raise unreachable_error(error, self._target) from None

    def identity(self) -> str:
        with self._translate_errors(), self._central() as central:
            server = database_properties.describe_server(central)
        return f"{server.get('system', server['at'])}/{self._name}"

    def address(self, dump: Dump) -> str:
        schema = self._schema() or quote(dump.metadata.get("schema", ""))
        return f"{self._url}?schema={schema}" if schema else str(self._url)

    def has_content(self) -> bool:
        url = self._sibling_url(self._name)  # the whole database, not only the schema of the URL
        with self._translate_errors(), self._open(url) as session:
            return session.execute(HAS_OBJECTS.encode()).fetchall() == [(True,)]

    def files(self) -> Sequence[Path]:
        return ()  # the server owns them

    @contextmanager
    def block_writers(self, dump: Dump, *, timeout: float) -> Iterator[Callable[[], None]]:
        """Block writers of tables that are replaced in place; a retained database needs no lock, since it contains later writes.

        The lock belongs to the transaction that replaces the rows. It covers the existing tables: the safety backup lacks
        later changes of large objects, and tables that are created later.
        """
        with ExitStack() as stack:
            release: Callable[[], None] = release_nothing
            with self._translate_errors():
                if self.strategy(dump).method == "in place":
                    session = stack.enter_context(self._open(self._url, timeout=timeout))
                    tables = [
                        str(table) for (table,) in session.execute(TABLES, [read_scope(session)]).fetchall()
                    ]
                    release = stack.enter_context(
                        lock_tables(tables, session, self._name, self._target, dump.metadata, timeout=timeout)
                    )
            yield release

    def require_space(self, required_bytes: int) -> None:
        """Do nothing: a server does not report its free space."""

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        """Lock the database, and its name in another database, in case the database is missing."""
        with ExitStack() as stack:
            central = self._central_url()
            if central is not None:
                lock_session = stack.enter_context(
                    closing(_NamedLockSession(central, self._target, timeout=timeout))
                )
                lock_session.key = lock_key(f"{self._name}/{self._schema()}")
                stack.enter_context(lock_session.lock(purpose))
                lock_session.wait_for(swap_lock_key(self._name))
            if central is None or self.exists():
                writer = stack.enter_context(
                    closing(PostgreSQLWriter(self._url, self._target, timeout=timeout))
                )
                stack.enter_context(writer.lock(purpose))
            yield

    def strategy(self, dump: Dump) -> RestoreStrategy:
        if self._name in TEMPLATES:
            raise NotSupportedError(
                feature="a restore",
                subject=f"{self._target}, a template for new databases",
                hint="Nothing was changed. Choose another database.",
            )
        if dump.form != "kept":
            self._require_same_schema(dump)
        with self._translate_errors():
            central_url = self._central_url()
            if central_url is None:
                return self._in_place_strategy(dump, "no other database of the server accepts connections")
            with self._open(central_url) as central:
                return self._select_strategy(central, dump)

    def _select_strategy(self, central: Session, dump: Dump) -> RestoreStrategy:
        live, location = (
            database_properties.read_properties(central, self._name),
            _describe_location(central, self._name),
        )
        ((user, creates, owns),) = central.execute(RIGHTS, [self._name]).fetchall()
        connected = list_sessions(central, self._name)
        end_steps = (
            [f"end the sessions of {self._name} ({len(connected)}): {', '.join(connected)}"]
            if connected
            else []
        )
        if dump.form == "kept":
            _find_retained(central, dump, self._target)
            steps = [f"rename {dump.metadata['kept']} to replace {location}", *end_steps]
            return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
        _refuse_newer(dump, central, self._target)
        if dump.foreign:
            scratch_role.require_rights(central, self._target)
        notes = _describe_other_server(central, dump)
        if live is None:
            if not creates:
                raise _create_denied_error(self._target, str(user))
            return RestoreStrategy(method="new", steps=[f"create {location}", *notes])
        schema = self._read_scope(central)
        if schema:
            return self._in_place_strategy(dump, f"objects outside of schema {schema} are not replaced")
        if not (creates and owns):
            missing = f"ALTER ROLE {ident(str(user))} CREATEDB" if owns else f"its owner is {live.owner}"
            return self._in_place_strategy(dump, f"{user} may not rename it ({missing})")
        steps = [f"load into a new database next to {location}, verify it, and swap the names"]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=[*steps, *end_steps, *notes])

    def _in_place_strategy(self, dump: Dump, reason: str) -> RestoreStrategy:
        if dump.foreign:
            raise ForeignDumpRefusedError(
                target=self._target,
                reason=f"a foreign dump needs a separate database: {reason}",
                hint="Load it with restore apply --to NEW-DATABASE, or copy rows with --table NAME --merge missing.",
            )
        with self._open(self._url) as session:
            _refuse_newer(dump, session, self._target)
            location, notes = _describe_location(session, self._name), _describe_other_server(session, dump)
        steps = [
            f"empty {location} and fill it in one transaction, which blocks all other sessions: {reason}"
        ]
        return RestoreStrategy(method="in place", steps=[*steps, *notes])

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        with self._translate_errors(), self._central() as central:
            live = database_properties.read_properties(central, self._name)
            if live is None:
                raise RetainedDatabaseMissingError(target=self._target, name=self._name)
            name = derived_name(self._name, f"{RETAINED_SUFFIX}{stamp}")
            metadata = {**live.to_metadata(), **database_properties.describe_server(central), "kept": name}
        temporary = ident(derived_name(self._name, "_aside"))
        note = (
            f"-- A restore replaced {self._target}. Its previous content is database {name} of the server until the next\n"
            "-- restore. dbctl restore undo restores it; by hand, connected to another database, without other sessions:\n"
            f"begin;\nalter database {ident(self._name)} rename to {temporary};\n"
            f"alter database {ident(name)} rename to {ident(self._name)};\n"
            f"alter database {ident(self._name)} allow_connections true;\ncommit;\n"
        )
        return RetainedDatabase(metadata=metadata, revert_script=note)

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        with self._translate_errors(), self._central() as central:
            existing = set(
                central.execute(b"select datname, oid::text from pg_catalog.pg_database").fetchall()
            )
        names = [(dump.metadata["kept"], dump.metadata["oid"]) for dump in retained]
        return [name for name, oid in names if (name, oid) not in existing]

    def markers(self) -> Mapping[str, str]:
        schema = unquote(self._schema())
        with self._translate_errors(), self._open(self._url) as session:
            ((database, table),) = session.execute(MARKERS.encode(), [schema]).fetchall()
        return {"database_oid": str(database), "table_oid": str(table)} if table else {}

    # Restore -------------------------------------------------------------------------------------------------------

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
        del can_consume  # the dump is only read
        with self._translate_errors():
            if dump.form == "kept":
                return self._restore_retained(dump, retained.get("kept", ""), timeout)
            strategy = self.strategy(dump)
            if strategy.method == "in place":
                return self._load_in_place(
                    path, dump, timeout, progress, release_locks if isinstance(release_locks, Psql) else None
                )
            return self._load_and_swap(path, dump, retained.get("kept", ""), timeout, progress)

    def _load_in_place(
        self, path: Path, dump: Dump, timeout: float, progress: Progress, within: Psql | None
    ) -> LoadResult:
        """Replace the content of the database in one transaction: the one that blocks writers, if any."""
        with self._open(self._url, timeout=timeout) as session:
            _refuse_newer(dump, session, self._target)
            schema = read_scope(session)
            load_dump(
                path,
                dump.metadata,
                session,
                self._name,
                self._target,
                tables=dump.tables,
                timeout=timeout,
                transaction=within,
                head=empty_statement(schema),
                change=create_missing_schemas,
                tail=_closing_statements,
                progress=progress,
                permanent=True,
            )
            with signals.block_signals():
                return LoadResult(method="in place", remarks=_analyze(session))

    def _load_and_swap(
        self, path: Path, dump: Dump, retained_name: str, timeout: float, progress: Progress
    ) -> LoadResult:
        """Load into a new database, verify it, and swap the names."""
        with self._central(timeout) as central, self._central(timeout) as other:
            _refuse_newer(dump, central, self._target)
            live = database_properties.read_properties(central, self._name)
            properties = live or structs.replace(_new_properties(dump, self._name), name=self._name)
            remarks = list[str]()
            with self._create_scratch_database(central, properties, dump, remarks, timeout) as url:
                scratch_name = url.path
                _copy_settings(central, scratch_name, properties)
                self._load_scratch(central, url, path, dump, timeout, progress, remarks)
                if dump.foreign:
                    remarks += self._transfer_ownership(central, scratch_name, live=live is not None)
                    owner = ident(properties.owner or central.info.user)
                    central.execute(f"alter database {ident(scratch_name)} owner to {owner}".encode())
                database_properties.apply_properties(central, scratch_name, properties)
                actual = database_properties.read_properties(central, scratch_name)
                differences = (
                    database_properties.find_differences(properties, actual) if actual else ["everything"]
                )
                # Most properties of a foreign dump are unknown, and its grants and settings may name missing roles.
                known = [name for name, text in properties.transferable().items() if text]
                optional = ("comment", "grants", "settings")
                differences = [
                    name for name in differences if live or (name in known and name not in optional)
                ]
                if differences:
                    raise RestoreFailedError(
                        target=self._target,
                        reason=f"a new database cannot have the same properties: {', '.join(differences)}",
                        hint=UNCHANGED,
                    )
                old_name = retained_name or derived_name(
                    self._name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}"
                )
                statements = rename_statements(self._name, scratch_name, old_name, exists=live is not None)
                swap_databases(central, other, statements, self._name, self._target, timeout=timeout)
            if not retained_name:
                with signals.block_signals(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(old_name)}".encode())
        return LoadResult(method="swapped" if live else "new", remarks=remarks)

    def _transfer_ownership(self, central: Session, new: str, *, live: bool) -> list[str]:
        with ExitStack() as stack:
            scratch = stack.enter_context(self._open_catalog_first(new))
            old = stack.enter_context(self._open_catalog_first(self._name)) if live else None
            return scratch_role.transfer_ownership(central, scratch, old, new)

    def _restore_retained(self, dump: Dump, retained_name: str, timeout: float) -> LoadResult:
        """Rename a retained database to its original name."""
        source = dump.metadata["kept"]
        with self._central(timeout) as central, self._central(timeout) as other:
            _find_retained(central, dump, self._target)
            live = database_properties.read_properties(central, self._name)
            old_name = retained_name or derived_name(self._name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
            statements = rename_statements(self._name, source, old_name, exists=live is not None)
            swap_databases(central, other, statements, self._name, self._target, timeout=timeout)
            if not retained_name:
                with signals.block_signals(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(old_name)}".encode())
        return LoadResult(method="swapped" if live else "new")

    @contextmanager
    def restored_copy(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self.trial_restore(path, dump, timeout=timeout) as trial:
            yield trial.url

    @contextmanager
    def trial_restore(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[TrialRestore]:
        """Yield a temporary database with the loaded dump and its verification; it is dropped at the end."""
        with self._translate_errors(), self._central(timeout) as central:
            ((user, creates, _),) = central.execute(RIGHTS, [self._name]).fetchall()
            if not creates:
                raise _create_denied_error(self._target, str(user))
            _refuse_newer(dump, central, self._target)
            if dump.foreign:
                scratch_role.require_rights(central, self._target)
            properties, remarks = structs.replace(_new_properties(dump, self._name), owner=""), list[str]()
            with self._create_scratch_database(central, properties, dump, remarks, timeout) as url:
                scratch_name = url.path
                _copy_settings(central, scratch_name, properties)
                head = ""
                if dump.is_partial:
                    with self._open(self._url) as live:
                        head = partial.format_type_statements(live)
                verification = self._load_scratch(
                    central, url, path, dump, timeout, no_progress, remarks, head=head
                )
                yield TrialRestore(url=url, verification=verification, remarks=remarks)

    def _load_scratch(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        *,
        head: str = "",
    ) -> DumpVerification:
        """Load a dump into a new database, compare its rows, and analyze it.

        Everything runs as the role of ``url``, for a foreign dump the scratch role.
        """
        try:
            return self._load_and_compare(central, url, path, dump, timeout, progress, remarks, head)
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or central.broken:
                raise
            raise DumpOverreachesError(
                target=self._target, reason=error.context["reason"], hint=UNTRUSTED
            ) from error

    def _load_and_compare(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        head: str,
    ) -> DumpVerification:
        change = partial.remove_tail if dump.is_partial else iter
        with ExitStack() as stack:
            session = stack.enter_context(self._open(url, timeout=timeout)) if dump.foreign else central
            load_dump(
                path,
                dump.metadata,
                session,
                url.path,
                self._target,
                tables=dump.tables,
                timeout=timeout,
                head=head,
                change=make_statement_filter(self._target, remarks, change) if dump.foreign else change,
                progress=progress,
                atomic=dump.foreign,
            )
        with closing(PostgreSQLReader(url, self._target, timeout=timeout)) as reader:
            counts = reader.count_dump_rows(dump.tables, path=dump.metadata.get("path", ""))
            # A dump may lack the rows of a table, such as an unlogged table on a standby.
            row_counts = {name: rows for name, rows in counts.items() if rows or name in dump.tables}
            fingerprint = reader.fingerprint()
            content = digest_tables(reader, {name: dump.tables[name] for name in dump.digests})
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
        with closing(
            open_session(url, self._target, timeout=timeout, read_only=False, is_new=True)
        ) as analyzer:
            _analyze(analyzer)
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)

    @contextmanager
    def _create_scratch_database(
        self, central: Session, properties: Properties, dump: Dump, remarks: list[str], timeout: float
    ) -> Iterator[Url]:
        """Create a scratch database, and drop it at the end unless it was renamed.

        Leftovers of killed processes are dropped, too; a lock protects those in use. For a foreign dump the owner is a
        scratch role of the same name, which is dropped as well.
        """
        for (leftover,) in central.execute(SCRATCH_NAMES, [scratch_name_pattern(self._name)]).fetchall():
            locked = central.execute(b"select pg_try_advisory_lock($1)", [lock_key(str(leftover))]).fetchall()
            if locked == [(True,)]:
                remarks += self._drop(central, str(leftover))
        name = derived_name(self._name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
        central.execute(b"select pg_advisory_lock($1)", [lock_key(name)])
        url = structs.replace(self._url, path=name)
        try:
            if dump.foreign:
                password = scratch_role.create_role(central, name)
                url, properties = (
                    scratch_role.role_url(url, name, password),
                    structs.replace(properties, owner=name),
                )
            central.execute(database_properties.create_statement(name, properties).encode())
            if dump.foreign:
                scratch_role.require_sign_in(url, self._target, timeout=timeout)
                with suppress(psycopg.Error, DbctlError), ExitStack() as stack:
                    # The live database may be missing.
                    live = stack.enter_context(self._open_catalog_first(self._name))
                    scratch_role.install_extensions(live, stack.enter_context(self._open_catalog_first(name)))
            yield url
        finally:
            with signals.block_signals(), suppress(psycopg.Error):
                remarks += self._drop(central, name)

    def _drop(self, central: Session, name: str) -> Sequence[str]:
        remarks = scratch_role.remove(central, self._open_catalog_first, name)
        central.execute(b"select pg_advisory_unlock($1)", [lock_key(name)])
        return remarks

    @contextmanager
    def _open_catalog_first(self, name: str) -> Iterator[Session]:
        """Connect with ``pg_catalog`` first in the search path, since a dump may define objects with built-in names."""
        with self._open(scratch_role.catalog_first_url(self._sibling_url(name))) as session:
            yield session

    def drop_retained(self, retained: Mapping[str, str]) -> Sequence[str]:
        pattern = (
            f"^{re.escape(derived_name(self._name, RETAINED_SUFFIX))}(\\d{{8}}_\\d{{6}}|new_[0-9a-f]{{8}})$"
        )
        remarks = []
        with self._translate_errors(), self._central() as central:
            for (database,) in central.execute(
                b"select datname from pg_catalog.pg_database where datname ~ $1 and datname <> $2 and not datallowconn",
                [pattern, retained.get("kept", "")],
            ).fetchall():
                try:
                    central.execute(f"drop database {ident(str(database))}".encode())
                except psycopg.Error as error:
                    reason = error.diag.message_primary
                    remarks.append(f"retained database {database} could not be dropped: {reason}")
        return remarks

    # Connections ---------------------------------------------------------------------------------------------------

    def _schema(self) -> str:
        match = re.search(r"(?:^|&)schema=([^&]*)", self._url.options)
        return match[1] if match else ""

    def _require_same_schema(self, dump: Dump) -> None:
        """Refuse to empty the schema that the URL names and then to fill another one.

        A dump of the whole database is treated as ``public``, which means the whole database unless there are other schemas.
        """
        requested, dumped = unquote(self._schema()), dump.metadata.get("schema", "")
        if requested and requested != (dumped or PUBLIC):
            raise NotSupportedError(
                feature=f"restoring {f'schema {dumped}' if dumped else 'a whole database'}",
                subject=f"{self._target}, whose URL names schema {requested}",
                hint="Nothing was changed. A restore does not rename schemas: remove schema= from the URL, or choose another database.",
            )

    def _read_scope(self, central: Session) -> str:
        """Return the schema of the app; check that both sessions are on the same server."""
        with self._open(self._url) as session:
            server, central_server = (
                database_properties.describe_server(session),
                database_properties.describe_server(central),
            )
            if server.get("system") != central_server.get("system"):
                # A host name with several servers, or a pooler.
                raise RestoreFailedError(
                    target=self._target,
                    reason=f"two servers answer at its address: {server['at']} and {central_server['at']}",
                    hint="Use the address of one server.",
                )
            return resolve_scope(session, session.url_schema)

    def _sibling_url(self, name: str) -> Url:
        options = "&".join(
            option for option in self._url.options.split("&") if option and not option.startswith("schema=")
        )
        return structs.replace(self._url, path=name, options=options)

    def _central_url(self) -> Url | None:
        for name in CENTRAL:
            if name != self._name:
                url = self._sibling_url(name)
                with suppress(psycopg.Error):
                    open_session(url, self._target, timeout=SHORT_TIMEOUT, read_only=True).close()
                    return url
        return None

    @contextmanager
    def _central(self, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        url = self._central_url() or self._sibling_url(CENTRAL[0])
        with self._open(url, timeout=timeout) as session:
            yield session

    @contextmanager
    def _open(self, url: Url, *, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        with closing(open_session(url, self._target, timeout=timeout, read_only=False)) as session:
            # Settings of the database or role are meant for the app.
            session.execute(b"set statement_timeout = 0")
            yield session

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert driver errors to dbctl errors."""
        try:
            yield
        except psycopg.Error as error:
            signals.raise_if_interrupted()
            if error.sqlstate is None:
                raise unreachable_error(error, self._target) from None
            place = ErrorContext(
                target=self._target, timeout=SHORT_TIMEOUT, user=self._url.user, blockers=lambda _: ""
            )
            raise translate_error(error, place, "", writing=True, broken=False) from error


class _NamedLockSession(PostgreSQLWriter):
    """A session to another database that locks this one by its name."""

    key = 0

    def _lock_key(self) -> int:
        return self.key

    def wait_for(self, key: int) -> None:
        """Wait until no session holds another lock.

        Raises:
            BusyError: a session held it for longer than the timeout.
        """
        self._wait_for_lock(
            lambda: self._rows("select pg_try_advisory_lock(:key)", {"key": key}) == [(True,)],
            lambda: f"{self._describe_holder(key)}, a killed restore that has not ended yet",
        )
        self._rows("select pg_advisory_unlock(:key)", {"key": key})


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


def _find_retained(central: Session, dump: Dump, target: str) -> Properties:
    name = dump.metadata["kept"]
    properties = database_properties.read_properties(central, name)
    if properties is None or str(properties.oid) != dump.metadata["oid"]:
        raise RetainedDatabaseMissingError(target=target, name=name)
    return properties


def _describe_other_server(session: Session, dump: Dump) -> list[str]:
    """Return a note if the dump is from another server than this one."""
    source, system = (
        dump.metadata.get("system", ""),
        database_properties.describe_server(session).get("system", ""),
    )
    if source in ("", system) or not system:
        return []
    return [
        f"note: the backup is from another server: database {dump.metadata['database']} at {dump.metadata['at']}, system {source}"
    ]


def _refuse_newer(dump: Dump, session: Session, target: str) -> None:
    dump_version, server_version = (
        major_version(dump.metadata.get("server", "")),
        session.info.server_version // 10000,
    )
    if dump_version > server_version:
        raise RestoreFailedError(
            target=target,
            reason=f"it is from PostgreSQL {dump_version}, and this server has version {server_version}",
            hint=f"Use a server of version {dump_version} or later.",
        )


def _copy_settings(central: Session, name: str, properties: Properties) -> None:
    """Copy the settings of a database, as far as this role may.

    Some affect how the text of a dump is read: the search path, and the format of money values.
    """
    for setting in properties.settings:
        with suppress(psycopg.Error):
            database_properties.apply_properties(
                central, name, structs.replace(properties, settings=[setting], grants=None, comment="")
            )


def _closing_statements(scanner: DumpScanner) -> str:
    return "\n".join(
        [
            RESTORE_DEFAULT_PRIVILEGES,
            *(row_count_check(schema, table, rows) for (schema, table), rows in scanner.rows.items()),
        ]
    )


def _analyze(session: Session) -> list[str]:
    try:
        session.execute(b"set statement_timeout = 0")
        session.execute(b"analyze")
    except psycopg.Error as error:
        return [f"the database could not be analyzed: {error.diag.message_primary}"]
    return []


def _new_properties(dump: Dump, name: str) -> Properties:
    """Return the properties of a new database; a foreign dump only determines its encoding and collation."""
    metadata = {"database": name, **dump.metadata}
    if dump.foreign:
        used = ("encoding", "collation", "ctype", "provider", "locale")
        metadata = {"database": name, **{key: text for key, text in dump.metadata.items() if key in used}}
    return database_properties.from_metadata(metadata)
