"""The live tables, and the whole schema as a value."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from dbctl import progress
from dbctl.engines.contract.database import Reference, Table
from dbctl.engines.contract.schema import Schema, collapse_spaces
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.values import KINDS, PostgreSQLColumn
from dbctl.engines.servers.database import (
    NamedRow,
    Rows,
    ServerCatalog,
    ServerSchemaReader,
    group_rows,
    sort_indexes,
    sort_references,
)
from dbctl.engines.servers.values import NATIVE, Kind, convert_row
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError

if TYPE_CHECKING:
    from dbctl.engines.postgresql.connection import PostgreSQLConnection


def of_no_extension(catalog: str, alias: str) -> str:
    """Return SQL for whether an object of a catalog, a row that ``alias`` names, belongs to no extension."""
    return f"""not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.{catalog}'::regclass and e.objid = {alias}.oid and e.deptype = 'e')"""


#: Relations ``c`` with their schemas ``n``.
RELATIONS = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
#: Whether schema ``n`` is not one of the system.
IN_USER_SCHEMA = "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"
#: Whether relation ``c``, function ``p``, type ``t`` or schema ``n`` belongs to no extension.
OWN_RELATION, OWN_FUNCTION = of_no_extension("pg_class", "c"), of_no_extension("pg_proc", "p")
OWN_TYPE, OWN_SCHEMA = of_no_extension("pg_type", "t"), of_no_extension("pg_namespace", "n")
#: Tables whose rows are copied, also partitions, with the condition ``x`` for the rows of a table of an extension ``e``.
COPIED_TABLES = f"""pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'
left join (select u.id, u.condition from pg_catalog.pg_extension p,
    unnest(p.extconfig, p.extcondition) u (id, condition)) x on x.id = c.oid
where c.relkind = 'r' and c.relpersistence <> 't' and {IN_USER_SCHEMA} and (:scope = '' or n.nspname = :scope)"""
#: Whether schema ``n`` is one of the search path, in which that of the system may be, too.
IN_SEARCH_PATH = f"n.nspname = any(pg_catalog.current_schemas(false)) and {IN_USER_SCHEMA}"
#: Tables, partitions, views and foreign tables, without objects of extensions.
VISIBLE_PARTS = f"""c.relkind in ('r', 'p', 'v', 'm', 'f') and pg_catalog.pg_table_is_visible(c.oid)
  and {IN_SEARCH_PATH} and {OWN_RELATION}"""
VISIBLE = f"not c.relispartition and {VISIBLE_PARTS}"
#: The tables with these names, and their partitions in each schema.
IN_TABLES = f"""coalesce(pg_catalog.pg_partition_root(c.oid), c.oid) in (select c.oid from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {VISIBLE} and c.relname = any(:tables))"""
#: A leftover of an interrupted concurrent build: index ``i``, described by ``x``. PostgreSQL appends a number to a name
#: that exists already.
LEFTOVER_INDEX = "(i.relname ~ '_cc(new|old)[0-9]*$' and not x.indisvalid)"
#: The sequence ``q`` by which an app numbers the rows of a table whose key ``a`` has no default: it has the name of a serial column's
#: sequence, and belongs to no column. SQLAlchemy creates such sequences.
OWN_SEQUENCE = """q.relkind = 'S' and q.relnamespace = c.relnamespace and q.relname = c.relname || '_' || a.attname || '_seq'
    and i.indnkeyatts = 1 and a.attnum = i.indkey[0] and b.typname in ('int2', 'int4', 'int8')
    and not (a.atthasdef or a.attidentity <> '' or coalesce(d.has_default, false) or b.typdefault is not null)
    and not exists (select from pg_catalog.pg_depend o where o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      and o.objid = q.oid and o.deptype in ('a', 'i'))"""
#: Whether policies of table ``c`` apply to this role, as ``row_security_active``, which compatible servers may lack.
HIDES_ROWS = """(c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role(c.relowner, 'USAGE'))
    and not (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.rolname = current_user))"""
