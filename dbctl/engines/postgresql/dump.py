"""Dump a database with pg_dump, from a snapshot that this session exports.

The output of pg_dump passes through this process: it detects a full disk, a signal stops it, and the rows are counted
up to the end mark, so that the file need not be read a second time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import cast

from dbctl import signals
from dbctl.engines.contract.dumps import DumpRequest, DumpResult, Dumps, DumpVerification
from dbctl.engines.postgresql import dump_programs
from dbctl.engines.postgresql import properties as database_properties
from dbctl.engines.postgresql.catalog import COPIED_TABLES, IN_USER_SCHEMA, OWN_COLUMNS, read_scope
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.dump_limits import describe_losses
from dbctl.engines.postgresql.dump_programs import DumpScanner, index_by_app_name
from dbctl.engines.postgresql.dump_statements import read_tablespaces
from dbctl.engines.postgresql.errors import is_unsupported
from dbctl.engines.postgresql.properties import read_passwords, read_roles
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.settings import MONEY, TEXT_SETTINGS, program_options
from dbctl.engines.postgresql.values import UNDECLARED
from dbctl.engines.servers.dumps import NO_BACKUP, copy_output, estimate_dump_size
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.checks import digest_tables
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, ClientFailedError, ConcurrentChangeError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import subprocesses
from dbctl.files.codecs import COMPRESSORS, Compressor, open_parallel_gzip
from dbctl.model import Compression, now

#: Custom: read by pg_restore, as a whole or in parts, over several connections. Plain: read by psql.
FORMS: Mapping[str, str] = {"custom": ".dump", "plain": ".sql.gz"}
#: The content of an empty database in bytes, which is not in a dump.
EMPTY_SIZE = 7 << 20
#: Maximum number of attempts at a dump while the schema changes.
MAX_ATTEMPTS = 2
#: This query waits for no lock.
SIZE = """select case when :scope = '' then greatest(0, pg_catalog.pg_database_size(current_database()) - :empty)
  else (select coalesce(sum(c.relpages::int8 * current_setting('block_size')::int8), 0)::int8 from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm', 't') and n.nspname = :scope) end"""
LARGE_OBJECTS = "select exists (select from pg_catalog.pg_largeobject_metadata)"
PARTITIONS = """select n.nspname::text, c.relname::text from pg_catalog.pg_partition_tree(cast(:table as regclass)) t
join pg_catalog.pg_class c on c.oid = t.relid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where t.level > 0 order by 1, 2"""
#: The tables whose rows a dump contains. Of a table of an extension it contains the rows that meet a condition, if any.
TABLES = f"""select n.nspname::text, c.relname::text, e.objid is not null, coalesce(x.condition, '')
from {COPIED_TABLES} order by 1, 2"""
#: Partitioned tables ``t`` with each table ``c`` below them that has rows.
LEAVES = f"""select p.nspname::text, t.relname::text, n.nspname::text, c.relname::text
from pg_catalog.pg_class t join pg_catalog.pg_namespace p on p.oid = t.relnamespace
  cross join lateral pg_catalog.pg_partition_tree(t.oid) l join pg_catalog.pg_class c on c.oid = l.relid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where t.relkind = 'p' and l.isleaf and c.relkind = 'r' and {IN_USER_SCHEMA} order by 1, 2, 3, 4"""
#: Foreign keys with their tables; those of partitions are those of their tables.
KEYS = f"""select n.nspname::text, c.relname::text, {OWN_COLUMNS}, p.nspname::text, t.relname::text
from pg_catalog.pg_constraint f join pg_catalog.pg_class c on c.oid = f.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class t on t.oid = f.confrelid join pg_catalog.pg_namespace p on p.oid = t.relnamespace
where f.contype = 'f' order by 1, 2, 3"""
#: Also partitions, whose rows a statement on their table changes.
ON_OTHER_SERVERS = f"""select c.oid::regclass::text from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'f' and {IN_USER_SCHEMA} and :scope in ('', n.nspname::text) order by 1"""
SEARCH_PATH = "select pg_catalog.current_schemas(false)"
#: Parent tables, whose queries also return rows of child tables, and child tables, whose column order may change.
INHERITING = """select c.relname::text from pg_catalog.pg_class c where c.relkind = 'r' and pg_catalog.pg_table_is_visible(c.oid)
  and c.oid in (select inhparent from pg_catalog.pg_inherits union select inhrelid from pg_catalog.pg_inherits)"""


#: The version that introduced an option of subscriptions that pg_dump writes even for an older server.
SUBSCRIPTION_OWNERS = 16


class DumpedTables(PostgreSQLPart):
    """The tables whose rows a dump contains: partitions, and child tables without those of their parents."""

    def list_dump_tables(self) -> Collection[str]:
        with self._connection.read_transaction():
            return list(self._name_tables().values())

    def count_dump_rows(self, extra: Collection[str] = ()) -> dict[str, int]:
        with self._connection.read_transaction():
            rows = dict[tuple[str, str], int]()
            for (schema, table), condition in self._row_conditions(extra).items():
                # Child tables store their own rows.
                sql = f"select count(*) from only {ident(schema)}.{ident(table)} {condition}"
                with self._connection.translate_errors(sql):
                    ((count,),) = self._connection.session.run(sql)
                rows[schema, table] = cast("int", count)
            return index_by_app_name(rows, _read_search_path(self._connection))

    def _row_conditions(self, extra: Collection[str] = ()) -> dict[tuple[str, str], str]:
        """Return the tables whose rows a dump contains, by schema and name, with the condition of an extension, if any."""
        tables = cast(
            "list[tuple[str, str, bool, str]]",
            self._connection.fetch(TABLES, {"scope": read_scope(self._connection.session)}),
        )
        return {
            (schema, table): condition
            for schema, table, of_extension, condition in tables
            if not of_extension or f"{schema}.{table}" in extra or table in extra
        }

    def list_emptiable_tables(self) -> Mapping[str, Sequence[str]]:
        with self._connection.read_transaction():
            names, leaves = self._name_tables(), dict[tuple[str, str], list[str]]()
            rows = cast("list[tuple[str, str, str, str]]", self._connection.fetch(LEAVES))
            for schema, parent, leaf_schema, leaf in rows:
                if (leaf_schema, leaf) in names:
                    leaves.setdefault((schema, parent), []).append(names[leaf_schema, leaf])
            parents = self._name(list(leaves))
        return {name: [name] for name in names.values()} | {
            name: leaves[parent] for parent, name in parents.items()
        }

    def list_remote_tables(self) -> Sequence[str]:
        scope = {"scope": read_scope(self._connection.session)}
        return [str(name) for (name,) in self._connection.fetch(ON_OTHER_SERVERS, scope)]

    def find_dependents(self, tables: Collection[str]) -> Sequence[str]:
        """Return the foreign keys as ``Dumps.find_dependents``, also those between schemas."""
        with self._connection.read_transaction():
            names = self._name_tables()
            keys = cast("list[tuple[str, str, list[str], str, str]]", self._connection.fetch(KEYS))
        return [
            f"{names[schema, table]}.{', '.join(columns)} refers to {names[to_schema, to]}"
            for schema, table, columns, to_schema, to in keys
            if names.get((to_schema, to)) in tables
            and (schema, table) in names
            and names[schema, table] not in tables
        ]

    def find(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the schema and the name of tables that the app names so."""
        return [table for table, name in self._name_tables().items() if name in names] if names else []

    def _name_tables(self) -> dict[tuple[str, str], str]:
        """Return the name that the app uses for each table, by schema and name."""
        return self._name(list(self._row_conditions()))

    def _name(self, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        numbers = {table: number for number, table in enumerate(tables)}
        named = index_by_app_name(numbers, _read_search_path(self._connection))
        return {tables[number]: name for name, number in named.items()}


class PostgreSQLDumper(DumpedTables, Dumps):
    forms = FORMS
    supports_partial = True
    is_compressed = True
    has_roles = True
    can_stream = True

    def estimate_dump_size(self) -> int:
        rows = self._connection.fetch(
            SIZE, {"scope": read_scope(self._connection.session), "empty": EMPTY_SIZE}
        )
        return estimate_dump_size(cast("int", rows[0][0]))

    def require_programs(self) -> bool:
        version = self._connection.session.info.server_version // 10000
        for program in ("pg_dump", "pg_restore", "psql"):
            dump_programs.find_program(
                program, self._connection.target, min_version=version, url=self._connection.url
            )
        return True

    def require_rights(self, schema_only: Collection[str] = (), tables: Collection[str] = ()) -> None:
        if not tables:  # of tables, pg_dump names what this role may not read
            scope = read_scope(self._connection.session)
            database_properties.require_readable(self._connection, scope, self.find(schema_only))

    def read_role_passwords(self) -> Mapping[str, str]:
        session = self._connection.session
        with self._connection.translate_errors(""):
            return read_passwords(session, read_scope(session), self._connection.target)

    def dump(self, request: DumpRequest) -> DumpResult:
        self.require_rights(request.schema_only, request.tables)
        for _ in range(MAX_ATTEMPTS):
            schemas = list[str]()
            try:
                return self._dump_snapshot(request, schemas)
            except ClientFailedError:
                # pg_dump lists the tables of the snapshot, and locks them later by their names
                if not schemas or self._db.schema_reader.fingerprint() in schemas:
                    raise
                request.discard()
        raise ConcurrentChangeError(target=self._connection.target)

    def _dump_snapshot(self, request: DumpRequest, schemas: list[str]) -> DumpResult:
        """Dump; ``schemas`` receives the fingerprint of the schema, unless only some tables are dumped."""
        form, tables = request.form or "custom", request.tables
        target = self._connection.target
        server = self._connection.session.info.server_version // 10000
        find = partial(
            dump_programs.find_program, target=target, min_version=server, url=self._connection.url
        )
        tool, decoder = find("pg_dump"), find("pg_restore") if form == "custom" else None
        omits_subscriptions = server < SUBSCRIPTION_OWNERS <= tool.major
        expected = max(1, self.estimate_dump_size())
        with self._connection.read_transaction():
            session = self._connection.session  # a new one, if the server closed the idle one
            taken_at, scope = now(), read_scope(session)
            arguments = (
                self.list_arguments(form, tables, scope) + ["--no-subscriptions"] * omits_subscriptions
            )
            emptied = self.find(request.schema_only)
            arguments += [f"--exclude-table-data={ident(schema)}.{ident(name)}" for schema, name in emptied]
            with self._connection.translate_errors(""):
                losses = (
                    []
                    if tables
                    else describe_losses(session, scope, target, omits_subscriptions=omits_subscriptions)
                )
            if form == "plain" and self._connection.fetch(LARGE_OBJECTS) == [(True,)]:
                raise NotSupportedError(
                    feature="a plain dump of large objects",
                    subject=target,
                    hint="Nothing was created. Use --format custom.",
                )
            with (
                request.begin() as file,
                self.run_program(tool, arguments) as client,
                follow_dump(decoder, target) as follower,
                _open_compressor(form, request.compress) as compressor,
            ):
                # In the same snapshot, while pg_dump connects and reads the catalog.
                schema = "" if tables else self._db.schema_reader.fingerprint()
                schemas += filter(None, [schema])
                # The server may end this session.
                with self._connection.translate_errors(SEARCH_PATH):
                    metadata = self._metadata(session, scope)
                metadata |= {"client": tool.version, "format": form}
                metadata |= {"remarks": "; ".join(losses)} if losses else {}
                size = copy_output(client, file, follower.feed, compressor, expected, request.progress)
                if client.finish():
                    raise self.create_error(client)
                if problem := follower.find_problem():
                    raise ClientFailedError(
                        target=target, program=tool.path.name, reason=problem, hint=NO_BACKUP
                    )
                scanned = {**dict.fromkeys(emptied, 0), **follower.scanner.rows}
                rows = index_by_app_name(scanned, metadata["path"])
                inheriting = {name for (name,) in self._connection.fetch(INHERITING)}
                inheriting.update(request.schema_only)  # the live tables have rows
                countable = {name: count for name, count in rows.items() if name not in inheriting}
                content = digest_tables(self._db, countable)
        request.progress(1.0)
        verification = DumpVerification(tables=rows, schema=schema, problems=(), digests=content)
        return DumpResult(
            taken_at=taken_at,
            metadata=metadata,
            verification=verification,
            sha256=file.counter.digest.sha256,
            plain_bytes=size if form == "custom" and request.compress != "none" else 0,
        )

    def run_program(
        self, tool: dump_programs.Tool, arguments: Sequence[str]
    ) -> AbstractContextManager[subprocesses.ClientProgram]:
        """Run a program whose output is read, with the text settings of dbctl, unless a pooler may refuse them."""
        session, target = self._connection.session, self._connection.target
        return dump_programs.run_client(
            tool,
            arguments,
            session,
            session.info.dbname,
            target,
            instead=NO_BACKUP,
            settings={} if session.pooled else {"PGOPTIONS": program_options()},
            writes=True,
        )

    def list_arguments(self, form: str, tables: Sequence[str], scope: str) -> list[str]:
        """Return the arguments of pg_dump, with the snapshot of this transaction; a quoted pattern matches one name only."""
        session = self._connection.session
        arguments = [
            f"--lock-wait-timeout={max(1, round(self._connection.timeout * 1000))}",
            f"--snapshot={export_snapshot(self._connection)}",
            f"--format={form}",
            "--compress=0",
        ]
        if session.settings.get("client_encoding") != UNDECLARED:
            arguments.append("--encoding=UTF8")
        if tables:
            names = self._with_partitions(tables)
            return [*arguments, *(f"--table={ident(schema)}.{ident(name)}" for schema, name in names)]
        return [*arguments, f"--schema={ident(scope)}"] if scope else arguments

    def _with_partitions(self, tables: Sequence[str]) -> list[tuple[str, str]]:
        """Return tables with their partitions, each with its schema."""
        schema, names = self._connection.session.schema, list[tuple[str, str]]()
        for name in tables:
            rows = self._connection.fetch(PARTITIONS, {"table": f"{ident(schema)}.{ident(name)}"})
            names += [(schema, name), *cast("list[tuple[str, str]]", rows)]
        return names

    def create_error(self, client: subprocesses.ClientProgram) -> DbctlError:
        """Return the error of pg_dump, with the lock holders."""
        session, target, timeout = self._connection.session, self._connection.target, self._connection.timeout
        error = dump_programs.to_error(client, session, target, timeout=timeout, instead=NO_BACKUP)
        if isinstance(error, BusyError):
            holder = self._connection.describe_blockers("", session.pgconn.backend_pid)
            return BusyError(target=target, holder=holder, waited=f"{timeout:g}")
        return error

    def _metadata(self, session: Session, scope: str) -> dict[str, str]:
        properties = database_properties.read_properties(session, session.info.dbname)
        return {
            **(properties.to_metadata() if properties else {}),
            **database_properties.describe_server(session),
            "extensions": ", ".join(str(name) for (name,) in session.run(database_properties.EXTENSIONS)),
            "schema": scope,
            "roles": read_roles(session, scope),
            "tablespaces": read_tablespaces(session),
            "path": _read_search_path(self._connection),
            **({} if session.pooled else {MONEY: TEXT_SETTINGS[MONEY]}),
        }


def export_snapshot(connection: PostgreSQLConnection) -> str:
    """Export the snapshot of a transaction until its end, and return its identifier.

    Raises:
        NotSupportedError: the server exports no snapshots.
    """
    try:
        ((snapshot,),) = connection.fetch("select pg_export_snapshot()")
    except QueryFailedError as error:
        if not is_unsupported(error.__cause__):
            raise
        raise NotSupportedError(
            feature=f"a backup of {connection.target}",
            subject="this server, which exports no snapshots",
            hint=f"{NO_BACKUP} Use the server's own backups.",
        ) from error
    return str(snapshot)


def _read_search_path(connection: PostgreSQLConnection) -> str:
    """Return the schemas of the search path, in order, as JSON."""
    return json.dumps(connection.session.run(SEARCH_PATH)[0][0])


def _open_compressor(form: str, compress: Compression) -> AbstractContextManager[Compressor | None]:
    """Open the compressor of a dump; plain text has the suffix of gzip."""
    if compress == "none":
        return nullcontext()
    return COMPRESSORS[compress]() if form == "custom" else open_parallel_gzip()


@contextmanager
def follow_dump(reader: dump_programs.Tool | None, target: str) -> Iterator[FollowingReader]:
    """Yield a scanner of a dump; ``reader`` is the pg_restore that decodes the custom format, None for plain text."""
    if reader is None:
        yield FollowingReader(None)
        return
    watch = subprocesses.ProgramWatch(target, NO_BACKUP)
    with subprocesses.run_program(
        reader.wrap(target, ["--file=-"]), reader.environment, watch=watch, reads=True, writes=True
    ) as client:
        follower = FollowingReader(client)
        try:
            yield follower
        finally:
            follower.stop()


class FollowingReader:
    """Scanner of a dump while it is written."""

    def __init__(self, client: subprocesses.ClientProgram | None) -> None:
        self.scanner, self._client, self._ended_early = DumpScanner(), client, False
        if client:
            self._thread = threading.Thread(target=self._follow, args=[client])
            with signals.defer_signals():  # a signal handler must not run while a thread holds its locks
                self._thread.start()

    def _follow(self, client: subprocesses.ClientProgram) -> None:
        for block in client.blocks(interruptible=False, watched=False):  # the caller watches pg_dump
            self.scanner.feed(block)

    def feed(self, block: bytes) -> None:
        """Pass on the next block of the dump."""
        if self._client is None:
            self.scanner.feed(block)
        elif not self._ended_early:
            self._ended_early = not self._client.write(block)

    def find_problem(self) -> str:
        """Return the defect of the dump after its last block; empty if it is complete."""
        if self._client is not None:
            status = self._client.finish()
            with signals.defer_signals():
                self._thread.join()
            if status:
                messages = self._client.error_output().splitlines() or [f"exit status {status}"]
                return f"pg_restore cannot read it: {messages[0].rpartition('error: ')[2]}"
        return "" if self.scanner.is_complete and not self._ended_early else "its end is missing"

    def stop(self) -> None:
        """Stop the program and the thread."""
        if self._client is not None:
            self._client.kill()
            with signals.defer_signals():
                self._thread.join()
