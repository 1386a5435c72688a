"""Queries about the tables, roles and counters of a database that a copy contains."""

from __future__ import annotations

#: Tables whose rows are copied, also partitions and those of extensions whose rows belong to the app. $scope limits them.
TABLES = """select n.nspname::text as schema, c.relname::text as name,
  array(select array[a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)] from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum) as columns,
  array(select a.attname::text from pg_catalog.pg_index i cross join unnest(i.indkey) with ordinality k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
    where i.indrelid = c.oid and i.indisprimary and k.at <= i.indnkeyatts order by k.at) as key,
  coalesce(x.condition, '') as condition
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'
left join (select u.id, u.condition from pg_catalog.pg_extension p,
    unnest(p.extconfig, p.extcondition) u (id, condition)) x on x.id = c.oid
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and (:scope = '' or n.nspname = :scope) and (e.objid is null or x.id is not null)
order by 1, 2"""
_OWNED = """(select c.relowner as owner, c.relacl as acl, c.relnamespace as place from pg_catalog.pg_class c
  union all select p.proowner, p.proacl, p.pronamespace from pg_catalog.pg_proc p
  union all select t.typowner, t.typacl, t.typnamespace from pg_catalog.pg_type t
  union all select n.nspowner, n.nspacl, n.oid from pg_catalog.pg_namespace n
  union all select null, a.attacl, c.relnamespace from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid where a.attacl is not null
  union all select d.defaclrole, d.defaclacl, n.oid from pg_catalog.pg_default_acl d
    join pg_catalog.pg_namespace n on d.defaclnamespace in (0, n.oid))"""
#: Roles that own objects, and roles that have grants on them.
ROLES = f"""select r.rolname::text, bool_or(o.is_owner) from (
  select owned.owner as role, true as is_owner, owned.place from {_OWNED} owned where owned.owner is not null
  union all select a.grantee, false, owned.place from {_OWNED} owned
    cross join lateral pg_catalog.aclexplode(owned.acl) a where a.grantee <> 0) o
join pg_catalog.pg_roles r on r.oid = o.role join pg_catalog.pg_namespace n on n.oid = o.place
where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope) group by 1 order by 1"""
#: Whether this role may use other roles as owners.
KNOWN_ROLES = """select r.rolname::text, pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') from pg_catalog.pg_roles r"""
SEQUENCES = """select n.nspname::text, c.relname::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope)
  and c.relpersistence <> 't' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e') order by 1, 2"""
#: Materialized views with rows, those that others read first.
POPULATED = """select n.nspname::text, c.relname::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm' and c.relispopulated and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and (:scope = '' or n.nspname = :scope) and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e') order by c.oid"""
#: What pg_dump describes, and a copy of the rows of tables lacks.
OMISSIONS = """select 'large object' as kind, count(*)::text as name, 'only a backup contains large objects' as reason, true as is_blocking
  from pg_catalog.pg_largeobject_metadata having count(*) > 0
union all select 'subscription', s.subname, 'it would receive changes of another server', false from pg_catalog.pg_subscription s
  where s.subdbid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
union all select 'foreign table', c.oid::regclass::text, 'its rows are on another server', false
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'f' and (:scope = '' or n.nspname = :scope)
union all select 'index', i.indexrelid::regclass::text, 'it is invalid', false
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where not i.indisvalid and (:scope = '' or n.nspname = :scope)"""
#: Anything that the destination of a copy must not have.
CONTENTS = """select c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and (:scope = '' or n.nspname = :scope) and c.relpersistence <> 't' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
union all select format('%s', p.oid::regprocedure) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope)
  and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
union all select format_type(t.oid, null) from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where t.typtype in ('d', 'e') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope)
  and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
order by 1"""
#: What changes or refuses rows: foreign keys and triggers, with the statements that create them again.
GUARDS = """select format('alter table %s drop constraint %I', c.oid::regclass, f.conname) as drop,
  array_remove(array[format('alter table %s add constraint %I %s', c.oid::regclass, f.conname, pg_get_constraintdef(f.oid)),
    format('comment on constraint %I on %s is %L', f.conname, c.oid::regclass,
      nullif(obj_description(f.oid, 'pg_constraint'), ''))], null) as create
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0
where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope)
union all
select format('drop trigger %I on %s', g.tgname, c.oid::regclass), array_remove(array[pg_get_triggerdef(g.oid),
    case g.tgenabled when 'D' then format('alter table %s disable trigger %I', c.oid::regclass, g.tgname)
      when 'R' then format('alter table %s enable replica trigger %I', c.oid::regclass, g.tgname)
      when 'A' then format('alter table %s enable always trigger %I', c.oid::regclass, g.tgname) end,
    format('comment on trigger %I on %s is %L', g.tgname, c.oid::regclass, nullif(obj_description(g.oid, 'pg_trigger'), ''))], null)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_trigger g on g.tgrelid = c.oid and not g.tgisinternal
where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (:scope = '' or n.nspname = :scope)
  and coalesce(to_jsonb(g) ->> 'tgparentid', '0') = '0'
order by 1"""
#: Schemas that a copy of one schema leaves out.
OTHER_SCHEMAS = """select distinct n.nspname::text from pg_catalog.pg_namespace n
join pg_catalog.pg_class c on c.relnamespace = n.oid where n.nspname not in ('information_schema', :scope) and n.nspname !~ '^pg_'
and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid
  and e.deptype = 'e') order by 1"""
ENCODING = "select pg_catalog.pg_encoding_to_char(encoding)::text from pg_catalog.pg_database where datname = current_database()"
EMPTY_SCHEMAS = """select n.nspname::text from pg_catalog.pg_namespace n where n.nspname not in ('information_schema', 'public')
and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_namespace'::regclass and e.objid = n.oid and e.deptype = 'e')"""
