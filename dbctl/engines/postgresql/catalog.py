"""Read tables, columns and foreign keys from the catalog, as far as the search path includes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from dbctl.engines.contract.database import Reference, Table
from dbctl.engines.postgresql.types.columns import KINDS, NATIVE, Kind, PostgreSQLColumn
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Catalog, ident
from dbctl.errors.connection import PrivilegeMissingError

if TYPE_CHECKING:
    from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection

#: Tables, views and foreign tables, without partitions and objects of extensions. A domain is resolved to its base type.
VISIBLE = """c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and pg_catalog.pg_table_is_visible(c.oid)
  and n.nspname = any(pg_catalog.current_schemas(false)) and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')"""
#: A leftover of an interrupted concurrent build: index ``i``, described by ``x``. PostgreSQL appends a number to a name
#: that exists already.
LEFTOVER_INDEX = "(i.relname ~ '_cc(new|old)[0-9]*$' and not x.indisvalid)"
COLUMNS = f"""with recursive types (oid, base, not_null, has_default) as (
  select oid, oid, typnotnull, typdefault is not null from pg_catalog.pg_type where typtype <> 'd'
  union all select d.oid, t.base, t.not_null or d.typnotnull, t.has_default or d.typdefault is not null
  from pg_catalog.pg_type d join types t on t.oid = d.typbasetype where d.typtype = 'd')
select c.relname as table, c.relkind in ('v', 'm') as is_view, a.attname as name,
  pg_catalog.format_type(a.atttypid, a.atttypmod) as type, not (a.attnotnull or t.not_null) as nullable,
  (a.attnotnull or t.not_null) and not (a.atthasdef or a.attidentity <> '' or t.has_default) as required,
  coalesce(a.attnum = any(i.indkey), false) as is_primary_key, s.nspname as type_schema, b.typname as base, b.typtype = 'e' as is_enum,
  array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = b.oid order by e.enumsortorder) as labels,
  a.attgenerated <> '' as is_generated
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join types t on t.oid = a.atttypid join pg_catalog.pg_type b on b.oid = t.base
  join pg_catalog.pg_namespace s on s.oid = b.typnamespace
  left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
where {VISIBLE} order by c.relname, a.attnum"""

#: The columns of a constraint ``f`` in order: of its table, and of the table to which a foreign key refers.
_NAMES = """array(select a.attname::text from unnest(f.{}) with ordinality k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = f.{} and a.attnum = k.number order by k.at)"""
OWN_COLUMNS, REFERENCED_COLUMNS = _NAMES.format("conkey", "conrelid"), _NAMES.format("confkey", "confrelid")
#: SQL for the name of a referential action, from the column of its code.
ACTION = """case {} when 'a' then 'NO ACTION' when 'r' then 'RESTRICT' when 'c' then 'CASCADE' when 'n' then 'SET NULL'
    when 'd' then 'SET DEFAULT' end"""
KEYS = f"""select p.relname as parent, c.relname as table, {OWN_COLUMNS} as columns, {REFERENCED_COLUMNS} as to,
  {ACTION.format("f.confdeltype")} as on_delete, f.condeferrable as deferrable
from pg_catalog.pg_constraint f join pg_catalog.pg_class c on c.oid = f.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_class p on p.oid = f.confrelid
where f.contype = 'f' and f.conparentid = 0 and pg_catalog.pg_table_is_visible(p.oid) and {VISIBLE}
order by c.relname, f.conname"""

INACCESSIBLE_SCHEMAS = """select n.nspname, current_user from pg_catalog.pg_namespace n
where n.nspname = any(string_to_array(translate(current_setting('search_path'), '" ', ''), ','))
  and not has_schema_privilege(n.oid, 'USAGE')"""


def quoted(*names: str) -> str:
    """Return SQL for a qualified name in quotes, from SQL for its parts."""
    return " || '.' || ".join(f"""'"' || replace({name}, '"', '""') || '"'""" for name in names)


class PostgreSQLCatalog(Catalog):
    def __init__(self, connection: PostgreSQLConnection) -> None:
        super().__init__(connection.target)
        self._connection = connection
        connection.on_reconnect(self.forget)

    def _read_tables(self) -> Mapping[str, Table]:
        columns: dict[str, dict[str, PostgreSQLColumn]] = {}
        views: dict[str, bool] = {}
        for row in self._connection.fetch_by_name(COLUMNS):
            columns.setdefault(row["table"], {})[row["name"]] = _create_column(row)
            views[row["table"]] = row["is_view"]
        if not columns:
            self._require_access()
        return {
            name: Table(name=name, columns=columns, is_view=views[name]) for name, columns in columns.items()
        }

    def _require_access(self) -> None:
        """Refuse to report an empty database when this role may not use its schema."""
        for schema, user in self._connection.fetch(INACCESSIBLE_SCHEMAS):
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"role {user} may not use schema {schema}",
                hint=f"Nothing was changed. As its owner or a superuser: GRANT USAGE ON SCHEMA {ident(str(schema))} TO {ident(str(user))};",
            )

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        references = defaultdict[str, list[Reference]](list)
        for row in self._connection.fetch_by_name(KEYS):
            parent = row.pop("parent")
            if row["table"] in self.tables():
                references[parent].append(convert_row(row, Reference))
        return references


def _create_column(row: dict[str, Any]) -> PostgreSQLColumn:
    kind: Kind = "enum" if row["is_enum"] else "other"
    if row["type_schema"] == "pg_catalog":
        kind = KINDS.get(row["base"], "other")
    row |= {"type": row["type"].upper(), "kind": kind, "native": NATIVE.get(kind, "")}
    row["base"] = f"{ident(row['type_schema'])}.{ident(row['base'])}"
    return msgspec.convert(row, PostgreSQLColumn)
