"""What a dump cannot contain or load, the empty schemas that it needs, and its text for an older server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import psycopg

from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, OWN_SCHEMA, of_no_extension
from dbctl.engines.postgresql.dump_programs import END, LONGEST_LINE, LOOK_BACK
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.settings import quote_literal
from dbctl.engines.sql.catalog import Row, ident
from dbctl.errors.backup import BackupUnloadableError

#: Errors for names that cannot be resolved.
UNRESOLVED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
_USER_SCHEMA = f"{IN_USER_SCHEMA} and $1::text in ('', n.nspname::text)"
#: Columns of types whose text cannot be read back in every case.
COLUMNS = f"""select format('%I.%I', n.nspname, c.relname), a.attname::text, t.typname::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_catalog.pg_type t on t.oid = a.atttypid and t.typnamespace = 'pg_catalog'::regnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and {_USER_SCHEMA} and t.typname = any ($2) order by 1, 2"""
#: Types without an input function, and types whose values are names of objects.
WITHOUT_INPUT = (
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
)
NAMES = ("regclass", "regoper", "regoperator", "regproc", "regprocedure", "regtype")
#: A load creates indexes after all rows.
INDEXED = "{} in (select indexrelid from pg_catalog.pg_index)"
#: Functions written as text that a load runs: they belong to an index, a check, a generated column or a materialized view.
#: Before version 15 the functions of a generated column are dependencies of the column, and not of its default.
FUNCTIONS = f"""with recursive used (class, id, by) as (
  select 'pg_catalog.pg_class'::regclass::oid, c.oid, 'index ' || c.oid::regclass from pg_catalog.pg_class c
    join pg_catalog.pg_index i on i.indexrelid = c.oid and (i.indexprs is not null or i.indpred is not null)
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {_USER_SCHEMA}
  union all select 'pg_catalog.pg_constraint'::regclass, f.oid, 'constraint ' || f.conname from pg_catalog.pg_constraint f
    join pg_catalog.pg_namespace n on n.oid = f.connamespace where f.contype = 'c' and {_USER_SCHEMA}
      and (f.conrelid = 0 or pg_catalog.pg_relation_size(f.conrelid) > 0)
  union all select 'pg_catalog.pg_attrdef'::regclass, d.oid, format('column %s.%I', c.oid::regclass, a.attname)
    from pg_catalog.pg_attrdef d join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum and a.attgenerated = 's'
    join pg_catalog.pg_class c on c.oid = d.adrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {_USER_SCHEMA}
      and pg_catalog.pg_relation_size(c.oid) > 0
  union all select e.refclassid, e.refobjid, format('column %s.%I', c.oid::regclass, a.attname)
    from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid and a.attgenerated = 's'
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.objsubid = a.attnum
    where e.refclassid in ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass) and {_USER_SCHEMA}
      and pg_catalog.pg_relation_size(c.oid) > 0
  union all select 'pg_catalog.pg_class'::regclass, c.oid, 'materialized view ' || c.oid::regclass from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind = 'm' and c.relispopulated and {_USER_SCHEMA}
  union select e.class, e.id, u.by from used u cross join lateral (
    select d.refclassid, d.refobjid from pg_catalog.pg_depend d where d.classid = u.class and d.objid = u.id
      and d.refclassid in ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
    union all select d.refclassid, d.refobjid from pg_catalog.pg_rewrite r join pg_catalog.pg_depend d
      on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind in ('v', 'm')
      where u.class = 'pg_catalog.pg_class'::regclass and r.ev_class = u.id and d.refobjid <> u.id
        and (d.refclassid in ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
          or d.refclassid = 'pg_catalog.pg_class'::regclass
            and exists (select from pg_catalog.pg_class w where w.oid = d.refobjid and w.relkind = 'v'))
    ) e (class, id))
select distinct on (p.oid) p.oid, p.oid::regprocedure::text, l.lanname::text, u.by
from used u join pg_catalog.pg_proc p on u.class = 'pg_catalog.pg_proc'::regclass and p.oid = u.id
  or u.class = 'pg_catalog.pg_operator'::regclass and p.oid = (select o.oprcode from pg_catalog.pg_operator o where o.oid = u.id)
