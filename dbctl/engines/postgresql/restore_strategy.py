"""Decide how a dump replaces a database, with connections to the server of the restore."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from urllib.parse import unquote

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import Dump, RestoreStrategy
from dbctl.engines.postgresql import dump_statements, foreign
from dbctl.engines.postgresql import properties as database_properties
from dbctl.engines.postgresql.catalog import PUBLIC, resolve_scope
from dbctl.engines.postgresql.dump_programs import major_version
from dbctl.engines.postgresql.errors import translate_error, unreachable_error
from dbctl.engines.postgresql.load import list_sessions
from dbctl.engines.postgresql.properties import Properties
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.engine import ErrorContext
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.restore import ForeignDumpRefusedError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

#: Databases that every server has, to connect to while another one is renamed.
CENTRAL = ("postgres", "template1")


class RestoreServer:
    """Opens sessions on the server of the database at ``url``, which may be missing."""

    def __init__(self, url: Url, target: str) -> None:
        self.url, self.target, self.name = url, target, url.path

    @property
    def schema(self) -> str:
        """The schema that the URL names, quoted as in a URL; empty without one."""
        match = re.search(r"(?:^|&)schema=([^&]*)", self.url.options)
        return match[1] if match else ""

    def sibling_url(self, name: str) -> Url:
        """Return the URL of another database of the server, without a schema."""
        options = "&".join(
            option for option in self.url.options.split("&") if option and not option.startswith("schema=")
        )
        return structs.replace(self.url, path=name, options=options)

    def central_url(self) -> Url | None:
        """Return the URL of a database that every server has and that accepts connections, if any."""
        for name in CENTRAL:
            if name != self.name:
                url = self.sibling_url(name)
                with suppress(psycopg.Error):
                    open_session(url, self.target, timeout=SHORT_TIMEOUT, read_only=True).close()
                    return url
        return None

    def central(self, timeout: float = SHORT_TIMEOUT) -> AbstractContextManager[Session]:
        """Connect to such a database."""
        url = self.central_url() or self.sibling_url(CENTRAL[0])
        return self.open_session(url, timeout=timeout)

    @contextmanager
    def open_session(self, url: Url, *, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        """Connect to ``url`` for writing, without a limit for statements."""
        with closing(open_session(url, self.target, timeout=timeout, read_only=False)) as session:
            # Settings of the database or role are meant for the app.
            session.run("set statement_timeout = 0")
            yield session

    def open_catalog_first(self, name: str) -> AbstractContextManager[Session]:
        """Connect with ``pg_catalog`` first in the search path, since a dump may define objects with built-in names."""
        return self.open_session(foreign.catalog_first_url(self.sibling_url(name)))

    def read_scope(self, central: Session) -> str:
        """Return the schema of the app; check that both sessions are on the same server."""
        with self.open_session(self.url) as session:
            server = database_properties.describe_server(session)
            central_server = database_properties.describe_server(central)
            if server.get("system") != central_server.get("system"):
                # A host name with several servers, or a pooler.
                raise RestoreFailedError(
                    target=self.target,
                    reason=f"two servers answer at its address: {server['at']} and {central_server['at']}",
                    hint="Use the address of one server.",
                )
            return resolve_scope(session, session.url_schema)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            signals.raise_if_interrupted()
            if error.sqlstate is None:
                raise unreachable_error(error, self.target, self.url) from None
            context = ErrorContext(
                url=self.url, target=self.target, timeout=SHORT_TIMEOUT, account=ident(self.url.user)
            )
            raise translate_error(error, context, "", writing=True, broken=False) from error


#: Templates for new databases.
TEMPLATES = ("template0", "template1")
AVAILABLE_EXTENSIONS = "select name from pg_catalog.pg_available_extensions"
RIGHTS = """select current_user::text, rolsuper or rolcreatedb,
  rolsuper or coalesce((select pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') from pg_catalog.pg_database d where d.datname = $1), true)
from pg_catalog.pg_roles where rolname = current_user"""


def select_strategy(server: RestoreServer, dump: Dump) -> RestoreStrategy:
    """Return the strategy, as ``RestoreTarget.strategy`` describes."""
    if server.name in TEMPLATES:
        raise NotSupportedError(
            feature="a restore",
            subject=f"{server.target}, a template for new databases",
            hint="Nothing was changed. Choose another database.",
        )
    if dump.form != "kept":
        _require_same_schema(server, dump)
    with server.translate_errors():
        central_url = server.central_url()
        if central_url is None:
            return _in_place_strategy(server, dump, "no other database of the server accepts connections")
        with server.open_session(central_url) as central:
            return _select(server, central, dump)


def require_trial(server: RestoreServer, central: Session, dump: Dump) -> None:
    """Refuse a trial restore on a server that cannot load the dump, although the dump may be valid.

    Raises:
        PrivilegeMissingError: this role may not create databases.
        NotSupportedError: the server is older than the dump, or lacks an extension.
    """
    ((user, creates, _),) = central.run(RIGHTS, server.name)
    if not creates:
        raise _create_denied_error(server.target, str(user))
    try:
        refuse_newer(dump, central, server.target)
    except RestoreFailedError as error:
        reason = str(error.context["reason"])
        raise unsupported_dump_error(central, reason, str(error.context["hint"])) from None
    _require_extensions(central, dump)
    if dump.foreign:
        foreign.require_rights(central, server.target)


def _require_extensions(central: Session, dump: Dump) -> None:
    available = {str(name) for (name,) in central.run(AVAILABLE_EXTENSIONS)}
    required = [item.partition(" ")[0] for item in dump.metadata.get("extensions", "").split(", ") if item]
    if missing := [name for name in required if name not in available]:
        raise unsupported_dump_error(
            central, f"it lacks extensions of the dump: {', '.join(missing)}", "Install their packages there."
        )


def unsupported_dump_error(session: Session, reason: str, hint: str = "") -> NotSupportedError:
    """Return the error of a server that cannot load a dump, which may be valid."""
    location = database_properties.describe_server(session)["at"]
    return NotSupportedError(
        feature="a restore of this dump",
        subject=f"the server at {location}: {reason}",
        hint=f"Nothing was restored; the backup may be valid. {hint}".rstrip(),
    )


def _select(server: RestoreServer, central: Session, dump: Dump) -> RestoreStrategy:
    live = database_properties.read_properties(central, server.name)
    location = _describe_location(central, server.name)
    ((user, creates, owns),) = central.run(RIGHTS, server.name)
    connected = list_sessions(central, server.name)
    end_steps = [f"end the sessions of {server.name} ({len(connected)}): {', '.join(connected)}"]
    end_steps = end_steps if connected else []
    if dump.form == "kept":
        find_retained(central, dump, server.target)
        steps = [f"rename {dump.metadata['kept']} to replace {location}", *end_steps]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
    refuse_newer(dump, central, server.target)
    if dump.foreign:
        foreign.require_rights(central, server.target)
    notes = _describe_other_server(central, dump)
    if live is None:
        if not creates:
            raise _create_denied_error(server.target, str(user))
        _require_extensions(central, dump)
        return RestoreStrategy(method="new", steps=[f"create {location}", *notes])
    schema = server.read_scope(central)
    if schema:
        return _in_place_strategy(server, dump, f"objects outside of schema {schema} are not replaced")
    if not (creates and owns):
        missing = f"ALTER ROLE {ident(str(user))} CREATEDB" if owns else f"its owner is {live.owner}"
        return _in_place_strategy(server, dump, f"{user} may not rename it ({missing})")
    steps = [f"load into a new database next to {location}, verify it, and swap the names"]
    return RestoreStrategy(method="swapped", retains_previous=True, steps=[*steps, *end_steps, *notes])


def _in_place_strategy(server: RestoreServer, dump: Dump, reason: str) -> RestoreStrategy:
    if dump.foreign:
        raise ForeignDumpRefusedError(
            target=server.target,
            reason=f"a foreign dump needs a separate database: {reason}",
            hint="Load it with restore apply --to NEW-DATABASE, or copy rows with --table NAME --merge missing.",
        )
    with server.open_session(server.url) as session:
        refuse_newer(dump, session, server.target)
        location = _describe_location(session, server.name)
        notes = _describe_other_server(session, dump)
    steps = [f"empty {location} and fill it in one transaction, which blocks all other sessions: {reason}"]
    return RestoreStrategy(method="in place", steps=[*steps, *notes])


def _require_same_schema(server: RestoreServer, dump: Dump) -> None:
    """Refuse to empty the schema that the URL names and then to fill another one.

    A dump of the whole database is treated as ``public``, which means the whole database unless there are other schemas.
    """
    requested, dumped = unquote(server.schema), dump.metadata.get("schema", "")
    if requested and requested != (dumped or PUBLIC):
        raise NotSupportedError(
            feature=f"restoring {f'schema {dumped}' if dumped else 'a whole database'}",
            subject=f"{server.target}, whose URL names schema {requested}",
            hint="Nothing was changed. A restore does not rename schemas: remove schema= from the URL, or choose another database.",
        )


def find_retained(central: Session, dump: Dump, target: str) -> Properties:
    """Return the properties of the retained database of ``dump``.

    Raises:
        RetainedDatabaseMissingError: it was dropped, or its name belongs to another database.
    """
    name = dump.metadata["kept"]
    properties = database_properties.read_properties(central, name)
    if properties is None or str(properties.oid) != dump.metadata["oid"]:
        raise RetainedDatabaseMissingError(target=target, name=name)
    return properties


def refuse_newer(dump: Dump, session: Session, target: str) -> None:
    """Refuse a dump of a newer version than the server.

    Raises:
        RestoreFailedError: the server is older.
    """
    dump_version = major_version(dump.metadata.get("server", ""))
    server_version = session.info.server_version // 10000
    if dump_version > server_version:
        raise RestoreFailedError(
            target=target,
            reason=f"it is from PostgreSQL {dump_version}, and this server has version {server_version}",
            hint=f"Use a server of version {dump_version} or later.",
        )


def _describe_location(session: Session, name: str) -> str:
    server = database_properties.describe_server(session)
    system = f", system {server['system']}" if "system" in server else ""
    return f"database {name} of the server at {server['at']} (PostgreSQL {major_version(server['server'])}{system})"


def _create_denied_error(target: str, user: str) -> PrivilegeMissingError:
    return PrivilegeMissingError(
        target=target,
        reason=f"role {user} may not create databases",
        hint=f"Nothing was changed. As a superuser: ALTER ROLE {ident(user)} CREATEDB;",
    )


def _describe_other_server(session: Session, dump: Dump) -> list[str]:
    """Return a note if the dump is from another server than this one, and for each tablespace that this one lacks."""
    missing = [
        f"note: {dump_statements.describe_missing(name)}"
        for name in dump_statements.find_missing(session, dump)
    ]
    source = dump.metadata.get("system", "")
    system = database_properties.describe_server(session).get("system", "")
    if source in ("", system) or not system:
        return missing
    return [
        *missing,
        f"note: the backup is from another server: database {dump.metadata['database']} at {dump.metadata['at']}, system {source}",
    ]
