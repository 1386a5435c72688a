"""A database on a server copied by the server's own program, at one moment, and read while it comes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pymysql

from dbctl.engines.contract import Dumped, Proof, Table
from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.dump_reader import Reading
from dbctl.engines.mysql.backup.views import list_unrestorable_views
from dbctl.engines.mysql.describe import MySQLDescribes
from dbctl.engines.mysql.errors import Place, number_of, quoted, reason_of, translated, unreachable
from dbctl.engines.mysql.session import Session, open_session
from dbctl.engines.mysql.types import MySQLColumn
from dbctl.engines.sql import Holds, digests, table_digest
from dbctl.errors import (
    ChangedMeanwhileError,
    ClientFailedError,
    DbctlError,
    NotSupportedError,
    PrivilegeMissingError,
)
from dbctl.files import Progress, packing, silent, subprocesses
from dbctl.model import now
from dbctl.url import Url

FORMS: Mapping[str, str] = {"plain": ".sql.gz"}
NOTHING = "No backup was made; earlier ones are as they were."
#: How often a dump is begun while somebody changes the schema.
TRIES = 2
#: What is compressed to a fraction; indexes are not in it.
PACKED = 4
SIZE = """select coalesce(sum(data_length), 0) from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
#: Sequences and kept states of rows are not what they were once they are loaded.
FEW = """select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'
and coalesce(table_rows, 0) <= :rows and coalesce(data_length, 0) <= :bytes order by 1"""
#: Only what keeps several states of a row can be read at one moment while others write.
OTHERS = """select table_name, engine from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') and engine not in ('InnoDB', 'ROCKSDB') order by 1"""
#: Other engines of which the program writes every row, and whose tables a lock keeps as they are.
LOCKED_ENGINES = frozenset({"MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"})
#: Seconds for which an idle session keeps its lock: the longest that every server takes.
LONGEST_IDLE = 2_147_483
#: When each table was made, or got its name. A rename changes no schema, and is not held up by a transaction that has
#: not come to the table yet: what follows is another table under the same name.
MADE = """select table_name, create_time from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1"""
LIKE = """select default_character_set_name, default_collation_name from information_schema.schemata
where schema_name = database()"""
#: Tables that keep earlier versions of their rows, and whether by the number of a transaction in place of its time.
VERSIONED = """select t.table_name, max(c.data_type = 'bigint') from information_schema.tables t
left join information_schema.columns c on c.table_schema = t.table_schema and c.table_name = t.table_name
  and c.generation_expression = 'ROW START'
where t.table_schema = database() and t.table_type = 'SYSTEM VERSIONED' group by t.table_name order by 1"""
#: Since then MariaDB's program writes history down, and its server takes it back.
HISTORY_VERSION = (10, 11)
#: Character sets of which each text comes back when it is dumped as utf8mb4; in others, some bytes have no letter of
#: Unicode, or two of them the same one.
EXACT_CHARSETS = frozenset({"", "utf8mb4", "utf8mb3", "utf8", "latin1"})
#: Character sets in which half of a pair of code units may stand alone.
HALVES = frozenset({"ucs2", "utf16", "utf16le", "utf32"})
#: Numbers of the server's refusals to lock: of a whole database, and of a table.
DENIED = frozenset({1044, 1142})
PLACE = "select @@version, coalesce(@@hostname, ''), @@port, @@datadir"
WORDS = (
    "--single-transaction",
    "--quick",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    "--default-character-set=utf8mb4",
    "--no-tablespaces",  # which only an administrator may see
)
NO_HISTORY = (
    "the program of the server writes none where a table keeps them by transactions, or before MariaDB 10.11"
)
NO_DEFINER = "such a view reads one whose definer does not exist, so nobody can read it, and MySQL does not create it again"
#: Of one product alone. Masking policies, which newer programs of MySQL write down, are the whole server's, and a script
#: that drops those and makes them anew is none of a database; older programs say that they do not know the word.
MORE = {"MySQL": ["--set-gtid-purged=OFF", "--loose-skip-masking-policies"], "MariaDB": []}
#: What the server has counted of columns; a statement in the dump counts it again.
HISTOGRAMS = {"MySQL": ["--column-statistics"], "MariaDB": []}