#: Type ``b`` is that of column ``a``, or the one below its domain ``d``; ``domains`` also has those in between. Few databases have domains:
#: with all types in the recursion, the query takes a quarter longer.
COLUMNS = f"""with recursive domains (oid, base, not_null, has_default) as (
  select oid, typbasetype, typnotnull, typdefault is not null from pg_catalog.pg_type where typtype = 'd'
  union all select d.oid, t.typbasetype, d.not_null or t.typnotnull, d.has_default or t.typdefault is not null
  from domains d join pg_catalog.pg_type t on t.oid = d.base where t.typtype = 'd')
select c.relname as table, c.relkind in ('v', 'm') as is_view, {HIDES_ROWS} as hides_rows, a.attname as name,
  c.relkind = 'r' and exists (select from pg_catalog.pg_inherits h where h.inhparent = c.oid) as is_inherited,
  pg_catalog.format_type(a.atttypid, a.atttypmod) as type, not (a.attnotnull or coalesce(d.not_null, false)) as nullable,
  (a.attnotnull or coalesce(d.not_null, false))
    and not (a.atthasdef or a.attidentity <> '' or coalesce(d.has_default, false) or b.typdefault is not null) and q.oid is null as required,
  coalesce(q.oid::pg_catalog.regclass::text, '') as sequence,
  coalesce(a.attnum = any(i.indkey), false) as is_primary_key,
  (select s.nspname from pg_catalog.pg_namespace s where s.oid = b.typnamespace) as type_schema, b.typname as base, b.typtype = 'e' as is_enum,
  array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = b.oid order by e.enumsortorder) as labels,
  a.attgenerated <> '' as is_generated
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join domains d on d.oid = a.atttypid
  join pg_catalog.pg_type b on b.oid = coalesce(d.base, a.atttypid) and b.typtype <> 'd'
  left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
  left join pg_catalog.pg_class q on {OWN_SEQUENCE}
where {VISIBLE} order by c.relname, a.attnum"""

#: The columns of a constraint ``f`` in order: of its table, and of the table to which a foreign key refers.
_NAMES = """array(select a.attname::text from unnest(f.{}) with ordinality k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = f.{} and a.attnum = k.number order by k.at)"""
OWN_COLUMNS, REFERENCED_COLUMNS = _NAMES.format("conkey", "conrelid"), _NAMES.format("confkey", "confrelid")
#: The columns of a foreign key ``f`` that a deletion sets, if it lists them, which servers before 15 cannot.
CLEARED_COLUMNS = """array(select a.attname::text from jsonb_array_elements_text(coalesce(nullif(to_jsonb(f) -> 'confdelsetcols', 'null'), '[]')) k (number)
    join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number::int order by a.attnum)"""
#: Whether a deletion sets only some columns of a foreign key ``f``.
CLEARS_PART = f"cardinality({CLEARED_COLUMNS}) between 1 and cardinality(f.conkey) - 1"
#: Whether constraint ``f`` does not compare values of all rows for equality: an exclusion, and since version 18 one of periods, which lie within
#: those of other rows, and one that is declared, but not enforced.
IS_SPECIAL = """(f.contype = 'x' or to_jsonb(f) ->> 'conperiod' is not distinct from 'true'
    or to_jsonb(f) ->> 'conenforced' is not distinct from 'false')"""
#: SQL for the statements that create foreign key ``f`` of table ``c`` again.
CREATE_KEY = """array[format('alter table %s add constraint %I %s', c.oid::regclass, f.conname, pg_catalog.pg_get_constraintdef(f.oid)),
    format('comment on constraint %I on %s is %L', f.conname, c.oid::regclass, pg_catalog.obj_description(f.oid, 'pg_constraint'))]"""
#: SQL for the statements that remove a subscription, and not its slot on the other server, which it may share with that of the app.
DROP_SUBSCRIPTION = """array[format('alter subscription %I disable', s.subname),
    format('alter subscription %I set (slot_name = none)', s.subname), format('drop subscription %I', s.subname)]"""
#: SQL for the name of a referential action, from the column of its code.
ACTION = """case {} when 'a' then 'NO ACTION' when 'r' then 'RESTRICT' when 'c' then 'CASCADE' when 'n' then 'SET NULL'
    when 'd' then 'SET DEFAULT' end"""
