"""A dump of some tables, loaded without what they need of others: their types come from elsewhere, their links stay out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from dbctl.engines.postgresql.backup.dump_scanner import END

#: Statements that make what columns may be declared as.
_NEEDS = b"""select format('create schema if not exists %I;', n.nspname) from pg_catalog.pg_namespace n
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
#: What pg_dump writes behind all rows: keys, indexes, triggers and rules, which may be about what is not there.
_BEHIND = re.compile(
    rb"-- Name: .*; Type: (?:CHECK CONSTRAINT|CONSTRAINT|FK CONSTRAINT|INDEX|INDEX ATTACH|TRIGGER|RULE|POLICY|ROW SECURITY|STATISTICS|PUBLICATION TABLE); "
)


def needs(session: psycopg.Connection[Any]) -> str:
    """Return statements that make, in an empty database, the types that tables of this one may have."""
    return "\n".join(str(sql) for (sql,) in session.execute(_NEEDS).fetchall())


def unlinked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out of a dump what follows its rows."""
    in_rows, behind, held = False, False, b""
    for block in blocks:
        kept, (*lines, held) = list[bytes](), (held + block).split(b"\n")
        for line in lines:
            if in_rows:
                in_rows = line != b"\\."
            elif not behind:
                in_rows = _ROWS.fullmatch(line) is not None
                behind = _BEHIND.match(line) is not None
            if not behind:
                kept.append(line + b"\n")
            elif line == END.strip():
                kept.append(b"--" + END)
        yield b"".join(kept)
    yield held if not behind else b""
