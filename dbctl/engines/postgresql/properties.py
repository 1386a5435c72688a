"""What a dump contains besides the objects of a database: its properties, and the roles that it names.

A database that replaces another one needs its owner, collation, connection limit, grants and settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import msgspec
import psycopg
from msgspec import structs
from psycopg.rows import dict_row

from dbctl import signals
from dbctl.engines.contract.dumps import LoadRequest, RolePolicy
from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, OWN_RELATION, OWN_TYPE, RELATIONS
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.dump_statements import RoleFilter
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.settings import quote_literal
from dbctl.engines.servers.dumps import OMIT_SECRETS, ServerRoles
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.model import Struct, format_count

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
_ADDRESS = """select current_setting('server_version'), coalesce(host(inet_server_addr()), 'a local socket'),
  coalesce(inet_server_port(), current_setting('port')::int4)"""
_SYSTEM = "select system_identifier::text from pg_catalog.pg_control_system()"
EXTENSIONS = (
    "select extname || ' ' || extversion from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1"
)
#: Settings whose values are lists of quoted names, as in ``variable_is_guc_list_quote`` of pg_dump.
_QUOTED_LISTS = frozenset(
    """local_preload_libraries search_path session_preload_libraries shared_preload_libraries temp_tablespaces
    unix_socket_directories""".split()
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


def describe_server(session: Session) -> dict[str, str]:
    """Return the version, the address and the system identifier of the server."""
    ((version, host, port),) = session.run(_ADDRESS)
    server = {"server": str(version), "at": f"{host}:{port}"}
    try:
        ((system,),) = session.run(_SYSTEM)
    except psycopg.errors.InsufficientPrivilege:
        return server
    return server | {"system": str(system)}


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


def apply_properties(session: Session, name: str, properties: Properties) -> None:
    """Set the properties that ``create database`` cannot set: comment, privileges and settings.

    Raises:
        psycopg.Error: a role does not exist, or this role lacks a privilege.
    """
    database = ident(name)
    with session.transaction():
        if properties.comment:
            session.run(f"comment on database {database} is {quote_literal(properties.comment)}")
        if properties.grants is not None:
            grantees = f"public, {ident(properties.owner)}" if properties.owner else "public"
            session.run(f"revoke all on database {database} from {grantees}")
            for grantee, privilege, grantable in properties.grants:
                role = ident(grantee) if grantee else "public"
                grant_option = " with grant option" if grantable else ""
                session.run(f"grant {privilege} on database {database} to {role}{grant_option}")
        for role, setting in properties.settings:
            key, _, value = setting.partition("=")
            target = f"role {ident(role)} in database {database}" if role else f"database {database}"
            option = ".".join(ident(part) for part in key.split("."))
            text = f"to {quote_literal(value)}"
            if key in _QUOTED_LISTS:
                session.run("select set_config($1, $2, true)", key, value)
                text = "from current"  # which would write others in another form: 5000 as 5s
            session.run(f"alter {target} set {option} {text}")


#: Attributes that a restore never gives to a role, because their holder can bypass all privileges.
PRIVILEGED = ("SUPERUSER", "REPLICATION", "BYPASSRLS")
#: Predefined roles whose members can become superuser.
PRIVILEGED_ROLES = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")
#: Catalogs with owners. Only the objects of the first superuser have to be searched: it is not in ``pg_shdepend``.
_OWNERS = """pg_class relowner, pg_collation collowner, pg_conversion conowner, pg_event_trigger evtowner,
pg_foreign_data_wrapper fdwowner, pg_foreign_server srvowner, pg_largeobject_metadata lomowner, pg_namespace nspowner,
pg_opclass opcowner, pg_operator oprowner, pg_opfamily opfowner, pg_proc proowner, pg_publication pubowner,
pg_statistic_ext stxowner, pg_ts_config cfgowner, pg_ts_dict dictowner, pg_type typowner"""
_PINNED_OWNED = "\n  union all ".join(
    f"select 'pg_catalog.{catalog}'::regclass, oid from pg_catalog.{catalog} where {owner} = 10 and oid >= 16384"
    for catalog, owner in map(str.split, _OWNERS.split(","))
)
#: Whether object ``{0}`` belongs to the dumped schema $1; empty: to any.
_IN_SCOPE = """($1 = '' or (select i.schema = $1 or (i.type = 'schema' and i.name = $1)
    from pg_catalog.pg_identify_object({0}.classid, {0}.objid, 0) i)
  or exists (select from pg_catalog.pg_default_acl a where {0}.classid = 'pg_catalog.pg_default_acl'::regclass
    and a.oid = {0}.objid and a.defaclnamespace = pg_catalog.to_regnamespace(quote_ident($1)))
  or exists (select from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
    where {0}.classid = 'pg_catalog.pg_policy'::regclass and p.oid = {0}.objid
    and c.relnamespace = pg_catalog.to_regnamespace(quote_ident($1))))"""
_OF_EXTENSION = """({0}.classid = 'pg_catalog.pg_extension'::regclass or exists (select from pg_catalog.pg_depend e
    where e.classid = {0}.classid and e.objid = {0}.objid and e.deptype = 'e'))"""
#: Whether membership ``m`` has an effect besides administration, which version 16 gives to the creator of a role.
_EFFECTIVE = "coalesce(to_jsonb(m) ->> 'inherit_option', 'true') || coalesce(to_jsonb(m) ->> 'set_option', 'true') ~ 'true'"
#: The roles of a dump of schema $1 of this database (empty: of all): owners, grantees, roles of policies, user mappings and
#: settings, with the roles of which they are members, and with their members.
_ROLES = f"""with recursive db as (select d.oid from pg_catalog.pg_database d where d.datname = current_database()),
pinned (classid, objid) as ({_PINNED_OWNED}),
named (id) as (
  select s.refobjid from pg_catalog.pg_shdepend s, db
    where s.refclassid = 'pg_catalog.pg_authid'::regclass and s.deptype in ('o', 'a', 'r') and (
      s.dbid = db.oid and not (s.deptype = 'o' and {_OF_EXTENSION.format("s")}) and {_IN_SCOPE.format("s")}
      or s.dbid = 0 and s.classid = 'pg_catalog.pg_database'::regclass and s.objid = db.oid
      or $1 = '' and s.classid = 'pg_catalog.pg_subscription'::regclass
        and s.objid in (select u.oid from pg_catalog.pg_subscription u where u.subdbid = db.oid))
  union select 10::oid from pinned o where not {_OF_EXTENSION.format("o")} and {_IN_SCOPE.format("o")}
  union select d.datdba from pg_catalog.pg_database d, db where d.oid = db.oid
  union select t.setrole from pg_catalog.pg_db_role_setting t, db where t.setdatabase = db.oid and t.setrole <> 0),
