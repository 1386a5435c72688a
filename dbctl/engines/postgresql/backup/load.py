"""The text that a dump holds: read whole, proven as far as a file can be, and fed to psql as one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Proof
from dbctl.engines.postgresql.backup import client_programs
from dbctl.engines.postgresql.backup.dump_scanner import Reading, for_server, told
from dbctl.engines.postgresql.backup.rename_swap import sessions
from dbctl.engines.postgresql.session import Session
from dbctl.errors import (
    BusyError,
    CorruptError,
    DbctlError,
    RestoreFailedError,
    RestoreUnfinishedError,
    UnreachableError,
)
from dbctl.files import Progress, silent, subprocesses, unpacked

UNTOUCHED = "The database is as it was."


def major(version: str) -> int:
    """Return the number of a version that counts."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


@contextmanager
def text_of(
    path: Path,
    facts: Mapping[str, str],
    target: str,
    *,
    least: int = 0,
    atomic: bool = True,
    progress: Progress = silent,
) -> Iterator[Iterator[bytes]]:
    """Give the text of a dump, block by block; its iterator raises where the file is not whole.

    Args:
        path: the dump.
        facts: of it.
        target: ``app/database``, for messages.
        least: the major version of the psql that is to read it: of two releases one may not know what the other writes.
        atomic: whether it is loaded in one transaction.
        progress: told the share that is done.

    Raises:
        CorruptError: it is cut off, or was changed.
    """
    if facts.get("format") == "plain":
        yield unpacked(path, target, progress)
        return
    tool = client_programs.find("pg_restore", target, least=max(least, major(facts.get("client", ""))))
    # Without this word each large object would be a transaction of its own.
    words = ["--single-transaction"] if atomic else []
    watch = subprocesses.Watch(target, UNTOUCHED)
    with subprocesses.running(
        [str(tool.path), *words, "--file=-", str(path)], {}, watch=watch, writes=True
    ) as client:
        yield _restored(client, path, target, progress)


def _restored(client: subprocesses.Client, path: Path, target: str, progress: Progress) -> Iterator[bytes]:
    size, done = path.stat().st_size, 0
    for block in client.blocks():
        yield block
        done += len(block)
        progress(min(1.0, done / max(1, size * 4)))  # as dumps are mostly packed
    if status := client.finish():
        said = client.complaint().splitlines() or [f"pg_restore ended with {status}"]
        raise CorruptError(target=target, reason=f"{path.name}: {said[0].rpartition('error: ')[2]}")


def proof(path: Path, facts: Mapping[str, str], target: str) -> Proof:
    """Read a dump whole, and count what it holds; nobody but a server can tell its schema."""
    reading = Reading()
    try:
        with text_of(path, facts, target) as blocks:
            for block in blocks:
                reading.feed(block)
    except CorruptError as error:
        return Proof(tables={}, schema="", problems=[str(error.facts["reason"])])
    if not reading.whole:
        return Proof(tables={}, schema="", problems=[f"{path.name}: its end is missing"])
    return Proof(tables=told(reading.rows, facts.get("path", "")), schema="", problems=())


class Psql:
    """A psql in the middle of a transaction."""

    def __init__(self, client: subprocesses.Client, tool: client_programs.Tool) -> None:
        self.client, self.tool = client, tool

    def __call__(self) -> None:
        """Let nobody go yet: who is held up by it waits until what replaces their rows is committed."""


