"""Integrity checks of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from dbctl.engines.contract import EngineFinding, IndexDamage, OrphanedRows
from dbctl.engines.postgresql.catalog import LEFTOVER_INDEX, OWN_COLUMNS, REFERENCED_COLUMNS, VISIBLE
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.servers import ServerChecks
from dbctl.engines.sql import ident, quote_literal
from dbctl.errors import CorruptError, PrivilegeMissingError

#: Filled by ``format`` with further joins.
OF_TABLE = f"from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace {{}} where {VISIBLE} and c.relname = any(:tables)"
#: Indexes that CREATE INDEX CONCURRENTLY left unfinished: they are updated but not used, and enforce no uniqueness.
INVALID = (
    "select i.relname, c.relname "
    + OF_TABLE.format(
        "join pg_catalog.pg_index x on x.indrelid = c.oid join pg_catalog.pg_class i on i.oid = x.indexrelid"
    )
    + f" and not (x.indisvalid and x.indisready) and not {LEFTOVER_INDEX} order by 2, 1"
)
BTREES = (
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
#: amcheck verifies tables since its version 1.3.
AMCHECK = """select n.nspname, exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'verify_heapam') from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'amcheck'"""
_KEYS = """join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0
  join pg_catalog.pg_class p on p.oid = f.confrelid join pg_catalog.pg_namespace s on s.oid = p.relnamespace"""
REFERENCES = f"select c.relname, s.nspname, p.relname, {OWN_COLUMNS}, {REFERENCED_COLUMNS} {OF_TABLE.format(_KEYS)} order by 1, 3, 4"
INDEX_LINE = re.compile(r"index (?:(.+) of .+ is invalid$|(.+?): )", re.DOTALL)


class PostgreSQLChecks(ServerChecks, PostgreSQLDialect):
    """Capability.CHECK."""

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        tables = self._select_tables(table)
        parameters = {"tables": tables}
        lines = [f"index {index} of {name} is invalid" for index, name in self._fetch(INVALID, parameters)]
        if not quick:
            lines += [line for name in tables for line in self._find_unreadable(name)]
            lines += self._check_indexes(tables)
        return lines

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        match = INDEX_LINE.match(line)
        # Whether duplicate rows prevent a rebuild shows only when it is tried.
        return IndexDamage(index=match[1] or match[2], has_duplicates=False) if match else None

    def _find_unreadable(self, table: str) -> Iterator[str]:
        """Read every value of every row, including TOAST data."""
        try:
            self._fetch(f"select sum(octet_length(t0::text)) from {self._quote_table(table)} t0", {})  # noqa: S608 - names are checked and quoted
        except CorruptError as error:
            yield f"{table}: {error.context['reason']}"

    def _check_indexes(self, tables: Sequence[str]) -> Iterator[str]:
        """Compare indexes with their tables by amcheck, if it is installed and this user may use it."""
        for schema, heaps in self._fetch(AMCHECK, {}):
            if heaps:
                yield from self._check_heaps(str(schema), tables)
            for _, name, oid in self._fetch(BTREES, {"tables": list(tables)}):
                sql = f"select {ident(str(schema))}.bt_index_check(cast(:index as oid)::regclass, true)"
                try:
                    self._fetch(sql, {"index": oid})
                except PrivilegeMissingError:
                    return
                except CorruptError as error:
                    yield f"index {name}: {error.context['reason']}"

    def _check_heaps(self, schema: str, tables: Sequence[str]) -> Iterator[str]:
        for oid, name in self._fetch(HEAPS, {"tables": list(tables)}):
            sql = f"select distinct msg from {ident(schema)}.verify_heapam(cast(:table as oid)::regclass) order by 1 limit 5"  # noqa: S608 - the name is quoted
            try:
                yield from (f"{name}: {message}" for (message,) in self._fetch(sql, {"table": oid}))
            except PrivilegeMissingError:
                return
            except CorruptError:  # reading the rows reports the same
                continue

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        return [
            orphans
            for row in self._fetch(REFERENCES, {"tables": self._select_tables(table)})
            for orphans in self._find_orphans(*cast("tuple[str, str, str, list[str], list[str]]", row))
        ]

    def _row_label(self, key: Sequence[str]) -> str:
        return " || ', ' || ".join(f"c.{ident(column)}::text" for column in key)


_FROM = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
NOT_VALIDATED = f"""select n.nspname, c.relname, f.conname, f.contype = 'f' {_FROM}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and not f.convalidated and f.contype in ('c', 'f')
where {VISIBLE} and c.relname = any(:tables) order by 2, 3"""
LEFTOVERS = f"""select s.nspname, i.relname, c.relname {_FROM} join pg_catalog.pg_index x on x.indrelid = c.oid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {VISIBLE} and {LEFTOVER_INDEX} and c.relname = any(:tables) order by 3, 2"""
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
#: Only collations of the app's columns; built-in collations have no version.
COLLATIONS = f"""select distinct s.nspname, l.collname, l.collversion, pg_collation_actual_version(l.oid), current_database() {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_collation l on l.oid = a.attcollation join pg_catalog.pg_namespace s on s.oid = l.collnamespace
where {VISIBLE} and c.relname = any(:tables) and l.collversion <> pg_collation_actual_version(l.oid) order by 2"""
#: The collation of the database has a version since PostgreSQL 15.
_VERSIONED = "select count(*) from pg_catalog.pg_attribute where attrelid = 'pg_catalog.pg_database'::regclass and attname = 'datcollversion'"
OWN_COLLATION = """select datname, datcollversion, pg_database_collation_actual_version(oid) from pg_catalog.pg_database
where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)"""
CHECKSUMS = """select checksum_failures, checksum_last_failure::text from pg_catalog.pg_stat_database
where datname = current_database() and checksum_failures > 0"""


class PostgreSQLSchemaAdvice(PostgreSQLDialect):
    """Capability.ADVISE: constraints, sequences, collations and checksums."""

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        tables = [
            self._require_table(table).name if table else "",
            *(name for name, live in self.tables().items() if not (table or live.is_view)),
        ]
        findings = [
            *self._find_leftover_indexes(tables),
            *self._find_not_validated(tables),
            *self._find_lagging_sequences(tables),
            *self._find_changed_collations(tables),
        ]
        return findings if table else [*findings, *self._check_database()]

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return list(
            self._find_leftover_indexes([name for name, table in self.tables().items() if not table.is_view])
        )

    def _find_leftover_indexes(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for schema, name, table in self._fetch(LEFTOVERS, {"tables": list(tables)}):
            yield EngineFinding(
                severity="warning",
                code="index-leftover",
                message=f"index {name} of {table} is a leftover of an interrupted REINDEX: it is updated but not used",
                hint=f"DROP INDEX CONCURRENTLY {ident(str(schema))}.{ident(str(name))};",
            )

    def _find_not_validated(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for schema, table, name, key in self._fetch(NOT_VALIDATED, {"tables": tables}):
            kind = "foreign key" if key else "check"
            yield EngineFinding(
                severity="warning",
                code="not-validated",
                message=f"{kind} {name} of {table} is not validated for rows that are older than it",
                hint=f"ALTER TABLE {ident(str(schema))}.{ident(str(table))} VALIDATE CONSTRAINT {ident(str(name))};",
            )

    def _find_lagging_sequences(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for table_schema, table, column, schema, name, step, readable, cycles in self._fetch(
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
from {sequence} s, (select {aggregate}({ident(column)}) as furthest from {qualified}) m"""  # noqa: S608 - names are quoted
        try:
            ((following, furthest),) = self._fetch(sql, {})
        except (CorruptError, PrivilegeMissingError):  # other checks report it
            return
        if isinstance(furthest, int) and isinstance(following, int) and (furthest - following) * step >= 0:
            yield EngineFinding(
                severity="error",
                code="sequence-behind",
                message=f"sequence {name} returns {following} next, but {table}.{column} has reached {furthest}: new rows fail or get duplicate keys",
                hint=f"SELECT setval({quote_literal(sequence)}, (SELECT {aggregate}({ident(column)}) FROM {qualified}));",  # noqa: S608 - names are quoted
                column=f"{table}.{column}",
            )

    def _find_changed_collations(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for schema, name, old, new, database in self._fetch(COLLATIONS, {"tables": tables}):
            yield EngineFinding(
                severity="warning",
                code="collation-changed",
                message=f"collation {name} changed from version {old} to {new}: indexes over text may have the wrong order",
                hint=f"REINDEX DATABASE CONCURRENTLY {ident(str(database))}; ALTER COLLATION {ident(str(schema))}.{ident(str(name))} REFRESH VERSION;",
            )

    def _check_database(self) -> Iterator[EngineFinding]:
        if self._fetch(_VERSIONED, {}) == [(1,)]:
            for name, old, new in self._fetch(OWN_COLLATION, {}):
                yield EngineFinding(
                    severity="warning",
                    code="collation-changed",
                    message=f"the collation of the database changed from version {old} to {new}: indexes over text may have the wrong order",
                    hint=f"REINDEX DATABASE CONCURRENTLY {ident(str(name))}; ALTER DATABASE {ident(str(name))} REFRESH COLLATION VERSION;",
                )
        for failures, last in self._fetch(CHECKSUMS, {}):
            yield EngineFinding(
                severity="error",
                code="checksums-failed",
                message=f"{failures} pages failed their checksum, the last one at {last}",
                hint="Disk or memory is faulty. Stop the app, copy all files as they are, and restore a backup on another disk.",
            )

    def _quote_role(self) -> str:
        return ident(str(self._fetch("select current_user", {})[0][0]))