join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('internal', 'c')
where p.oid >= 16384 and p.prosqlbody is null
  and not exists (select from unnest(p.proconfig) s where s like 'search\\_path=%') order by p.oid, u.by"""
#: Sentences about objects that a restore changes or loses. $1 limits them to one schema.
LOSSES = f"""select format('foreign table %s: its rows are on another server', c.oid::regclass)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind = 'f' and {_USER_SCHEMA}
union all select format('index %s is invalid and is left out', i.indexrelid::regclass)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
join pg_catalog.pg_namespace n on n.oid = c.relnamespace where not i.indisvalid and {_USER_SCHEMA}
union all select format('child table %s is restored with another column order', c.oid::regclass)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and not c.relispartition and {_USER_SCHEMA} and c.oid in (select inhrelid from pg_catalog.pg_inherits)
  and (select array_agg(a.attname order by a.attnum) from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) is distinct from
  (select array_agg(x.name order by x.parent, x.at) from (
    select distinct on (y.name) y.name, y.parent, y.at from (
      select a.attname as name, i.inhseqno as parent, a.attnum as at from pg_catalog.pg_inherits i
        join pg_catalog.pg_attribute a on a.attrelid = i.inhparent where i.inhrelid = c.oid and a.attnum > 0 and not a.attisdropped
      union all select a.attname, 1 << 30, a.attnum from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) y order by y.name, y.parent, y.at) x)
union all select format('unlogged table %s: a standby does not store its rows', c.oid::regclass)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where pg_catalog.pg_is_in_recovery() and c.relkind = 'r' and c.relpersistence = 'u' and {_USER_SCHEMA}
union all select format('%s is in a system schema and is left out', pg_catalog.pg_describe_object(o.class, o.id, 0))
from (select 'pg_catalog.pg_class'::regclass::oid, c.oid, c.relnamespace from pg_catalog.pg_class c where c.relkind <> 'i'
    and c.relkind <> 't' union all select 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace from pg_catalog.pg_proc p
  ) o (class, id, schema) join pg_catalog.pg_namespace n on n.oid = o.schema
where $1::text = '' and o.id >= 16384 and n.nspname in ('pg_catalog', 'information_schema') and not exists (
  select from pg_catalog.pg_depend e where e.classid = o.class and e.objid = o.id and e.deptype in ('e', 'i'))
union all select format('extension %s is of version %s; a restore installs version %s', e.extname, e.extversion, v.default_version)
from pg_catalog.pg_extension e join pg_catalog.pg_available_extensions v on v.name = e.extname
where $1::text = '' and v.default_version <> e.extversion
union all select format('extension %s is no longer available on the server; a restore needs it', e.extname)
from pg_catalog.pg_extension e where $1::text = '' and not exists (
  select from pg_catalog.pg_available_extensions v where v.name = e.extname)
union all select format(case when $2::boolean then 'subscription %s is left out, because this pg_dump writes options that the server lacks'
  else 'subscription %s is restored disabled, and only if a superuser created the backup' end, s.subname)
from pg_catalog.pg_subscription s where $1::text = ''
  and s.subdbid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
union all select format('replication slot %s is left out', s.slot_name) from pg_catalog.pg_replication_slots s
where $1::text = '' and s.database = current_database()"""
#: Objects that only other roles can restore, if this role is not a superuser.
ROLE_LOSSES = f"""select format('role %I owns objects; the role that restores must be a member of it', r.rolname)
from pg_catalog.pg_roles r where not pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') and (
  exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relowner = r.oid and {_USER_SCHEMA})
  or exists (select from pg_catalog.pg_proc c join pg_catalog.pg_namespace n on n.oid = c.pronamespace where c.proowner = r.oid and {_USER_SCHEMA}))
