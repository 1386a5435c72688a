"""Findings about the definition of tables: leftovers, constraints, sequences, collations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract.monitoring import EngineFinding, FindingQuery
from dbctl.engines.postgresql.catalog import LEFTOVER_INDEX, VISIBLE, PostgreSQLCatalog, quoted
from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.servers.database import find_problems
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.errors.connection import CorruptError, PrivilegeMissingError

_FROM = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
LEFTOVERS = FindingQuery(
    severity="warning",
    code="index-leftover",
    sql=f"""select {quoted("s.nspname", "i.relname")}, i.relname, c.relname {_FROM} join pg_catalog.pg_index x on x.indrelid = c.oid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {VISIBLE} and {LEFTOVER_INDEX} and c.relname = any(:tables) order by 3, 2""",
    message="index {1} of {2} is a leftover of an interrupted REINDEX: it is updated but not used",
    hint="DROP INDEX CONCURRENTLY {0};",
)
NOT_VALIDATED = FindingQuery(
    severity="warning",
    code="not-validated",
    sql=f"""select {quoted("n.nspname", "c.relname")}, c.relname, f.conname, {quoted("f.conname")},
  case f.contype when 'f' then 'foreign key' else 'check' end {_FROM}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and not f.convalidated and f.contype in ('c', 'f')
where {VISIBLE} and c.relname = any(:tables) order by 2, 3""",
    message="{4} {2} of {1} is not validated for rows that are older than it",
    hint="ALTER TABLE {0} VALIDATE CONSTRAINT {3};",
)
#: Only collations of the app's columns; built-in collations have no version.
COLLATIONS = FindingQuery(
    severity="warning",
    code="collation-changed",
    sql=f"""select distinct {quoted("s.nspname", "l.collname")}, l.collname, l.collversion, pg_collation_actual_version(l.oid),
  {quoted("current_database()::text")} {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_collation l on l.oid = a.attcollation join pg_catalog.pg_namespace s on s.oid = l.collnamespace
where {VISIBLE} and c.relname = any(:tables) and l.collversion <> pg_collation_actual_version(l.oid) order by 2""",
    message="collation {1} changed from version {2} to {3}: indexes over text may have the wrong order",
    hint="REINDEX DATABASE CONCURRENTLY {4}; ALTER COLLATION {0} REFRESH VERSION;",
)
#: The collation of the database has a version since PostgreSQL 15.
_VERSIONED = "select count(*) from pg_catalog.pg_attribute where attrelid = 'pg_catalog.pg_database'::regclass and attname = 'datcollversion'"
DATABASE_COLLATION = FindingQuery(
    severity="warning",
    code="collation-changed",
    sql=f"""select {quoted("datname")}, datcollversion, pg_database_collation_actual_version(oid) from pg_catalog.pg_database
where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)""",
    message="the collation of the database changed from version {1} to {2}: indexes over text may have the wrong order",
    hint="REINDEX DATABASE CONCURRENTLY {0}; ALTER DATABASE {0} REFRESH COLLATION VERSION;",
)
CHECKSUMS = FindingQuery(
    severity="error",
    code="checksums-failed",
    sql="""select checksum_failures, checksum_last_failure::text from pg_catalog.pg_stat_database
where datname = current_database() and checksum_failures > 0""",
    message="{0} pages failed their checksum, the last one at {1}",
    hint="Disk or memory is faulty. Stop the app, copy all files as they are, and restore a backup on another disk.",
)
#: The sequences of columns: of their default, or of an identity column.
SEQUENCES = f"""select distinct n.nspname, c.relname, a.attname, s.nspname, q.relname, z.seqincrement,
  case when q.relkind = 'S' then has_sequence_privilege(q.oid, 'SELECT') end and has_column_privilege(c.oid, a.attnum, 'SELECT'), z.seqcycle {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef v on v.adrelid = c.oid and v.adnum = a.attnum
  join pg_catalog.pg_depend e on
    (e.classid = 'pg_catalog.pg_attrdef'::regclass and e.objid = v.oid and e.refclassid = 'pg_catalog.pg_class'::regclass)
    or (e.classid = 'pg_catalog.pg_class'::regclass and e.refclassid = 'pg_catalog.pg_class'::regclass
      and e.refobjid = c.oid and e.refobjsubid = a.attnum and e.deptype = 'i')
  join pg_catalog.pg_class q on q.relkind = 'S'
    and q.oid = case when e.deptype = 'i' and e.refobjid = c.oid then e.objid else e.refobjid end
  join pg_catalog.pg_sequence z on z.seqrelid = q.oid join pg_catalog.pg_namespace s on s.oid = q.relnamespace
where {VISIBLE} and c.relkind in ('r', 'p') and c.relname = any(:tables) and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
order by 2, 3"""


class SchemaAdvice:
    """Findings about constraints, sequences, collations and checksums."""

    def __init__(self, connection: PostgreSQLConnection, catalog: PostgreSQLCatalog) -> None:
        self._connection, self._catalog = connection, catalog

    def find(self, table: str = "") -> Sequence[EngineFinding]:
        """Return the findings about a table, or about the whole database."""
        tables = [self._catalog.require_table(table).name] if table else self._catalog.base_tables()
        findings = [
            *find_problems(self._connection, [LEFTOVERS, NOT_VALIDATED], {"tables": tables}),
            *self._find_lagging_sequences(tables),
            *find_problems(self._connection, [COLLATIONS], {"tables": tables}),
        ]
        if not table:
            is_versioned = self._connection.fetch(_VERSIONED) == [(1,)]
            checks = [DATABASE_COLLATION, CHECKSUMS] if is_versioned else [CHECKSUMS]
            findings += find_problems(self._connection, checks)
        return findings

    def _find_lagging_sequences(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for table_schema, table, column, schema, name, step, readable, cycles in self._connection.fetch(
            SEQUENCES, {"tables": tables}
        ):
            qualified = f"{ident(str(table_schema))}.{ident(str(table))}"
            sequence = f"{ident(str(schema))}.{ident(str(name))}"
            if not readable:
                yield EngineFinding(
                    severity="info",
                    code="sequence-not-checked",
                    message=f"sequence {name} of {table}.{column} was not checked: this role may not read it",
                    hint=f"GRANT SELECT ON SEQUENCE {sequence} TO {self._quote_role()};",
                )
            elif not cycles:
                yield from self._compare_sequence(
                    qualified, str(table), str(column), sequence, str(name), int(str(step))
                )

    def _compare_sequence(
        self, qualified: str, table: str, column: str, sequence: str, name: str, step: int
    ) -> Iterator[EngineFinding]:
        aggregate = "max" if step > 0 else "min"
        sql = f"""select s.last_value + case when s.is_called then {step} else 0 end, m.furthest
from {sequence} s, (select {aggregate}({ident(column)}) as furthest from {qualified}) m"""
        try:
            ((following, furthest),) = self._connection.fetch(sql)
        except (CorruptError, PrivilegeMissingError):  # other checks report it
            return
        if isinstance(furthest, int) and isinstance(following, int) and (furthest - following) * step >= 0:
            yield EngineFinding(
                severity="error",
                code="sequence-behind",
                message=f"sequence {name} returns {following} next, but {table}.{column} has reached {furthest}: new rows fail or get duplicate keys",
                hint=f"SELECT setval({quote_literal(sequence)}, (SELECT {aggregate}({ident(column)}) FROM {qualified}));",
                column=f"{table}.{column}",
            )

    def _quote_role(self) -> str:
        return ident(str(self._connection.fetch("select current_user")[0][0]))
