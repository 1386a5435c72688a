"""Limits of pg_dump: find objects that it cannot save, or that no restore could load."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from dbctl.engines.postgresql.connection.session import Session
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import BackupUnloadableError

#: Errors for names that cannot be resolved.
UNRESOLVED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
_USER_SCHEMA = (
    "n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and $1::text in ('', n.nspname::text)"
)
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
    session.execute(b"savepoint limits")
    try:
        # A timeout of the database or the role is for the app.
        session.execute(b"set local statement_timeout = 0")
        session.execute(b"set local search_path = ''")  # as every dump sets it
        for problem, remedy in _find_obstacles(session, scope):
            raise BackupUnloadableError(target=target, reason=problem, hint=remedy)
        losses = [str(text) for (text,) in session.execute(LOSSES.encode(), [scope, omits_subscriptions])]
        losses += [str(text) for (text,) in session.execute(ROLE_LOSSES.encode(), [scope]).fetchall()]
        return [*losses, *_find_unverifiable(session, scope)]
    finally:
        session.execute(b"rollback to savepoint limits")


def _find_obstacles(session: Session, scope: str) -> Iterator[tuple[str, str]]:
    """Yield problems that make every load of a dump fail, each with its remedy."""
    for table, column, kind in session.execute(
        COLUMNS.encode(), [scope, [*WITHOUT_INPUT, *NAMES]]
    ).fetchall():
        name = ident(str(column))
        condition = f"{name} is not null"
        if kind in NAMES:  # a number is the id of a missing object
            condition += f" and {name}::text !~ '^(-|[0-9]+)$' and (pg_catalog.to_{kind}({name}::text) is distinct from {name}"
            condition += f" or {INDEXED.format(name)})" if kind == "regclass" else ")"
        sql = f"select {name}::text from only {table} where {condition} limit 1"
        for (value,) in session.execute(sql.encode()).fetchall():
            yield (
                f"column {column} of {table} holds a value of type {kind} that cannot be read back: {value}",
                f"Change its type to text or oid: ALTER TABLE {table} ALTER COLUMN {name} TYPE text USING {name}::text;",
            )
    for oid, function, language, dependent in session.execute(FUNCTIONS.encode(), [scope]).fetchall():
        if language == "sql":
            try:
                with session.transaction():
                    session.execute(b"select pg_catalog.fmgr_sql_validator($1::oid)", [oid])
            except UNRESOLVED as error:
                yield (
                    f"{dependent} calls function {function}, which cannot resolve its names during a load: {error.diag.message_primary}",
                    f"ALTER FUNCTION {function} SET search_path = {session.schema or 'public'}; (or write the schema into its body)",
                )


def _find_unverifiable(session: Session, scope: str) -> Iterator[str]:
    """Yield functions that only a test restore can verify."""
    for _oid, function, language, dependent in session.execute(FUNCTIONS.encode(), [scope]).fetchall():
        if language != "sql":
            yield (
                f"{dependent} calls function {function}, which sets no search_path: a restore runs it with an empty one;"
                " a drill tests it"
            )