union all select format('event trigger %s: only a superuser can restore it', t.evtname)
from pg_catalog.pg_event_trigger t where $1::text = '' and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)
union all select format('publication %s: only a superuser can restore it', p.pubname) from pg_catalog.pg_publication p
where $1::text = '' and p.puballtables and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)"""


def describe_losses(
    session: Session, scope: str, target: str, *, omits_subscriptions: bool = False
) -> list[str]:
    """Return a sentence for each loss in a dump of a schema, or of all schemas; write nothing, and run no user function.

    Raises:
        BackupUnloadableError: the dump could never be loaded.
    """
    session.run("savepoint limits")
    try:
        # A timeout of the database or the role is for the app.
        session.run("set local statement_timeout = 0")
        session.run("set local search_path = ''")  # as every dump sets it
        session.run("set local check_function_bodies = on")  # otherwise a validator checks nothing
        functions = session.run(FUNCTIONS, scope)
        for problem, remedy in _find_obstacles(session, scope, functions):
            raise BackupUnloadableError(target=target, reason=problem, hint=remedy)
        losses = [str(text) for (text,) in session.run(LOSSES, scope, omits_subscriptions)]
        losses += [str(text) for (text,) in session.run(ROLE_LOSSES, scope)]
        # Only a test restore can verify other functions.
        return losses + [
            f"{dependent} calls function {function}, which sets no search_path: a restore runs it with an empty one;"
            " a drill tests it"
            for _, function, language, dependent in functions
            if language != "sql"
        ]
    finally:
        session.run("rollback to savepoint limits")


def _find_obstacles(session: Session, scope: str, functions: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield problems that make every load of a dump fail, each with its remedy."""
    for table, column, kind in session.run(COLUMNS, scope, [*WITHOUT_INPUT, *NAMES]):
        name = ident(str(column))
        condition = f"{name} is not null"
        if kind in NAMES:  # a number is the id of a missing object
            condition += f" and {name}::text !~ '^(-|[0-9]+)$' and (pg_catalog.to_{kind}({name}::text) is distinct from {name}"
            condition += f" or {INDEXED.format(name)})" if kind == "regclass" else ")"
        sql = f"select {name}::text from only {table} where {condition} limit 1"
        for (value,) in session.run(sql):
            yield (
                f"column {column} of {table} holds a value of type {kind} that cannot be read back: {value}",
                f"Change its type to text or oid: ALTER TABLE {table} ALTER COLUMN {name} TYPE text USING {name}::text;",
            )
    for oid, function, language, dependent in functions:
        if language == "sql":
            try:
                with session.transaction():
                    session.run("select pg_catalog.fmgr_sql_validator($1::oid)", oid)
            except UNRESOLVED as error:
                yield (
                    f"{dependent} calls function {function}, which cannot resolve its names during a load: {error.diag.message_primary}",
                    f"ALTER FUNCTION {function} SET search_path = {session.schema or 'public'}; (or write the schema into its body)",
                )


#: Objects that other objects can refer to, with their schemas.
_REFERENCED = """select 'pg_catalog.pg_class'::regclass, c.oid, c.relnamespace from pg_catalog.pg_class c
    union all select 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace from pg_catalog.pg_type t
    union all select 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace from pg_catalog.pg_proc p"""
#: Objects of other schemas that a cascade would drop. ``{0}``: the schemas, as an array.
DEPENDENT = f"""select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  from pg_catalog.pg_depend d
  join ({_REFERENCED}) h (class, id, schema) on h.class = d.refclassid and h.id = d.refobjid
  join (
    {_REFERENCED}
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
  from pg_catalog.pg_depend d join ({_REFERENCED}) h (class, id, schema) on h.class = d.refclassid and h.id = d.refobjid
  join pg_catalog.pg_namespace m on m.oid = h.schema and m.nspname = any ({{0}})
  where d.classid in ('pg_catalog.pg_publication_rel'::regclass, 'pg_catalog.pg_cast'::regclass,
    'pg_catalog.pg_event_trigger'::regclass) and d.deptype in ('n', 'a')
    and not exists (select from pg_catalog.pg_depend e
      where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e') limit 1"""
