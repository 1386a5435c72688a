"""The lock of all dbctl on a server, and who holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbctl.engines.postgresql.session import Session, application_name
from dbctl.engines.served.writer import ServedWriter
from dbctl.errors import DbctlError

HOLDER = """select a.application_name, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::int8 << 32) | l.objid::int8 = :key limit 1"""


def key_of(name: str) -> int:
    """Return the number of the lock for what is called so."""
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # without a sign, as pg_locks tells it in two halves


class PostgreSQLLocks(ServedWriter[Session]):
    """A session that may keep every other dbctl from writing."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        key = self._lock_key()
        self._current().settings["application_name"] = application_name(f"dbctl {purpose}")
        self._settle()
        asked = "select pg_try_advisory_lock(:key)"
        self._wait_for_lock(lambda: self._rows(asked, {"key": key}) == [(True,)], lambda: self._holder(key))
        try:
            yield
        finally:  # it ends with the session, whatever happens; a broken one has ended
            with suppress(DbctlError, RuntimeError):
                self._rows("select pg_advisory_unlock(:key)", {"key": key})

    def _lock_key(self) -> int:
        """Return what all dbctl agree on: the server keeps such locks apart by database, and this by schema."""
        (row,) = self._rows("select current_database() || '/' || coalesce(current_schema(), '')", {})
        return key_of(str(row[0]))

    def _holder(self, key: int) -> str:
        rows = self._rows(HOLDER, {"key": key})
        if not rows:
            return " by another dbctl"
        name, pid, host, since = rows[0]
        return f" by {name or 'another dbctl'} (pid {pid} of the server, from {host}, since {since})"
