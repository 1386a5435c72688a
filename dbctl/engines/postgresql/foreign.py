"""Dumps that dbctl did not create: the role that loads one owns the scratch database and nothing else, and some statements are left out.

The role has the name of its database, so the lock on that name is held while a process uses either.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import cast
from urllib.parse import quote

import psycopg
from msgspec import structs

from dbctl.engines.postgresql.catalog import (
    DROP_SUBSCRIPTION,
    IN_USER_SCHEMA,
    OWN_FUNCTION,
    OWN_RELATION,
    OWN_SCHEMA,
)
from dbctl.engines.postgresql.dump_limits import UNRESOLVED
from dbctl.engines.postgresql.dump_programs import create_schema_if_missing
from dbctl.engines.postgresql.dump_statements import NAME, PsqlCommandError, StatementFilter
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.settings import quote_literal
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import DumpOverreachesError, ForeignDumpRefusedError
from dbctl.errors.base import DbctlError
from dbctl.model import Secret, format_count
from dbctl.url import Url

#: Connects to a database of the server as the role of the URL, with ``pg_catalog`` alone in the search path.
Connect = Callable[[str], AbstractContextManager[Session]]

RIGHTS = """select current_user::text, rolsuper, rolsuper or rolcreatedb, rolsuper or rolcreaterole
from pg_catalog.pg_roles where rolname = current_user"""
SESSIONS = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity where usename = $1"
PREPARED = "select gid from pg_catalog.pg_prepared_xacts where database = $1"
#: No database with a subscription can be dropped.
SUBSCRIPTIONS = f"""select {DROP_SUBSCRIPTION} from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid where d.datname = $1"""
IS_ROLE = "select 1 from pg_catalog.pg_roles where rolname = $1 and not rolsuper"
#: Databases with objects that a role owns or has grants on; no name: shared objects.
DATABASES_WITH_OBJECTS = """select distinct d.datname from pg_catalog.pg_shdepend s left join pg_catalog.pg_database d on d.oid = s.dbid
where s.refclassid = 'pg_catalog.pg_authid'::regclass and s.refobjid = (select oid from pg_catalog.pg_roles where rolname = $1)"""
EXTENSIONS = """select e.extname, n.nspname from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname <> 'plpgsql' order by e.oid"""
#: The role that owns most tables.
MAIN_OWNER = f"""select pg_catalog.pg_get_userbyid(c.relowner)::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and {IN_USER_SCHEMA} and {OWN_RELATION} group by 1 order by count(*) desc, 1 limit 1"""
_GRANT = """format('grant %s on {0} to %s%s', a.privilege_type, {1},
  case a.grantee when 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end,
  case when a.is_grantable then ' with grant option' else '' end)"""
_KIND = "case c.relkind when 'S' then 'sequence' else 'table' end"
_RELATIONS = f"""from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  {{0}} where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and {IN_USER_SCHEMA} and {OWN_RELATION}"""
_ROUTINES = f"""from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  {{0}} where {IN_USER_SCHEMA} and {OWN_FUNCTION}"""
_SCHEMAS = f"from pg_catalog.pg_namespace n {{0}} where {IN_USER_SCHEMA} and {OWN_SCHEMA}"
_OWNED_BY = "quote_ident(pg_catalog.pg_get_userbyid({0}))"
#: Statements that copy the owners and grants of this database to objects of the same names in another database.
OWNERSHIP_STATEMENTS = f"""select x from (
  select 1, format('alter schema %I owner to %s', n.nspname, {_OWNED_BY.format("n.nspowner")}) {_SCHEMAS.format("")}
    and n.nspname <> 'public'
  union all select 2, format('revoke all on schema %I from public', n.nspname) {_SCHEMAS.format("")} and n.nspacl is not null
  union all select 3, {_GRANT.format("schema %I", "n.nspname")}
    {_SCHEMAS.format("cross join lateral pg_catalog.aclexplode(n.nspacl) a")}
  union all select 4, format('alter table %I.%I owner to %s', n.nspname, c.relname, {_OWNED_BY.format("c.relowner")})
    {_RELATIONS.format("")} and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass
      and d.objid = c.oid and c.relkind = 'S' and d.deptype in ('a', 'i'))
  union all select 5, {_GRANT.format("%s %I.%I", f"{_KIND}, n.nspname, c.relname")}
    {_RELATIONS.format("cross join lateral pg_catalog.aclexplode(c.relacl) a")} and a.grantee <> c.relowner
  union all select 6, format('grant %s (%I) on table %I.%I to %s', a.privilege_type, t.attname, n.nspname, c.relname,
      case a.grantee when 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end)
    {_RELATIONS.format("join pg_catalog.pg_attribute t on t.attrelid = c.oid cross join lateral pg_catalog.aclexplode(t.attacl) a")}
  union all select 7, format('alter routine %s owner to %s', p.oid::regprocedure, {_OWNED_BY.format("p.proowner")})
    {_ROUTINES.format("")}
  union all select 8, format('revoke all on routine %s from public', p.oid::regprocedure)
    {_ROUTINES.format("")} and p.proacl is not null
  union all select 9, {_GRANT.format("routine %s", "p.oid::regprocedure")}
    {_ROUTINES.format("cross join lateral pg_catalog.aclexplode(p.proacl) a")} and a.grantee <> p.proowner
) r (at, x) order by at, x"""
#: Functions that run with the rights of a superuser for every caller.
SUPERUSER_FUNCTIONS = f"""select p.oid::regprocedure::text {_ROUTINES.format("join pg_catalog.pg_roles r on r.oid = p.proowner")}
and p.prosecdef and r.rolsuper order by 1"""
#: Counts of the objects of a dump besides tables, by kind.
CODE_OBJECT_COUNTS = f"""select 'function', count(*) {_ROUTINES.format("")}
union all select 'trigger', count(*) from pg_catalog.pg_trigger t where not t.tgisinternal
union all select 'view', count(*) {_RELATIONS.format("")} and c.relkind in ('v', 'm')"""
IS_SUPERUSER = "select coalesce((select rolsuper from pg_catalog.pg_roles where rolname = $1), false)"


def require_rights(central: Session, target: str) -> None:
    """Refuse a foreign dump if this role cannot create a scratch role and a scratch database.

    Raises:
        ForeignDumpRefusedError: this role may not create either.
    """
    ((user, _, databases, roles),) = central.run(RIGHTS)
    rights = {"databases": databases, "roles": roles}
    lacking = " and ".join(name for name, allowed in rights.items() if not allowed)
    if lacking:
        attributes = " ".join(
            word for word, allowed in {"CREATEDB": databases, "CREATEROLE": roles}.items() if not allowed
        )
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"role {user} may not create {lacking}",
            hint=f"As a superuser: ALTER ROLE {ident(str(user))} {attributes};",
        )


def create_role(central: Session, name: str) -> Secret:
    """Create a role that may sign in and nothing else; return its password.

    The server gets the password hashed, so that no log of statements contains it.
    """
    password = secrets.token_urlsafe(24)
    hashed = central.pgconn.encrypt_password(password.encode(), name.encode()).decode()
    central.run(f"create role {ident(name)} login password {quote_literal(hashed)}")
    ((_, superuser, _, _),) = central.run(RIGHTS)
    if not superuser:  # only members of a role may make it the owner of a database
        central.run(f"grant {ident(name)} to current_user")
    return Secret(password)


def role_url(url: Url, name: str, password: Secret) -> Url:
    """Return the URL of a scratch database for the role of the same name."""
    options = url.omit_options("user", "password", "passfile", "service")
    return structs.replace(url, path=name, user=name, password=password, options=options)


def catalog_first_url(url: Url) -> Url:
    """Return a URL whose sessions search ``pg_catalog`` before other schemas.

    A dump may define functions and operators with the names of built-in ones.
    """
    options = [url.omit_options("options", "schema"), f"options={quote('-c search_path=pg_catalog')}"]
    return structs.replace(url, options="&".join(filter(None, options)))


def require_sign_in(url: Url, target: str, *, timeout: float) -> None:
    """Refuse a foreign dump if the scratch role cannot sign in to the server.

    Raises:
        ForeignDumpRefusedError: the sign-in failed.
    """
    try:
        open_session(url, target, timeout=timeout, read_only=True).close()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1].rpartition("FATAL:")[2].strip()
        raise ForeignDumpRefusedError(
            target=target,
            reason=f"the server does not let a new role sign in with a password ({reason})",
            hint="Add a line to pg_hba.conf that lets the roles of this address sign in by scram-sha-256.",
        ) from None


def install_extensions(live: Session, scratch: Session) -> None:
    """Install the extensions of the live database before the dump is loaded.

    An administrator has approved them; the scratch role itself could install trusted extensions only.
    """
    for extension, schema in live.run(EXTENSIONS):
        with suppress(psycopg.Error), scratch.transaction():
            if schema not in ("public", "pg_catalog"):
                scratch.run(f"create schema if not exists {ident(str(schema))}")
            # The extension has a fixed schema.
            where = "" if schema == "pg_catalog" else f" schema {ident(str(schema))}"
            scratch.run(f"create extension if not exists {ident(str(extension))}{where}")


def find_owner(live: Session | None, central: Session) -> str:
    """Return the new owner of the scratch role's objects: the role that owns most live tables."""
    rows = live.run(MAIN_OWNER) if live else []
    if not rows:
        rows = central.run("select current_user::text")
    return str(rows[0][0])


