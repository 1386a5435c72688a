"""Load a dump of some tables: create the types that they need, and leave out constraints that refer to other tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from dbctl.engines.postgresql.backup.dump_scanner import END

#: Statements that create the types of columns.
_TYPES = b"""select format('create schema if not exists %I;', n.nspname) from pg_catalog.pg_namespace n
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
union all (select format('create extension if not exists %I schema %I cascade;', e.extname, n.nspname)
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname <> 'plpgsql' order by e.oid)
union all (select format('create type %I.%I as %s;', n.nspname, t.typname,
    case t.typtype when 'e' then (select format('enum (%s)', string_agg(quote_literal(l.enumlabel), ', ' order by l.enumsortorder))
        from pg_catalog.pg_enum l where l.enumtypid = t.oid)
      else (select format('(%s)', string_agg(format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum))
        from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end)
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  left join pg_catalog.pg_class c on c.oid = t.typrelid
  where (t.typtype = 'e' or c.relkind = 'c') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_type'::regclass
      and d.objid = t.oid and d.deptype = 'e')
  order by t.oid)
union all (select format('create domain %I.%I as %s;', n.nspname, t.typname, pg_catalog.format_type(t.typbasetype, t.typtypmod))
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.typtype = 'd' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_type'::regclass
      and d.objid = t.oid and d.deptype = 'e')
  order by t.oid)"""
_ROWS = re.compile(rb"COPY .* FROM stdin;")
#: Parts after the rows: keys, indexes, triggers and rules, which may refer to missing objects.
_TAIL = re.compile(
    rb"-- Name: .*; Type: (?:CHECK CONSTRAINT|CONSTRAINT|FK CONSTRAINT|INDEX|INDEX ATTACH|TRIGGER|RULE|POLICY|ROW SECURITY|STATISTICS|PUBLICATION TABLE); "
)


def format_type_statements(session: psycopg.Connection[Any]) -> str:
    """Return statements that create, in an empty database, the types that tables of this database may use."""
    return "\n".join(str(sql) for (sql,) in session.execute(_TYPES).fetchall())


def remove_tail(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Remove the part of a dump that follows its rows."""
    in_rows, in_tail, remainder = False, False, b""
    for block in blocks:
        output, (*lines, remainder) = list[bytes](), (remainder + block).split(b"\n")
        for line in lines:
            if in_rows:
                in_rows = line != b"\\."
            elif not in_tail:
                in_rows = _ROWS.fullmatch(line) is not None
                in_tail = _TAIL.match(line) is not None
            if not in_tail:
                output.append(line + b"\n")
            elif line == END.strip():
                output.append(b"--" + END)
        yield b"".join(output)
    yield remainder if not in_tail else b""
