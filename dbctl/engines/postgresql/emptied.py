"""Statements that take everything of some schemas away, and refuse to take anything of other schemas along."""

from __future__ import annotations

from dbctl.engines.postgresql.property import literal
from dbctl.engines.sql import ident

#: What stands outside and points inside, so that a cascade would reach it. ``{0}``: the schemas, as an array.
_DEPENDENT = """select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  from pg_catalog.pg_depend d
  join (
    select 'pg_catalog.pg_class'::regclass, c.oid, c.relnamespace from pg_catalog.pg_class c
    union all select 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace from pg_catalog.pg_type t
    union all select 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace from pg_catalog.pg_proc p
  ) h (class, id, schema) on h.class = d.refclassid and h.id = d.refobjid
  join (
    select 'pg_catalog.pg_class'::regclass, c.oid, c.relnamespace from pg_catalog.pg_class c
    union all select 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace from pg_catalog.pg_type t
    union all select 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace from pg_catalog.pg_proc p
    union all select 'pg_catalog.pg_constraint'::regclass, f.oid, f.connamespace from pg_catalog.pg_constraint f
    union all select 'pg_catalog.pg_rewrite'::regclass, r.oid, c.relnamespace
      from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class
    union all select 'pg_catalog.pg_attrdef'::regclass, a.oid, c.relnamespace
      from pg_catalog.pg_attrdef a join pg_catalog.pg_class c on c.oid = a.adrelid
    union all select 'pg_catalog.pg_trigger'::regclass, g.oid, c.relnamespace
      from pg_catalog.pg_trigger g join pg_catalog.pg_class c on c.oid = g.tgrelid
    union all select 'pg_catalog.pg_policy'::regclass, y.oid, c.relnamespace
      from pg_catalog.pg_policy y join pg_catalog.pg_class c on c.oid = y.polrelid
  ) o (class, id, schema) on o.class = d.classid and o.id = d.objid
  join pg_catalog.pg_namespace m on m.oid = h.schema and m.nspname = any ({0})
  join pg_catalog.pg_namespace n on n.oid = o.schema and n.nspname <> all ({0}) and n.nspname !~ '^pg_toast'
  where d.deptype in ('n', 'a', 'i') limit 1"""
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
    return _block(f"""declare here name[] := {here}; one text; drops text[];
begin
  one := ({_DEPENDENT.format("here")});
  if one is not null then
    raise exception '% depends on what would be replaced here', one;
  end if;
  drops := ({_DROPS.format("here")});
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
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
