"""What is wrong with the rules of a database on a server: those that are not kept, and numbers that come twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.postgresql.catalogue import LEFT, SHOWN
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.server import Concern
from dbctl.engines.sql import ident, literal
from dbctl.errors import CorruptError, PrivilegeMissingError

_FROM = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
UNPROVEN = f"""select n.nspname, c.relname, f.conname, f.contype = 'f' {_FROM}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and not f.convalidated and f.contype in ('c', 'f')
where {SHOWN} and c.relname = any(:tables) order by 2, 3"""
LEFTOVERS = f"""select s.nspname, i.relname, c.relname {_FROM} join pg_catalog.pg_index x on x.indrelid = c.oid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {SHOWN} and {LEFT} and c.relname = any(:tables) order by 3, 2"""
#: The sequences that a column takes its numbers from: by its default, or as its own identity.
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
where {SHOWN} and c.relkind in ('r', 'p') and c.relname = any(:tables) and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
order by 2, 3"""
#: Only collations that something of the app is sorted by; the server's own have no version.
COLLATIONS = f"""select distinct s.nspname, l.collname, l.collversion, pg_collation_actual_version(l.oid), current_database() {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_collation l on l.oid = a.attcollation join pg_catalog.pg_namespace s on s.oid = l.collnamespace
where {SHOWN} and c.relname = any(:tables) and l.collversion <> pg_collation_actual_version(l.oid) order by 2"""
#: The database's own collation has a version since PostgreSQL 15.
_VERSIONED = "select count(*) from pg_catalog.pg_attribute where attrelid = 'pg_catalog.pg_database'::regclass and attname = 'datcollversion'"
OWN_COLLATION = """select datname, datcollversion, pg_database_collation_actual_version(oid) from pg_catalog.pg_database
where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)"""
CHECKSUMS = """select checksum_failures, checksum_last_failure::text from pg_catalog.pg_stat_database
where datname = current_database() and checksum_failures > 0"""


class PostgreSQLFlaws(PostgreSQLDialect):
    """Capability.ADVISE, what it tells of soundness."""

    def flaws(self, table: str = "") -> Sequence[Concern]:
        tables = [
            self._checked(table).name if table else "",
            *(name for name, one in self.tables().items() if not (table or one.view)),
        ]
        found = [
            *self._left(tables),
            *self._unproven(tables),
            *self._behind(tables),
            *self._sorted_otherwise(tables),
        ]
        return found if table else [*found, *self._of_the_database()]

    def leftovers(self) -> Sequence[Concern]:
        return list(self._left([name for name, one in self.tables().items() if not one.view]))

    def _left(self, tables: Sequence[str]) -> Iterator[Concern]:
        for schema, name, table in self._fetch(LEFTOVERS, {"tables": list(tables)}):
            yield Concern(
                severity="warning",
                code="index-left",
                message=f"index {name} of {table} is what an interrupted REINDEX left: it is written and never read",
                hint=f"DROP INDEX CONCURRENTLY {ident(str(schema))}.{ident(str(name))};",
            )

    def _unproven(self, tables: Sequence[str]) -> Iterator[Concern]:
        for schema, table, name, key in self._fetch(UNPROVEN, {"tables": tables}):
            kind = "foreign key" if key else "check"
            yield Concern(
                severity="warning",
                code="not-validated",
                message=f"{kind} {name} of {table} was never proven for the rows that were there before it",
                hint=f"ALTER TABLE {ident(str(schema))}.{ident(str(table))} VALIDATE CONSTRAINT {ident(str(name))};",
            )

    def _behind(self, tables: Sequence[str]) -> Iterator[Concern]:
        for home, table, column, schema, name, step, readable, cycles in self._fetch(
            SEQUENCES, {"tables": tables}
        ):
            of = f"{ident(str(home))}.{ident(str(table))}"
            sequence = f"{ident(str(schema))}.{ident(str(name))}"
            if not readable:
                yield Concern(
                    severity="info",
                    code="sequence-not-checked",
                    message=f"whether sequence {name} is behind {table}.{column} was not looked at: this role may not read it",
                    hint=f"GRANT SELECT ON SEQUENCE {sequence} TO {self._role()};",
                )
            elif not cycles:
                yield from self._compared(of, str(table), str(column), sequence, str(name), int(str(step)))

    def _compared(
        self, of: str, table: str, column: str, sequence: str, name: str, step: int
    ) -> Iterator[Concern]:
        furthest = "max" if step > 0 else "min"
        sql = f"""select s.last_value + case when s.is_called then {step} else 0 end, m.furthest
from {sequence} s, (select {furthest}({ident(column)}) as furthest from {of}) m"""  # noqa: S608 - names are quoted
        try:
            ((following, reached),) = self._fetch(sql, {})
        except (CorruptError, PrivilegeMissingError):  # which whoever reads the rows is told already
            return
        if isinstance(reached, int) and isinstance(following, int) and (reached - following) * step >= 0:
            yield Concern(
                severity="error",
                code="sequence-behind",
                message=f"sequence {name} gives {following} next, and {table}.{column} is at {reached} already: the app's next rows are refused, or come twice",
                hint=f"SELECT setval({literal(sequence)}, (SELECT {furthest}({ident(column)}) FROM {of}));",  # noqa: S608 - names are quoted
                column=f"{table}.{column}",
            )

    def _sorted_otherwise(self, tables: Sequence[str]) -> Iterator[Concern]:
        for schema, name, was, now, database in self._fetch(COLLATIONS, {"tables": tables}):
            yield Concern(
                severity="warning",
                code="collation-changed",
                message=f"collation {name} was {was} when the indexes were made and is {now} now: an index over text may be in another order than the server believes",
                hint=f"REINDEX DATABASE CONCURRENTLY {ident(str(database))}; ALTER COLLATION {ident(str(schema))}.{ident(str(name))} REFRESH VERSION;",
            )

    def _of_the_database(self) -> Iterator[Concern]:
        if self._fetch(_VERSIONED, {}) == [(1,)]:
            for name, was, now in self._fetch(OWN_COLLATION, {}):
                yield Concern(
                    severity="warning",
                    code="collation-changed",
                    message=f"the database's collation was {was} when it was made and is {now} now: an index over text may be in another order than the server believes",
                    hint=f"REINDEX DATABASE CONCURRENTLY {ident(str(name))}; ALTER DATABASE {ident(str(name))} REFRESH COLLATION VERSION;",
                )
        for failures, last in self._fetch(CHECKSUMS, {}):
            yield Concern(
                severity="error",
                code="checksums-failed",
                message=f"{failures} pages that were read did not have the checksum they were written with, the last one at {last}",
                hint="The disk, or the memory, gives back other bytes than were written. Stop the app, keep a copy of every file as it is, restore a backup, on another disk.",
            )

    def _role(self) -> str:
        return ident(str(self._fetch("select current_user", {})[0][0]))
