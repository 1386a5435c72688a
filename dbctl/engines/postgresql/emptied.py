"""Statements that take everything of some schemas away, and refuse to take anything of other schemas along."""

from __future__ import annotations

from dbctl.engines.postgresql.property import literal
from dbctl.engines.sql import ident

#: What cascades must not reach: everything outside, and what of it points inside. ``{0}``: the schemas, as an array.
_OUTSIDE = """select array_agg(x order by x) from (
    select 'table ' || c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname <> all ({0}) and n.nspname !~ '^pg_(toast|temp)'
    union all select 'constraint ' || f.oid from pg_catalog.pg_constraint f
      join pg_catalog.pg_namespace n on n.oid = f.connamespace where n.nspname <> all ({0})
    union all select 'function ' || p.oid from pg_catalog.pg_proc p
      join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname <> all ({0})
    union all select 'type ' || t.oid from pg_catalog.pg_type t
      join pg_catalog.pg_namespace n on n.oid = t.typnamespace where n.nspname <> all ({0}) and n.nspname !~ '^pg_(toast|temp)'
    union all select 'default ' || d.oid from pg_catalog.pg_attrdef d join pg_catalog.pg_class c on c.oid = d.adrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname <> all ({0})
    union all select 'trigger ' || g.oid from pg_catalog.pg_trigger g join pg_catalog.pg_class c on c.oid = g.tgrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname <> all ({0}) and not g.tgisinternal
    union all select 'extension ' || e.oid from pg_catalog.pg_extension e) y (x)"""
#: Statements, in an order in which most things go by themselves. What belongs to an extension stays.
_DROPS = """select array_agg(x order by at) from (
    select 1, format('drop %s if exists %I.%I cascade', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
        when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end, n.nspname, c.relname)
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = any ({0}) and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not c.relispartition
        and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_class'::regclass
          and e.objid = c.oid and (e.deptype = 'e' or c.relkind = 'S' and e.deptype in ('a', 'i')))
    union all select 2, 'drop routine if exists ' || p.oid::regprocedure || ' cascade'
      from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname = any ({0}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype in ('e', 'i'))
    union all select 3, format('drop type if exists %I.%I cascade', n.nspname, t.typname)
      from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      left join pg_catalog.pg_class c on c.oid = t.typrelid
      where n.nspname = any ({0}) and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
        and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_type'::regclass
          and e.objid = t.oid and e.deptype = 'e')
    union all select 4, format('drop text search configuration if exists %I.%I cascade', n.nspname, t.cfgname)
      from pg_catalog.pg_ts_config t join pg_catalog.pg_namespace n on n.oid = t.cfgnamespace
      where n.nspname = any ({0}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_ts_config'::regclass and e.objid = t.oid and e.deptype = 'e')
    union all select 5, format('drop text search dictionary if exists %I.%I cascade', n.nspname, t.dictname)
      from pg_catalog.pg_ts_dict t join pg_catalog.pg_namespace n on n.oid = t.dictnamespace
      where n.nspname = any ({0}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_ts_dict'::regclass and e.objid = t.oid and e.deptype = 'e')
    union all select 6, format('drop collation if exists %I.%I cascade', n.nspname, t.collname)
      from pg_catalog.pg_collation t join pg_catalog.pg_namespace n on n.oid = t.collnamespace
      where n.nspname = any ({0}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_collation'::regclass and e.objid = t.oid and e.deptype = 'e')) y (at, x)"""
#: Schemas of somebody's own.
ALL = """(select coalesce(array_agg(n.nspname), '{}') from pg_catalog.pg_namespace n where n.nspname <> 'information_schema'
    and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_namespace'::regclass and e.objid = n.oid and e.deptype = 'e'))"""


def emptied(schema: str) -> str:
    """Return the statement that empties a schema, or, where none is named, each that there is."""
    here = f"array[{literal(schema)}]::name[]" if schema else ALL
    return _block(f"""declare here name[] := {here}; before text[]; one text; drops text[];
begin
  before := ({_OUTSIDE.format("here")});
  drops := ({_DROPS.format("here")});
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
  if before is distinct from ({_OUTSIDE.format("here")}) then
    raise exception 'what stands in other schemas depends on what would be replaced here';
  end if;
end""")


def counted(schema: str, table: str, rows: int) -> str:
    """Return a statement that fails where a table holds another number of rows."""
    name = f"{ident(schema)}.{ident(table)}"
    return _block(
        f"begin if (select count(*) from {name}) <> {rows} then"  # noqa: S608 - names are quoted
        f" raise exception 'the rows of % are not as many as were loaded', {literal(name)}; end if; end"
    )


def _block(body: str) -> str:
    """Return a statement that runs ``body``, between marks that it does not hold."""
    mark = "$dbctl$"
    while mark in body:
        mark = f"{mark[:-1]}_$"
    return f"do {mark} {body} {mark};"
