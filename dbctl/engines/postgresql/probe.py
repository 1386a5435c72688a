"""Whether a server is still at work for a session, or for a program that dbctl runs, asked by a second connection."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import psycopg

from dbctl.files import liveness

if TYPE_CHECKING:
    from dbctl.engines.postgresql.session import Session

#: A session that waits for its client, while the client waits for it, will never end. Without track_activities, and
#: of another user's session, the server does not tell the state.
OF_SESSION = b"""select case when state is null or state = 'disabled' then true
  else state in ('active', 'fastpath function call') and wait_event_type is distinct from 'Client' end
from pg_catalog.pg_stat_activity where pid = $1"""
#: The same of the programs that dbctl runs, which are known by their name.
OF_PROGRAM = b"""select coalesce(bool_or(case when state is null or state = 'disabled' then true
  else state in ('active', 'fastpath function call') and wait_event_type is distinct from 'Client' end), false)
from pg_catalog.pg_stat_activity where application_name = $1 and usename = current_user"""
UNREACHABLE = "the server fell silent, and takes no new connection either"
NOT_AT_WORK = "the connection fell silent: the server is at work for nobody at its end"


def probe_session(session: Session) -> str:
    """Return why nothing can be expected of a session any more; empty: the server is at work for it.

    Behind a pooler the number of a session is not the server's, so that there only an answer counts.
    """
    return _asked(session, OF_SESSION, None if session.pooled else session.pgconn.backend_pid)


def probe_program(session: Session, name: str) -> str:
    """Return why nothing can be expected of a program that connected as ``session`` did, under an application name."""
    return _asked(session, OF_PROGRAM, name)


def _asked(session: Session, sql: bytes, fact: object) -> str:
    seconds = session.opening_seconds
    try:
        words = {"application_name": "dbctl", **session.parameters}
        with type(session).connect(**words, autocommit=True) as other:  # type: ignore[arg-type]
            other.opening_seconds = seconds
            other.limit_opening(seconds)
            if fact is None:
                other.execute(b"select 1")
                return ""
            rows = psycopg.RawCursor(other).execute(sql, [fact]).fetchall()
    except psycopg.Error as error:
        # A server without room for another connection answers, too, and libpq tells no code of such an answer.
        late = isinstance(error, psycopg.errors.ConnectionTimeout | psycopg.errors._WaitTimeout)  # noqa: SLF001 - it has no other name
        host, port = session.address
        return UNREACHABLE if late or not liveness.accepts(host, port, ceil(seconds)) else ""
    return "" if rows == [(True,)] else NOT_AT_WORK
