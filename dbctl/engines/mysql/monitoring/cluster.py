"""Galera clusters, in which every node writes the same database, and replicas, which apply the changes of a primary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract.monitoring import EngineFinding, FindingQuery, ReplicaState
from dbctl.engines.mysql.database import MySQLDatabase, MySQLPart
from dbctl.engines.mysql.sql.lexer import LEXER
from dbctl.engines.servers.database import find_problems

#: The first words of statements that run in total order isolation.
SCHEMA_CHANGES = frozenset(
    {"alter", "analyze", "create", "drop", "grant", "optimize", "rename", "repair", "revoke", "truncate"}
)
#: Only rows of InnoDB are replicated, and only rows with a key are found again quickly on other nodes.
UNREPLICATED = FindingQuery(
    severity="error",
    code="table-not-replicated",
    sql="""select table_name, engine, concat('`', replace(table_name, '`', '``'), '`') from information_schema.tables
where table_schema = database() and table_type = 'BASE TABLE' and engine <> 'InnoDB' order by 1""",
    message="table {0} uses engine {1}, which the cluster does not replicate: each node has other rows",
    hint="ALTER TABLE {2} ENGINE=InnoDB;",
)
WITHOUT_KEY = FindingQuery(
    severity="warning",
    code="table-without-key",
    sql="""select t.table_name from information_schema.tables t where t.table_schema = database() and t.table_type = 'BASE TABLE'
  and not exists (select 1 from information_schema.table_constraints c where c.table_schema = t.table_schema
    and c.table_name = t.table_name and c.constraint_type = 'PRIMARY KEY') order by 1""",
    message="table {0} has no primary key: the cluster cannot detect every conflict, and nodes may return its rows in another order",
)
LOCK_LOCAL = EngineFinding(
    severity="info",
    code="lock-node-local",
    message="this server is a node of a cluster: the lock of dbctl excludes other dbctl processes on this node only",
    hint="Use the same node in every configuration of this database.",
)


class MySQLCluster(MySQLPart):
    """The part ``Cluster``."""

    def blocks_all_servers(self, sql: str) -> bool:
        first = next(iter(LEXER.read_significant(sql)), None)
        return first is not None and first.text.lower() in SCHEMA_CHANGES

    def find_problems(self) -> Iterator[EngineFinding]:
        """Yield what the cluster does not replicate or certify."""
        yield LOCK_LOCAL
        yield from find_problems(self._connection, [UNREPLICATED, WITHOUT_KEY])


def find_cluster(db: MySQLDatabase) -> MySQLCluster | None:
    """Return the part, or None if the server is not a node of a cluster."""
    return MySQLCluster(db) if db.connection.session.is_cluster_node else None


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
