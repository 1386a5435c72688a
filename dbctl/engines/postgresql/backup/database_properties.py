"""Properties of a database on a server: owner, collation, connection limit, grants, settings.

A dump does not contain them, but a database that replaces another one needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from msgspec import structs
from psycopg.rows import dict_row

from dbctl.engines.sql.catalog import ident
from dbctl.model import Struct

#: Properties of database $1. The columns of locales differ between versions; older versions have collations from libc only.
_PROPERTIES = b"""select d.datname as database, d.oid::int8 as oid, pg_catalog.pg_get_userbyid(d.datdba) as owner,
  pg_catalog.pg_encoding_to_char(d.encoding) as encoding, d.datcollate as collation, d.datctype as ctype,
  case to_jsonb(d) ->> 'datlocprovider' when 'i' then 'icu' when 'b' then 'builtin' else 'libc' end as provider,
  coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '') as locale, t.spcname as tablespace,
  d.datconnlimit as connection_limit, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '') as comment,
  case when d.datacl is not null then (select coalesce(jsonb_agg(jsonb_build_array(
      coalesce(pg_catalog.pg_get_userbyid(nullif(a.grantee, 0)), ''), a.privilege_type, a.is_grantable) order by 1), '[]')
    from pg_catalog.aclexplode(d.datacl) a) end as grants,
  (select coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), c) order by 1), '[]')
    from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c
    where s.setdatabase = d.oid) as settings
from pg_catalog.pg_database d join pg_catalog.pg_tablespace t on t.oid = d.dattablespace where d.datname = $1"""
_ADDRESS = b"""select current_setting('server_version'), coalesce(host(inet_server_addr()), 'a local socket'),
  coalesce(inet_server_port(), current_setting('port')::int4)"""
_SYSTEM = b"select system_identifier::text from pg_catalog.pg_control_system()"
_EXTENSIONS = (
    b"select extname || ' ' || extversion from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1"
)
#: Settings whose values are lists of quoted names, as in ``variable_is_guc_list_quote`` of pg_dump.
_QUOTED_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_PROVIDERS = ("libc", "icu", "builtin")


class Properties(Struct, frozen=True, kw_only=True):
    database: str = ""  #: its name
    oid: int = 0
    owner: str = ""
    encoding: str = ""
    collation: str = ""
    ctype: str = ""
    provider: str = "libc"
    locale: str = ""  #: unless the provider is libc
    tablespace: str = ""
    connection_limit: int = -1  #: -1: unlimited
    comment: str = ""
    #: grantee (empty: PUBLIC), privilege, and grant option; None: the default grants of a new database
    grants: Sequence[tuple[str, str, bool]] | None = None
    settings: Sequence[tuple[str, str]] = ()  #: role (empty: all roles), and ``name=value``

    def to_metadata(self) -> dict[str, str]:
        """Return the properties as fields of a manifest: texts, and JSON of other values."""
        fields = structs.asdict(self)
        return {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()
        }

    def transferable(self) -> dict[str, str]:
        """Return the properties that a replacement of this database must have."""
        return {name: text for name, text in self.to_metadata().items() if name not in ("database", "oid")}


def from_metadata(metadata: Mapping[str, str]) -> Properties:
    """Return the properties that ``Properties.to_metadata`` wrote."""
    fields: dict[str, object] = {
        name: metadata[name] for name in Properties.__struct_fields__ if name in metadata
    }
    for name in ("oid", "connection_limit", "grants", "settings"):
        if name in metadata:
            fields[name] = json.loads(metadata[name])
    if fields.get("provider") not in _PROVIDERS:
        fields["provider"] = "libc"
    return msgspec.convert(fields, Properties)


def read_properties(session: psycopg.Connection[Any], name: str) -> Properties | None:
    """Return the properties of a database of the server; None if it does not exist."""
    with session.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_PROPERTIES, [name]).fetchone()
    if row is None:
        return None
    for field in ("grants", "settings"):
        # A session without type loaders returns JSON as text.
        items = json.loads(row[field]) if isinstance(row[field], str) else row[field]
        row[field] = None if items is None else sorted(map(tuple, items))
    return msgspec.convert(row, Properties)


def describe_server(session: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the version, the address and the system identifier of the server."""
    ((version, host, port),) = session.execute(_ADDRESS).fetchall()
    server = {"server": str(version), "at": f"{host}:{port}"}
    try:
        ((system,),) = session.execute(_SYSTEM).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return server
    return server | {"system": str(system)}


def describe_extensions(session: psycopg.Connection[Any]) -> str:
    return ", ".join(str(name) for (name,) in session.execute(_EXTENSIONS).fetchall())


def create_statement(name: str, template: Properties) -> str:
    """Return the statement that creates an empty database with the same properties."""
    clauses = [f"create database {ident(name)} template template0"]
    clauses += [f"owner {ident(template.owner)}"] if template.owner else []
    clauses += [f"encoding {quote_literal(template.encoding)}"] if template.encoding else []
    clauses += (
        [f"lc_collate {quote_literal(template.collation)} lc_ctype {quote_literal(template.ctype)}"]
        if template.collation
        else []
    )
    if template.provider != "libc" and template.locale:
        clauses.append(
            f"locale_provider {template.provider} {template.provider}_locale {quote_literal(template.locale)}"
        )
    clauses += (
        [f"tablespace {ident(template.tablespace)}"] if template.tablespace not in ("", "pg_default") else []
    )
    return " ".join([*clauses, f"connection limit {template.connection_limit}"])


def apply_properties(session: psycopg.Connection[Any], name: str, properties: Properties) -> None:
    """Set the properties that ``create database`` cannot set: comment, privileges and settings.

    Raises:
        psycopg.Error: a role does not exist, or this role lacks a privilege.
    """
    database = ident(name)
    with session.transaction():
        if properties.comment:
            session.execute(f"comment on database {database} is {quote_literal(properties.comment)}".encode())
        if properties.grants is not None:
            grantees = f"public, {ident(properties.owner)}" if properties.owner else "public"
            session.execute(f"revoke all on database {database} from {grantees}".encode())
            for grantee, privilege, grantable in properties.grants:
                role = ident(grantee) if grantee else "public"
                grant_option = " with grant option" if grantable else ""
                session.execute(f"grant {privilege} on database {database} to {role}{grant_option}".encode())
        for role, setting in properties.settings:
            key, _, value = setting.partition("=")
            target = f"role {ident(role)} in database {database}" if role else f"database {database}"
            option = ".".join(ident(part) for part in key.split("."))
            text = f"to {quote_literal(value)}"
            if key in _QUOTED_LISTS:
                session.execute(b"select set_config($1, $2, true)", [key, value])
                text = "from current"  # which would write others in another form: 5000 as 5s
            session.execute(f"alter {target} set {option} {text}".encode())


def quote_literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


def find_differences(first: Properties, second: Properties) -> list[str]:
    expected = second.transferable()
    return [name for name, text in first.transferable().items() if expected[name] != text]
