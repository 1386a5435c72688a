"""Looking after a database on a server: each statement by itself, outside any transaction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg

from dbctl.engines.contract import Task, Upkeep
from dbctl.engines.postgresql.catalog import LEFT, SHOWN
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.postgresql.monitoring.checks import LEFTOVERS
from dbctl.engines.postgresql.session import Session
from dbctl.engines.sql import Row, ident
from dbctl.errors import BusyError, DbctlError, NotSupportedError, PrivilegeMissingError, QueryFailedError

#: Whoever may not look after a table is told nothing but a warning, so it is asked for first. Rows are due where more
#: than fifty and a tenth of them are dead, or have changed since they were analysed: half of what autovacuum lets pass.
TABLES = f"""select n.nspname, c.relname,
  pg_has_role(c.relowner, 'USAGE') or exists (select from pg_catalog.pg_database d
    where d.datname = current_database() and pg_has_role(d.datdba, 'USAGE'))
  or case when current_setting('server_version_num')::int >= 170000 then has_table_privilege(c.oid, 'MAINTAIN') else false end,
  coalesce(s.n_dead_tup, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  c.reltuples < 0 or coalesce(s.n_mod_since_analyze, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where {SHOWN} and c.relkind in ('r', 'p', 'm') and c.relname = any(:tables) order by c.relname"""  # noqa: S608 - no value is in it
OLDER = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename
from pg_catalog.pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()
  and a.backend_xmin is not null and a.xact_start is not null order by a.xact_start limit 3"""
INDEXES = f"""select s.nspname, i.relname, x.indisexclusion, {LEFT}, c.relname
from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {SHOWN} and c.relname = any(:tables) order by c.relname, i.relname"""  # noqa: S608 - as above


class PostgreSQLUpkeep(PostgreSQLDialect):
    """Capability.MAINTAIN."""

    reading: bool

    @abstractmethod
    def _current(self) -> Session: ...

    @abstractmethod
    def _say(self, sql: str) -> None: ...

    def tasks(self, kind: Upkeep, tables: Sequence[str]) -> Sequence[Task]:
        for name in tables:
            self._checked(name)
        if kind in ("wal", "rollback-journal"):
            raise NotSupportedError(
                what="another journal", by=self.target, instead="Its server always writes a log."
            )
        if kind == "checkpoint":
            if tables:
                raise NotSupportedError(
                    what="a checkpoint of one table", by=self.target, instead="Leave --table out."
                )
            return [Task(table="", statement="CHECKPOINT")]
        wanted = list(tables) or [name for name, one in self.tables().items() if not one.view]
        rows = self._fetch(TABLES, {"tables": wanted})
        self._refuse_strangers(rows)
        if kind == "reindex":
            return list(self._anew(wanted))
        # What is named is meant, due or not.
        return list(_looked_after("vacuum" if kind == "optimize" and tables else kind, rows))

    def _refuse_strangers(self, rows: Sequence[Row]) -> None:
        refused = {str(name): str(owner) for _, name, may, _, _, owner in rows if not may}
        if refused:
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"only the owner of {', '.join(refused)} may look after it",
                instead=f"Nothing was changed. Sign in as {', '.join(sorted(set(refused.values())))}, or as a superuser.",
            )

    def _anew(self, tables: Sequence[str]) -> Iterator[Task]:
        for schema, name, exclusive, left, table in self._fetch(INDEXES, {"tables": list(tables)}):
            if not left:
                how = "" if exclusive else "CONCURRENTLY "  # which PostgreSQL cannot do for such a rule
                index = f"{ident(str(schema))}.{ident(str(name))}"
                yield Task(table=str(table), statement=f"REINDEX INDEX {how}{index}")

    def maintain(self, task: Task) -> None:
        if self.reading:
            raise RuntimeError("maintenance by one who only reads")
        session = self._current()
        warned: list[str] = []

        def heard(told: psycopg.errors.Diagnostic) -> None:
            if told.severity_nonlocalized == "WARNING":
                warned.append(told.message_primary or "a warning")

        session.add_notice_handler(heard)
        before = self._unfinished()
        try:
            # In a stricter one, what works beside others would wait for itself.
            self._say("set default_transaction_isolation to 'read committed'")
            self._say(task.statement)
        except DbctlError as error:
            self._clear(self._unfinished() - before)
            if isinstance(error, BusyError) and not error.facts["holder"]:
                facts = {**error.facts, "holder": self._older()}
                raise BusyError(**facts) from error
            raise
        finally:
            session.remove_notice_handler(heard)
            if not session.closed:
                session.settle()
        if warned:  # it was passed over, and the server calls that no failure
            raise QueryFailedError(target=self.target, reason=warned[0])

    def _unfinished(self) -> set[str]:
        """Return the indexes that an interrupted REINDEX left, quoted, with their schema."""
        tables = [name for name, one in self.tables().items() if not one.view]
        rows = self._fetch(LEFTOVERS, {"tables": tables})
        return {f"{ident(str(schema))}.{ident(str(name))}" for schema, name, _ in rows}

    def _clear(self, left: set[str]) -> None:
        """Take away what a statement that failed has just left; what cannot go now is told by ``leftovers``."""
        for index in sorted(left):
            with suppress(DbctlError):
                self._say(f"drop index concurrently {index}")

    def _older(self) -> str:
        """Return who was at work before: what works beside others waits for all of them at its end."""
        told = [f"{name} (pid {pid}, user {user})" for pid, name, user in self._fetch(OLDER, {})]
        return f" by {', '.join(told)}, whose transaction is older" if told else ""


def _looked_after(kind: Upkeep, rows: Sequence[Row]) -> Iterator[Task]:
    for schema, name, _, dead, changed, _ in rows:
        table = f"{ident(str(schema))}.{ident(str(name))}"
        if kind == "vacuum" or (kind == "optimize" and dead):
            yield Task(table=str(name), statement=f"VACUUM (ANALYZE) {table}")
        elif kind == "analyze" or changed:
            yield Task(table=str(name), statement=f"ANALYZE {table}")
