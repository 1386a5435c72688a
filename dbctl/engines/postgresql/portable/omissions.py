"""Statements that return the parts of a PostgreSQL schema that a derived schema lacks."""

from __future__ import annotations

from dbctl.engines.contract.database import WRITE_LOCK
from dbctl.engines.postgresql.catalog import VISIBLE

_FROM = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
_INDEX = f"""i.relname, c.relname, '{{}}' {_FROM}
  join pg_catalog.pg_index x on x.indrelid = c.oid and x.indisvalid join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_am m on m.oid = i.relam where {VISIBLE} and c.relkind in ('r', 'p') and m.amname in ('btree', 'hash') and {{}}"""
_CONSTRAINT = f"""{{}}, c.relname, 'it is checked at each statement, and cannot be deferred' {_FROM}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.condeferrable where {VISIBLE} and {{}}"""
#: What a domain requires of the values of a column.
_DOMAIN = f"""a.attname || ': ' || {{}}, c.relname, 'that of domain ' || t.typname || ' is left out' {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid and t.typtype = 'd'
  left join pg_catalog.pg_constraint f on f.contypid in (t.oid, t.typbasetype) and f.contype = 'c'
where {VISIBLE} and c.relkind in ('r', 'p') and {{}}"""
_DOMAIN_PARTS = (
    ("check", "pg_get_constraintdef(f.oid)", "f.oid is not null"),
    ("default", "t.typdefault", "t.typdefault is not null and not a.atthasdef"),
    ("not null", "'NOT NULL'", "t.typnotnull and not a.attnotnull"),
)
#: Properties of indexes, by their descriptions.
_INDEX_PROPERTIES = {
    "its INCLUDE columns are left out": "x.indnatts > x.indnkeyatts",
    "its operator class is left out": "exists (select from pg_catalog.pg_opclass o where o.oid = any(x.indclass) and not o.opcdefault)",
    "its order of NULLs is left out": "exists (select from unnest(x.indoption) o where o & 3 in (1, 2))",
    "it accepts several rows with NULL (NULLS NOT DISTINCT is left out)": (
        "coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false)"  # since version 15
    ),
    "its type hash is left out": "m.amname = 'hash'",
    "its comment is left out": "obj_description(i.oid, 'pg_class') <> ''",
    "its collation is left out": """exists (select from generate_series(1, x.indnkeyatts) k
    left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[k - 1] and a.attnum <> 0
    join pg_catalog.pg_collation l on l.oid = x.indcollation[k - 1] where l.collname <> 'default' and l.oid is distinct from a.attcollation)""",
}
OMISSIONS = (
    "\nunion all ".join(
        [
            """select 'function' as kind, p.proname as name, '' as table, 'functions have to be written again' as reason
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any(pg_catalog.current_schemas(false)) and p.proname <> '"""
            + WRITE_LOCK
            + """' and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')""",
            f"select 'foreign table', c.relname, '', 'its rows are in another database' {_FROM} where {VISIBLE} and c.relkind = 'f'",
            f"""select 'sequence', c.relname, '', 'no column owns it' {_FROM} where c.relkind = 'S' and pg_catalog.pg_table_is_visible(c.oid)
  and n.nspname = any(pg_catalog.current_schemas(false)) and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype in ('a', 'i', 'e'))""",
            f"""select 'table', c.relname, '', 'it is in schema ' || n.nspname || ', which is not in the search path' {_FROM}
  where c.relkind in ('r', 'p') and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname not like 'pg\\_%' and n.nspname <> all(pg_catalog.current_schemas(false))
  and exists (select from pg_catalog.pg_constraint f join pg_catalog.pg_class o on f.contype = 'f' and (f.conrelid, f.confrelid) in ((c.oid, o.oid), (o.oid, c.oid))
    where o.relnamespace::regnamespace::text = any(array(select quote_ident(s) from unnest(pg_catalog.current_schemas(false)) s)))""",
            *(
                "select '" + kind + "', " + _DOMAIN.format(text, condition)
                for kind, text, condition in _DOMAIN_PARTS
            ),
            f"""select 'policy', p.polname, c.relname, 'only PostgreSQL has row level security' {_FROM}
  join pg_catalog.pg_policy p on p.polrelid = c.oid where {VISIBLE}""",
            f"""select 'constraint', f.conname, c.relname, 'only PostgreSQL has exclusion constraints' {_FROM}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'x' where {VISIBLE}""",
            f"""select 'rule', r.rulename, c.relname, 'only PostgreSQL has rules' {_FROM}
  join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename <> '_RETURN' where {VISIBLE}""",
            f"""select 'comment', c.relname, '', 'only comments on tables and columns are created' {_FROM}
  where {VISIBLE} and c.relkind in ('v', 'm') and obj_description(c.oid, 'pg_class') <> ''""",
            f"""select 'collation', a.attname, c.relname, 'collation ' || l.collname || ' is left out' {_FROM}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid and t.typcollation <> a.attcollation
  join pg_catalog.pg_collation l on l.oid = a.attcollation and l.collisdeterministic where {VISIBLE} and c.relkind in ('r', 'p')""",
            "select 'deferred check', " + _CONSTRAINT.format("f.conname", "f.contype in ('p', 'u')"),
            "select 'deferred check', "
            + _CONSTRAINT.format("f.conname", "f.contype = 'f' and not f.condeferred"),
            *(
                "select 'index', " + _INDEX.format(reason, condition)
                for reason, condition in _INDEX_PROPERTIES.items()
            ),
        ]
    )
    + "\norder by 1, 2, 3, 4"
)