#: Drop statements, in an order in which most need no cascade. Objects of extensions are retained.
DROPS = f"""select array_agg(x order by at) from (
    select 1, format('drop %s if exists %I.%I cascade', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
        when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end, n.nspname, c.relname)
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = any ({{0}}) and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not c.relispartition
        and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_class'::regclass
          and e.objid = c.oid and (e.deptype = 'e' or c.relkind = 'S' and e.deptype in ('a', 'i')))
    union all select 2, 'drop routine if exists ' || p.oid::regprocedure || ' cascade'
      from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname = any ({{0}}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype in ('e', 'i'))
    union all select 3, 'drop operator if exists ' || o.oid::regoperator || ' cascade'
      from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
      where n.nspname = any ({{0}}) and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_operator'::regclass and e.objid = o.oid and e.deptype in ('e', 'i'))
    union all select 3, format('drop type if exists %I.%I cascade', n.nspname, t.typname)
      from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      left join pg_catalog.pg_class c on c.oid = t.typrelid
      where n.nspname = any ({{0}}) and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c') and {of_no_extension("pg_type", "t")}
    union all select 4, format('drop text search configuration if exists %I.%I cascade', n.nspname, t.cfgname)
      from pg_catalog.pg_ts_config t join pg_catalog.pg_namespace n on n.oid = t.cfgnamespace
      where n.nspname = any ({{0}}) and {of_no_extension("pg_ts_config", "t")}
    union all select 5, format('drop text search dictionary if exists %I.%I cascade', n.nspname, t.dictname)
      from pg_catalog.pg_ts_dict t join pg_catalog.pg_namespace n on n.oid = t.dictnamespace
      where n.nspname = any ({{0}}) and {of_no_extension("pg_ts_dict", "t")}
    union all select 6, format('drop collation if exists %I.%I cascade', n.nspname, t.collname)
      from pg_catalog.pg_collation t join pg_catalog.pg_namespace n on n.oid = t.collnamespace
      where n.nspname = any ({{0}}) and {of_no_extension("pg_collation", "t")}) y (at, x)"""
#: Objects of a whole database that are in no schema, and the rows of tables of extensions that a dump contains, such as the jobs of
#: pg_cron: in one statement, since such tables can refer to each other, and without tables that this role may not change.
_DROP_SCHEMALESS = """for one in select format('drop publication %I', p.pubname) from pg_catalog.pg_publication p loop execute one; end loop;
  perform pg_catalog.lo_unlink(l.oid) from pg_catalog.pg_largeobject_metadata l;
  for one in select 'with ' || string_agg(format('d%s as (delete from %s %s)', c.oid, c.oid::regclass, x.filter), ', ') || ' select'
    from pg_catalog.pg_extension e cross join lateral unnest(e.extconfig, e.extcondition) x (id, filter)
    join pg_catalog.pg_class c on c.oid = x.id and c.relkind in ('r', 'p')
    where pg_catalog.has_table_privilege(c.oid, 'DELETE') and pg_catalog.has_table_privilege(c.oid, 'SELECT')
    having count(*) > 0 loop execute one; end loop;"""
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
USER_SCHEMAS = f"""(select coalesce(array_agg(n.nspname), '{{}}') from pg_catalog.pg_namespace n
    where {IN_USER_SCHEMA} and {OWN_SCHEMA})"""


def empty_statement(schema: str) -> str:
    """Return the statement that empties a schema, or all schemas if ``schema`` is empty."""
    # Only a dump of the whole database contains objects without a schema.
    restore_privileges = (
        "pg_catalog.set_config('dbctl.again', array_to_string(("
        + _DEFAULT_PRIVILEGES.format(2)
        + "), ';'), true)"
    )
    check = f"coalesce(({DEPENDENT.format('here')}), ({_SCHEMALESS.format('here')}))"
    drop_schemaless = ""
    if not schema:
        restore_privileges = "true"
        check, drop_schemaless = f"({DEPENDENT.format('here')})", _DROP_SCHEMALESS
    schemas = f"array[{quote_literal(schema)}]::name[]" if schema else USER_SCHEMAS
    return _do_statement(f"""declare here name[] := {schemas}; one text; drops text[];
begin
  one := {check};
  if one is not null then
    raise exception '% depends on objects that would be replaced', one;
  end if;
  {drop_schemaless}
  drops := ({DROPS.format("here")});
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
  drops := ({_DEFAULT_PRIVILEGES.format(1)});
  perform {restore_privileges};
  foreach one in array coalesce(drops, '{{}}') loop execute one; end loop;
end""")


