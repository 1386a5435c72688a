"""State of a replica: whether it applies the changes of a primary, and how far it is behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import EngineFinding, ReplicaState
from dbctl.engines.mysql.database import MySQLPart


class MySQLReplication(MySQLPart):
    """The part ``ReplicaMonitor``."""

    def read_state(self) -> ReplicaState | None:
        sources = "show all replicas status" if self._connection.server.is_mariadb else "show replica status"
        states = [_parse_state(row) for row in self._connection.fetch_by_name(sources)]
        # None is an unknown lag, the worst one.
        return max(states, key=lambda state: (state.lag_seconds is None, state.lag_seconds), default=None)

    def read_identity(self) -> str:
        return ""  # a primary and its replicas share no identifier

    def find_read_limits(self) -> Sequence[EngineFinding]:
        return ()  # a replica waits for reads, and cancels none


def _parse_state(row: Mapping[str, object]) -> ReplicaState:
    """Return the state of one connection to a primary; MariaDB and MySQL use other words in the names of columns."""
    status = {
        name.replace("source", "master").replace("replica", "slave"): value for name, value in row.items()
    }
    received, applied = status["read_master_log_pos"], status["exec_master_log_pos"]
    is_same_file = status["master_log_file"] == status["relay_master_log_file"]
    seconds = status["seconds_behind_master"]
    return ReplicaState(
        lag_seconds=None if seconds is None else float(str(seconds)),
        lag_bytes=int(str(received)) - int(str(applied)) if is_same_file else None,
        is_connected=status["slave_io_running"] == "Yes",
    )
