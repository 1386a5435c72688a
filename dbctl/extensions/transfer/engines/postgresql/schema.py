"""Read the portable schema, and what it omits."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.schema import WRITE_LOCK, SchemaTable
from dbctl.engines.postgresql.catalog import (
    CLEARS_PART,
    IN_SEARCH_PATH,
    IN_USER_SCHEMA,
    IS_SPECIAL,
    OWN_COLUMNS,
    OWN_FUNCTION,
    OWN_RELATION,
    RELATIONS,
    VISIBLE,
    read_scope,
)
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.errors import SELECT_SCHEMA
from dbctl.engines.servers.database import NamedRow, Rows, group_rows
from dbctl.engines.sql.catalog import ident, is_storable, quote_literal
from dbctl.errors.usage import SchemaMismatchError
from dbctl.extensions.transfer.engines.postgresql.types import IGNORES_CASE, read_type
from dbctl.extensions.transfer.portable.contract import (
    LARGE_OBJECT,
    DerivedSchema,
    IndexTerm,
    LogicalType,
    Omission,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableSchemas,
    PortableTable,
    PortableView,
    StorageLimits,
)
from dbctl.extensions.transfer.portable.read import interpret_constraints, list_omissions, strip_parentheses
from dbctl.model import TimeForm

_INDEX = f"""i.relname, c.relname, '{{}}' {RELATIONS}
  join pg_catalog.pg_index x on x.indrelid = c.oid and x.indisvalid join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_am m on m.oid = i.relam where {VISIBLE} and c.relkind in ('r', 'p') and m.amname in ('btree', 'hash') and {{}}"""
_CONSTRAINT = f"""{{}}, c.relname, 'it is checked at each statement, and cannot be deferred' {RELATIONS}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.condeferrable where {VISIBLE} and {{}}"""
_FOREIGN_KEY = f"""array_to_string({OWN_COLUMNS}, ', '), c.relname, '{{}}' {RELATIONS}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0 where {VISIBLE} and {{}}"""
#: The kind of the omission of an action that no other engine has.
_ACTION = "foreign key action"
#: What a domain requires of the values of a column.
_DOMAIN = f"""a.attname || ': ' || {{}}, c.relname, 'that of domain ' || t.typname || ' is left out' {RELATIONS}
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
#: Content that no table has.
LARGE_OBJECTS = f"""select '{LARGE_OBJECT}' as kind, count(*)::text as name, 'only a backup contains large objects' as reason, true as is_blocking
  from pg_catalog.pg_largeobject_metadata having count(*) > 0"""
#: The same if a table may refer to them: they have no schema, so that they may be those of another app in the database.
_REFERENCED_OBJECTS = f"""select o.* from ({LARGE_OBJECTS}) o where exists (select {RELATIONS}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid
  where {VISIBLE} and c.relkind in ('r', 'p') and 'pg_catalog.oid'::regtype in (a.atttypid, t.typbasetype))"""
