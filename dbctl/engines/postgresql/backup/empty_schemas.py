"""SQL that drops all objects of given schemas, and fails if objects of other schemas depend on them."""

from __future__ import annotations

from dbctl.engines.postgresql.backup.database_properties import quote_literal
from dbctl.engines.sql.catalog import ident

#: Objects that other objects can refer to.
_REFERENCED = """(
    select 'pg_catalog.pg_class'::regclass, c.oid, c.relnamespace from pg_catalog.pg_class c
    union all select 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace from pg_catalog.pg_type t
    union all select 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace from pg_catalog.pg_proc p
  ) h (class, id, schema)"""
#: Objects of other schemas that a cascade would drop. ``{0}``: the schemas, as an array.
_DEPENDENT = f"""select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  from pg_catalog.pg_depend d
  join {_REFERENCED} on h.class = d.refclassid and h.id = d.refobjid
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
  join pg_catalog.pg_namespace m on m.oid = h.schema and m.nspname = any ({{0}})
  join pg_catalog.pg_namespace n on n.oid = o.schema and n.nspname <> all ({{0}}) and n.nspname !~ '^pg_toast'
  where d.deptype in ('n', 'a', 'i') limit 1"""
#: Objects without a schema that a cascade would drop, and that the dump of a schema does not contain.
_SCHEMALESS = f"""select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  from pg_catalog.pg_depend d join {_REFERENCED} on h.class = d.refclassid and h.id = d.refobjid
  join pg_catalog.pg_namespace m on m.oid = h.schema and m.nspname = any ({{0}})
  where d.classid in ('pg_catalog.pg_publication_rel'::regclass, 'pg_catalog.pg_cast'::regclass,
    'pg_catalog.pg_event_trigger'::regclass) and d.deptype in ('n', 'a')
    and not exists (select from pg_catalog.pg_depend e
      where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e') limit 1"""
#: Drop statements, in an order in which most need no cascade. Objects of extensions are retained.
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
    union all select 3, 'drop operator if exists ' || o.oid::regoperator || ' cascade'
      from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
      where n.nspname = any ({0}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_operator'::regclass and e.objid = o.oid and e.deptype in ('e', 'i'))
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
#: Objects of a whole database that are in no schema.
_DROP_SCHEMALESS = """for one in select format('drop publication %I', p.pubname) from pg_catalog.pg_publication p loop execute one; end loop;
  perform pg_catalog.lo_unlink(l.oid) from pg_catalog.pg_largeobject_metadata l;"""
#: Default privileges of this role: reset to the built-in ones (1), so that loaded objects get no additional grants. A dump
#: contains them, but the dump of a schema lacks those that cover all schemas: they are granted again afterwards (2).
_DEFAULT_PRIVILEGES = """with e as (
    select n.nspname, d.defaclacl as own, pg_catalog.acldefault(
        case d.defaclobjtype when 'S' then 's' else d.defaclobjtype end, d.defaclrole) as usual,
      case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
        when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end as kind
    from pg_catalog.pg_default_acl d left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace
    where d.defaclrole = (select oid from pg_catalog.pg_roles where rolname = current_user)
      and (d.defaclnamespace = 0 or n.nspname = any (here))
  ), g as (
    select e.nspname, e.kind, v.way, v.at, case a.grantee when 0 then 'public'
        else quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end as who, a.privilege_type as what,
      case when a.is_grantable then ' with grant option' else '' end as more
    from e cross join lateral (values (1, 1, e.own), (1, 2, e.usual), (2, 1, e.usual), (2, 2, e.own)) v (way, at, acl)
    cross join lateral pg_catalog.aclexplode(v.acl) a where v.way = 1 and v.at = 1 or e.nspname is null
  )
  select array_agg('alter default privileges' || coalesce(' in schema ' || quote_ident(nspname), '') || x order by at)
  from (select distinct nspname, at, case at when 1 then format(' revoke all on %s from %s', kind, who)
      else format(' grant %s on %s to %s%s', what, kind, who, more) end
    from g where way = {0}) s (nspname, at, x)"""
#: Runs after the load.
RESTORE_DEFAULT_PRIVILEGES = """do $dbctl$ begin if pg_catalog.current_setting('dbctl.again', true) <> '' then
  execute pg_catalog.current_setting('dbctl.again'); end if; end $dbctl$;"""
#: Schemas that belong neither to the system nor to an extension.
USER_SCHEMAS = """(select coalesce(array_agg(n.nspname), '{}') from pg_catalog.pg_namespace n where n.nspname <> 'information_schema'
    and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_namespace'::regclass and e.objid = n.oid and e.deptype = 'e'))"""


def empty_statement(schema: str) -> str:
    """Return the statement that empties a schema, or all schemas if ``schema`` is empty."""
    # Only a dump of the whole database contains objects without a schema.
    restore_privileges = (
        "pg_catalog.set_config('dbctl.again', array_to_string(("
        + _DEFAULT_PRIVILEGES.format(2)
        + "), ';'), true)"
    )
    check = f"coalesce(({_DEPENDENT.format('here')}), ({_SCHEMALESS.format('here')}))"
    drop_schemaless = ""
    if not schema:
        restore_privileges = "true"
        check, drop_schemaless = f"({_DEPENDENT.format('here')})", _DROP_SCHEMALESS
    schemas = f"array[{quote_literal(schema)}]::name[]" if schema else USER_SCHEMAS
    return _do_statement(f"""declare here name[] := {schemas}; one text; drops text[];
begin
  one := {check};
  if one is not null then
    raise exception '% depends on objects that would be replaced', one;
  end if;
  {drop_schemaless}
  drops := ({_DROPS.format("here")});
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
  drops := ({_DEFAULT_PRIVILEGES.format(1)});
  perform {restore_privileges};
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
end""")


def dependents_query(schemas: str) -> str:
    """Return the query for objects outside of ``schemas``, an SQL array of names, that a cascade would drop."""
    return _DEPENDENT.format(schemas)


def drops_query(schemas: str) -> str:
    """Return the query for an array of statements that drop everything in ``schemas``."""
    return _DROPS.format(schemas)


def row_count_check(schema: str, table: str, rows: int) -> str:
    """Return a statement that fails if the row count of a table differs."""
    name = f"{ident(schema)}.{ident(table)}"
    return _do_statement(
        f"begin if (select count(*) from only {name}) <> {rows} then"
        f" raise exception 'the row count of % differs from the dump', {quote_literal(name)}; end if; end"
    )


def _do_statement(body: str) -> str:
    """Return a DO statement with a dollar quote that ``body`` does not contain."""
    mark = "$dbctl$"
    while mark in body:
        mark = f"{mark[:-1]}_$"
    return f"do {mark} {body} {mark};"
