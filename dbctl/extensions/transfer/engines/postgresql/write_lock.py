"""Triggers by which tables refuse writes, and the proof that tables accept them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, read_scope
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import SEQUENCES, PostgreSQLWriter
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.extensions.transfer.portable.contract import WRITE_LOCK_MESSAGE
from dbctl.extensions.transfer.portable.write_lock import SqlWriteLock, SqlWriteProofs

_FROM = """from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_trigger g on g.tgrelid = c.oid and g.tgname = :lock
where (:scope = '' or n.nspname = :scope)"""
#: Tables that are not locked, also partitions, but not those whose rows belong to an extension.
_TABLES = f"""select n.nspname::text, c.relname::text {_FROM} and g.oid is null and c.relkind in ('r', 'p')
and c.relpersistence <> 't' and {IN_USER_SCHEMA}
and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'
    and not exists (select from pg_catalog.pg_extension x where x.oid = e.refobjid and c.oid = any(x.extconfig)))
order by 1, 2"""
_LOCKED = f"select n.nspname::text, c.relname::text {_FROM} and g.oid is not null order by 1, 2"
#: Functions that no table of another schema needs.
_FUNCTIONS = """select n.nspname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = :lock and (:scope = '' or n.nspname = :scope) and not exists (select from pg_catalog.pg_trigger g
  join pg_catalog.pg_class c on c.oid = g.tgrelid join pg_catalog.pg_namespace o on o.oid = c.relnamespace
  where g.tgfoid = p.oid and :scope <> '' and o.nspname <> :scope) order by 1"""


class PostgreSQLWriteLock(SqlWriteLock):
    """The part ``WriteLock``."""

    exceptions = "changes of the schema, and rows of subscriptions"
    _connection: PostgreSQLConnection

    def list_locked(self) -> Sequence[str]:
        return [name for _, name in self._fetch(_LOCKED)]

    def _fetch(self, sql: str) -> list[tuple[str, ...]]:
        parameters = {"scope": read_scope(self._connection.session), "lock": WRITE_LOCK}
        return [tuple(map(str, row)) for row in self._connection.fetch(sql, parameters)]

    def _lock_statements(self) -> Sequence[str]:
        rows = self._fetch(_TABLES)
        if not rows:
            return []
        tables = [f"{ident(schema)}.{ident(name)}" for schema, name in rows]
        function = f"{ident(rows[0][0])}.{ident(WRITE_LOCK)}()"
        refusal = f"raise exception using errcode = 'read_only_sql_transaction', message = {quote_literal(WRITE_LOCK_MESSAGE)}"
        return [
            # sessions that write end first, and no session can begin to write
            f"lock table {', '.join(tables)} in share row exclusive mode",
            f"create or replace function {function} returns trigger language plpgsql as $lock$begin {refusal}; end$lock$",
            *(
                f"create trigger {WRITE_LOCK} before insert or update or delete or truncate on {table}"
                f" for each statement execute function {function}"
                for table in tables
            ),
            # the setting session_replication_role does not leave it out
            *(f"alter table {table} enable always trigger {WRITE_LOCK}" for table in tables),
        ]

    def _unlock_statements(self) -> Sequence[str]:
        return [
            *(
                f"drop trigger {WRITE_LOCK} on {ident(schema)}.{ident(name)}"
                for schema, name in self._fetch(_LOCKED)
            ),
            *(f"drop function {ident(schema)}.{WRITE_LOCK}()" for (schema,) in self._fetch(_FUNCTIONS)),
        ]


_INCREMENT = "select seqincrement from pg_catalog.pg_sequence where seqrelid = cast(:sequence as regclass)"


class PostgreSQLWriteProofs(SqlWriteProofs):
    """The part ``WriteProofs``."""

    def __init__(self, db: PostgreSQLWriter) -> None:
        super().__init__(db, db.catalog)
        self._connection = db.connection

    def _insert(self, table: str, sql: str, key: str) -> int | None:
        del table  # part of the statement
        rows = self._connection.fetch(f"{sql} returning {key}", writing=True)
        return int(str(rows[0][0])) if rows else None

    def _keep_sequences(self, tables: Iterable[str]) -> None:
        for table in tables:
            for _, sequence in self._connection.fetch(SEQUENCES, {"table": self._catalog.quote_table(table)}):
                ((increment,),) = self._connection.fetch(_INCREMENT, {"sequence": sequence})
                # an altered sequence is part of the transaction: its next number is not used up
                self._connection.run(f"alter sequence {sequence} increment by {increment}")

    def _check_constraints(self) -> None:
        self._connection.run("set constraints all immediate")

    def _delete(self, sql: str) -> None:
        self._connection.execute_write(sql)
