"""Swap the names of two databases in one transaction, even if sessions are connected.

Renaming locks the database against new connections, and requires that no session is connected. So one session renames
while another one terminates the connected sessions. If dbctl is killed, either all old or all new names are valid.

A commit that waits for a replica continues after dbctl was killed. A restore that began in that time would mistake the
new database for the old one, and drop the old one with the retained data. So the session that renames holds a lock, and
every restore waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg

from dbctl import signals
from dbctl.engines.postgresql.connection.session import Session
from dbctl.engines.postgresql.connection.transactions import lock_key
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import BusyError
from dbctl.errors.restore import RestoreUnfinishedError

#: Seconds between two checks for connected sessions; a terminated session takes some milliseconds to end.
POLL_SECONDS = 0.05
SESSIONS = b"""select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), coalesce(a.usename, ''), host(a.client_addr)
from pg_catalog.pg_stat_activity a where a.datname = $1 and a.backend_type = 'client backend'
  and a.application_name !~ '^dbctl( |$)' order by a.backend_start"""
TERMINATE = b"""select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a
where a.datname = $1 and a.pid <> pg_backend_pid()"""


def swap_lock_key(name: str) -> int:
    """Return the key of the lock that a session holds while it swaps databases."""
    return lock_key(f"exchange of {name}")


def list_sessions(central: Session, name: str) -> list[str]:
    """Return the sessions connected to a database, except those of dbctl."""
    return [
        f"{program} (pid {pid}, user {user}{f', from {host}' if host else ''})"
        for pid, program, user, host in central.execute(SESSIONS, [name]).fetchall()
    ]


def swap_databases(
    rename_session: Session,
    terminate_session: Session,
    statements: Sequence[str],
    name: str,
    target: str,
    *,
    timeout: float,
) -> None:
    """Run statements that rename databases in one transaction, and terminate the sessions of ``name`` that block them.

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
                _try_swap(rename_session, terminate_session, statements, name)
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
    key = [swap_lock_key(name)]
    if session.execute(b"select pg_try_advisory_lock($1)", key).fetchall() != [(True,)]:
        # the holder of the lock of the database has already waited for this one
        raise BusyError(target=target, holder=" by another restore", waited="0")
    try:
        yield
    finally:
        with signals.block_signals(), suppress(psycopg.Error):
            session.execute(b"select pg_advisory_unlock($1)", key)


def _try_swap(
    rename_session: Session, terminate_session: Session, statements: Sequence[str], name: str
) -> None:
    with signals.defer_signals(), ThreadPoolExecutor(1) as pool:
        future: Future[None] = pool.submit(_rename, rename_session, statements)
        while not future.done():
            if signals.received_signal() is not None:
                rename_session.cancel_safe()
                break
            with suppress(psycopg.errors.InsufficientPrivilege):
                # A superuser's session, which may end without dbctl.
                terminate_session.execute(TERMINATE, [name])
            time.sleep(POLL_SECONDS)
        try:
            future.result()
        except psycopg.errors.QueryCanceled:
            signals.raise_if_interrupted()
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
