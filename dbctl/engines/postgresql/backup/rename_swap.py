"""One database takes the name of another, both in one transaction, however many sessions the other one has.

Renaming takes a lock that keeps everybody from connecting, and then wants nobody to be connected. So one session
renames, while another one ends the sessions that are there. Killed at any moment, the names are the old or the new.

A commit goes on although dbctl was killed, for as long as a replica lets it wait. A restore that began meanwhile would
take the new database for the old one, and let go the old one with all that was kept. So the session that renames has a
lock, which every restore waits for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg

from dbctl import signals
from dbctl.engines.postgresql.locks import key_of
from dbctl.engines.postgresql.session import Session
from dbctl.engines.sql import ident
from dbctl.errors import BusyError, RestoreUnfinishedError

#: Seconds between two looks at who is still connected; a session that is told to end takes some milliseconds.
LOOK_SECONDS = 0.05
SESSIONS = b"""select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), coalesce(a.usename, ''), host(a.client_addr)
from pg_catalog.pg_stat_activity a where a.datname = $1 and a.backend_type = 'client backend'
  and a.application_name !~ '^dbctl( |$)' order by a.backend_start"""
END = b"""select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a
where a.datname = $1 and a.pid <> pg_backend_pid()"""


def exchange(name: str) -> int:
    """Return the key of the lock of the session that gives a name to another database."""
    return key_of(f"exchange of {name}")


def sessions(central: Session, name: str) -> list[str]:
    """Return who is connected to a database, but other dbctl."""
    return [
        f"{program} (pid {pid}, user {user}{f', from {host}' if host else ''})"
        for pid, program, user, host in central.execute(SESSIONS, [name]).fetchall()
    ]


def swap(
    renaming: Session, ending: Session, statements: Sequence[str], name: str, target: str, *, timeout: float
) -> None:
    """Run statements that rename databases in one transaction, and end the sessions that are in its way.

    Args:
        renaming: to another database of the server.
        ending: another session of the same kind.
        statements: what is run.
        name: the database whose sessions are in its way.
        target: ``app/database``, for messages.
        timeout: seconds after which it gives up.

    Raises:
        BusyError: some session could not be ended; nothing was changed.
        RestoreUnfinishedError: the connection was lost, and nobody knows whether the names have changed.
        psycopg.Error: it was refused; nothing was changed.
        Interrupted: a signal came before it was done.
    """
    deadline = time.monotonic() + max(timeout, 1.0)
    with _exchanging(renaming, name, target):
        while True:
            try:
                _once(renaming, ending, statements, name)
            except psycopg.errors.ObjectInUse:
                if time.monotonic() >= deadline:
                    held = ", ".join(sessions(ending, name)) or "sessions or prepared transactions"
                    raise BusyError(target=target, holder=f" by {held}", waited=f"{timeout:g}") from None
            except psycopg.Error as error:
                if renaming.broken:
                    raise RestoreUnfinishedError(target=target, reason=error) from error
                raise
            else:
                return


@contextmanager
def _exchanging(session: Session, name: str, target: str) -> Iterator[None]:
    key = [exchange(name)]
    if session.execute(b"select pg_try_advisory_lock($1)", key).fetchall() != [(True,)]:
        # whoever has the lock of the database has waited for this one
        raise BusyError(target=target, holder=" by another restore", waited="0")
    try:
        yield
    finally:
        with signals.unheard(), suppress(psycopg.Error):
            session.execute(b"select pg_advisory_unlock($1)", key)


def _once(renaming: Session, ending: Session, statements: Sequence[str], name: str) -> None:
    with signals.held(), ThreadPoolExecutor(1) as pool:
        done: Future[None] = pool.submit(_rename, renaming, statements)
        while not done.done():
            if signals.received() is not None:
                renaming.cancel_safe()
                break
            with suppress(
                psycopg.errors.InsufficientPrivilege
            ):  # that of a superuser, which may end by itself
                ending.execute(END, [name])
            time.sleep(LOOK_SECONDS)
        try:
            done.result()
        except psycopg.errors.QueryCanceled:
            signals.check()
            raise


def _rename(session: Session, statements: Sequence[str]) -> None:
    try:
        session.execute(b"begin")
        for sql in statements:
            session.execute(sql.encode())
        session.execute(b"commit")
    except psycopg.Error:
        with suppress(psycopg.Error):
            session.execute(b"rollback")
        raise


def renames(name: str, new: str, keep: str, *, is_there: bool) -> list[str]:
    """Return the statements by which ``new`` becomes ``name``, and what was called so ``keep``, closed to everybody."""
    found = [f"alter database {ident(new)} rename to {ident(name)}"]
    found.append(f"alter database {ident(name)} allow_connections true")
    if is_there:
        found[:0] = [
            f"alter database {ident(name)} rename to {ident(keep)}",
            f"alter database {ident(keep)} allow_connections false",
        ]
    return found
