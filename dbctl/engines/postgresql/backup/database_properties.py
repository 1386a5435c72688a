"""What a database on a server is beside what it holds: its owner, how it sorts, who may connect, what it sets.

No dump tells that, and a database that takes the name of another one has to have it, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from dbctl.engines.sql import ident
from dbctl.model import Value

#: Of the database called $1. The row as JSON, for its columns are others in each version.
_OF = b"""select d.oid::int8, to_jsonb(d), pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding), t.spcname,
  coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
  (select coalesce(jsonb_agg(jsonb_build_array(coalesce(pg_catalog.pg_get_userbyid(nullif(a.grantee, 0)), ''),
      a.privilege_type, a.is_grantable) order by 1), 'null')
    from pg_catalog.aclexplode(d.datacl) a),
  (select coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), c) order by 1), '[]')
    from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c
    where s.setdatabase = d.oid)
from pg_catalog.pg_database d join pg_catalog.pg_tablespace t on t.oid = d.dattablespace where d.datname = $1"""
_IDENTITY = b"""select current_setting('server_version'), coalesce(host(inet_server_addr()), 'a socket of its own machine'),
  coalesce(inet_server_port(), current_setting('port')::int4)"""
_SYSTEM = b"select system_identifier::text from pg_catalog.pg_control_system()"
_EXTENSIONS = (
    b"select extname || ' ' || extversion from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1"
)
#: In a version before they were told apart by provider, all are of libc.
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


class Properties(Value, frozen=True, kw_only=True):
    """Of one database."""

    name: str
    oid: int = 0
    owner: str = ""
    encoding: str = ""
    collate: str = ""
    ctype: str = ""
    provider: str = "libc"
    locale: str = ""  #: of another provider than libc
    tablespace: str = ""
    limit: int = -1  #: connections
    open: bool = True  #: whether anybody may connect
    comment: str = ""
    #: who (nobody's name: everybody) may do what, and pass it on; None: what every new database grants
    grants: Sequence[tuple[str, str, bool]] | None = None
    settings: Sequence[tuple[str, str]] = ()  #: of a role, or of all, ``name=value``

    def facts(self) -> dict[str, str]:
        """Return them as a manifest tells them."""
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
            "connection_limit": str(self.limit),
            "comment": self.comment,
            "grants": json.dumps(self.grants),
            "settings": json.dumps(self.settings),
        }

    def lasting(self) -> dict[str, str]:
        """Return what a database that takes the place of this one has to have, too."""
        return {name: text for name, text in self.facts().items() if name not in ("database", "oid")}


def from_facts(facts: Mapping[str, str]) -> Properties:
    """Return what ``Properties.facts`` told."""
    return Properties(
        name=facts.get("database", ""),
        oid=int(facts.get("oid", 0)),
        owner=facts.get("owner", ""),
        encoding=facts.get("encoding", ""),
        collate=facts.get("collation", ""),
        ctype=facts.get("ctype", ""),
        provider=provider if (provider := facts.get("provider", "")) in _PROVIDERS.values() else "libc",
        locale=facts.get("locale", ""),
        tablespace=facts.get("tablespace", ""),
        limit=int(facts.get("connection_limit", -1)),
        comment=facts.get("comment", ""),
        grants=msgspec.json.decode(facts.get("grants", "null"), type=list[tuple[str, str, bool]] | None),
        settings=msgspec.json.decode(facts.get("settings", "[]"), type=list[tuple[str, str]]),
    )


def of(session: psycopg.Connection[Any], name: str) -> Properties | None:
    """Return the properties of a database of the server; None where it has none of that name."""
    rows = session.execute(_OF, [name]).fetchall()
    if not rows:
        return None
    oid, told, owner, encoding, tablespace, comment, grants, settings = rows[0]
    row = _read(told)
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
        limit=row["datconnlimit"],
        open=row["datallowconn"],
        comment=comment,
        grants=None
        if row["datacl"] is None
        else sorted((who, what, more) for who, what, more in _read(grants) or []),
        settings=sorted((who, what) for who, what in _read(settings)),
    )


def _read(value: object) -> Any:
    """JSON comes as a text where the session loads no types."""
    return json.loads(value) if isinstance(value, str) else value


def place(session: psycopg.Connection[Any]) -> dict[str, str]:
    """Return which server it is: its version, where it answers, and the number that no other one has."""
    ((version, host, port),) = session.execute(_IDENTITY).fetchall()
    facts = {"server": str(version), "at": f"{host}:{port}"}
    try:
        ((number,),) = session.execute(_SYSTEM).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return facts
    return facts | {"system": str(number)}


def extensions(session: psycopg.Connection[Any]) -> str:
    """Return the extensions of the database with their versions."""
    return ", ".join(str(name) for (name,) in session.execute(_EXTENSIONS).fetchall())


def created(name: str, like: Properties) -> str:
    """Return the statement that makes an empty database like another one."""
    words = [f"create database {ident(name)} template template0"]
    words += [f"owner {ident(like.owner)}"] if like.owner else []
    words += [f"encoding {literal(like.encoding)}"] if like.encoding else []
    words += [f"lc_collate {literal(like.collate)} lc_ctype {literal(like.ctype)}"] if like.collate else []
    if like.provider != "libc" and like.locale:
        words.append(f"locale_provider {like.provider} {like.provider}_locale {literal(like.locale)}")
    words += [f"tablespace {ident(like.tablespace)}"] if like.tablespace not in ("", "pg_default") else []
    return " ".join([*words, f"connection limit {like.limit}"])


def give(session: psycopg.Connection[Any], name: str, like: Properties) -> None:
    """Give a new database what ``create database`` does not: comment, privileges and settings.

    Raises:
        psycopg.Error: a role that has some is not there, or this one may not give them.
    """
    database = ident(name)
    with session.transaction():
        if like.comment:
            session.execute(f"comment on database {database} is {literal(like.comment)}".encode())
        if like.grants is not None:
            who = f"public, {ident(like.owner)}" if like.owner else "public"
            session.execute(f"revoke all on database {database} from {who}".encode())
            for grantee, what, more in like.grants:
                to = ident(grantee) if grantee else "public"
                passing = " with grant option" if more else ""
                session.execute(f"grant {what} on database {database} to {to}{passing}".encode())
        for role, setting in like.settings:
            key, _, value = setting.partition("=")
            who = f"role {ident(role)} in database {database}" if role else f"database {database}"
            # Some settings are lists, and each is written in another way; taken from the session none has to be.
            session.execute(b"select set_config($1, $2, true)", [key, value])
            dotted = ".".join(ident(part) for part in key.split("."))
            session.execute(f"alter {who} set {dotted} from current".encode())


def literal(text: str) -> str:
    """Return a text as a statement holds it."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


def differing(one: Properties, other: Properties) -> list[str]:
    """Return what of two databases is not alike."""
    there = other.lasting()
    return [name for name, text in one.lasting().items() if there[name] != text]
