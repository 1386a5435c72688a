"""What PostgreSQL can tell of its own soundness."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from dbctl.engines.base import IndexDamage, Orphans
from dbctl.engines.postgresql.catalogue import HERE, LEFT, SHOWN, THERE
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.served.checks import ServedChecks
from dbctl.engines.sql import ident
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
