"""The lock of all dbctl on a server, and who holds it.

A server tells of a lock only which session has it, and of a session that is idle nothing that dbctl could say there. So
whoever holds the lock holds others beside it, whose names spell what there is to tell: one for each bit that is set.
They end with the session, like the lock itself.

A server does what it was told also where whoever told it was killed meanwhile, and a restore's tables that change places
take their time. So the session that lets them has a lock of its own, and whoever gets the lock waits for that one, too.
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
from dbctl.engines.mysql.types import literal
from dbctl.engines.servers import ServedWriter
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError
from dbctl.url import Url

#: Bytes that are told at most.
LONGEST = 96


def name_of(database: str) -> str:
    """Return the name of the lock on a database; names are the server's, and 64 letters long at most."""
    return f"dbctl/{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def exchange(name: str) -> str:
    """Return the name of the lock of the session that lets tables change places, by that of the database."""
    return f"{name}/exchange"


def take(name: str) -> str:
    """Return SQL that takes the lock, or tells at once that it cannot."""
    return f"select get_lock({literal(name)}, 0)"


def give_back(name: str) -> str:
    """Return SQL that gives the lock back."""
    return f"select release_lock({literal(name)})"


def take_still(name: str) -> str:
    """Return SQL that takes the lock, as far as that goes at once, and tells whether that did and nothing changes places."""
    return f"{take(name)} and is_free_lock({literal(exchange(name))})"


def spell(name: str, text: str) -> str:
    """Return SQL for whoever has the lock: it takes those beside it that spell ``text``."""
    told = text.encode()[:LONGEST]
    beside = [one for one, bit in zip(_beside(name), _bits(told), strict=False) if bit]
    return f"select {', '.join(f'get_lock({literal(one)}, 0)' for one in beside)}"


def ask(name: str) -> str:
    """Return SQL for whoever does not get the lock; ``read`` reads its row."""
    return f"select {', '.join(f'is_used_lock({literal(one)})' for one in (name, *_beside(name)))}"


def read(row: Sequence[object]) -> tuple[object, str]:
    """Return the session that has the lock, and what it spells; None and nothing where it was given back meanwhile."""
    holder, *beside = row
    bits = [one == holder and one is not None for one in beside]
    told = bytes(
        sum(bit << at for at, bit in enumerate(bits[begin : begin + 8])) for begin in range(0, len(bits), 8)
    )
    return holder, told.rstrip(b"\0").decode(errors="replace")


class MySQLLocks(ServedWriter[Session]):
    """A session that may keep every other dbctl from writing."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        name = self._lock_name()
        try:
            self._wait_for_lock(
                lambda: self._rows(take_still(name), {}) == [(1,)], lambda: self._holder(name)
            )
            since = datetime.now(UTC).isoformat(" ", "seconds")
            self._rows(
                spell(name, f"dbctl {purpose} (pid {os.getpid()} on {socket.gethostname()}, since {since})"),
                {},
            )
            yield
        finally:  # it ends with the session, whatever happens; a broken one has ended
            with suppress(DbctlError, RuntimeError):
                self._rows("select release_all_locks()", {})

    def _lock_name(self) -> str:
        return name_of(self._current().database)

    def _holder(self, name: str) -> str:
        ((*row,),) = self._rows(ask(name), {})
        number, told = read(row)
        if number == self._current().number:  # it came as far as that
            ((number,),) = self._rows(f"select is_used_lock({literal(exchange(name))})", {})
            told = "a restore that was killed and has yet to end"
        return (
            f" by {told or 'another dbctl'}, session {number} of the server"
            if number
            else " by another dbctl"
        )


def _beside(name: str) -> Iterator[str]:
    return (f"{name}/{at}" for at in range(LONGEST * 8))


def _bits(told: bytes) -> Iterator[int]:
    return (byte >> at & 1 for byte in told for at in range(8))


#: Who has a transaction open that changed something or locked rows, those first who have done so longest.
HOLDERS = """select p.id, p.user, substring_index(p.host, ':', 1), t.trx_started
from information_schema.innodb_trx t join information_schema.processlist p on p.id = t.trx_mysql_thread_id
where p.id not in {0} and p.db = {1} and (t.trx_rows_locked > 0 or t.trx_tables_locked > 0) order by t.trx_started limit 3"""
#: Whoever runs a statement, or sleeps inside what it began, for want of better.
AROUND = """select p.id, p.user, substring_index(p.host, ':', 1), p.time
from information_schema.processlist p where p.id not in {0} and p.db = {1} order by p.time desc limit 3"""


def blockers(url: Url, target: str, session: Session) -> str:
    """Return " by session 4711 (user bob)" for who may hold what ``session`` waited for, or "" where that is not told.

    A second connection asks, so that nothing here becomes part of the transaction.
    """
    with suppress(pymysql.Error, DbctlError):
        asking = open_session(url, target, timeout=1, reading=True)
        try:
            among = f"({session.number}, {asking.number})"
            for question in (HOLDERS, AROUND):
                with suppress(pymysql.Error):  # only who has the right PROCESS is told of transactions
                    if rows := asking.run(question.format(among, literal(session.database))):
                        return _named(rows)
        finally:
            asking.drop()
    return ""


def _named(rows: list[Row]) -> str:
    told = [
        f"session {number} of the server (user {user}{f', from {host}' if host else ''})"
        for number, user, host, _ in rows
    ]
    return f", perhaps by {' or by '.join(told)}" if told else ""
