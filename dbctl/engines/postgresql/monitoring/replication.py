"""State of a standby: whether it is in recovery, and how far it is behind its primary."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract.monitoring import EngineFinding, FindingQuery, ReplicaState
from dbctl.engines.postgresql.backup import database_properties
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.servers.database import find_problems

#: The receiver is a process that exists while the primary is connected; the server ends it after a silence of wal_receiver_timeout.
#: Without it, changes of the primary may be missing here, so the lag is the age of the last change.
STATE = """select is_connected, lag_bytes,
  case when is_connected and lag_bytes = 0 or age < 0 then 0 else round(age::numeric, 3)::float8 end as lag_seconds
from (select exists (select from pg_catalog.pg_stat_wal_receiver) as is_connected,
    pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), pg_last_wal_replay_lsn())::int8 as lag_bytes,
    extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) as age) s
where pg_is_in_recovery()"""
CANCELS_READS = FindingQuery(
    severity="info",
    code="replica-cancels-reads",
    sql="""select current_setting('max_standby_streaming_delay') where current_setting('hot_standby_feedback') = 'off'
  and current_setting('max_standby_streaming_delay') <> '-1'""",
    message="the replica cancels reads that block replicated changes for {0}: long backups may fail",
    hint="ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
)


class PostgreSQLReplication(PostgreSQLPart):
    """The part ``ReplicaMonitor``."""

    def read_state(self) -> ReplicaState | None:
        states = self._connection.fetch_as(ReplicaState, STATE)
        return states[0] if states else None

    def read_identity(self) -> str:
        session = self._connection.session
        system = database_properties.describe_server(session).get("system", "")
        return system and f"{system}/{session.info.dbname}"

    def find_read_limits(self) -> Sequence[EngineFinding]:
        return list(find_problems(self._connection, [CANCELS_READS]))