def row_count_check(schema: str, table: str, rows: int) -> str:
    """Return a statement that fails if the row count of a table differs; a dump lacks the rows that an extension creates in its own."""
    name = f"{ident(schema)}.{ident(table)}"
    return _do_statement(
        f"begin if not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass"
        f" and d.objid = {quote_literal(name)}::regclass and d.deptype = 'e') and (select count(*) from only {name}) <> {rows} then"
        f" raise exception 'the row count of % differs from the dump', {quote_literal(name)}; end if; end"
    )


def _do_statement(body: str) -> str:
    """Return a DO statement with a dollar quote that ``body`` does not contain."""
    mark = "$dbctl$"
    while mark in body:
        mark = f"{mark[:-1]}_$"
    return f"do {mark} {body} {mark};"


#: Settings of the head, by the version that introduced them.
_SETTING_VERSIONS = {b"transaction_timeout": 17}
#: The version in which sequences may be unlogged.
SEQUENCE_PERSISTENCE = 15
_PERSISTENCE = re.compile(
    rb'( AS IDENTITY \(\n    SEQUENCE NAME (?:[^\n"]|"(?:[^"]|"")*")+\n)    (?:UN)?LOGGED\n'
)
_HEAD_END = re.compile(rb"\nSET client_min_messages = [^\n]*\n")


def adapt_to_server(blocks: Iterable[bytes], version: int) -> Iterator[bytes]:
    """Remove the transaction around a dump, and settings and options that the server version does not support.

    A program writes those of its own version, even into the dump of an older server.

    Raises:
        ValueError: the dump begins a transaction and does not commit it.
    """
    buffer, blocks = b"", _remove_persistence(blocks) if version < SEQUENCE_PERSISTENCE else iter(blocks)
    for block in blocks:
        buffer += block
        if _HEAD_END.search(buffer) or len(buffer) > LONGEST_LINE:
            break
    for name, since in _SETTING_VERSIONS.items():
        if version < since:
            buffer = buffer.replace(b"\nSET " + name + b" = 0;\n", b"\n", 1)
    head, begin, buffer = buffer.partition(b"\nBEGIN;\n")
    if not begin or not _HEAD_END.search(buffer):
        yield head + begin + buffer
        yield from blocks
        return
    yield head + b"\n"
    for block in blocks:
        yield buffer[:-LOOK_BACK]
        buffer = buffer[-LOOK_BACK:] + block
    text, commit, end = buffer.rpartition(b"\nCOMMIT;\n\n--" + END)
    if END in buffer and not commit:
        raise ValueError("a transaction without COMMIT")
    yield text + (b"\n--" + END if commit else b"") + end


def _remove_persistence(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Remove LOGGED and UNLOGGED from the identity sequences of a dump; they are described before all rows."""
    text, blocks = b"", iter(blocks)
    for block in blocks:
        text += block
        begin = text.find(b"; Type: TABLE DATA; ")
        end = begin if begin >= 0 else max(0, text.rfind(b"\n--\n"))  # between two statements
        yield _PERSISTENCE.sub(rb"\1", text[:end])
        text = text[end:]
        if begin >= 0:
            break
    yield text
    yield from blocks


_ROWS = re.compile(rb"COPY .* FROM stdin;")
#: Parts after the rows: keys, indexes, triggers and rules, which may refer to missing objects.
_TAIL = re.compile(
    rb"-- Name: .*; Type: (?:CHECK CONSTRAINT|CONSTRAINT|FK CONSTRAINT|INDEX|INDEX ATTACH|TRIGGER|RULE|POLICY|ROW SECURITY|STATISTICS|PUBLICATION TABLE); "
)


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
