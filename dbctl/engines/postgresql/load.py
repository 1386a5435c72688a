"""Load a dump, and swap the names of two databases in one transaction, even if sessions are connected.

Renaming locks the database against new connections, and requires that no session is connected. So one session renames
while another one terminates the connected sessions. If dbctl is killed, either all old or all new names are valid.

A commit that waits for a replica continues after dbctl was killed. A restore that began in that time would mistake the
new database for the old one, and drop the old one with the retained data. So the session that renames holds a lock, and
every restore waits for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import DumpVerification, LoadRequest
from dbctl.engines.postgresql import dump_programs
from dbctl.engines.postgresql.connection import SESSION, describe_sessions, lock_key
from dbctl.engines.postgresql.dump_limits import adapt_to_server
from dbctl.engines.postgresql.dump_programs import DumpScanner, index_by_app_name, major_version
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.settings import MONEY, unlimit_idle
from dbctl.engines.servers.dumps import UNCHANGED, failed_verification, require_row_counts
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.errors.backup import RestoreUnfinishedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, CorruptError, UnreachableError
from dbctl.files import subprocesses
from dbctl.files.codecs import read_gzip
from dbctl.model import Struct
from dbctl.progress import Progress, no_progress
from dbctl.url import Url

#: Seconds between two checks for connected sessions; a terminated session takes some milliseconds to end.
POLL_SECONDS = 0.05
SESSIONS = f"""select {SESSION} from pg_catalog.pg_stat_activity a where a.datname = $1 and a.backend_type = 'client backend'
  and a.application_name !~ '^dbctl( |$)' order by a.backend_start"""
TERMINATE = """select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a
where a.datname = any($1) and a.pid <> pg_backend_pid()"""


def swap_lock_key(name: str) -> int:
    """Return the key of the lock that a session holds while it swaps databases."""
    return lock_key(f"exchange of {name}")


def list_sessions(central: Session, name: str) -> list[str]:
    """Return the sessions connected to a database, except those of dbctl."""
    return describe_sessions(central.run(SESSIONS, name))


def swap_databases(
    rename_session: Session,
    terminate_session: Session,
    statements: Sequence[str],
    name: str,
    target: str,
    *,
    timeout: float,
    new: str = "",
) -> None:
    """Run statements that rename databases in one transaction, and terminate the sessions of ``name`` that block them.

    In the database ``new``, which only dbctl has used, a connection pooler may retain sessions.

    Both sessions are connected to another database of the server.

    Raises:
        BusyError: a session could not be terminated; nothing was changed.
        RestoreUnfinishedError: the connection was lost, and the outcome is unknown.
        psycopg.Error: the server rejected a statement; nothing was changed.
        Interrupted: a signal arrived before the commit.
    """
    deadline = time.monotonic() + max(timeout, 1.0)
    with _lock_swap(rename_session, name, target):
        while True:
            try:
                _try_swap(rename_session, terminate_session, statements, [name, new])
            except psycopg.errors.ObjectInUse:
                if time.monotonic() >= deadline:
                    holders = (
                        ", ".join(list_sessions(terminate_session, name))
                        or "sessions or prepared transactions"
                    )
                    raise BusyError(target=target, holder=f" by {holders}", waited=f"{timeout:g}") from None
            except psycopg.Error as error:
                if rename_session.broken:
                    raise RestoreUnfinishedError(target=target, reason=error) from error
                raise
            else:
                return


@contextmanager
def _lock_swap(session: Session, name: str, target: str) -> Iterator[None]:
    key = swap_lock_key(name)
    if session.run("select pg_try_advisory_lock($1)", key) != [(True,)]:
        # the holder of the lock of the database has already waited for this one
        raise BusyError(target=target, holder=" by another restore", waited="0")
    try:
        yield
    finally:
        with signals.block_signals(), suppress(psycopg.Error):
            session.run("select pg_advisory_unlock($1)", key)


def _try_swap(
    rename_session: Session, terminate_session: Session, statements: Sequence[str], names: Sequence[str]
) -> None:
    with signals.defer_signals(), ThreadPoolExecutor(1) as pool:
        future: Future[None] = pool.submit(_rename, rename_session, statements)
        while not future.done():
            if signals.received_signal() is not None:
                rename_session.cancel_safe()
                break
            # With the setting `role` of a login, its sessions are not those of the role that owns the database.
            for role in ("none", ident(terminate_session.role)):
                with suppress(psycopg.errors.InsufficientPrivilege):
                    # A superuser's session, which may end without dbctl.
                    terminate_session.run(f"set role {role}")
                    terminate_session.run(TERMINATE, list(names))
            time.sleep(POLL_SECONDS)
        try:
            future.result()
        except psycopg.errors.QueryCanceled:
            signals.raise_if_interrupted()
            raise


def _rename(session: Session, statements: Sequence[str]) -> None:
    try:
        session.run("begin")
        for sql in statements:
            session.run(sql)
        session.run("commit")
    except psycopg.Error:
        with suppress(psycopg.Error):
            session.run("rollback")
        raise


def rename_statements(name: str, new: str, old_name: str, *, exists: bool) -> list[str]:
    """Return the statements that rename ``new`` to ``name``, and the old database to ``old_name``, closed to connections."""
    statements = [f"alter database {ident(new)} rename to {ident(name)}"]
    statements.append(f"alter database {ident(name)} allow_connections true")
    if exists:
        statements[:0] = [
            f"alter database {ident(name)} rename to {ident(old_name)}",
            f"alter database {ident(old_name)} allow_connections false",
        ]
    return statements


@contextmanager
def open_text(
    path: Path,
    metadata: Mapping[str, str],
    target: str,
    *,
    url: Url | None = None,
    min_version: int = 0,
    atomic: bool = True,
    progress: Progress = no_progress,
) -> Iterator[Iterator[bytes]]:
    """Yield the text of a dump, block by block; the iterator raises if the file is incomplete.

    Args:
        path: the dump.
        metadata: the metadata of the dump.
        target: ``app/database``, for messages.
        url: the address of the server, in whose container pg_restore may run; None: none.
        min_version: the major version of the psql that reads the text, which may not support the output of a newer pg_restore.
        atomic: whether it is loaded in one transaction.
        progress: receives the completed share.

    Raises:
        CorruptError: the file is truncated or was modified.
    """
    if metadata.get("format") == "plain":
        yield read_gzip(path, target, progress)
        return
    tool = dump_programs.find_program(
        "pg_restore", target, min_version=max(min_version, major_version(metadata.get("client", ""))), url=url
    )
    # Without this option, each large object is a separate transaction.
    options = ["--single-transaction"] if atomic else []
    watch = subprocesses.ProgramWatch(target, UNCHANGED)
    with (
        path.open("rb") as source,
        subprocesses.run_program(
            tool.wrap(target, [*options, "--file=-"]),
            tool.environment,
            watch=watch,
            writes=True,
            source=source,
        ) as client,
    ):
        yield _read_archive(client, source, path, target, progress)


def _read_archive(
    client: subprocesses.ClientProgram, source: IO[bytes], path: Path, target: str, progress: Progress
) -> Iterator[bytes]:
    size = max(1, path.stat().st_size)
    for block in client.blocks():
        yield block
        # the program shares the position in the file
        progress(min(1.0, os.lseek(source.fileno(), 0, os.SEEK_CUR) / size))
    if status := client.finish():
        messages = client.error_output().splitlines() or [f"pg_restore ended with {status}"]
        raise CorruptError(target=target, reason=f"{path.name}: {messages[0].rpartition('error: ')[2]}")


def verify_dump(
    path: Path, metadata: Mapping[str, str], target: str, server: Url | None = None
) -> DumpVerification:
    """Read a whole dump and count its rows; only a server can determine its schema.

    ``server`` is an address in whose container pg_restore may run.
    """
    scanner = DumpScanner()
    try:
        with open_text(path, metadata, target, url=server) as blocks:
            for block in blocks:
                scanner.feed(block)
    except CorruptError as error:
        return failed_verification(str(error.context["reason"]))
    if not scanner.is_complete:
        return failed_verification(f"{path.name}: its end is missing")
    tables = index_by_app_name(scanner.rows, metadata.get("path", ""))
    return DumpVerification(tables=tables, schema="", problems=())


class LoadTarget(Struct, frozen=True):
    session: Session  #: a session on the server; psql connects in the same way
    database: str
    target: str  #: ``app/database``, for messages
    timeout: float  #: seconds to wait for a lock


class Psql:
    """A running psql; as the function that releases locks, it does nothing: a commit releases them."""

    def __init__(
        self, client: subprocesses.ClientProgram, tool: dump_programs.Tool, place: LoadTarget
    ) -> None:
        self.client, self.tool, self._place = client, tool, place

    def __call__(self) -> None:
        """Do nothing."""

    def send(self, text: str | bytes) -> None:
        """Send statements; raises the error of psql or the server if it does not accept them."""
        if not self.client.write(text.encode() if isinstance(text, str) else text):
            raise self.create_error()

    def create_error(self) -> DbctlError:
        """Wait for the end of psql, and return its error."""
        self.client.finish()
        session, database, target, timeout = structs.astuple(self._place)
        error = dump_programs.to_error(self.client, session, target, timeout=timeout, instead=UNCHANGED)
        others = list_sessions(session, database) if isinstance(error, BusyError) else []
        if not others:
            return error
        # Readers block the lock as well, so any of the sessions may be the holder.
        return BusyError(target=target, holder=f" by one of {', '.join(others)}", waited=f"{timeout:g}")


def find_psql(session: Session, metadata: Mapping[str, str], target: str) -> dump_programs.Tool:
    """Return the psql that loads a dump with this metadata; raises as ``find_program``."""
    decoder = 0 if metadata.get("format") == "plain" else major_version(metadata.get("client", ""))
    min_version = max(session.info.server_version // 10000, decoder)
    return dump_programs.find_program("psql", target, min_version=min_version, url=session.url)


@contextmanager
def begin_psql(
    place: LoadTarget, metadata: Mapping[str, str], *, read_output: bool = False, atomic: bool = True
) -> Iterator[Psql]:
    """Yield a psql with an open transaction, which is aborted unless it is committed.

    Without ``atomic``, each statement is committed: a transaction that creates thousands of tables locks each of them,
    which exceeds the default limits of a server.
    ``metadata`` is that of the dump that psql will read; ``read_output``: whether the output of psql is read.
    """
    session, target = place.session, place.target
    tool = find_psql(session, metadata, target)
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose"]
    with dump_programs.run_client(
        tool, options, session, place.database, target, instead=UNCHANGED, reads=True, writes=read_output
    ) as client:
        # Settings of the database or role are meant for the app; dumps expect the default array syntax.
        settings = {
            "client_min_messages": "warning",
            "statement_timeout": "0",
            **unlimit_idle(session.info.server_version),
            "array_nulls": "on",
            "lock_timeout": str(max(1, round(place.timeout * 1000))),
            **({MONEY: quote_literal(metadata[MONEY])} if MONEY in metadata else {}),
        }
        begin, command = "begin read write;\n", "set local"
        if not atomic:
            begin, command = "", "set"
            settings |= {"default_transaction_read_only": "off", "synchronous_commit": "off"}
        statements = "".join(f"{command} {name} = {text};\n" for name, text in settings.items())
        client.write((begin + statements).encode())
        yield Psql(client, tool, place)


@contextmanager
def lock_tables(tables: Sequence[str], place: LoadTarget, metadata: Mapping[str, str]) -> Iterator[Psql]:
    """Yield a psql that has locked ``tables`` against writes of other sessions; reads are allowed.

    A stronger lock that this transaction requests later takes precedence over waiting sessions.

    Raises:
        BusyError: another session held a lock for the timeout of ``place``.
    """
    with begin_psql(place, metadata, read_output=True) as psql:
        lock = f"lock table {', '.join(tables)} in exclusive mode;\n" if tables else ""
        psql.client.write(f"{lock}\\echo held\n\\o /dev/null\n".encode())
        if not next(psql.client.blocks(), b""):
            raise psql.create_error()
        yield psql


class DumpLoader(Struct, frozen=True, kw_only=True):
    """Loads a dump with psql in one transaction, which is committed after the end mark of the dump."""

    place: LoadTarget
    request: LoadRequest
    before_sql: str = ""
    rewrite: Callable[[Iterator[bytes]], Iterator[bytes]] = iter  #: a filter for the text
    after_sql: Callable[[DumpScanner], str] = lambda _scanner: ""  #: returns statements, from the row counts
    #: whether the database remains on failure, so that an unknown outcome of the commit must be reported
    permanent: bool = False
    atomic: bool = True  #: a load into a database that is dropped on failure need not be one transaction

    def load(self, transaction: Psql | None = None) -> None:
        """Load the dump in an open transaction, or in a new one.

        Raises:
            RestoreUnfinishedError: psql or the server stopped during the commit, and ``permanent`` is set.
            RestoreFailedError, CorruptError, ClientFailedError, BusyError, DiskFullError, PrivilegeMissingError,
            UnreachableError: nothing was changed.
        """
        if transaction:
            self._run(transaction)
        else:
            with begin_psql(self.place, self.request.dump.metadata, atomic=self.atomic) as psql:
                self._run(psql)

    def _run(self, psql: Psql) -> None:
        path, dump, target, scanner = self.request.path, self.request.dump, self.place.target, DumpScanner()
        version = self.place.session.info.server_version // 10000
        with open_text(
            path,
            dump.metadata,
            target,
            url=self.place.session.url,
            min_version=psql.tool.major,
            atomic=self.atomic,
            progress=self.request.progress,
        ) as blocks:
            psql.send(f"{self.before_sql}\n")
            for block in self.rewrite(adapt_to_server(blocks, version)):
                scanner.feed(block)
                psql.send(block)
            if not scanner.is_complete:
                raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
            counts = index_by_app_name(scanner.rows, dump.metadata.get("path", ""))
            require_row_counts(path, target, counts, dump.tables)
            psql.send(f"{self.after_sql(scanner)}\n")
            signals.raise_if_interrupted()
            psql.send("commit;\n" if self.atomic else "")
            self._finish(psql)

    def _finish(self, psql: Psql) -> None:
        try:
            # a database that is dropped on failure has no commit whose result a signal could hide
            status = psql.client.finish(interruptible=not self.permanent)
        except UnreachableError as error:
            if self.permanent:
                raise RestoreUnfinishedError(target=self.place.target, reason=str(error)) from error
            raise
        if status:
            if self.permanent and not dump_programs.is_rejected(psql.client):
                raise RestoreUnfinishedError(target=self.place.target, reason=str(psql.create_error()))
            raise psql.create_error()