def transfer_ownership(central: Session, scratch: Session, live: Session | None, role: str) -> list[str]:
    """Copy the owners and grants of the live database to the objects of a scratch role; return warnings.

    The dump sets neither owners nor grants. No function gets superuser rights only because a dump declares it.

    Args:
        central: a session to another database of the server.
        scratch: a session to the loaded database, which finds only the names of ``pg_catalog``.
        live: a session to the database that will be replaced; None if it does not exist.
        role: the scratch role, which has the name of its database.
    """
    central.run(SESSIONS, role)
    database, owner, remarks = ident(role), find_owner(live, central), list[str]()
    central.run(f"alter database {database} is_template false")
    central.run(f"alter database {database} reset all")
    scratch.run(f"reassign owned by {ident(role)} to {ident(owner)}")
    scratch.run(f"drop owned by {ident(role)}")  # grants, and default privileges
    for (statement,) in live.run(OWNERSHIP_STATEMENTS) if live else ():
        try:
            with scratch.transaction():
                scratch.run(str(statement))
        except UNRESOLVED:
            continue  # the dump has no such object
        except psycopg.Error as error:
            remarks.append(f"not applied ({error.diag.message_primary}): {statement}")
    for (routine,) in scratch.run(SUPERUSER_FUNCTIONS):
        scratch.run(f"alter routine {routine} security invoker")
        remarks.append(
            f"{routine} of the dump would run with the rights of a superuser; it is SECURITY INVOKER now"
        )
    return [*remarks, *_warn_of_superuser(scratch, owner)]