above (id) as (select id from named union select m.roleid from pg_catalog.pg_auth_members m join above a on m.member = a.id
  where {_EFFECTIVE}),
below (id) as (select id from named union select m.member from pg_catalog.pg_auth_members m join below b on m.roleid = b.id
  where {_EFFECTIVE})
select coalesce(jsonb_agg(jsonb_build_object('name', r.rolname, 'is_named', r.oid in (select id from named),
  'attributes', array_remove(array[case when r.rolsuper then 'SUPERUSER' end, case when r.rolcreatedb then 'CREATEDB' end,
    case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcanlogin then 'LOGIN' end,
    case when r.rolreplication then 'REPLICATION' end, case when r.rolbypassrls then 'BYPASSRLS' end,
    case when not r.rolinherit then 'NOINHERIT' end], null),
  'connection_limit', r.rolconnlimit, 'valid_until', coalesce(to_jsonb(r.rolvaliduntil) #>> '{{}}', ''),
  'member_of', (select coalesce(jsonb_agg(jsonb_build_array(g.rolname, m.admin_option) order by g.rolname), '[]')
    from (select roleid, bool_or(m.admin_option) as admin_option from pg_catalog.pg_auth_members m
      where m.member = r.oid and {_EFFECTIVE} group by 1) m join pg_catalog.pg_roles g on g.oid = m.roleid))
  order by r.rolname), '[]')::text
from pg_catalog.pg_roles r where r.rolname !~ '^pg_' and (r.oid in (select id from named)
  or not r.rolsuper and r.oid in (select id from above union select id from below))"""
_EXISTING = "select rolname::text, rolsuper from pg_catalog.pg_roles"
_MAY_READ_PASSWORDS = "select has_table_privilege('pg_catalog.pg_authid', 'select')"
_PASSWORDS = """select rolname::text, rolpassword from pg_catalog.pg_authid
where rolname = any($1) and not rolsuper and rolpassword is not null"""


class Role(Struct, frozen=True, kw_only=True):
    """A role of the server of a dump."""

    name: str
    is_named: bool  #: whether the dump itself names it; otherwise it is connected to one by membership
    attributes: Sequence[str]  #: SUPERUSER, CREATEDB, CREATEROLE, LOGIN, REPLICATION, BYPASSRLS, NOINHERIT
    connection_limit: int  #: -1: unlimited
    valid_until: str  #: of its password, ISO 8601; empty: unlimited
    member_of: Sequence[tuple[str, bool]]  #: role, and whether it may administer it

    def describe(self, policy: RolePolicy) -> str:
        """Return the attributes and memberships with which a restore creates the role, and those that it leaves out."""
        words = [word for word in self.attributes if word not in PRIVILEGED] or ["NOLOGIN"]
        groups = [name for name, _ in self.member_of if name not in PRIVILEGED_ROLES]
        words += [f"member of {', '.join(groups)}"] if groups else []
        words += ["with its password"] if self.name in policy.passwords else []
        omitted = [word for word in self.attributes if word in PRIVILEGED]
        omitted += [f"membership in {name}" for name, _ in self.member_of if name in PRIVILEGED_ROLES]
        is_without = (
            policy.missing == "create" and "LOGIN" in self.attributes and self.name not in policy.passwords
        )
        without = ["a password"] if is_without else []
        without += [f"{word}, which only a superuser may give" for word in omitted]
        return ", ".join(words) + (f"; without {', '.join(without)}" if without else "")

    def create_statement(self, policy: RolePolicy) -> str:
        words = [f"create role {ident(self.name)}"]
        words += [word for word in self.attributes if word not in PRIVILEGED]
        words += [f"connection limit {self.connection_limit}"] if self.connection_limit >= 0 else []
        words += [f"valid until {quote_literal(self.valid_until)}"] if self.valid_until else []
        if password := policy.passwords.get(self.name):  # a hash, which the server stores unchanged
            words.append(f"password {quote_literal(password)}")
        return " ".join(words)


class RoleChanges(Struct, frozen=True, kw_only=True):
    """The roles that take the place of those in a dump."""

    existing: Collection[str] = ()
    replaced: Mapping[str, str] = {}
    is_needed: bool = False  #: whether the dump names roles that are replaced or missing

    def resolve(self, name: str) -> str | None:
        """Return the role that takes the place of ``name``; None: none."""
        role = self.replaced.get(name, name)
        return role if role in self.existing else None

    def adapt_properties(self, properties: Properties) -> Properties:
        """Replace or remove the roles in the properties of a new database."""
        if not self.is_needed:
            return properties
        grants = properties.grants
        if grants is not None:
            grants = [(self.resolve(role) if role else "", *rest) for role, *rest in grants]  # type: ignore[misc]
            grants = [grant for grant in grants if grant[0] is not None]
        settings = [(self.resolve(role) if role else "", text) for role, text in properties.settings]
        return structs.replace(
            properties,
            owner=self.resolve(properties.owner) or "",
            grants=grants,
            settings=[(role, text) for role, text in settings if role is not None],
        )

    def make_filter(
        self, remarks: list[str], change: Callable[[Iterator[bytes]], Iterator[bytes]]
    ) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
        """Return a function that replaces or removes the roles in the text of a dump, and then applies ``change``."""
        if not self.is_needed:
            return change
        return lambda blocks: change(RoleFilter(self.resolve).filter(blocks, remarks))


def read_roles(session: Session, scope: str) -> str:
    """Return the roles that a dump of schema ``scope`` (empty: of all) names, as JSON for a manifest."""
    ((roles,),) = session.run(_ROLES, scope)
    return str(roles)


def read_passwords(session: Session, scope: str, target: str) -> dict[str, str]:
    """Return the stored passwords of the roles of ``read_roles``, as ``Dumps.read_role_passwords`` describes."""
    ((may_read,),) = session.run(_MAY_READ_PASSWORDS)
    if not may_read:
        reason = "only a superuser may read the passwords of roles (pg_authid)"
        raise PrivilegeMissingError(target=target, reason=reason, hint=OMIT_SECRETS)
    roles = msgspec.json.decode(read_roles(session, scope), type=list[Role])
    rows = session.run(_PASSWORDS, [role.name for role in roles])
    return {str(name): str(password) for name, password in rows}


class Roles(ServerRoles[Role]):
    kind, word = Role, "role"
    _session: Session

    def read_names(self) -> dict[str, bool]:
        """Return whether each role of the server is a superuser."""
        rows = self._session.run(_EXISTING)
        return {str(name): bool(is_superuser) for name, is_superuser in rows}

    @contextmanager
    def prepare(
        self, request: LoadRequest, remarks: list[str], *, temporary: bool = False
    ) -> Iterator[RoleChanges]:
        """Yield the changes of a dump, after missing roles were created; as ``create_missing``."""
        with self.create_missing(request, remarks, temporary=temporary) as (_, skipped):
            # An older backup does not list its roles.
            is_unknown = "roles" not in request.dump.metadata and request.roles.missing == "skip"
            yield RoleChanges(
                existing=frozenset(self.read_names()),
                replaced=request.roles.replaced,
                is_needed=not request.dump.foreign and bool(request.roles.replaced or skipped or is_unknown),
            )

    def _create(self, roles: Sequence[Role], policy: RolePolicy) -> None:
        session = self._session
        with session.transaction():
            for role in roles:
                session.run(role.create_statement(policy))
            existing = self.read_names()
            ((is_superuser,),) = session.run("select current_setting('is_superuser') = 'on'")
            for role in roles:
                if not is_superuser:  # only members of a role may make it the owner of an object
                    session.run(f"grant {ident(role.name)} to current_user")
                for group, administers in role.member_of:
                    if group in PRIVILEGED_ROLES or existing.get(group, True):
                        continue
                    option = " with admin option" if administers else ""
                    session.run(f"grant {ident(group)} to {ident(role.name)}{option}")

    def _drop(self, roles: Sequence[Role]) -> None:
        """Drop roles that a load has created; a role stays if objects of another session depend on it."""
        with signals.block_signals():
            for role in roles:
                with suppress(psycopg.Error):
                    self._session.run(f"drop role {ident(role.name)}")


#: The tables and sequences of schema :scope (empty: of all) that a dump reads, and whether this role may.
READABLE = f"""select n.nspname::text, c.relname::text, c.relkind = 'S', has_schema_privilege(n.oid, 'USAGE'),
  case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'SELECT') else has_table_privilege(c.oid, 'SELECT') end,
  row_security_active(c.oid)
{RELATIONS} where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and {IN_USER_SCHEMA} and {OWN_RELATION}
  and (:scope = '' or n.nspname = :scope) order by 1, 2"""


def require_readable(
    connection: PostgreSQLConnection, scope: str, emptied: Collection[tuple[str, str]]
) -> None:
    """Raise PrivilegeMissingError, with all remedies, if this role may not read a schema (empty: any), but for rows of ``emptied``."""
    relations = cast(
        "list[tuple[str, str, bool, bool, bool, bool]]", connection.fetch(READABLE, {"scope": scope})
    )
    role, reasons, statements = connection.session.role, list[str](), list[str]()
    unreadable = list[str]()
    if schemas := sorted({ident(relation[0]) for relation in relations if not relation[3]}):
        reasons.append(f"use schema {', '.join(schemas)}")
        statements.append(f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {ident(role)};")
    for kind, is_sequence in (("TABLE", False), ("SEQUENCE", True)):
        existing = [relation for relation in relations if relation[2] is is_sequence]
        if not (missing := [relation for relation in existing if not relation[4]]):
            continue
        unreadable.append(format_count(len(missing), kind.lower()))
        names = f"{kind} {', '.join(f'{ident(schema)}.{ident(name)}' for schema, name, *_ in missing)}"
        if missing == existing and len({schema for schema, *_ in missing}) == 1:
            names = f"ALL {kind}S IN SCHEMA {ident(missing[0][0])}"
        statements.append(f"GRANT SELECT ON {names} TO {ident(role)};")
    reasons += [f"read {' and '.join(unreadable)}"] if unreadable else []
    if hidden := [name for schema, name, *_, active in relations if active and (schema, name) not in emptied]:
        reasons.append(f"read the rows of {', '.join(hidden)} that a policy hides")
        statements.append(f"ALTER ROLE {ident(role)} BYPASSRLS;")
    if reasons:
        hint = f"Nothing was changed. As a superuser: {' '.join(statements)}"
        reason = f"role {role} may not {', or '.join(reasons)}"
        raise PrivilegeMissingError(target=connection.target, reason=reason, hint=hint)


#: Statements that create, in an empty database, the types that tables of this database may use.
TYPES = f"""select format('create schema if not exists %I;', n.nspname) from pg_catalog.pg_namespace n
  where {IN_USER_SCHEMA}
union all (select format('create extension if not exists %I schema %I cascade;', e.extname, n.nspname)
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname <> 'plpgsql' order by e.oid)
union all (select format('create type %I.%I as %s;', n.nspname, t.typname,
    case t.typtype when 'e' then (select format('enum (%s)', string_agg(quote_literal(l.enumlabel), ', ' order by l.enumsortorder))
        from pg_catalog.pg_enum l where l.enumtypid = t.oid)
      else (select format('(%s)', string_agg(format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum))
        from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end)
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  left join pg_catalog.pg_class c on c.oid = t.typrelid
  where (t.typtype = 'e' or c.relkind = 'c') and {IN_USER_SCHEMA} and {OWN_TYPE} order by t.oid)
union all (select format('create domain %I.%I as %s;', n.nspname, t.typname, pg_catalog.format_type(t.typbasetype, t.typtypmod))
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where t.typtype = 'd' and {IN_USER_SCHEMA} and {OWN_TYPE} order by t.oid)"""
