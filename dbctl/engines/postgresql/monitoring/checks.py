"""What PostgreSQL can tell of its own soundness."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from dbctl.engines.contract import Concern, IndexDamage, Orphans
from dbctl.engines.postgresql.catalog import HERE, LEFT, SHOWN, THERE
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.servers import ServedChecks
from dbctl.engines.sql import ident, literal
from dbctl.errors import CorruptError, PrivilegeMissingError

#: For ``format`` with what else is joined.
OF_TABLE = f"from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace {{}} where {SHOWN} and c.relname = any(:tables)"
#: An index that CREATE INDEX CONCURRENTLY left half built is written and never read; so is what it was to keep unique.
INVALID = (
    "select i.relname, c.relname "
    + OF_TABLE.format(
        "join pg_catalog.pg_index x on x.indrelid = c.oid join pg_catalog.pg_class i on i.oid = x.indexrelid"
    )
    + f" and not (x.indisvalid and x.indisready) and not {LEFT} order by 2, 1"
)
TREES = (
    "select s.nspname, i.relname, x.indexrelid::int8 "
    + OF_TABLE.format(
        """join pg_catalog.pg_index x on x.indrelid = c.oid and x.indisvalid
  join pg_catalog.pg_class i on i.oid = x.indexrelid and i.relkind = 'i'
  join pg_catalog.pg_am m on m.oid = i.relam and m.amname = 'btree'
  join pg_catalog.pg_namespace s on s.oid = i.relnamespace"""
    )
    + " order by 1, 2"
)
HEAPS = "select c.oid::int8, c.relname " + OF_TABLE.format("") + " and c.relkind in ('r', 'm') order by 2"
#: It looks into tables since its version 1.3.
LOOKS = """select n.nspname, exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'verify_heapam') from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'amcheck'"""
_KEYS = """join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0
  join pg_catalog.pg_class p on p.oid = f.confrelid join pg_catalog.pg_namespace s on s.oid = p.relnamespace"""
REFERENCES = (
    f"select c.relname, s.nspname, p.relname, {HERE}, {THERE} {OF_TABLE.format(_KEYS)} order by 1, 3, 4"
)
OF_INDEX = re.compile(r"index (?:(.+) of .+ is invalid$|(.+?): )", re.DOTALL)


class PostgreSQLChecks(ServedChecks, PostgreSQLDialect):
    """Capability.CHECK."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        tables = self._asked(table)
        given = {"tables": tables}
        found = [f"index {index} of {name} is invalid" for index, name in self._fetch(INVALID, given)]
        if not quick:
            found += [line for name in tables for line in self._unreadable(name)]
            found += self._broken_trees(tables)
        return found

    def index_damage(self, line: str) -> IndexDamage | None:
        found = OF_INDEX.match(line)
        # Whether rows stand in the way of making it anew shows only when it is tried.
        return IndexDamage(index=found[1] or found[2], twice=False) if found else None

    def _unreadable(self, table: str) -> Iterator[str]:
        """Read every value of every row, also what is stored beside it."""
        try:
            self._fetch(f"select sum(octet_length(t0::text)) from {self._table(table)} t0", {})  # noqa: S608 - names are checked and quoted
        except CorruptError as error:
            yield f"{table}: {error.facts['reason']}"

    def _broken_trees(self, tables: Sequence[str]) -> Iterator[str]:
        """Let amcheck compare indexes with their tables, where it is installed and this user may use it."""
        for schema, heaps in self._fetch(LOOKS, {}):
            if heaps:
                yield from self._broken_heaps(str(schema), tables)
            for _, name, number in self._fetch(TREES, {"tables": list(tables)}):
                check = f"select {ident(str(schema))}.bt_index_check(cast(:index as oid)::regclass, true)"
                try:
                    self._fetch(check, {"index": number})
                except PrivilegeMissingError:
                    return
                except CorruptError as error:
                    yield f"index {name}: {error.facts['reason']}"

    def _broken_heaps(self, schema: str, tables: Sequence[str]) -> Iterator[str]:
        for number, name in self._fetch(HEAPS, {"tables": list(tables)}):
            check = f"select distinct msg from {ident(schema)}.verify_heapam(cast(:table as oid)::regclass) order by 1 limit 5"  # noqa: S608 - the name is quoted
            try:
                yield from (f"{name}: {told}" for (told,) in self._fetch(check, {"table": number}))
            except PrivilegeMissingError:
                return
            except CorruptError:  # whoever reads its rows is told the same
                continue

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        return [
            found
            for row in self._fetch(REFERENCES, {"tables": self._asked(table)})
            for found in self._lost(*cast("tuple[str, str, str, list[str], list[str]]", row))
        ]

    def _named_by(self, key: Sequence[str]) -> str:
        return " || ', ' || ".join(f"c.{ident(column)}::text" for column in key)


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