def _warn_of_superuser(scratch: Session, owner: str) -> Iterator[str]:
    """Yield a warning if a superuser owns the database and so will run the code of the dump."""
    if scratch.run(IS_SUPERUSER, owner) == [(True,)]:
        kinds = [(str(kind), int(str(count))) for kind, count in scratch.run(CODE_OBJECT_COUNTS) if count]
        if kinds:
            objects = ", ".join(format_count(count, kind) for kind, count in kinds)
            yield f"the dump defines {objects}, which run with the rights of superuser {owner} when the app uses them"


def remove(central: Session, connect: Connect, name: str) -> Sequence[str]:
    """Drop a scratch database and its role, if they exist; return what could not be dropped, with the reason."""
    with suppress(psycopg.Error):  # it does not exist, or another role owns it now
        central.run(f"alter database {ident(name)} is_template false")
    for (transaction,) in central.run(PREPARED, name):
        with suppress(psycopg.Error, DbctlError), connect(name) as scratch:
            scratch.run(f"rollback prepared {quote_literal(str(transaction))}")
    for (statements,) in central.run(SUBSCRIPTIONS, name):
        with suppress(psycopg.Error, DbctlError), connect(name) as scratch:
            for statement in cast("list[str]", statements):
                scratch.run(statement)
    try:
        central.run(f"drop database if exists {ident(name)} with (force)")
    except psycopg.Error as error:
        return [f"database {name} could not be dropped: {error.diag.message_primary}"]
    if not central.run(IS_ROLE, name):
        return []
    central.run(SESSIONS, name)
    return _drop_role(central, connect, name)


def _drop_role(central: Session, connect: Connect, name: str) -> list[str]:
    """Drop a role; the current role becomes the owner of its objects in other databases."""
    reassigned = list[str]()
    for (database,) in central.run(DATABASES_WITH_OBJECTS, name):
        with suppress(psycopg.Error, DbctlError), connect(str(database or central.info.dbname)) as session:
            session.run(f"reassign owned by {ident(name)} to current_user")
            session.run(f"drop owned by {ident(name)}")
            reassigned.append(str(database or "the server"))
    try:
        central.run(f"drop role if exists {ident(name)}")
    except psycopg.Error as error:
        reason = (error.diag.message_detail or error.diag.message_primary or "").replace("\n", "; ")
        return [f"role {name} could not be dropped: {reason}"]
    return (
        [f"role {name} owned objects in {', '.join(reassigned)}, which belong to this role now"]
        if reassigned
        else []
    )


