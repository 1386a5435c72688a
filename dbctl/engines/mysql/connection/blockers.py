"""The sessions that may hold the locks for which another session waits."""

from __future__ import annotations

from contextlib import suppress

import pymysql

from dbctl.engines.mysql.connection.opening import open_session
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.sql.catalog import Row
from dbctl.errors.base import DbctlError
from dbctl.url import Url

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
