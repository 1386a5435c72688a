"""Properties of a database on a server: owner, collation, connection limit, grants, settings.

A dump does not contain them, but a database that replaces another one needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from dbctl.engines.sql import ident
from dbctl.model import Struct

#: Properties of database $1. The row is JSON because its columns differ between versions.
_PROPERTIES = b"""select d.oid::int8, to_jsonb(d), pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding), t.spcname,
  coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
  (select coalesce(jsonb_agg(jsonb_build_array(coalesce(pg_catalog.pg_get_userbyid(nullif(a.grantee, 0)), ''),
      a.privilege_type, a.is_grantable) order by 1), 'null')
    from pg_catalog.aclexplode(d.datacl) a),
  (select coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), c) order by 1), '[]')
    from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c
    where s.setdatabase = d.oid)
from pg_catalog.pg_database d join pg_catalog.pg_tablespace t on t.oid = d.dattablespace where d.datname = $1"""
_ADDRESS = b"""select current_setting('server_version'), coalesce(host(inet_server_addr()), 'a local socket'),
  coalesce(inet_server_port(), current_setting('port')::int4)"""
_SYSTEM = b"select system_identifier::text from pg_catalog.pg_control_system()"
_EXTENSIONS = (
    b"select extname || ' ' || extversion from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1"
)
#: Older versions have no provider column: all collations are from libc.
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


class Properties(Struct, frozen=True, kw_only=True):
    """The properties of one database."""

    name: str
    oid: int = 0
    owner: str = ""
    encoding: str = ""
    collate: str = ""
    ctype: str = ""
    provider: str = "libc"
    locale: str = ""  #: unless the provider is libc
    tablespace: str = ""
    connection_limit: int = -1  #: -1: unlimited
    allows_connections: bool = True  #: whether sessions may connect
    comment: str = ""
    #: grantee (empty: PUBLIC), privilege, and grant option; None: the default grants of a new database
    grants: Sequence[tuple[str, str, bool]] | None = None
    settings: Sequence[tuple[str, str]] = ()  #: role (empty: all roles), and ``name=value``

    def to_metadata(self) -> dict[str, str]:
        """Return the properties as fields of a manifest."""
        return {
            "database": self.name,
            "oid": str(self.oid),
            "owner": self.owner,
            "encoding": self.encoding,
            "collation": self.collate,
            "ctype": self.ctype,
            "provider": self.provider,
            "locale": self.locale,
            "tablespace": self.tablespace,
            "connection_limit": str(self.connection_limit),
            "comment": self.comment,
            "grants": json.dumps(self.grants),
            "settings": json.dumps(self.settings),
        }

    def transferable(self) -> dict[str, str]:
        """Return the properties that a replacement of this database must have."""
        return {name: text for name, text in self.to_metadata().items() if name not in ("database", "oid")}


def from_metadata(metadata: Mapping[str, str]) -> Properties:
    """Return the properties that ``Properties.to_metadata`` wrote."""
    return Properties(
        name=metadata.get("database", ""),
        oid=int(metadata.get("oid", 0)),
        owner=metadata.get("owner", ""),
        encoding=metadata.get("encoding", ""),
        collate=metadata.get("collation", ""),
        ctype=metadata.get("ctype", ""),
        provider=provider if (provider := metadata.get("provider", "")) in _PROVIDERS.values() else "libc",
        locale=metadata.get("locale", ""),
        tablespace=metadata.get("tablespace", ""),
        connection_limit=int(metadata.get("connection_limit", -1)),
        comment=metadata.get("comment", ""),
        grants=msgspec.json.decode(metadata.get("grants", "null"), type=list[tuple[str, str, bool]] | None),
        settings=msgspec.json.decode(metadata.get("settings", "[]"), type=list[tuple[str, str]]),
    )


def read_properties(session: psycopg.Connection[Any], name: str) -> Properties | None:
    """Return the properties of a database of the server; None if it does not exist."""
    rows = session.execute(_PROPERTIES, [name]).fetchall()
    if not rows:
        return None
    oid, row_json, owner, encoding, tablespace, comment, grants, settings = rows[0]
    row = _decode_json(row_json)
    return Properties(
        name=name,
        oid=oid,
        owner=owner,
        encoding=encoding,
        collate=row["datcollate"],
        ctype=row["datctype"],
        provider=_PROVIDERS.get(row.get("datlocprovider", "c"), "libc"),
        locale=row.get("datlocale") or row.get("daticulocale") or "",
        tablespace=tablespace,
        connection_limit=row["datconnlimit"],
        allows_connections=row["datallowconn"],
        comment=comment,
        grants=None
        if row["datacl"] is None
        else sorted(
            (grantee, privilege, grantable) for grantee, privilege, grantable in _decode_json(grants) or []
        ),
        settings=sorted((role, setting) for role, setting in _decode_json(settings)),
    )


def _decode_json(value: object) -> Any:
    """Decode a JSON column, which is text in a session without type loaders."""
    return json.loads(value) if isinstance(value, str) else value


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
    """Return the extensions of the database with their versions."""
    return ", ".join(str(name) for (name,) in session.execute(_EXTENSIONS).fetchall())


def create_statement(name: str, template: Properties) -> str:
    """Return the statement that creates an empty database with the same properties."""
    clauses = [f"create database {ident(name)} template template0"]
    clauses += [f"owner {ident(template.owner)}"] if template.owner else []
    clauses += [f"encoding {quote_literal(template.encoding)}"] if template.encoding else []
    clauses += (
        [f"lc_collate {quote_literal(template.collate)} lc_ctype {quote_literal(template.ctype)}"]
        if template.collate
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
            # Some settings are lists with their own syntax; FROM CURRENT avoids formatting them.
            session.execute(b"select set_config($1, $2, true)", [key, value])
            option = ".".join(ident(part) for part in key.split("."))
            session.execute(f"alter {target} set {option} from current".encode())


def quote_literal(text: str) -> str:
    """Return a text as an SQL literal."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


def find_differences(first: Properties, second: Properties) -> list[str]:
    """Return the names of the properties that differ."""
    expected = second.transferable()
    return [name for name, text in first.transferable().items() if expected[name] != text]
