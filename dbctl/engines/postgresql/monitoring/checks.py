"""Integrity checks of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from dbctl.engines.contract.checks import IndexDamage, OrphanedRows
from dbctl.engines.postgresql.catalog import LEFTOVER_INDEX, OWN_COLUMNS, REFERENCED_COLUMNS, VISIBLE
from dbctl.engines.servers.database import ServerChecks
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import CorruptError, PrivilegeMissingError

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


class PostgreSQLChecks(ServerChecks):
    """The part ``Checks``."""

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        tables = self._select_tables(table)
        parameters = {"tables": tables}
        lines = [
            f"index {index} of {name} is invalid"
            for index, name in self._connection.fetch(INVALID, parameters)
        ]
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
            self._connection.fetch(
                f"select sum(octet_length(t0::text)) from {self._catalog.quote_table(table)} t0"
            )
        except CorruptError as error:
            yield f"{table}: {error.context['reason']}"

    def _check_indexes(self, tables: Sequence[str]) -> Iterator[str]:
        """Compare indexes with their tables by amcheck, if it is installed and this user may use it."""
        for schema, heaps in self._connection.fetch(AMCHECK):
            if heaps:
                yield from self._check_heaps(str(schema), tables)
            for _, name, oid in self._connection.fetch(BTREES, {"tables": list(tables)}):
                sql = f"select {ident(str(schema))}.bt_index_check(cast(:index as oid)::regclass, true)"
                try:
                    self._connection.fetch(sql, {"index": oid})
                except PrivilegeMissingError:
                    return
                except CorruptError as error:
                    yield f"index {name}: {error.context['reason']}"

    def _check_heaps(self, schema: str, tables: Sequence[str]) -> Iterator[str]:
        for oid, name in self._connection.fetch(HEAPS, {"tables": list(tables)}):
            sql = f"select distinct msg from {ident(schema)}.verify_heapam(cast(:table as oid)::regclass) order by 1 limit 5"
            try:
                yield from (
                    f"{name}: {message}" for (message,) in self._connection.fetch(sql, {"table": oid})
                )
            except PrivilegeMissingError:
                return
            except CorruptError:  # reading the rows reports the same
                continue

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        return [
            orphans
            for row in self._connection.fetch(REFERENCES, {"tables": self._select_tables(table)})
            for orphans in self._find_orphans(*cast("tuple[str, str, str, list[str], list[str]]", row))
        ]

    def _row_label(self, key: Sequence[str]) -> str:
        return " || ', ' || ".join(f"c.{ident(column)}::text" for column in key)
