"""Write lines into a server by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from dbctl import signals
from dbctl.engines.contract.portable import LineBatch, LineColumn
from dbctl.engines.contract.streaming import Line
from dbctl.engines.postgresql.catalog import VISIBLE
from dbctl.engines.postgresql.database import PostgreSQLWriter
from dbctl.engines.postgresql.transfer.source import quote_value
from dbctl.engines.servers.transfer import TableNames
from dbctl.engines.sql import lines
from dbctl.engines.sql.catalog import ident

_TABLES = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
#: Statements that drop an object and create it again.
_ATTACHMENTS = f"""
select 'key' as kind, f.conname, format('alter table %s drop constraint %I', c.oid::regclass, f.conname),
  format('alter table %s add constraint %I %s', c.oid::regclass, f.conname, pg_get_constraintdef(f.oid))
{_TABLES} join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0 where {VISIBLE}
union all
select 'trigger', g.tgname, format('drop trigger %I on %s', g.tgname, c.oid::regclass), pg_get_triggerdef(g.oid)
{_TABLES} join pg_catalog.pg_trigger g on g.tgrelid = c.oid and not g.tgisinternal where {VISIBLE}
union all
select 'index', i.relname, format('drop index %s', i.oid::regclass), pg_get_indexdef(i.oid)
{_TABLES} join pg_catalog.pg_index x on x.indrelid = c.oid and not x.indisunique
  join pg_catalog.pg_class i on i.oid = x.indexrelid
where {VISIBLE} and not exists (select from pg_catalog.pg_constraint f where f.conindid = i.oid and f.contype in ('p', 'u', 'x'))
order by 1, 2"""


class PostgreSQLRowSink:
    """The part ``RowSink``."""

    def __init__(self, db: PostgreSQLWriter) -> None:
        self._db, self._connection = db, db.connection
        self._names: TableNames = db.catalog

    def bulk_load(self) -> AbstractContextManager[None]:
        return nullcontext()  # foreign keys are dropped, because only a superuser may ignore them

    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"copy {self._names.quote_table(table)} ({names}) from stdin"
        self._db.require_writable(table)
        with (
            self._connection.translate_errors(sql, writing=True),
            self._connection.session.cursor() as cursor,
        ):
            with cursor.copy(sql.encode()) as copy:
                for batch in batches:
                    signals.raise_if_interrupted()
                    if batch.lines:
                        copy.write((batch.text or b"\n".join(batch.lines)) + b"\n")
            return cursor.rowcount

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        names = [self._names.quote_column(table, column.name, "") for column in key]
        sql = f"delete from {self._names.quote_table(table)} where "
        self._db.require_writable(table)
        return sum(
            self._connection.execute_write(sql + lines.match_keys(names, key, part, quote_value))
            for part in lines.split_batches(keys)
        )

    def clear_table(self, table: str) -> int:
        self._db.require_writable(table)
        return self._connection.execute_write(f"delete from only {self._names.quote_table(table)}")

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        return [
            (str(drop), [str(create)])
            for kind, _, drop, create in self._connection.fetch(_ATTACHMENTS)
            if indexes or kind != "index"
        ]

    def is_duplicate_object(self, error: Exception) -> bool:
        del error  # a statement and the record of its success are one transaction
        return False
