"""Who may hold what a session waited for."""

from __future__ import annotations

from contextlib import suppress

import pymysql

from dbctl.engines.mysql.parameters import literal
from dbctl.engines.mysql.session import Session, open_session
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError
from dbctl.url import Url

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
