"""The replication slot and the timeline of a PostgreSQL server whose log is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import cast

from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.extensions.recover.log_checks import LogChecks
from dbctl.units import format_size

_CLOCK = "select pg_catalog.clock_timestamp()"
#: Whether the slot exists, its state, the bytes after the stored log, their limit (-1: none), and the timeline of the server. A short
#: call moves the slot only to where it began, so the bytes that the slot retains are also those of the last call.
_STATE = """select s.slot_name is not null, s.wal_status::text, pg_catalog.pg_wal_lsn_diff(p.position, :stored::pg_lsn)::int8,
  pg_catalog.pg_size_bytes(current_setting('max_slot_wal_keep_size')),
  case when p.is_standby then (select timeline_id from pg_catalog.pg_control_checkpoint())
    else ('x' || substr(pg_catalog.pg_walfile_name(p.position), 1, 8))::bit(32)::int4 end
from (select pg_catalog.pg_is_in_recovery() as is_standby, case when pg_catalog.pg_is_in_recovery()
    then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_flush_lsn() end as position) p
  left join pg_catalog.pg_replication_slots s on s.slot_name = :name"""
_SET_LIMIT = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();"


class PostgreSQLLogChecks(PostgreSQLPart, LogChecks):
    """The server of a database."""

    def read_clock(self) -> datetime:
        return cast("datetime", self._connection.fetch(_CLOCK)[0][0])

    def find_problems(self, name: str, last: Mapping[str, str]) -> Iterator[EngineFinding]:
        state = {"name": name, "stored": last["end"]}
        ((exists, status, pending, limit, timeline),) = self._connection.fetch(_STATE, state)
        pending, limit = cast("int", pending), cast("int", limit)
        if not exists:
            message = (
                f"the replication slot {name} does not exist, so the server removes log that is not stored"
            )
            yield EngineFinding(severity="warning", code="log-slot-missing", message=message)
        elif status == "lost":
            message = f"the server has removed log that the replication slot {name} required; what of it is not stored is lost"
            yield EngineFinding(severity="error", code="log-slot-lost", message=message)
        elif limit >= 0 and (status == "unreserved" or 2 * pending >= limit):
            message = f"{format_size(pending)} of log are not stored yet; the server retains {format_size(limit)} for the replication slot {name} (max_slot_wal_keep_size)"
            yield EngineFinding(severity="warning", code="log-slot-behind", message=message)
        if exists and limit < 0:
            message = f"the log that the replication slot {name} retains has no limit (max_slot_wal_keep_size): if the calls of backup log end, it fills the disk of the server"
            yield EngineFinding(severity="warning", code="log-unlimited", message=message, hint=_SET_LIMIT)
        stored = int(last.get("timeline", str(timeline)))
        if stored != timeline:
            message = f"the server is on timeline {timeline}, the stored log on {stored}: a standby was promoted, or a server recovered"
            yield EngineFinding(severity="warning", code="log-timeline", message=message)