@contextmanager
def begun(
    session: Session,
    database: str,
    target: str,
    facts: Mapping[str, str],
    *,
    timeout: float,
    echoes: bool = False,
    atomic: bool = True,
) -> Iterator[Psql]:
    """Give a psql that has begun a transaction; whatever is not committed at the end is cut off.

    One that is not ``atomic`` commits each statement: a transaction that makes thousands of tables holds a lock of each,
    and has no room for them in a server as it is set up by default.

    Args:
        session: to the server; psql connects as it does.
        database: where it runs.
        target: ``app/database``, for messages.
        facts: of the dump that it is to read.
        timeout: seconds to wait for a lock.
        echoes: whether what it writes is wanted.
        atomic: whether it begins a transaction.
    """
    reader = 0 if facts.get("format") == "plain" else major(facts.get("client", ""))
    tool = client_programs.find("psql", target, least=max(session.info.server_version // 10000, reader))
    words = ["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose"]
    with (
        client_programs.at(session, database, tool) as (where, environment),
        subprocesses.running(
            [str(tool.path), f"--dbname={where}", *words],
            environment,
            watch=client_programs.watch(session, environment, target, UNTOUCHED),
            reads=True,
            writes=echoes,
        ) as client,
    ):
        # What the database or the role sets is for its app; a dump writes arrays as they are read by default.
        settings = {
            "client_min_messages": "warning",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "array_nulls": "on",
            "lock_timeout": str(max(1, round(timeout * 1000))),
        }
        begin, word = "begin read write;\n", "set local"
        if not atomic:
            begin, word = "", "set"
            settings |= {"default_transaction_read_only": "off", "synchronous_commit": "off"}
        client.write(
            (begin + "".join(f"{word} {name} = {text};\n" for name, text in settings.items())).encode()
        )
        yield Psql(client, tool)


@contextmanager
def holding(
    tables: Sequence[str],
    session: Session,
    database: str,
    target: str,
    facts: Mapping[str, str],
    *,
    timeout: float,
) -> Iterator[Psql]:
    """Give the same once nobody else may write these tables any more; all may read them.

    What gets a stronger lock of them later comes before everybody who waits.

    Raises:
        BusyError: somebody else was in the way for all of ``timeout`` seconds.
    """
    with begun(session, database, target, facts, timeout=timeout, echoes=True) as psql:
        lock = f"lock table {', '.join(tables)} in exclusive mode;\n" if tables else ""
        psql.client.write(f"{lock}\\echo held\n\\o /dev/null\n".encode())
        if not next(psql.client.blocks(), b""):
            raise _refused(psql, session, database, target, timeout)
        yield psql


def _refused(psql: Psql, session: Session, database: str, target: str, timeout: float) -> DbctlError:
    psql.client.finish()
    error = client_programs.failed(psql.client, session, target, timeout=timeout, instead=UNTOUCHED)
    others = sessions(session, database) if isinstance(error, BusyError) else []
    if not others:
        return error
    # A reader is in the way, too, so it may be any of them.
    return BusyError(target=target, holder=f" by one of {', '.join(others)}", waited=f"{timeout:g}")


def feed(
    path: Path,
    facts: Mapping[str, str],
    session: Session,
    database: str,
    target: str,
    *,
    tables: Mapping[str, int],
    timeout: float,
    within: Psql | None = None,
    head: str = "",
    change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    tail: Callable[[Reading], str] = lambda _reading: "",
    progress: Progress = silent,
    lasting: bool = False,
    atomic: bool = True,
) -> None:
    """Let psql run a dump in one transaction of a database, which is committed once the dump came to its end.

    Into a database that is dropped where this fails, it may run without being ``atomic``.

    Args:
        path: the dump.
        facts: of it.
        session: to the server; psql connects as it does.
        database: where it runs.
        target: ``app/database``, for messages.
        tables: the rows that it holds.
        timeout: seconds to wait for a lock.
        within: the transaction, where one has begun.
        head: statements before it.
        change: what is changed of its text.
        tail: statements behind it, by what it held.
        progress: told the share that is done.
        lasting: whether anybody has to know if it was committed.
        atomic: whether it is one transaction.

    Raises:
        RestoreUnfinishedError: psql or the server ended while it was committed, and it is ``lasting``.
        RestoreFailedError, CorruptError, ClientFailedError, BusyError, DiskFullError, PrivilegeMissingError,
        UnreachableError: nothing was changed.
    """
    version, reading = session.info.server_version // 10000, Reading()
    with (
        nullcontext(within)
        if within
        else begun(session, database, target, facts, timeout=timeout, atomic=atomic) as psql,
        text_of(path, facts, target, least=psql.tool.major, atomic=atomic, progress=progress) as blocks,
    ):

        def say(text: bytes) -> None:
            if not psql.client.write(text):
                raise _refused(psql, session, database, target, timeout)

        say(f"{head}\n".encode())
        for block in change(for_server(blocks, version)):
            reading.feed(block)
            say(block)
        if not reading.whole:
            raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
        if (found := told(reading.rows, facts.get("path", ""))) != dict(tables):
            names = sorted(name for name in {*found, *tables} if found.get(name) != tables.get(name))
            raise RestoreFailedError(
                target=target, reason=f"{path.name} holds other rows of {', '.join(names)}", instead=UNTOUCHED
            )
        say(f"{tail(reading)}\n".encode())
        signals.check()
        say(b"commit;\n" if atomic else b"")
        try:
            status = psql.client.finish(heard=False)
        except UnreachableError as error:
            if lasting:
                raise RestoreUnfinishedError(target=target, reason=str(error)) from error
            raise
        if status:
            if lasting and not client_programs.refused(psql.client):
                raise RestoreUnfinishedError(
                    target=target, reason=str(_refused(psql, session, database, target, timeout))
                )
            raise _refused(psql, session, database, target, timeout)
