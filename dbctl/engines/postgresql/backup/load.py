"""Read the text of a dump, verify it, and load it with psql in one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import DumpVerification
from dbctl.engines.postgresql.backup import client_programs
from dbctl.engines.postgresql.backup.dump_scanner import DumpScanner, adapt_to_server, index_by_app_name
from dbctl.engines.postgresql.backup.rename_swap import list_sessions
from dbctl.engines.postgresql.connection import Session
from dbctl.errors import (
    BusyError,
    CorruptError,
    DbctlError,
    RestoreFailedError,
    RestoreUnfinishedError,
    UnreachableError,
)
from dbctl.files import Progress, no_progress, read_gzip, subprocesses

UNCHANGED = "The database is unchanged."


def major_version(version: str) -> int:
    """Return the major number of a version, or 0."""
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


@contextmanager
def open_text(
    path: Path,
    metadata: Mapping[str, str],
    target: str,
    *,
    min_version: int = 0,
    atomic: bool = True,
    progress: Progress = no_progress,
) -> Iterator[Iterator[bytes]]:
    """Yield the text of a dump, block by block; the iterator raises if the file is incomplete.

    Args:
        path: the dump.
        metadata: the metadata of the dump.
        target: ``app/database``, for messages.
        min_version: the major version of the psql that reads the text, which may not support the output of a newer pg_restore.
        atomic: whether it is loaded in one transaction.
        progress: receives the completed share.

    Raises:
        CorruptError: the file is truncated or was modified.
    """
    if metadata.get("format") == "plain":
        yield read_gzip(path, target, progress)
        return
    tool = client_programs.find_program(
        "pg_restore", target, min_version=max(min_version, major_version(metadata.get("client", "")))
    )
    # Without this option, each large object is a separate transaction.
    options = ["--single-transaction"] if atomic else []
    watch = subprocesses.ProgramWatch(target, UNCHANGED)
    with subprocesses.run_program(
        [str(tool.path), *options, "--file=-", str(path)], {}, watch=watch, writes=True
    ) as client:
        yield _read_archive(client, path, target, progress)


def _read_archive(
    client: subprocesses.ClientProgram, path: Path, target: str, progress: Progress
) -> Iterator[bytes]:
    size, read_bytes = path.stat().st_size, 0
    for block in client.blocks():
        yield block
        read_bytes += len(block)
        progress(min(1.0, read_bytes / max(1, size * 4)))  # a typical compression ratio
    if status := client.finish():
        messages = client.error_output().splitlines() or [f"pg_restore ended with {status}"]
        raise CorruptError(target=target, reason=f"{path.name}: {messages[0].rpartition('error: ')[2]}")


def verify_dump(path: Path, metadata: Mapping[str, str], target: str) -> DumpVerification:
    """Read a whole dump and count its rows; only a server can determine its schema."""
    scanner = DumpScanner()
    try:
        with open_text(path, metadata, target) as blocks:
            for block in blocks:
                scanner.feed(block)
    except CorruptError as error:
        return DumpVerification(tables={}, schema="", problems=[str(error.context["reason"])])
    if not scanner.is_complete:
        return DumpVerification(tables={}, schema="", problems=[f"{path.name}: its end is missing"])
    return DumpVerification(
        tables=index_by_app_name(scanner.rows, metadata.get("path", "")), schema="", problems=()
    )


class Psql:
    """A psql with an open transaction."""

    def __init__(self, client: subprocesses.ClientProgram, tool: client_programs.Tool) -> None:
        self.client, self.tool = client, tool

    def __call__(self) -> None:
        """Do nothing: its locks are released when the transaction commits."""


@contextmanager
def begin_psql(
    session: Session,
    database: str,
    target: str,
    metadata: Mapping[str, str],
    *,
    timeout: float,
    read_output: bool = False,
    atomic: bool = True,
) -> Iterator[Psql]:
    """Yield a psql with an open transaction, which is aborted unless it is committed.

    Without ``atomic``, each statement is committed: a transaction that creates thousands of tables locks each of them,
    which exceeds the default limits of a server.

    Args:
        session: a session on the server; psql connects in the same way.
        database: the database for psql.
        target: ``app/database``, for messages.
        metadata: the metadata of the dump that psql will read.
        timeout: seconds to wait for a lock.
        read_output: whether the output of psql is read.
        atomic: whether it begins a transaction.
    """
    decoder = 0 if metadata.get("format") == "plain" else major_version(metadata.get("client", ""))
    tool = client_programs.find_program(
        "psql", target, min_version=max(session.info.server_version // 10000, decoder)
    )
    options = ["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose"]
    with (
        client_programs.write_connection_files(session, database, tool) as (connection, environment),
        subprocesses.run_program(
            [str(tool.path), f"--dbname={connection}", *options],
            environment,
            watch=client_programs.create_watch(session, environment, target, UNCHANGED),
            reads=True,
            writes=read_output,
        ) as client,
    ):
        # Settings of the database or role are meant for the app; dumps expect the default array syntax.
        settings = {
            "client_min_messages": "warning",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "array_nulls": "on",
            "lock_timeout": str(max(1, round(timeout * 1000))),
        }
        begin, command = "begin read write;\n", "set local"
        if not atomic:
            begin, command = "", "set"
            settings |= {"default_transaction_read_only": "off", "synchronous_commit": "off"}
        client.write(
            (begin + "".join(f"{command} {name} = {text};\n" for name, text in settings.items())).encode()
        )
        yield Psql(client, tool)


@contextmanager
def lock_tables(
    tables: Sequence[str],
    session: Session,
    database: str,
    target: str,
    metadata: Mapping[str, str],
    *,
    timeout: float,
) -> Iterator[Psql]:
    """Yield a psql that has locked ``tables`` against writes of other sessions; reads are allowed.

    A stronger lock that this transaction requests later takes precedence over waiting sessions.

    Raises:
        BusyError: another session held a lock for ``timeout`` seconds.
    """
    with begin_psql(session, database, target, metadata, timeout=timeout, read_output=True) as psql:
        lock = f"lock table {', '.join(tables)} in exclusive mode;\n" if tables else ""
        psql.client.write(f"{lock}\\echo held\n\\o /dev/null\n".encode())
        if not next(psql.client.blocks(), b""):
            raise _to_error(psql, session, database, target, timeout)
        yield psql


def _to_error(psql: Psql, session: Session, database: str, target: str, timeout: float) -> DbctlError:
    psql.client.finish()
    error = client_programs.to_error(psql.client, session, target, timeout=timeout, instead=UNCHANGED)
    others = list_sessions(session, database) if isinstance(error, BusyError) else []
    if not others:
        return error
    # Readers block the lock as well, so any of the sessions may be the holder.
    return BusyError(target=target, holder=f" by one of {', '.join(others)}", waited=f"{timeout:g}")


def load_dump(
    path: Path,
    metadata: Mapping[str, str],
    session: Session,
    database: str,
    target: str,
    *,
    tables: Mapping[str, int],
    timeout: float,
    transaction: Psql | None = None,
    head: str = "",
    change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    tail: Callable[[DumpScanner], str] = lambda _scanner: "",
    progress: Progress = no_progress,
    permanent: bool = False,
    atomic: bool = True,
) -> None:
    """Run a dump with psql in one transaction of a database, and commit it after the end mark.

    A load into a database that is dropped on failure need not be ``atomic``.

    Args:
        path: the dump.
        metadata: the metadata of the dump.
        session: a session on the server; psql connects in the same way.
        database: the database for psql.
        target: ``app/database``, for messages.
        tables: the expected row count of each table.
        timeout: seconds to wait for a lock.
        transaction: an open transaction to use, if any.
        head: statements to run before the dump.
        change: a filter for the text.
        tail: statements to run after the dump, from its row counts.
        progress: receives the completed share.
        permanent: whether the database remains on failure, so that an unknown outcome of the commit must be reported.
        atomic: whether it is one transaction.

    Raises:
        RestoreUnfinishedError: psql or the server stopped during the commit, and ``permanent`` is set.
        RestoreFailedError, CorruptError, ClientFailedError, BusyError, DiskFullError, PrivilegeMissingError,
        UnreachableError: nothing was changed.
    """
    version, scanner = session.info.server_version // 10000, DumpScanner()
    with (
        nullcontext(transaction)
        if transaction
        else begin_psql(session, database, target, metadata, timeout=timeout, atomic=atomic) as psql,
        open_text(
            path, metadata, target, min_version=psql.tool.major, atomic=atomic, progress=progress
        ) as blocks,
    ):

        def send(text: bytes) -> None:
            if not psql.client.write(text):
                raise _to_error(psql, session, database, target, timeout)

        send(f"{head}\n".encode())
        for block in change(adapt_to_server(blocks, version)):
            scanner.feed(block)
            send(block)
        if not scanner.is_complete:
            raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
        if (counts := index_by_app_name(scanner.rows, metadata.get("path", ""))) != dict(tables):
            names = sorted(name for name in {*counts, *tables} if counts.get(name) != tables.get(name))
            raise RestoreFailedError(
                target=target,
                reason=f"{path.name}: row counts of {', '.join(names)} are unexpected",
                hint=UNCHANGED,
            )
        send(f"{tail(scanner)}\n".encode())
        signals.raise_if_interrupted()
        send(b"commit;\n" if atomic else b"")
        try:
            status = psql.client.finish(interruptible=False)
        except UnreachableError as error:
            if permanent:
                raise RestoreUnfinishedError(target=target, reason=str(error)) from error
            raise
        if status:
            if permanent and not client_programs.is_rejected(psql.client):
                raise RestoreUnfinishedError(
                    target=target, reason=str(_to_error(psql, session, database, target, timeout))
                )
            raise _to_error(psql, session, database, target, timeout)
