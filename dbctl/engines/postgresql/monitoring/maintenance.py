"""Maintenance of a database on a server: each statement runs separately, outside of transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg

from dbctl.engines.contract.monitoring import EngineFinding, MaintenanceKind, MaintenanceTask
from dbctl.engines.postgresql.catalog import LEFTOVER_INDEX, VISIBLE
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.monitoring.schema_advice import LEFTOVERS
from dbctl.engines.servers.database import find_problems
from dbctl.engines.sql.catalog import Row, ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError

#: The server only warns if a role may not maintain a table, so the privilege is checked first. A table is due if more than
#: 50 rows plus a tenth of its rows are dead, or have changed since they were analysed: half of autovacuum's thresholds.
TABLES = f"""select n.nspname, c.relname,
  pg_has_role(c.relowner, 'USAGE') or exists (select from pg_catalog.pg_database d
    where d.datname = current_database() and pg_has_role(d.datdba, 'USAGE'))
  or case when current_setting('server_version_num')::int >= 170000 then has_table_privilege(c.oid, 'MAINTAIN') else false end,
  coalesce(s.n_dead_tup, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  c.reltuples < 0 or coalesce(s.n_mod_since_analyze, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where {VISIBLE} and c.relkind in ('r', 'p', 'm') and c.relname = any(:tables) order by c.relname"""
OLDER_TRANSACTIONS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename
from pg_catalog.pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()
  and a.backend_xmin is not null and a.xact_start is not null order by a.xact_start limit 3"""
INDEXES = f"""select s.nspname, i.relname, x.indisexclusion, {LEFTOVER_INDEX}, c.relname
from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {VISIBLE} and c.relname = any(:tables) order by c.relname, i.relname"""


class PostgreSQLMaintenance(PostgreSQLPart):
    """The part ``Maintenance``."""

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        for name in tables:
            self._catalog.require_table(name)
        if kind in ("wal", "rollback-journal"):
            raise NotSupportedError(
                feature="another journal",
                subject=self._connection.target,
                hint="The server always writes a log.",
            )
        if kind == "checkpoint":
            if tables:
                raise NotSupportedError(
                    feature="a checkpoint of one table", subject=self._connection.target, hint="Omit --table."
                )
            return [MaintenanceTask(table="", statement="CHECKPOINT")]
        selected = list(tables) or self._catalog.base_tables()
        rows = self._connection.fetch(TABLES, {"tables": selected})
        self._require_owner(rows)
        if kind == "reindex":
            return list(self._reindex_tasks(selected))
        # Tables that the user names are processed even if they are not due.
        return list(_vacuum_tasks("vacuum" if kind == "optimize" and tables else kind, rows))

    def _require_owner(self, rows: Sequence[Row]) -> None:
        refused = {str(name): str(owner) for _, name, is_allowed, _, _, owner in rows if not is_allowed}
        if refused:
            raise PrivilegeMissingError(
                target=self._connection.target,
                reason=f"only the owner of {', '.join(refused)} may maintain it",
                hint=f"Nothing was changed. Sign in as {', '.join(sorted(set(refused.values())))}, or as a superuser.",
            )

    def _reindex_tasks(self, tables: Sequence[str]) -> Iterator[MaintenanceTask]:
        for schema, name, exclusive, is_leftover, table in self._connection.fetch(
            INDEXES, {"tables": list(tables)}
        ):
            if not is_leftover:
                option = "" if exclusive else "CONCURRENTLY "  # not supported for exclusion constraints
                index = f"{ident(str(schema))}.{ident(str(name))}"
                yield MaintenanceTask(table=str(table), statement=f"REINDEX INDEX {option}{index}")

    def maintain(self, task: MaintenanceTask) -> None:
        if self._connection.read_only:
            raise RuntimeError("maintenance on a read-only connection")
        session = self._connection.session
        warned: list[str] = []

        def record_warning(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                warned.append(diagnostic.message_primary or "a warning")

        session.add_notice_handler(record_warning)
        unfinished = self._find_unfinished()
        try:
            # In a stricter isolation level, a concurrent build would wait for itself.
            self._connection.run("set default_transaction_isolation to 'read committed'")
            self._connection.run(task.statement)
        except DbctlError as error:
            self._drop_indexes(self._find_unfinished() - unfinished)
            if isinstance(error, BusyError) and not error.context["holder"]:
                context = {**error.context, "holder": self._describe_older()}
                raise BusyError(**context) from error
            raise
        finally:
            session.remove_notice_handler(record_warning)
            if not session.closed:
                session.apply_settings()
        if warned:  # the server skipped the table and only warned
            raise QueryFailedError(target=self._connection.target, reason=warned[0])

    def _find_unfinished(self) -> set[str]:
        """Return the indexes that an interrupted REINDEX left, quoted, with their schema."""
        tables = {"tables": self._catalog.base_tables()}
        return {str(row[0]) for row in self._connection.fetch(LEFTOVERS.sql, tables)}

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return list(find_problems(self._connection, [LEFTOVERS], {"tables": self._catalog.base_tables()}))

    def _drop_indexes(self, indexes: set[str]) -> None:
        """Drop the leftovers of a failed statement; ``find_leftovers`` reports those that cannot be dropped now."""
        for index in sorted(indexes):
            with suppress(DbctlError):
                self._connection.run(f"drop index concurrently {index}")

    def _describe_older(self) -> str:
        """Return the sessions with older transactions: a concurrent build waits for all of them at its end."""
        sessions = [
            f"{name} (pid {pid}, user {user})"
            for pid, name, user in self._connection.fetch(OLDER_TRANSACTIONS)
        ]
        return f" by {', '.join(sessions)}, whose transaction is older" if sessions else ""


def _vacuum_tasks(kind: MaintenanceKind, rows: Sequence[Row]) -> Iterator[MaintenanceTask]:
    for schema, name, _, dead, changed, _ in rows:
        table = f"{ident(str(schema))}.{ident(str(name))}"
        if kind == "vacuum" or (kind == "optimize" and dead):
            yield MaintenanceTask(table=str(name), statement=f"VACUUM (ANALYZE) {table}")
        elif kind == "analyze" or changed:
            yield MaintenanceTask(table=str(name), statement=f"ANALYZE {table}")