#: Also of tables that are not visible, such as those of another schema and partitions, if a deletion or an update follows the key.
KEYS = f"""select p.relname as parent, {VISIBLE} as is_visible, c.oid::pg_catalog.regclass::text as path,
  c.relname as table, {OWN_COLUMNS} as columns, {REFERENCED_COLUMNS} as to,
  {ACTION.format("f.confdeltype")} as on_delete, {ACTION.format("f.confupdtype")} as on_update, {CLEARED_COLUMNS} as cleared,
  f.condeferrable as deferrable
from pg_catalog.pg_constraint f join pg_catalog.pg_class c on c.oid = f.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_class p on p.oid = f.confrelid
where f.contype = 'f' and f.conparentid = 0 and not {IS_SPECIAL} and pg_catalog.pg_table_is_visible(p.oid)
  and ({VISIBLE} or f.confdeltype in ('c', 'n', 'd') or f.confupdtype in ('c', 'n', 'd'))
order by c.relname, f.conname"""

#: The setting with which the server refuses to read a table of which policies hide rows, if it is off.
ROW_SECURITY = "row_security"
INACCESSIBLE_SCHEMAS = """select n.nspname, current_user from pg_catalog.pg_namespace n
where n.nspname = any(string_to_array(translate(current_setting('search_path'), '" ', ''), ','))
  and not has_schema_privilege(n.oid, 'USAGE')"""


def quoted(*names: str) -> str:
    """Return SQL for a qualified name in quotes, from SQL for its parts."""
    return " || '.' || ".join(f"""'"' || replace({name}, '"', '""') || '"'""" for name in names)


class PostgreSQLCatalog(ServerCatalog):
    connection: PostgreSQLConnection
    _outside: defaultdict[str, list[Reference]]
    hiding: set[str]  #: the tables of which policies may hide rows from this role

    def _read_tables(self) -> Mapping[str, Table]:
        columns: dict[str, dict[str, PostgreSQLColumn]] = {}
        self.hiding = set()
        kinds: dict[str, dict[str, bool]] = {}
        for row in self.connection.fetch_by_name(COLUMNS):
            columns.setdefault(row["table"], {})[row["name"]] = _create_column(row)
            self.hiding |= {row["table"]} if row["hides_rows"] else set()
            kinds[row["table"]] = {"is_view": row["is_view"], "is_inherited": row["is_inherited"]}
        if not columns:
            self._require_access()
        return {name: Table(name=name, columns=columns, **kinds[name]) for name, columns in columns.items()}

    def quote_table(self, table: str) -> str:
        self.note_hidden_rows([table])
        return super().quote_table(table)

    def note_hidden_rows(self, tables: Iterable[str]) -> None:
        """Note of which of these tables policies may hide rows, unless the server refuses to read them."""
        self.tables()
        session = self.connection.session
        for table in sorted(self.hiding.intersection(tables)) if ROW_SECURITY not in session.settings else ():
            progress.add_note(f"{self.target}: policies may hide rows of {table} from role {session.role}")

    def _require_access(self) -> None:
        """Refuse to report an empty database when this role may not use its schema."""
        for schema, user in self.connection.fetch(INACCESSIBLE_SCHEMAS):
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"role {user} may not use schema {schema}",
                hint=f"Nothing was changed. As its owner or a superuser: GRANT USAGE ON SCHEMA {ident(str(schema))} TO {ident(str(user))};",
            )

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        references = defaultdict[str, list[Reference]](list)
        self._outside = defaultdict(list)
        for row in self.connection.fetch_by_name(KEYS):
            parent, path, is_visible = row.pop("parent"), row.pop("path"), row.pop("is_visible")
            if not is_visible:
                self._outside[parent].append(convert_row({**row, "table": path}, Reference))
            elif row["table"] in self.tables():
                references[parent].append(convert_row(row, Reference))
        return references

    def outside_references(self, table: str) -> Sequence[Reference]:
        self.references(table)  # reads them
        return self._outside.get(table, ())


def _create_column(row: dict[str, Any]) -> PostgreSQLColumn:
    kind: Kind = "enum" if row["is_enum"] else "other"
    if row["type_schema"] == "pg_catalog":
        kind = KINDS.get(row["base"], "other")
    row |= {"type": row["type"].upper(), "kind": kind, "native": NATIVE.get(kind, "")}
    row["base"] = f"{ident(row['type_schema'])}.{ident(row['base'])}"
    return msgspec.convert(row, PostgreSQLColumn)


