"""Dump a database with the client program of its server, from one snapshot, and scan the text while it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pymysql

from dbctl.engines.contract.checks import describe_references
from dbctl.engines.contract.dumps import DumpRequest, DumpResult, Dumps, DumpVerification
from dbctl.engines.mysql import dump_programs, exact_values, stored_code
from dbctl.engines.mysql.accounts import read_accounts, read_passwords
from dbctl.engines.mysql.catalog import find_hidden_objects, find_history, require_dump_rights
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLPart, MySQLReader
from dbctl.engines.mysql.grants import find_place
from dbctl.engines.mysql.load import LOG_OPTION, DumpScanner, describe_log, has_log
from dbctl.engines.mysql.opening import error_number, format_reason, open_dump_session, quote, translate_error
from dbctl.engines.mysql.queries import parse_again
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import MySQLColumn, charset_of
from dbctl.engines.servers.dumps import NO_BACKUP, copy_output, estimate_dump_size
from dbctl.engines.sql import checks
from dbctl.engines.sql.checks import digest_tables
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ClientFailedError, ConcurrentChangeError, PrivilegeMissingError
from dbctl.errors.usage import NotSupportedError
from dbctl.files.codecs import open_parallel_gzip
from dbctl.model import group, now

#: Tables of engines without snapshots, which cannot be read consistently while others write.
TABLES_WITHOUT_SNAPSHOT = """select table_name, engine from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') and engine not in ('InnoDB', 'ROCKSDB') order by 1"""
#: Engines whose rows the program dumps completely, and whose tables a read lock keeps unchanged.
LOCKED_ENGINES = frozenset({"MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"})
#: Error numbers: the user may not lock a whole database, or a table.
DENIED = frozenset({1044, 1142})


