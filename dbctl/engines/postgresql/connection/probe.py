"""Probe over a second connection whether a server still works for a session or for a client program."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import psycopg

from dbctl.files import liveness

if TYPE_CHECKING:
    from dbctl.engines.postgresql.connection.session import Session

#: A session that waits for its client, while the client waits for it, never ends. Without track_activities, and for the
#: session of another user, the server does not show the state.
SESSION_STATE = b"""select case when state is null or state = 'disabled' then true
  else state in ('active', 'fastpath function call') and wait_event_type is distinct from 'Client' end
from pg_catalog.pg_stat_activity where pid = $1"""
#: The same for client programs, which are identified by their application name.
PROGRAM_STATE = b"""select coalesce(bool_or(case when state is null or state = 'disabled' then true
  else state in ('active', 'fastpath function call') and wait_event_type is distinct from 'Client' end), false)
from pg_catalog.pg_stat_activity where application_name = $1 and usename = current_user"""
IDLE = "the connection does not respond, and the server runs nothing for it"


def probe_session(session: Session) -> str:
    """Return why a session is lost; empty if the server works for it.

    Behind a pooler, the pid of a session is not the server's, so only a response shows that it works.
    """
    return _probe(session, SESSION_STATE, None if session.pooled else session.pgconn.backend_pid)


def probe_program(session: Session, name: str) -> str:
    """Return why a program that connected like ``session`` with application name ``name`` is lost; empty if it is not lost."""
    return _probe(session, PROGRAM_STATE, name)


def _probe(session: Session, sql: bytes, parameter: object) -> str:
    seconds = session.opening_seconds
    try:
        parameters = {"application_name": "dbctl", **session.parameters}
        with type(session).connect(**parameters, autocommit=True) as other:  # type: ignore[arg-type]
            other.opening_seconds = seconds
            other.limit_opening(seconds)
            if parameter is None:
                other.execute(b"select 1")
                return ""
            rows = psycopg.RawCursor(other).execute(sql, [parameter]).fetchall()
    except psycopg.Error as error:
        # A server that is out of connections also answers, and libpq gives no code for that answer.
        is_timeout = isinstance(error, psycopg.errors.ConnectionTimeout | psycopg.errors._WaitTimeout)  # noqa: SLF001 - it has no other name
        host, port = session.address
        return (
            liveness.UNREACHABLE
            if is_timeout or not liveness.accepts_connections(host, port, ceil(seconds))
            else ""
        )
    return "" if rows == [(True,)] else IDLE