TABLES = f"""select c.relname as name, c.relpersistence = 'u' as is_unlogged, c.relrowsecurity as has_row_security, c.relforcerowsecurity as has_forced_security,
  coalesce(c.reloptions, '{{}}') as options, pg_get_partkeydef(c.oid) as partitions,
  array(select i.inhparent::regclass::text from pg_catalog.pg_inherits i where i.inhrelid = c.oid) as parents,
  array(select concat_ws(' ', 'domain of', a.attname, format_type(t.typbasetype, t.typtypmod), case when t.typnotnull then 'not null' end,
      'default ' || t.typdefault, (select string_agg(pg_get_constraintdef(k.oid, true), ' ' order by k.conname)
        from pg_catalog.pg_constraint k where k.contypid = t.oid and k.contype = 'c'))
    from pg_catalog.pg_attribute a join pg_catalog.pg_type y on y.oid = a.atttypid
      join pg_catalog.pg_type t on t.oid in (y.oid, y.typelem) and t.typtype = 'd'
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as domains,
  array(select concat('sequence of ', a.attname, o.options) from pg_catalog.pg_depend d
    join pg_catalog.pg_sequence s on s.seqrelid = d.objid join pg_catalog.pg_type t on t.oid = s.seqtypid
    join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    cross join lateral (select concat(' as ' || format_type(nullif(t.oid, a.atttypid), null), ' increment ' || nullif(s.seqincrement, 1),
      ' start ' || nullif(s.seqstart, 1), ' minvalue ' || nullif(s.seqmin, 1),
      ' maxvalue ' || nullif(s.seqmax, (2::numeric ^ (8 * t.typlen - 1) - 1)::int8), ' cache ' || nullif(s.seqcache, 1),
      case when s.seqcycle then ' cycle' end) as options) o
    where d.classid = 'pg_catalog.pg_class'::regclass and d.refclassid = d.classid and d.refobjid = c.oid
      and d.refobjsubid > 0 and d.deptype in ('a', 'i') and o.options <> '') as sequences,
  array(select concat_ws(' ', 'policy', p.policyname, p.permissive, p.cmd, 'to ' || nullif(array_to_string(p.roles, ', '), 'public'),
      'using ' || p.qual, 'check ' || p.with_check)
    from pg_catalog.pg_policies p where p.schemaname = n.nspname and p.tablename = c.relname) as policies
{RELATIONS} where {VISIBLE} and c.relkind in ('r', 'p', 'f') order by c.relname"""
SCHEMA_COLUMNS = f"""select c.relname as owner, a.attname as name, format_type(a.atttypid, a.atttypmod) as type, not a.attnotnull as nullable,
  case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end as default,
  case when a.attcollation <> t.typcollation then l.collname else '' end as collation,
  case when a.attidentity = 'a' then 'generated always as identity' when a.attidentity = 'd' then 'generated by default as identity'
    when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) || case a.attgenerated when 's' then ' stored' else ' virtual' end else '' end as generated,
  array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid in (t.oid, t.typelem, t.typbasetype) order by e.enumsortorder) as labels
{RELATIONS} join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid left join pg_catalog.pg_collation l on l.oid = a.attcollation
  left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where {VISIBLE} order by c.relname, a.attnum"""
CONSTRAINTS = f"""select c.relname as owner, case when f.contype in ('c', 'f') and {IS_SPECIAL} then 'x' else f.contype::text end as kind, {OWN_COLUMNS} as columns, p.relname as table,
  {REFERENCED_COLUMNS} as to, {ACTION.format("f.confupdtype")} as on_update, {ACTION.format("f.confdeltype")} as on_delete,
  f.condeferred as deferred, pg_get_constraintdef(f.oid, true) as definition,
  {IS_SPECIAL} or f.contype <> 'c' and (f.condeferrable and not (f.contype = 'f' and f.condeferred) or f.confmatchtype = 'f' or not f.convalidated)
    or {CLEARS_PART} or f.contype = 'p' and exists (select from pg_catalog.pg_index x where x.indexrelid = f.conindid and x.indnatts > x.indnkeyatts) as is_option
{RELATIONS} join pg_catalog.pg_constraint f on f.conrelid = c.oid left join pg_catalog.pg_class p on p.oid = f.confrelid
where {VISIBLE} and f.conparentid = 0 order by c.relname, f.oid"""
#: The columns of index ``x`` with access method ``m``. A column of an index that accepts one NULL only is another one than that of an ordinary index.
INDEX_COLUMNS = """array(select case when k > x.indnkeyatts then pg_get_indexdef(x.indexrelid, k, true) || ' include' else
      concat_ws(' ', pg_get_indexdef(x.indexrelid, k, true), o.opcname, case when l.oid <> coalesce(a.attcollation, 100) then 'collate ' || quote_ident(l.collname) end,
        case when m.amname <> 'btree' then 'using ' || m.amname end,
        case x.indoption[k - 1] & 3 when 1 then 'desc nulls last' when 2 then 'nulls first' when 3 then 'desc' end,
        case when to_jsonb(x) ->> 'indnullsnotdistinct' = 'true' then 'nulls not distinct' end) end
    from generate_series(1, x.indnatts) k left join pg_catalog.pg_opclass o on o.oid = x.indclass[k - 1] and not o.opcdefault
      left join pg_catalog.pg_collation l on l.oid = x.indcollation[k - 1]
      left join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[k - 1] and a.attnum <> 0
    order by k)"""
