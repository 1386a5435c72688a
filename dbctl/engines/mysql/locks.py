"""The lock between dbctl processes on a server, and the holders of locks.

A server reports only which session holds a lock, and shows no text that an idle session could set. So the holder also acquires
locks whose names encode a description: one lock for each bit that is set. They end with the session, like the lock itself.

A server completes a statement even if its client was killed, and swapping the tables of a restore takes time. So the
session that swaps them has a separate lock, and every process that gets the lock waits for that one, too.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pymysql

from dbctl.engines.mysql.session import Session, open_session
from dbctl.engines.mysql.types import format_literal
from dbctl.engines.servers import MixinWriter
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError
from dbctl.url import Url

#: Maximum bytes of the description.
MAX_DESCRIPTION_BYTES = 96


def lock_name(database: str) -> str:
    """Return the name of the lock on a database; names are valid on the whole server, and have at most 64 characters."""
    return f"dbctl/{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def swap_lock_name(name: str) -> str:
    """Return the name of the lock that a session holds while it swaps tables, from the lock of the database."""
    return f"{name}/exchange"


def acquire_sql(name: str) -> str:
    """Return SQL that acquires the lock, or returns 0 immediately."""
    return f"select get_lock({format_literal(name)}, 0)"


def release_sql(name: str) -> str:
    """Return SQL that releases the lock."""
    return f"select release_lock({format_literal(name)})"


def acquire_unless_swapping_sql(name: str) -> str:
    """Return SQL that acquires the lock if it is free, and returns whether it did and no swap is running."""
    return f"{acquire_sql(name)} and is_free_lock({format_literal(swap_lock_name(name))})"


def holder_locks_sql(name: str, text: str) -> str:
    """Return SQL for the holder of the lock: it acquires the locks that encode ``text``."""
    description = text.encode()[:MAX_DESCRIPTION_BYTES]
    lock_names = [
        lock_name for lock_name, bit in zip(_bit_lock_names(name), _bits(description), strict=False) if bit
    ]
    return f"select {', '.join(f'get_lock({format_literal(lock_name)}, 0)' for lock_name in lock_names)}"


def holder_query(name: str) -> str:
    """Return SQL for a session that does not get the lock; ``decode_holder`` decodes its row."""
    return f"select {', '.join(f'is_used_lock({format_literal(lock_name)})' for lock_name in (name, *_bit_lock_names(name)))}"


def decode_holder(row: Sequence[object]) -> tuple[object, str]:
    """Return the session that has the lock, and its description; None and an empty text if it was released since then."""
    holder, *bit_holders = row
    bits = [bit_holder == holder and bit_holder is not None for bit_holder in bit_holders]
    description = bytes(
        sum(bit << position for position, bit in enumerate(bits[begin : begin + 8]))
        for begin in range(0, len(bits), 8)
    )
    return holder, description.rstrip(b"\0").decode(errors="replace")


class MySQLLocks(MixinWriter[Session]):
    """A session that can lock the database against other dbctl processes."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        name = self._lock_name()
        try:
            self._wait_for_lock(
                lambda: self._rows(acquire_unless_swapping_sql(name), {}) == [(1,)],
                lambda: self._describe_holder(name),
            )
            since = datetime.now(UTC).isoformat(" ", "seconds")
            self._rows(
                holder_locks_sql(
                    name, f"dbctl {purpose} (pid {os.getpid()} on {socket.gethostname()}, since {since})"
                ),
                {},
            )
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._rows("select release_all_locks()", {})

    def _lock_name(self) -> str:
        return lock_name(self._require_session().database)

    def _describe_holder(self, name: str) -> str:
        ((*row,),) = self._rows(holder_query(name), {})
        connection_id, description = decode_holder(row)
        if connection_id == self._require_session().connection_id:
            # This session has the lock but waits for the swap.
            ((connection_id,),) = self._rows(
                f"select is_used_lock({format_literal(swap_lock_name(name))})", {}
            )
            description = "a killed restore that has not ended yet"
        return (
            f" by {description or 'another dbctl'}, session {connection_id} of the server"
            if connection_id
            else " by another dbctl"
        )


def _bit_lock_names(name: str) -> Iterator[str]:
    return (f"{name}/{position}" for position in range(MAX_DESCRIPTION_BYTES * 8))


def _bits(description: bytes) -> Iterator[int]:
    return (byte >> position & 1 for byte in description for position in range(8))


#: Sessions with open transactions that changed something or locked rows, oldest first.
HOLDERS = """select p.id, p.user, substring_index(p.host, ':', 1), t.trx_started
from information_schema.innodb_trx t join information_schema.processlist p on p.id = t.trx_mysql_thread_id
where p.id not in {0} and p.db = {1} and (t.trx_rows_locked > 0 or t.trx_tables_locked > 0) order by t.trx_started limit 3"""
#: Sessions that run a statement, or are idle, if transactions are not visible.
ACTIVE_SESSIONS = """select p.id, p.user, substring_index(p.host, ':', 1), p.time
from information_schema.processlist p where p.id not in {0} and p.db = {1} order by p.time desc limit 3"""


def describe_blockers(url: Url, target: str, session: Session) -> str:
    """Return the possible holders of a lock, such as " by session 4711 (user bob)", or "" if they are unknown.

    A second connection queries them, so that nothing here becomes part of the transaction.
    """
    with suppress(pymysql.Error, DbctlError):
        other = open_session(url, target, timeout=1, read_only=True)
        try:
            excluded = f"({session.connection_id}, {other.connection_id})"
            for query in (HOLDERS, ACTIVE_SESSIONS):
                with suppress(pymysql.Error):  # transactions are visible with the right PROCESS only
                    if rows := other.run(query.format(excluded, format_literal(session.database))):
                        return _describe_sessions(rows)
        finally:
            other.drop()
    return ""


def _describe_sessions(rows: list[Row]) -> str:
    sessions = [
        f"session {connection_id} of the server (user {user}{f', from {host}' if host else ''})"
        for connection_id, user, host, _ in rows
    ]
    return f", perhaps by {' or by '.join(sessions)}" if sessions else ""
