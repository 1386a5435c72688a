"""Rewrite a private database of PostgreSQL as its owner, who need not be a superuser; no extension of the server is required."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import cast

from dbctl.engines.contract.database import Column
from dbctl.engines.postgresql.catalog import (
    CREATE_KEY,
    DROP_SUBSCRIPTION,
    IN_USER_SCHEMA,
    OWN_COLUMNS,
    OWN_RELATION,
    REFERENCED_COLUMNS,
    VISIBLE,
)
from dbctl.engines.postgresql.values import base_type
from dbctl.engines.servers.values import kind_of
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.copies.pseudonyms import DIGITS, SHAPES, Pseudonyms, is_plain
from dbctl.extensions.copies.rewrite_servers import ServerRewriter
from dbctl.extensions.copies.rules import ColumnRule, TableRule
from dbctl.extensions.copies.section import Kind

#: Tables that a dump contains and ``Readable.tables`` does not, and large objects.
UNREADABLE = f"""select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition and {IN_USER_SCHEMA} and {OWN_RELATION}
  and not ({VISIBLE})
union all select 'large objects' where exists (select from pg_catalog.pg_largeobject_metadata) order by 1"""
FOREIGN_KEYS = f"""select c.oid::regclass::text, f.conname::text, {CREATE_KEY},
  c.relname::text, {OWN_COLUMNS}, p.relname::text, {REFERENCED_COLUMNS}
from pg_catalog.pg_constraint f join pg_catalog.pg_class c on c.oid = f.conrelid join pg_catalog.pg_class p on p.oid = f.confrelid
where f.contype = 'f' and f.conparentid = 0 order by 1, 2"""
_ENABLE = "case {} when 'R' then 'enable replica' when 'A' then 'enable always' else 'enable' end"
_OF_TABLE = f"join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and {IN_USER_SCHEMA} and {OWN_RELATION}"
#: What prevents, repeats or undoes changes of tables: triggers, rules, and publications, which refuse changes of rows that they cannot
#: identify; as the statements that switch each off, and on again.
OBSTACLES = f"""select format('alter table %s disable trigger %I', c.oid::regclass, t.tgname),
  format('alter table %s %s trigger %I', c.oid::regclass, {_ENABLE.format("t.tgenabled")}, t.tgname)
from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid {_OF_TABLE}
  and not t.tgisinternal and t.tgparentid = 0 and t.tgenabled <> 'D'
union all select format('alter table %s disable rule %I', c.oid::regclass, r.rulename),
  format('alter table %s %s rule %I', c.oid::regclass, {_ENABLE.format("r.ev_enabled")}, r.rulename)
from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class {_OF_TABLE} and r.ev_enabled <> 'D'
union all select format('alter publication %I set (publish = %L)', pubname, ''), format('alter publication %I set (publish = %L)', pubname,
  concat_ws(', ', case when pubinsert then 'insert' end, case when pubupdate then 'update' end, case when pubdelete then 'delete' end,
    case when pubtruncate then 'truncate' end))
from pg_catalog.pg_publication order by 1"""
#: Tables whose owner is subject to row security.
FORCED = "select c.oid::regclass::text from pg_catalog.pg_class c where c.relforcerowsecurity and c.relrowsecurity and c.relkind in ('r', 'p')"
#: Settings of the database that apps define: which object has each, and its name.
OWN_SETTINGS = """select format(case when s.setrole = 0 then 'database %2$I' else 'role %1$I in database %2$I' end,
    pg_catalog.pg_get_userbyid(s.setrole), d.datname), split_part(c, '=', 1)
from pg_catalog.pg_db_role_setting s join pg_catalog.pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c
where d.datname = current_database() and split_part(c, '=', 1) like '%.%' order by 1, 2"""
#: Connections to other servers: their names, and the statements that remove each without its other server.
CONNECTIONS = f"""select format('user mapping of server %s', srvname),
  array[format('drop user mapping for %s server %I', case umuser when 0 then 'public' else quote_ident(usename) end, srvname)]