INDEXES = f"""select c.relname as owner, case when f.oid is null then i.relname else '' end as name, x.indisunique as unique,
  coalesce(pg_get_expr(x.indpred, x.indrelid), '') as where, {INDEX_COLUMNS} as columns
{RELATIONS} join pg_catalog.pg_index x on x.indrelid = c.oid and not x.indisprimary
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_am m on m.oid = i.relam
  left join pg_catalog.pg_constraint f on f.conindid = x.indexrelid and f.contype in ('u', 'x')
where {VISIBLE} order by c.relname, i.relname"""
VIEWS = f"""select 'view' as kind, c.relname as name, pg_get_viewdef(c.oid, true) as text,
  concat_ws(' ', case c.relkind when 'm' then 'materialized' end, array_to_string(c.reloptions, ' '),
    (select string_agg(i.text, ' ' order by i.text) from (
      select concat('with ', case when x.indisunique then 'unique ' end, 'index ', substring(pg_get_indexdef(x.indexrelid) from ' USING (.*)')) as text
      from pg_catalog.pg_index x where x.indrelid = c.oid) i)) as properties {RELATIONS}
where {VISIBLE} and c.relkind in ('v', 'm') order by c.relname"""
#: SQL for when a trigger or a rule fires, from the column of its code.
FIRING = "case {} when 'D' then 'disabled' when 'A' then 'enabled always' when 'R' then 'enabled on replicas' else '' end"
TRIGGERS = f"""select 'trigger' as kind, g.tgname as name, c.relname as table, concat(pg_get_triggerdef(g.oid, true), ' ', p.prosrc, case when p.prosecdef then ' security definer' end, ' set ' || array_to_string(p.proconfig, ', ')) as text,
  {FIRING.format("g.tgenabled")} as properties
{RELATIONS} join pg_catalog.pg_trigger g on g.tgrelid = c.oid and not g.tgisinternal
  join pg_catalog.pg_proc p on p.oid = g.tgfoid where {VISIBLE} order by g.tgname, c.relname"""
#: A partition of a partition has the name of its parent.
PARTITIONS = f"""select 'partition' as kind, p.oid::regclass::text as name, c.relname as table, '' as properties,
  concat_ws(' ', case when q.parentrelid <> c.oid then 'of ' || q.parentrelid::text end, pg_get_expr(p.relpartbound, p.oid),
    'partition by ' || pg_get_partkeydef(p.oid)) as text
{RELATIONS} cross join lateral pg_partition_tree(c.oid) q join pg_catalog.pg_class p on p.oid = q.relid and p.oid <> c.oid
where {VISIBLE} and c.relkind = 'p' order by name"""
RULES = f"""select 'rule' as kind, r.rulename as name, c.relname as table, pg_get_ruledef(r.oid, true) as text,
  {FIRING.format("r.ev_enabled")} as properties
{RELATIONS} join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename <> '_RETURN'
where {VISIBLE} order by r.rulename, c.relname"""
#: Their definitions always name the schema.
STATISTICS = f"""select 'statistics' as kind, s.stxname as name, c.relname as table, '' as properties,
  replace(pg_get_statisticsobjdef(s.oid), format('CREATE STATISTICS %I.%I ', x.nspname, s.stxname), '') as text
{RELATIONS} join pg_catalog.pg_statistic_ext s on s.stxrelid = c.oid join pg_catalog.pg_namespace x on x.oid = s.stxnamespace
where {VISIBLE} order by s.stxname"""
COMMENTS = """select coalesce(a.attname::text, ''), d.description from pg_catalog.pg_description d
  left join pg_catalog.pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
where d.classoid = 'pg_catalog.pg_class'::regclass and d.objoid = cast(quote_ident(:table) as regclass)"""