class TableLocks:
    """The locks that a dump of a database needs."""

    def __init__(self, connection: MySQLConnection) -> None:
        self._connection = connection

    def find(self, tables: Sequence[str]) -> list[str]:
        """Return the tables that need a lock for a consistent dump, because their engines have no snapshots.

        Raises:
            NotSupportedError: the dump program omits the rows of a table, or no lock keeps it unchanged.
        """
        engines = [
            (str(name), str(engine))
            for name, engine in self._connection.fetch(TABLES_WITHOUT_SNAPSHOT)
            if not tables or name in tables
        ]
        others = [(name, engine) for name, engine in engines if engine not in LOCKED_ENGINES]
        if others:
            raise NotSupportedError(
                feature=f"a consistent dump of {', '.join(name for name, _ in others)}",
                subject=f"{self._connection.target}: tables of engine {others[0][1]} cannot be locked, or the dump program omits their rows",
                hint="Nothing was created. It shows rows of other tables: drop it, and create it again after the backup."
                if others[0][1].upper() == "MRG_MYISAM"
                else f"Nothing was created. With the app stopped: ALTER TABLE {quote(others[0][0])} ENGINE=InnoDB;"
                " a table that only shows rows of other tables can be dropped, and created again after the backup.",
            )
        return [name for name, _ in engines]

    @contextmanager
    def acquire(self, tables: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Lock ``tables`` against writes while the program reads them; yield a function that fails if the lock was lost.

        The lock begins before the program starts and ends after it, so these tables are the same at the time of its snapshot.

        Raises:
            BusyError: another session wrote to one of them for the whole timeout.
            PrivilegeMissingError: this user may not lock tables.
        """
        if not tables:
            yield lambda: None
            return
        connection = self._connection
        session = open_dump_session(connection.url, connection.target, timeout=connection.timeout)
        sql = f"lock tables {', '.join(f'{quote(name)} read' for name in tables)}"
        try:
            try:
                session.run(sql)
            except pymysql.Error as error:
                raise self._lock_error(error, session, sql) from error

            def check() -> None:
                try:
                    session.run("do 0")
                except pymysql.Error as error:
                    raise self._lock_error(error, session, sql) from error

            yield check
        finally:
            session.drop()

    def _lock_error(self, error: pymysql.Error, session: Session, sql: str) -> DbctlError:
        if error_number(error) in DENIED:
            grant = f"GRANT LOCK TABLES ON {find_place(self._connection.session)} TO {session.account};"
            return PrivilegeMissingError(
                target=self._connection.target,
                reason=format_reason(error),
                hint=f"{NO_BACKUP} As an administrator: {grant}",
            )
        return translate_error(
            error, self._connection.error_context(session), sql, writing=False, broken=not session.open
        )


FORMS: Mapping[str, str] = {"plain": ".sql.gz"}
#: Maximum number of attempts at a dump while the schema changes.
MAX_ATTEMPTS = 2
SIZE = """select coalesce(sum(data_length), 0) from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
#: Small base tables. Sequences and system-versioned tables are excluded: values and history differ after a load.
SMALL_TABLES = """select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'
and coalesce(table_rows, 0) <= :rows and coalesce(data_length, 0) <= :bytes order by 1"""
#: When each table was created or renamed. A rename changes no schema, and does not wait for a transaction that has not
#: used the table yet: afterwards another table may have the name.
CREATION_TIMES = """select table_name, create_time from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1"""
#: Character sets whose text is restored exactly from a dump in utf8mb4; others contain bytes without a Unicode character, or
#: several codes for the same character.
EXACT_CHARSETS = frozenset({"", "utf8mb4", "utf8mb3", "utf8", "latin1"})
#: Character sets that allow half of a surrogate pair.
SURROGATE_CHARSETS = frozenset({"ucs2", "utf16", "utf16le", "utf32"})
#: The first second before which everything is committed; the log has whole seconds.
NEXT_SECOND = "select utc_timestamp() + interval 1 second"
SERVER_INFO = "select @@version, coalesce(@@hostname, ''), @@port, @@datadir"
OPTIONS = (
    "--single-transaction",
    "--quick",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    "--default-character-set=utf8mb4",
    "--no-tablespaces",  # only an administrator may see them
    "--skip-dump-date",  # dumps of the same content are the same
)
HISTORY_REASON = (
    "the dump program omits history that is versioned by transactions, and any before MariaDB 10.11"
)
DEFINER_REASON = (
    "each reads a view whose definer does not exist, so it cannot be read, and MySQL does not create it"
)
#: Histograms of columns; a statement in the dump computes them again.
HISTOGRAMS = {"MySQL": ["--column-statistics"], "MariaDB": []}


NO_LOG = "no later moment can be recovered from this backup: its server is not MariaDB with log_bin = ON"
#: Replayed on such a dump, the log would change rows that it does not have.
NOT_WHOLE = "no later moment can be recovered from this backup: it does not have the rows of all tables"


class MySQLDumper(MySQLPart, Dumps):
    forms = FORMS
    supports_partial = True
    is_compressed = True
    has_roles = True
    can_stream = True

    def __init__(self, db: MySQLReader) -> None:
        super().__init__(db)
        self._locks = TableLocks(db.connection)

    def estimate_dump_size(self) -> int:
        return estimate_dump_size(int(str(self._connection.fetch(SIZE)[0][0])))

    def require_rights(self, schema_only: Collection[str] = (), tables: Collection[str] = ()) -> None:
        del schema_only
        require_dump_rights(self._connection, tables)

    def require_programs(self) -> bool:
        server, url, target = self._connection.server, self._connection.url, self._connection.target
        dump_programs.find_dump_program(server, target, url, relays=bool(self._find_exact_columns(())))
        dump_programs.find_program("client", server, target, url)
        return True

    def blocks_writers(self) -> bool:
        return bool(self._connection.fetch(TABLES_WITHOUT_SNAPSHOT))

    def list_emptiable_tables(self) -> Mapping[str, Sequence[str]]:
        return {name: [name] for name in self._catalog.base_tables()}

    def find_dependents(self, tables: Collection[str]) -> Sequence[str]:
        return describe_references(self._db, tables)

    def read_role_passwords(self) -> Mapping[str, str]:
        return read_passwords(self._connection.session, self._connection.target)

    def dump(self, request: DumpRequest) -> DumpResult:
        self.require_rights((), request.tables)
        self._refuse_unwritable(request.tables)
        with self._locks.acquire(self._locks.find(request.tables)) as check_lock:
            for _ in range(MAX_ATTEMPTS):
                if result := self._try_dump(request, check_lock):
                    return result
        raise ConcurrentChangeError(target=self._connection.target)

    def _try_dump(self, request: DumpRequest, check_lock: Callable[[], None]) -> DumpResult | None:
        """Dump; return None if the schema changed during the dump."""
        tables = request.tables
        taken_at, schema = now(), self._db.schema_reader.fingerprint()
        creation_times = self._connection.fetch(CREATION_TIMES)
        before = digest_tables(
            self._db, self._count_small_tables(tables, request.schema_only), as_loaded=True
        )
        try:
            scanner, version, sha256 = self._write(request)
        except ClientFailedError:
            # the program may have listed a table that was changed or dropped before it read it
            if self._db.schema_reader.fingerprint() == schema:
                raise
            request.discard()
            return None
        rows = scanner.rows
        try:
            check_lock()
        except BaseException:  # the file is complete but inconsistent
            request.discard()
            raise
        is_complete = all(name in rows for name, _ in creation_times if not tables or name in tables)
        current = self._db.schema_reader.fingerprint(), self._connection.fetch(CREATION_TIMES)
        if not is_complete or current != (schema, creation_times):
            request.discard()
            if not is_complete:  # perhaps this user may not read the table
                self._db.server.require_all_tables()
            return None
        # The program reads its own snapshot. Tables with the same content before and after it have this content in the dump.
        after = digest_tables(self._db, {name: rows[name] for name in before if name in rows}, as_loaded=True)
        request.progress(1.0)
        verification = DumpVerification(
            tables=rows,
            schema="" if tables else schema,
            problems=(),
            digests={name: digest for name, digest in after.items() if before[name] == digest},
        )
        metadata, log_since = self._metadata() | {"client": version}, None
        if scanner.log_position:
            with self._connection.translate_errors("show variables"):
                metadata |= scanner.log_position | describe_log(self._connection.session)
            ((time,),) = self._connection.fetch(NEXT_SECOND)
            log_since = cast("datetime", time).replace(tzinfo=UTC)
        remarks = [*self._describe_losses(tables, scanner), *self._describe_lost_digits(after)]
        if request.records_log and not scanner.log_position:
            remarks.append(NOT_WHOLE if request.schema_only else NO_LOG)
        if remarks:
            metadata["remarks"] = "; ".join(remarks)
        return DumpResult(
            taken_at=taken_at,
            metadata=metadata,
            verification=verification,
            sha256=sha256,
            log_since=log_since,
        )

    def _describe_losses(self, tables: Sequence[str], scanner: DumpScanner) -> list[str]:
        """Return a sentence for each loss in a dump, and for each requirement of a restore."""
        remarks = []
        if history := find_history(self._connection, tables).lost:
            remarks.append(
                f"the backup lacks earlier versions of rows of {', '.join(history)}: {HISTORY_REASON}"
            )
        if views := stored_code.list_unrestorable_views(self._connection.session):
            remarks.append(f"a restore omits {', '.join(views)}: {DEFINER_REASON}")
        if not tables:
            account = self._connection.session.account
            remarks += (
                f"the backup lacks {kind} that {account} may not see, if there are any: GRANT {right} TO {account}"
                for kind, right in find_hidden_objects(self._connection).items()
            )
        return [*remarks, *_describe_tablespaces(scanner.tablespaces)]

    def _describe_lost_digits(self, tables: Collection[str]) -> list[str]:
        """Return a remark on numbers in JSON that a load of their text stores as other floats.

        ``tables``: the small ones, of which all rows have been read for digests.
        """
        names = []
        for table in tables:
            for column in self._catalog.require_table(table).columns.values():
                if column.type == "JSON" and not column.is_generated:
                    name = quote(column.name)
                    loaded = parse_again(name)
                    rows = self._connection.fetch(
                        f"select cast({name} as char), cast({loaded} as char) from {quote(table)} where {name} <> {loaded}"
                    )
                    if any(_read_digits(text) != _read_digits(other) for text, other in rows):
                        names.append(f"{table}.{column.name}")
        return (
            [f"a restore changes the last digits of numbers in JSON of {', '.join(names)}"] if names else []
        )

    def _refuse_unwritable(self, tables: Sequence[str]) -> None:
        """Refuse tables whose rows the program of MySQL writes as a statement that no server accepts.

        Raises:
            NotSupportedError: a table has rows, and all its columns are generated.
        """
        if self._connection.server.is_mariadb:
            return
        for name, table in self._catalog.tables().items():
            is_computed = not table.is_view and all(column.is_generated for column in table.columns.values())
            if is_computed and (not tables or name in tables) and self._db.count(name):
                raise NotSupportedError(
                    feature=f"a dump of {name}",
                    subject=f"mysqldump, since all columns of the table in {self._connection.target} are generated",
                    hint=f"Nothing was created. Add a regular column: ALTER TABLE {quote(name)} ADD id int;",
                )

    def _write(self, request: DumpRequest) -> tuple[DumpScanner, str, str]:
        """Return the scanner of the dump, the version of the program, and the SHA-256 of the file."""
        session, target, timeout = self._connection.session, self._connection.target, self._connection.timeout
        tables, empty = request.tables, set(map(quote, request.schema_only))
        exact = self._find_exact_columns(tables)
        tool = dump_programs.find_dump_program(
            session.server, target, self._connection.url, relays=bool(exact or empty)
        )
        expected, scanner = max(1, self.estimate_dump_size()), DumpScanner()
        options = [*OPTIONS, *dump_programs.PRODUCT_OPTIONS[session.server.product]]
        options += HISTOGRAMS[session.server.product]
        with self._connection.translate_errors("show variables"):
            if request.records_log and not request.schema_only and has_log(session):
                options.append(LOG_OPTION)
        if find_history(self._connection, tables).dumped:
            options.append("--dump-history")
        watch = dump_programs.create_watch(
            self._connection.url, session.database, target, NO_BACKUP, timeout=timeout
        )
        with (
            exact_values.start_relay(
                self._connection.url,
                session.server,
                target,
                exact,
                timeout=timeout,
                in_container=tool.in_container,
                empty=empty,
            ) as relay,
            request.begin() as file,
            dump_programs.run_client(
                tool,
                [*options, "--", session.database, *tables],
                self._connection.url,
                session.server,
                target,
                watch=watch,
                writes=True,
                socket_path=relay.path if relay else None,
            ) as client,
            nullcontext() if request.compress == "none" else open_parallel_gzip() as compressor,
        ):
            copy_output(client, file, scanner.feed, compressor, expected, request.progress)
            scanner.finish()
            if client.finish():
                raise dump_programs.to_error(
                    client, self._connection.url, target, timeout=timeout, instead=NO_BACKUP
                )
            problem = scanner.problem
            rounded = relay.missing if relay else ()
            inexact = sorted(name for name, rows in scanner.rows.items() if rows and quote(name) in rounded)
            if inexact and not problem:
                problem = f"it read {', '.join(inexact)} by a query that dbctl does not know, so values would not be exact, or rows not left out"
            if problem:
                raise ClientFailedError(target=target, program=client.name, reason=problem, hint=NO_BACKUP)
        return scanner, tool.version, file.counter.digest.sha256

    def _find_exact_columns(self, tables: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the expressions for columns of tables whose values the program would not write exactly."""
        inexact, server = {}, self._connection.server
        for name, table in self._catalog.tables().items():
            columns = cast("Mapping[str, MySQLColumn]", table.columns)
            expressions = {
                quote(column.name): exact_expression(column, is_mariadb=server.is_mariadb)
                for column in columns.values()
            }
            if (
                not table.is_view
                and (not tables or name in tables)
                and any(name != sql for name, sql in expressions.items())
            ):
                inexact[quote(name)] = expressions
        return inexact

    def _count_small_tables(self, tables: Sequence[str], without: Collection[str]) -> dict[str, int]:
        """Return the row counts of tables that are small by the server's estimate; empty ``tables`` means all but ``without``."""
        limits = {"rows": 2 * checks.MAX_ROWS, "bytes": 4 * checks.MAX_BYTES}
        # No program can read half a surrogate pair as text.
        readable = {
            name
            for name, table in self._catalog.tables().items()
            if (not tables or name in tables)
            and name not in without
            and SURROGATE_CHARSETS.isdisjoint(map(charset_of, table.columns.values()))
        }
        names = [str(name) for (name,) in self._connection.fetch(SMALL_TABLES, limits)]
        return {name: self._db.count(name) for name in names if name in readable}

    def _metadata(self) -> dict[str, str]:
        session = self._connection.session
        with self._connection.translate_errors("show grants"):
            properties = session.read_properties(session.database)
            return {
                **describe_server(session),
                "database": session.database,
                **properties,
                "format": "plain",
                "roles": read_accounts(session),
            }


def exact_expression(column: MySQLColumn, *, is_mariadb: bool) -> str:
    """Return an expression with every digit and byte of a column; its quoted name if the program writes it exactly."""
    name = quote(column.name)
    is_rounded = column.type.startswith("FLOAT") and "(" not in column.type
    digits = f"cast({name} as double)" if is_rounded else name
    if column.type.startswith(("FLOAT", "DOUBLE")) and not is_mariadb:
        return f"cast({digits} as char)"  # MySQL reads -0 as 0 unless it is text
    if is_rounded:
        return digits
    if column.kind == "text" and column.charset not in EXACT_CHARSETS:
        return f"cast({name} as binary)"  # the program writes it in hexadecimal digits
    if column.kind == "enum" and "" in column.labels:
        return f"({name} + 0)"  # the text of an invalid value is empty, like this label
    return name


def _read_digits(text: object) -> object:
    return json.loads(str(text), parse_float=Decimal, parse_int=Decimal)


def _describe_tablespaces(tablespaces: Mapping[str, str]) -> list[str]:
    """Return a remark for each tablespace that a server must have before it creates the tables."""
    tables = group((tablespace, table) for table, tablespace in tablespaces.items())
    return [
        f"a restore on another server needs tablespace {name} for {', '.join(sorted(table_names))}: CREATE TABLESPACE {quote(name)} ADD DATAFILE 'NAME.ibd'"
        for name, table_names in sorted(tables.items())
    ]


def describe_server(session: Session) -> dict[str, str]:
    """Return the version, the product and the address of the server."""
    ((version, host, port, folder),) = session.run(SERVER_INFO)
    return {
        "server": str(version),
        "product": session.server.product,
        "at": f"{host}:{port}",
        "system": f"{host}:{port}{folder}",
    }