OMISSIONS = (
    "\nunion all ".join(
        [
            f"""select 'function' as kind, p.proname as name, '' as table, 'functions have to be written again' as reason
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where {IN_SEARCH_PATH} and p.proname <> '"""
            + WRITE_LOCK
            + f"' and {OWN_FUNCTION}",
            f"select 'foreign table', c.relname, '', 'its rows are in another database' {RELATIONS} where {VISIBLE} and c.relkind = 'f'",
            f"""select 'sequence', c.relname, '', 'no column owns it' {RELATIONS} where c.relkind = 'S' and pg_catalog.pg_table_is_visible(c.oid)
  and {IN_SEARCH_PATH} and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype in ('a', 'i', 'e'))""",
            f"""select 'table', c.relname, '', 'it is in schema ' || n.nspname || ', which is not in the search path' {RELATIONS}
  where c.relkind in ('r', 'p') and not c.relispartition and {IN_USER_SCHEMA} and {OWN_RELATION} and n.nspname <> all(pg_catalog.current_schemas(false))
  and (:scope = '' or exists (select from pg_catalog.pg_constraint f join pg_catalog.pg_class o on f.contype = 'f' and (f.conrelid, f.confrelid) in ((c.oid, o.oid), (o.oid, c.oid))
    where o.relnamespace::regnamespace::text = any(array(select quote_ident(s) from unnest(pg_catalog.current_schemas(false)) s))))""",
            *(
                "select '" + kind + "', " + _DOMAIN.format(text, condition)
                for kind, text, condition in _DOMAIN_PARTS
            ),
            f"""select 'policy', p.polname, c.relname, 'only PostgreSQL has row level security' {RELATIONS}
  join pg_catalog.pg_policy p on p.polrelid = c.oid where {VISIBLE}""",
            f"""select 'constraint', f.conname, c.relname,
    'exclusion constraints, those of periods, and those that are not enforced are left out' {RELATIONS}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and {IS_SPECIAL} where {VISIBLE}""",
            f"""select 'rule', r.rulename, c.relname, 'only PostgreSQL has rules' {RELATIONS}
  join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename <> '_RETURN' where {VISIBLE}""",
            f"""select 'comment', c.relname, '', 'only comments on tables and columns are created' {RELATIONS}
  where {VISIBLE} and c.relkind in ('v', 'm') and obj_description(c.oid, 'pg_class') <> ''""",
            f"""select 'collation', a.attname, c.relname, 'collation ' || l.collname || ' is left out' {RELATIONS}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid and t.typcollation <> a.attcollation
  join pg_catalog.pg_collation l on l.oid = a.attcollation and l.collisdeterministic where {VISIBLE} and c.relkind in ('r', 'p')""",
            f"select '{_ACTION}', "
            + _FOREIGN_KEY.format(
                "only PostgreSQL changes some columns of a key; rows to which it refers are not deleted",
                CLEARS_PART,
            ),
            "select 'foreign key match', "
            + _FOREIGN_KEY.format(
                "only PostgreSQL refuses a key that is NULL in some columns (MATCH FULL)",
                "f.confmatchtype = 'f' and cardinality(f.conkey) > 1",
            ),
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


#: Columns of tables; a domain has its base type and length.
COLUMNS = f"""with recursive types (oid, base, typmod) as (
  select oid, oid, -1 from pg_catalog.pg_type where typtype <> 'd'
  union all select d.oid, t.base, greatest(t.typmod, d.typtypmod) from pg_catalog.pg_type d join types t on t.oid = d.typbasetype
  where d.typtype = 'd')
select c.relname as owner, a.attname as name, format_type(a.atttypid, a.atttypmod) as declared,
  format_type(t.base, greatest(a.atttypmod, t.typmod)) as type, not a.attnotnull as is_nullable, a.attidentity <> '' as is_identity,
  a.attgenerated <> '' as is_generated, coalesce(pg_get_expr(d.adbin, d.adrelid), '') as expression,
  coalesce(not l.collisdeterministic, false) as ignores_case, coalesce(col_description(c.oid, a.attnum), '') as comment,
  coalesce(obj_description(c.oid, 'pg_class'), '') as table_comment,
  array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = t.base order by e.enumsortorder) as labels
{RELATIONS} join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join types t on t.oid = a.atttypid left join pg_catalog.pg_collation l on l.oid = a.attcollation
  left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where {VISIBLE} and c.relkind in ('r', 'p') order by c.relname, a.attnum"""
INDEXES = f"""select c.relname as owner, i.relname as name, f.oid is not null as is_constraint, x.indisunique as is_unique,
  m.amname as method, coalesce(pg_get_expr(x.indpred, x.indrelid), '') as where,
  array(select coalesce(a.attname::text, '') from generate_series(1, x.indnkeyatts) k
    left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[k - 1] and a.attnum <> 0 order by k) as columns,
  array(select pg_get_indexdef(x.indexrelid, k, false) from generate_series(1, x.indnkeyatts) k order by k) as terms,
  array(select x.indoption[k - 1] & 1 = 1 from generate_series(1, x.indnkeyatts) k order by k) as descending
{RELATIONS} join pg_catalog.pg_index x on x.indrelid = c.oid and not x.indisprimary and x.indisvalid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_am m on m.oid = i.relam
  left join pg_catalog.pg_constraint f on f.conindid = x.indexrelid and f.contype = 'u'
where {VISIBLE} and c.relkind in ('r', 'p') order by c.relname, i.relname"""
VIEWS = f"""select c.relname as name, pg_get_viewdef(c.oid, true) as query, c.relkind = 'm' as is_stored,
  case c.relkind when 'v' then array_to_string(c.reloptions, ', ') end as properties {RELATIONS}
where {VISIBLE} and c.relkind in ('v', 'm') order by c.oid"""
#: The sequences that count up, and that a column owns or whose default uses them, by table.
COUNTERS = f"""select c.relname, s.seqrelid::regclass::text, s.seqincrement
{RELATIONS} join lateral (
    select d.objid as sequence from pg_catalog.pg_depend d where d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.refobjid = c.oid and d.classid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i')
    union select d.refobjid from pg_catalog.pg_attrdef f join pg_catalog.pg_depend d on d.objid = f.oid
      and d.classid = 'pg_catalog.pg_attrdef'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass
      where f.adrelid = c.oid) u on true
  join pg_catalog.pg_sequence s on s.seqrelid = u.sequence
where {VISIBLE} and s.seqincrement > 0 and pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT')"""
_NUMBERS_ROWS = re.compile(r"nextval\(")
_CHECK = re.compile(r"CHECK \((.*)\)(?: NO INHERIT)?(?: NOT VALID)?", re.DOTALL)


class PostgreSQLPortableSchemas(PostgreSQLPart, PortableSchemas):
    limits = StorageLimits(stores_nul=False)

    def read_portable(self) -> PortableSchema:
        fetch = self._connection.fetch_by_name
        if not self._connection.session.schema:  # no table would be visible
            error = SchemaMismatchError(
                target=self._connection.target,
                missing="a schema that search_path names",
                purpose="a transfer",
            )
            error.hint = f"Nothing was changed. {SELECT_SCHEMA}"
            raise error
        with self._connection.read_transaction():
            schema = self._db.schema_reader.schema()
            columns, indexes = (group_rows(fetch(sql)) for sql in (COLUMNS, INDEXES))
            views = fetch(VIEWS)
            scope = {"scope": read_scope(self._connection.session)}
            omissions = [Omission(**row) for row in [*fetch(OMISSIONS, scope), *fetch(_REFERENCED_OBJECTS)]]
        tables = []
        for table in schema.tables:
            if table.name in columns:
                replaced = [
                    part.name for part in omissions if (part.kind, part.table) == (_ACTION, table.name)
                ]
                tables.append(_build_table(table, columns[table.name], indexes[table.name], replaced))
                omissions += _find_omissions(table, columns[table.name], indexes[table.name])
        omissions += list_omissions(schema, views)
        return PortableSchema(
            dialect="postgres",
            tables=tables,
            views=[
                PortableView(name=view["name"], query=view["query"])
                for view in views
                if not view["is_stored"]
            ],
            omissions=[
                *omissions,
                *(
                    Omission(kind="materialized view", name=view["name"], reason="only PostgreSQL has it")
                    for view in views
                    if view["is_stored"]
                ),
            ],
        )

    def derive(self, schema: PortableSchema, *, time_form: TimeForm = "sqlite-time") -> DerivedSchema:
        del time_form  # columns have types for times
        from dbctl.extensions.transfer.engines.postgresql.derive import PostgreSQLDerivation

        return PostgreSQLDerivation(schema).derive()

    def fold_texts(self, table: str, column: str, texts: Sequence[str]) -> Sequence[str | bytes]:
        del table, column
        values = ", ".join(f"lower({quote_literal(text if is_storable(text) else '')})" for text in texts)
        ((*folded,),) = self._connection.fetch(f"select {values}")
        return list(map(str, folded))

    def read_counters(self) -> Mapping[str, int]:
        numbers = dict[str, int]()
        for table, sequence, increment in self._connection.fetch(COUNTERS):
            # the catalog has no number of a sequence that was set, and not used since
            sql = f"select last_value + case when is_called then {increment} else 0 end from {sequence}"
            ((number,),) = self._connection.fetch(sql)
            numbers[str(table)] = max(int(str(number)), numbers.get(str(table), 0))
        return numbers

    def set_counters(self, numbers: Mapping[str, int]) -> Sequence[str]:
        columns = group_rows(self._connection.fetch_by_name(COLUMNS))
        return [
            f"select pg_catalog.setval(s, greatest(coalesce((select max({ident(row['name'])}) from {ident(table)}), 0) + 1, {number:d}), false)"
            f" from pg_catalog.pg_get_serial_sequence({quote_literal(ident(table))}, {quote_literal(row['name'])}) s where s is not null"
            for table, number in numbers.items()
            for row in columns[table]
            if _is_automatic(row)
        ]


def _is_automatic(row: NamedRow) -> bool:
    return row["is_identity"] or bool(_NUMBERS_ROWS.match(row["expression"]))


def _build_table(
    table: SchemaTable, columns: Rows, indexes: Rows, replaced: Collection[str]
) -> PortableTable:
    """Return a table; a key whose columns ``replaced`` contains refuses deletions, which would clear more than in the source."""
    return interpret_constraints(
        PortableTable(
            name=table.name,
            columns=[_build_column(row) for row in columns],
            key=table.key,
            indexes=[_build_index(row) for row in indexes if row["method"] in ("btree", "hash")],
            references=[
                structs.replace(reference, on_delete="NO ACTION")
                if ", ".join(reference.columns) in replaced
                else reference
                for reference in table.references
            ],
            checks=[strip_parentheses(_CHECK.sub(r"\1", check)) for check in table.checks],
            comment=columns[0]["table_comment"],
        )
    )


def _build_column(row: NamedRow) -> PortableColumn:
    logical = read_type(row["type"].upper())
    if row["labels"]:
        logical = LogicalType(kind="enum", labels=row["labels"])
    is_automatic, is_generated = _is_automatic(row), row["is_generated"]
    return PortableColumn(
        name=row["name"],
        declared=row["declared"],
        type=logical,
        is_nullable=row["is_nullable"],
        default="" if is_generated or is_automatic else row["expression"],
        generated=row["expression"] if is_generated else "",
        is_stored=is_generated,
        is_automatic=is_automatic,
        ignores_case=row["ignores_case"] or row["type"].upper() in IGNORES_CASE,
        comment=row["comment"],
    )


def _build_index(row: NamedRow) -> PortableIndex:
    return PortableIndex(
        name=row["name"],
        terms=[
            IndexTerm(column=column, expression="" if column else term, is_descending=is_descending)
            for column, term, is_descending in zip(
                row["columns"], row["terms"], row["descending"], strict=True
            )
        ],
        is_unique=row["is_unique"],
        where=row["where"],
    )


def _find_omissions(table: SchemaTable, columns: Rows, indexes: Rows) -> Iterator[Omission]:
    for index in indexes:
        if index["method"] not in ("btree", "hash"):
            reason = f"only PostgreSQL has indexes of type {index['method']}"
            yield Omission(kind="index", name=index["name"], table=table.name, reason=reason)
    for row in columns:
        if (logical := read_type(row["type"].upper())).kind == "other" and not row["labels"]:
            reason = f"only PostgreSQL has type {row['declared']}; its values are stored as text"
            yield Omission(kind="type", name=row["name"], table=table.name, reason=reason)
        elif logical.kind == "array":
            reason = "only PostgreSQL has arrays; they are stored as text"
            yield Omission(kind="type", name=row["name"], table=table.name, reason=reason)
    for option in table.options:
        if option.startswith("inherits "):
            reason = "its rows are also rows of that table"
            yield Omission(kind="inheritance", name=option, table=table.name, reason=reason, is_blocking=True)