class MySQLDumps(MySQLDescribes):
    """Capability.DUMP."""

    forms = FORMS
    parts = True
    packed = True
    target: str
    _timeout: float
    _url: Url

    @abstractmethod
    def _current(self) -> Session:
        """Return the session."""

    @abstractmethod
    def _place(self, session: Session) -> Place:
        """Return what a message tells of the database that failed."""

    def dump_size(self) -> int:
        return int(str(self._fetch(SIZE, {})[0][0])) // PACKED

    def holds_up(self) -> bool:
        return bool(self._fetch(OTHERS, {}))

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        del form  # there is but one
        self._refuse_unwritable(tables)
        with self._locked(self._find_lockable(tables)) as check_lock:
            return self._dump_unchanged(destination, tables, progress, check_lock)

    def _dump_unchanged(
        self,
        destination: Path,
        tables: Sequence[str],
        progress: Progress,
        check_lock: Callable[[], None],
    ) -> Dumped:
        """Dump, and once more where somebody changed the schema meanwhile."""
        for left in reversed(range(TRIES)):
            taken, schema, made = now(), self.fingerprint(), self._fetch(MADE, {})
            before = digests(cast("Holds", self), self._few(tables))
            reading, version, sha256 = self._write(destination, tables, progress)
            rows = reading.rows
            try:
                check_lock()
            except BaseException:  # the file is whole, and of no use
                destination.unlink()
                raise
            whole = all(name in rows for name, _ in made if not tables or name in tables)
            if whole and (schema, made) == (self.fingerprint(), self._fetch(MADE, {})):
                # The program reads at a moment of its own. What a table held before it and behind it, it held then.
                behind = digests(cast("Holds", self), {name: rows[name] for name in before if name in rows})
                content = {name: one for name, one in behind.items() if before[name] == one}
                break
            destination.unlink()
            if not left:
                raise ChangedMeanwhileError(target=self.target)
        progress(1.0)
        history = self._lost_history(tables)
        proof = Proof(tables=rows, schema="" if tables else schema, problems=(), digests=content)
        facts = self._facts() | {"client": version}
        remarks = []
        if history:
            remarks.append(f"earlier versions of rows are not in it, of {', '.join(history)}: {NO_HISTORY}")
        if views := list_unrestorable_views(self._current()):
            remarks.append(f"a restore leaves out {', '.join(views)}: {NO_DEFINER}")
        remarks += _describe_tablespaces(reading.tablespaces)
        if remarks:
            facts["remarks"] = "; ".join(remarks)
        return Dumped(taken_at=taken, facts=facts, proof=proof, sha256=sha256)

    def _refuse_unwritable(self, tables: Sequence[str]) -> None:
        """Refuse tables whose rows the program of MySQL writes as a statement that no server accepts.

        Raises:
            NotSupportedError: a table has rows, and the server computes all of its columns.
        """
        if self._current().server.is_mariadb:
            return
        for name, table in self.tables().items():
            is_computed = not table.view and all(column.generated for column in table.columns.values())
            if is_computed and (not tables or name in tables) and self.count(name):
                raise NotSupportedError(
                    what=f"a dump of {name}",
                    by=f"mysqldump, since {self.target} computes all columns of that table",
                    instead=f"Nothing was made. Give it a column of its own: ALTER TABLE {quoted(name)} ADD id int;",
                )

    def _find_lockable(self, tables: Sequence[str]) -> list[str]:
        """Return the tables of which a dump at one moment needs a lock, since their engines keep no states of a row.

        Raises:
            NotSupportedError: the program of the server writes no rows of a table, or no lock keeps it from changing.
        """
        found = [
            (str(name), str(engine))
            for name, engine in self._fetch(OTHERS, {})
            if not tables or name in tables
        ]
        others = [(name, engine) for name, engine in found if engine not in LOCKED_ENGINES]
        if others:
            raise NotSupportedError(
                what=f"a dump of one moment of {', '.join(name for name, _ in others)}",
                by=f"{self.target}, whose engine {others[0][1]} cannot be locked, or whose rows the server's program leaves out",
                instead=f"Nothing was made. With the app stopped: ALTER TABLE {quoted(others[0][0])} ENGINE=InnoDB;"
                " a table that only shows the rows of others can be dropped and made again after the backup.",
            )
        return [name for name, _ in found]

    @contextmanager
    def _locked(self, tables: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Keep ``tables`` from changing while others read them; gives a function that fails where the lock was lost.

        The lock begins before the program does and ends after it, so these tables are at every moment of the dump what
        they are at the moment of its snapshot.

        Raises:
            BusyError: somebody was writing one of them for all of the timeout.
            PrivilegeMissingError: this user may not lock tables.
        """
        if not tables:
            yield lambda: None
            return
        session = self._new_session()
        sql = f"lock tables {', '.join(f'{quoted(name)} read' for name in tables)}"
        try:
            try:
                session.run(f"set session wait_timeout = {LONGEST_IDLE}")
                session.run(sql)
            except pymysql.Error as error:
                raise self._describe_lock_failure(error, session, sql) from error

            def check() -> None:
                try:
                    session.run("do 0")
                except pymysql.Error as error:
                    raise self._describe_lock_failure(error, session, sql) from error

            yield check
        finally:
            session.drop()

    def _describe_lock_failure(self, error: pymysql.Error, session: Session, sql: str) -> DbctlError:
        if number_of(error) in DENIED:
            grant = f"GRANT LOCK TABLES ON {quoted(session.database)}.* TO {session.account};"
            return PrivilegeMissingError(
                target=self.target, reason=reason_of(error), instead=f"{NOTHING} As an administrator: {grant}"
            )
        return translated(error, self._place(session), sql, writing=False, broken=not session.open)

    def _write(
        self, destination: Path, tables: Sequence[str], progress: Progress
    ) -> tuple[Reading, str, str]:
        """Return what the text of the dump tells, the version of the program, and the SHA-256 of the file."""
        session = self._current()
        tool, expected = client_programs.find("dump", session.server, self.target), max(1, self.dump_size())
        reading, written = Reading(), 0
        history = ["--dump-history"] if self._versioned(tables) and not self._lost_history(tables) else []
        with (
            self._connected(tables) as (where, rounded),
            subprocesses.new_file(destination) as file,
            subprocesses.running(
                [
                    str(tool.path),
                    where,
                    *WORDS,
                    *MORE[session.server.product],
                    *HISTOGRAMS[session.server.product],
                    *history,
                    "--",
                    session.database,
                    *tables,
                ],
                {},
                watch=client_programs.watch(
                    self._url, session.database, self.target, NOTHING, timeout=self._timeout
                ),
                writes=True,
            ) as client,
            packing() as packed,
        ):
            for block in client.blocks():
                reading.feed(block)
                written += file.write(packed.feed(block))
                progress(min(1.0, written / expected))
            reading.finish()
            file.write(packed.rest())
            if client.finish():
                raise client_programs.failed(client, self.target, timeout=self._timeout, instead=NOTHING)
            if reading.problem:
                raise ClientFailedError(
                    target=self.target, program=client.name, reason=reading.problem, instead=NOTHING
                )
            if lost := sorted(
                name for name, rows in reading.rows.items() if rows and quoted(name) in rounded
            ):
                reason = f"it has read {', '.join(lost)} in a way in which values lose digits or bytes"
                raise ClientFailedError(
                    target=self.target, program=client.name, reason=reason, instead=NOTHING
                )
        return reading, tool.version, file.sha256

    @contextmanager
    def _connected(self, tables: Sequence[str]) -> Iterator[tuple[str, Collection[str]]]:
        """Give the word that leads the program to the server, and the tables whose values it has not been made to write exactly."""
        server, exact = self._current().server, self._exact_columns(tables)
        if not exact:
            with client_programs.at(self._url, server) as where:
                yield where, ()
            return
        from dbctl.engines.mysql.backup.relay import relayed

        with (
            relayed(self._new_session(), exact) as relay,
            client_programs.at_socket(relay.path, server) as where,
        ):
            yield where, relay.missing

    def _new_session(self) -> Session:
        """Return a session for the program alone."""
        try:
            session = open_session(self._url, self.target, timeout=self._timeout, reading=True)
        except pymysql.Error as error:
            raise unreachable(error, self.target) from None
        session.run("set names utf8mb4")
        session.run(
            "set session transaction read write"
        )  # a view that takes numbers of a sequence is not even shown else
        return session

    def _exact_columns(self, tables: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return how the columns are read of tables whose values the program would not write exactly."""
        found, server = {}, self._current().server
        for name, table in self.tables().items():
            columns = cast("Mapping[str, MySQLColumn]", table.columns)
            read = {
                quoted(column.name): exactly(column, is_mariadb=server.is_mariadb)
                for column in columns.values()
            }
            if (
                not table.view
                and (not tables or name in tables)
                and any(name != sql for name, sql in read.items())
            ):
                found[quoted(name)] = read
        return found

    def _versioned(self, tables: Sequence[str]) -> dict[str, bool]:
        """Return the tables that keep earlier versions of their rows, and whether by transactions."""
        if not self._current().server.is_mariadb:
            return {}
        rows = self._fetch(VERSIONED, {})
        return {
            str(name): bool(by_transactions) for name, by_transactions in rows if not tables or name in tables
        }

    def _lost_history(self, tables: Sequence[str]) -> list[str]:
        """Return the tables whose earlier versions of rows the program cannot write down; it takes all of them or none."""
        found = self._versioned(tables)
        lost = self._current().server.version[:2] < HISTORY_VERSION or any(found.values())
        return list(found) if lost else []

    def _few(self, tables: Sequence[str]) -> dict[str, int]:
        """Return how many rows tables hold that may be small by what the server guesses; none of ``tables`` stands for all."""
        asked = {"rows": 2 * table_digest.ROWS, "bytes": 4 * table_digest.BYTES}
        tables_there = self.tables()
        names = [str(name) for (name,) in self._fetch(FEW, asked)]
        names = [name for name in names if name in tables_there and not _may_be_no_text(tables_there[name])]
        return {name: self.count(name) for name in names if not tables or name in tables}

    def _facts(self) -> dict[str, str]:
        ((charset, collation),) = cast("list[tuple[str, str]]", self._fetch(LIKE, {}))
        return {
            **place(self._current()),
            "database": self._current().database,
            "charset": charset,
            "collation": collation,
            "format": "plain",
        }


def exactly(column: MySQLColumn, *, is_mariadb: bool) -> str:
    """Return SQL that gives the program every digit and every byte of a column; its name where it writes both by itself."""
    name = quoted(column.name)
    is_rounded = column.type.startswith("FLOAT") and "(" not in column.type
    digits = f"cast({name} as double)" if is_rounded else name
    if column.type.startswith(("FLOAT", "DOUBLE")) and not is_mariadb:
        return f"cast({digits} as char)"  # MySQL reads -0 as 0 unless it is a text
    if is_rounded:
        return digits
    if column.kind == "text" and column.charset not in EXACT_CHARSETS:
        return f"cast({name} as binary)"  # which it writes in hexadecimal digits
    if column.kind == "enum" and "" in column.values:
        return f"({name} + 0)"  # a label may be empty, and so is the text of a value that is none
    return name


def _describe_tablespaces(tablespaces: Mapping[str, str]) -> list[str]:
    """Return a remark for each tablespace that a server must have before it creates the tables."""
    tables = dict[str, list[str]]()
    for table, tablespace in tablespaces.items():
        tables.setdefault(tablespace, []).append(table)
    return [
        f"a restore on another server needs the tablespace {name} there, which holds {', '.join(sorted(inside))}:"
        f" CREATE TABLESPACE {quoted(name)} ADD DATAFILE 'NAME.ibd'"
        for name, inside in sorted(tables.items())
    ]


def _may_be_no_text(table: Table) -> bool:
    """Return whether a table may hold half a letter, which no program can read as text."""
    columns = cast("Mapping[str, MySQLColumn]", table.columns)
    return any(column.charset in HALVES for column in columns.values())


def place(session: Session) -> dict[str, str]:
    """Return which server it is."""
    ((version, host, port, folder),) = session.run(PLACE)
    return {
        "server": str(version),
        "product": session.server.product,
        "at": f"{host}:{port}",
        "system": f"{host}:{port}{folder}",
    }