_VARCHAR = r"'(?:[^']|'')*'::character varying(?:\(\d+\))?"
_ITEM = re.compile(_VARCHAR)
_ITEMS = rf"ARRAY\[({_VARCHAR}(?:, {_VARCHAR})*)\]"
_LIST = re.compile(rf"\({_ITEMS}\)::text\[\]|{_ITEMS}::text\[\]")
_CAST = re.compile(rf"\(({_VARCHAR})\)::text")


class PostgreSQLSchemaReader(ServerSchemaReader):
    comments_sql = COMMENTS

    def _fetch_schema(self) -> Schema:
        fetch = self._connection.fetch_by_name
        columns, constraints, indexes = (
            group_rows(fetch(sql)) for sql in (SCHEMA_COLUMNS, CONSTRAINTS, INDEXES)
        )
        tables = [
            _build_table(row, columns[row["name"]], constraints[row["name"]], indexes[row["name"]])
            for row in fetch(TABLES)
        ]
        codes = [code for sql in (VIEWS, TRIGGERS, PARTITIONS, RULES, STATISTICS) for code in fetch(sql)]
        for code in codes:
            text = _normalize_casts(collapse_spaces(code["text"]))
            code["text"] = f"{code['properties']} {text}".lstrip()
        return msgspec.convert({"tables": tables, "codes": codes}, Schema)


def _build_table(row: NamedRow, columns: Rows, constraints: Rows, indexes: Rows) -> NamedRow:
    for column in columns:
        labels = ", ".join(label.replace(",", "\\,") for label in column["labels"])
        column["type"] = column["storage"] = column["type"].upper() + (
            f" ({labels})" if column["labels"] else ""
        )
    for index in indexes:
        index["where"] = _normalize_casts(index["where"])
    rules = {kind: [rule for rule in constraints if rule["kind"] == kind] for kind in "pfc"}
    return {
        "name": row["name"],
        "columns": columns,
        "key": rules["p"][0]["columns"] if rules["p"] else [],
        "indexes": sort_indexes(indexes),
        "references": sort_references(rules["f"]),
        "checks": sorted(_normalize_casts(rule["definition"]) for rule in rules["c"]),
        "options": sorted(
            [*_options(row), *(rule["definition"] for rule in constraints if rule["is_option"])]
        ),
    }


def _options(row: NamedRow) -> Iterator[str]:
    if row["is_unlogged"]:
        yield "unlogged"
    if row["has_row_security"]:
        yield "row level security"
    if row["has_forced_security"]:
        yield "force row level security"
    if row["partitions"]:
        yield f"partition by {row['partitions']}"
    yield from map(_normalize_casts, row["domains"])
    yield from (*row["options"], *row["policies"], *row["sequences"])
    yield from (f"inherits {parent}" for parent in row["parents"])


def _normalize_casts(text: str) -> str:
    """Return an expression in the form that it has after dump and restore, which move casts into lists."""
    if "ARRAY[" not in text:
        return text
    expression = _LIST.sub(
        lambda match: f"ARRAY[{_ITEM.sub(lambda item: item[0] + '::text', match[1] or match[2])}]", text
    )
    return _CAST.sub(r"\1::text", expression)


PUBLIC = "public"
#: Whether there are user schemas besides $1.
HAS_OTHER_SCHEMAS = f"""select exists (select from pg_catalog.pg_namespace n
  where {IN_USER_SCHEMA} and n.nspname <> $1 and {OWN_SCHEMA}
  and (n.nspname <> 'public' or exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid)))"""


def read_scope(session: Session) -> str:
    """Return the schema of the app for a session; empty means the whole database.

    Prisma always writes ``schema=public``, which means the whole database unless there are other schemas.
    """
    schema = session.url_schema
    if schema in ("", PUBLIC):
        ((others,),) = session.run(HAS_OTHER_SCHEMAS, schema) if schema else [(False,)]
        return schema if others else ""
    return schema