from pg_catalog.pg_user_mappings
union all select format('subscription %s', s.subname), {DROP_SUBSCRIPTION} from pg_catalog.pg_subscription s
where s.subdbid = (select oid from pg_catalog.pg_database where datname = current_database()) order by 1"""
PARTITIONED = "select relname::text from pg_catalog.pg_class where relkind = 'p'"
TEXT_BASES = ("text", "varchar", "bpchar", "citext", "character varying", "character", "bytea")
#: COPY escapes these characters.
ESCAPES = str.maketrans(
    {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
)


class PostgreSQLRewriter(ServerRewriter):
    def find_unreadable(self) -> Sequence[str]:
        return [str(name) for (name,) in self._connection.fetch(UNREADABLE)]

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes):
            return value.hex().encode()
        return str(value).translate(ESCAPES).encode("utf-8", "surrogateescape")

    def rewrite(self, tables: Mapping[str, TableRule], pseudonyms: Pseudonyms) -> Sequence[str]:
        remarks = [*super().rewrite(tables, pseudonyms), *self.describe_omitted()]
        for place, name in self._connection.fetch(OWN_SETTINGS):
            self._connection.run(f"alter {place} reset {'.'.join(map(ident, str(name).split('.')))}")
        for _, statements in self._connection.fetch(CONNECTIONS):
            for sql in cast("list[str]", statements):
                self._connection.run(sql)
        return remarks

    def describe_omitted(self) -> Sequence[str]:
        # such as the key with which PostgREST verifies tokens
        settings = dict.fromkeys(str(name) for _, name in self._connection.fetch(OWN_SETTINGS))
        connections = dict.fromkeys(str(name) for name, _ in self._connection.fetch(CONNECTIONS))
        omitted = {
            "settings of the database that can hold secrets": settings,
            "connections to other servers": connections,
        }
        return [f"{kind} are not copied: {', '.join(names)}" for kind, names in omitted.items() if names]

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        obstacles = self._connection.fetch(OBSTACLES)
        for off, _ in obstacles:
            self._connection.run(str(off))
        yield
        for _, on in obstacles:
            self._connection.run(str(on))

    @contextmanager
    def _suspend(self, tables: Mapping[str, TableRule]) -> Iterator[None]:
        def is_affected(table: str, columns: Sequence[str]) -> bool:
            rule = tables.get(table, {})
            return rule == "empty" or any(name in rule for name in columns)

        keys = [
            (table, name, create, own, columns)
            for table, name, create, own, columns, other, others in self._connection.fetch(FOREIGN_KEYS)
            if is_affected(str(own), columns) or is_affected(str(other), others)  # type: ignore[arg-type]
        ]
        forced = self._connection.fetch(FORCED)
        for table, name, *_ in keys:
            self._connection.run(f"alter table {table} drop constraint {ident(str(name))}")
        for (table,) in forced:
            self._connection.run(f"alter table {table} no force row level security")
        yield
        for (table,) in forced:
            self._connection.run(f"alter table {table} force row level security")
        for _, _, create, own, columns in keys:
            with self._report_violations(str(own), columns):  # type: ignore[arg-type]
                for sql in cast("list[str]", create):
                    self._connection.run(sql)

    @cached_property
    def _partitioned(self) -> frozenset[str]:
        return frozenset(str(name) for (name,) in self._connection.fetch(PARTITIONED))

    def _quote_own_rows(self, table: str) -> str:
        # the rows of tables that inherit from it are rewritten with them
        return f"{'' if table in self._partitioned else 'only '}{self._catalog.quote_table(table)}"

    def _assign_unchanged(self, table: str) -> Sequence[str]:
        del table
        return ()

    def _express(self, table: str, column: Column, rule: ColumnRule, pseudonyms: Pseudonyms) -> str | None:
        is_array = column.type.endswith("[]") and self._base(column).removeprefix("_") in TEXT_BASES
        if not (is_array and is_plain(rule) and rule.kind in SHAPES):
            return super()._express(table, column, rule, pseudonyms)
        name = self._catalog.quote_column(table, column.name, "")
        element = self._express_pseudonym(rule.kind, column, "e.value", "e.value")
        values = f"select case when e.value = '' or e.value is null then e.value else {element} end from unnest({name}::text[]) with ordinality e (value, place)"
        return f"case when {name} is null then null else array({values} order by e.place) end"

    def _is_text(self, column: Column) -> bool:
        return kind_of(column) in ("text", "bytes") or self._base(column) in TEXT_BASES

    @staticmethod
    def _base(column: Column) -> str:
        return base_type(column).rpartition(".")[2].strip('"')

    def _read_text(self, column: Column, name: str) -> str:
        return f"encode({name}, 'escape')" if kind_of(column) == "bytes" else f"{name}::text"

    def _read_raw(self, column: Column, name: str, text: str) -> str:
        return name if kind_of(column) == "bytes" else f"convert_to({text}, 'UTF8')"

    def _digest(self, kind: Kind, raw: str) -> str:
        inner = f"sha256(cast(:inner as bytea) || cast(:kind_{kind} as bytea) || {raw})"
        return f"encode(sha256(cast(:outer as bytea) || {inner}), 'hex')"

    def _replace_letters(self, digest: str) -> str:
        letters = "".join(map(chr, DIGITS))
        return f"translate({digest}, '{letters}', '{letters.translate(DIGITS)}')"

    def _insert(self, text: str, place: int, joint: str) -> str:
        return f"overlay({text} placing '{joint}' from {place} for 0)"

    def _is_ascii(self, text: str) -> str:
        return f"octet_length(convert_to({text}, 'UTF8')) = char_length({text})"

    def _differs(self, text: str, other: str) -> str:
        return f'{text} collate "C" <> {other} collate "C"'

    def _lower(self, text: str) -> str:
        return f'lower({text} collate "C")'

    def _cast(self, column: Column, text: str) -> str:
        if kind_of(column) == "bytes":
            return f"convert_to({text}, 'UTF8')"
        return text

    def _shift(self, column: Column, name: str, days: int) -> str | None:
        if kind_of(column) in ("timestamp", "timestamptz"):
            return f"{name} - interval '{days} days'"
        return f"{name} - {days}" if kind_of(column) == "date" else None