#: Statements with roles of another server, or that a scratch role may not execute: the live database has their values.
_OMITTED = re.compile(
    rb"ALTER\s.*\sOWNER\s+TO\s+" + NAME + rb"\s*;"
    rb"|(?:GRANT|REVOKE)\s.*"
    rb"|ALTER\s+DEFAULT\s+PRIVILEGES\s.*"
    rb"|(?:SET|RESET)\s+SESSION\s+AUTHORIZATION\b.*"
    rb"|COMMENT\s+ON\s+EXTENSION\s.*"
    rb"|COMMENT\s+ON\s+SCHEMA\s+public\s.*"
    rb"|SET\s+default_tablespace\s*=\s*[^'\s].*",
    re.IGNORECASE | re.DOTALL,
)
#: Objects that only superusers create, and that no other object of a dump needs.
_CREATE = re.compile(
    rb"CREATE\s+(?:(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION)\s+(?P<name>" + NAME + rb")\s.*"
    rb"|(?P<all>PUBLICATION)\s+(?P<publication>"
    + NAME
    + rb")\s+FOR\s+(?:ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
#: Statements about such an object after its creation.
_FOLLOW_UP = re.compile(
    rb"(?:ALTER|COMMENT\s+ON|SECURITY\s+LABEL\s+(?:FOR\s+\S+\s+)?ON)\s+(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION|PUBLICATION)"
    rb"\s+(?P<name>" + NAME + rb")\s.*",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA_PUBLISHED = re.compile(
    rb"ALTER\s+PUBLICATION\s+(" + NAME + rb")\s+ADD\s+TABLES\s+IN\s+SCHEMA\s.*", re.IGNORECASE | re.DOTALL
)
PUBLISHED = "tables of schemas in publication"
#: The number of names in a message.
MAXNAMES = 10
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(" + NAME + rb")\s*;", re.IGNORECASE)


class _ForeignFilter(StatementFilter):
    def __init__(self) -> None:
        self._omitted = dict[str, dict[bytes, None]]()  #: names of objects by kind, in their order
        super().__init__()

    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        if schema := _SCHEMA.fullmatch(statement):
            return create_schema_if_missing(schema)
        return b"" if _OMITTED.fullmatch(statement) or self._is_omitted(statement) else text

    def _is_omitted(self, statement: bytes) -> bool:
        """Return whether a statement is left out: it creates an object that only superusers create, or refers to one."""
        if created := _CREATE.fullmatch(statement):
            self._omit(
                _normalize_kind(created["kind"] or created["all"]), created["name"] or created["publication"]
            )
            return True
        if published := _SCHEMA_PUBLISHED.fullmatch(statement):
            self._omit(PUBLISHED, published[1])
            return True
        match = _FOLLOW_UP.fullmatch(statement)
        return match is not None and match["name"] in self._omitted.get(_normalize_kind(match["kind"]), {})

    def _omit(self, kind: str, name: bytes) -> None:
        self._omitted.setdefault(kind, {})[name] = None

    def describe_changes(self) -> list[str]:
        sentences = []
        for kind, objects in self._omitted.items():
            names = [name.decode(errors="replace") for name in objects]
            suffix = f" and {len(names) - MAXNAMES} more" if len(names) > MAXNAMES else ""
            sentences.append(
                f"left out of the dump, as only a superuser may create it: {kind} {', '.join(names[:MAXNAMES])}{suffix}"
                " (create it by hand after the restore if the app needs it)"
            )
        return sentences


def _normalize_kind(word: bytes) -> str:
    return b" ".join(word.lower().split()).decode()


def make_statement_filter(
    target: str, remarks: list[str], change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that filters a dump statement by statement, and then applies ``change``.

    psql receives a statement only after its end was read. The privileges of the scratch role confine the dump to its
    database; the filter only removes the owners and grants of a usual dump, which that role cannot set, and event
    triggers, subscriptions and publications of all tables, which it cannot create. ``remarks`` gets a sentence about each
    kind.

    Raises:
        DumpOverreachesError: the dump contains a psql meta-command.
    """

    def pass_on(blocks: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from _ForeignFilter().filter(blocks, remarks)
        except PsqlCommandError as error:
            instead = "Nothing after it was executed."
            raise DumpOverreachesError(target=target, reason=f"it contains {error}", hint=instead) from error

    return lambda blocks: change(pass_on(blocks))
