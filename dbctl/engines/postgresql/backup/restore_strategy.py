"""Decide how a dump replaces a database."""

from __future__ import annotations

from urllib.parse import unquote

from dbctl.engines.contract.dumps import Dump, RestoreStrategy
from dbctl.engines.postgresql.backup import database_properties, tablespaces
from dbctl.engines.postgresql.backup.database_properties import Properties
from dbctl.engines.postgresql.backup.foreign import scratch_role
from dbctl.engines.postgresql.backup.load import major_version
from dbctl.engines.postgresql.backup.rename_swap import list_sessions
from dbctl.engines.postgresql.backup.restore_server import RestoreServer
from dbctl.engines.postgresql.connection.session import Session
from dbctl.engines.postgresql.schema import PUBLIC
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.restore import ForeignDumpRefusedError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.usage import NotSupportedError

#: Templates for new databases.
TEMPLATES = ("template0", "template1")
AVAILABLE_EXTENSIONS = b"select name from pg_catalog.pg_available_extensions"
RIGHTS = b"""select current_user::text, rolsuper or rolcreatedb,
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
    ((user, creates, _),) = central.execute(RIGHTS, [server.name]).fetchall()
    if not creates:
        raise _create_denied_error(server.target, str(user))
    try:
        refuse_newer(dump, central, server.target)
    except RestoreFailedError as error:
        reason = str(error.context["reason"])
        raise unsupported_dump_error(central, reason, str(error.context["hint"])) from None
    available = {str(name) for (name,) in central.execute(AVAILABLE_EXTENSIONS).fetchall()}
    required = [item.partition(" ")[0] for item in dump.metadata.get("extensions", "").split(", ") if item]
    if missing := [name for name in required if name not in available]:
        raise unsupported_dump_error(
            central, f"it lacks extensions of the dump: {', '.join(missing)}", "Install their packages there."
        )
    if dump.foreign:
        scratch_role.require_rights(central, server.target)


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
    ((user, creates, owns),) = central.execute(RIGHTS, [server.name]).fetchall()
    connected = list_sessions(central, server.name)
    end_steps = [f"end the sessions of {server.name} ({len(connected)}): {', '.join(connected)}"]
    end_steps = end_steps if connected else []
    if dump.form == "kept":
        find_retained(central, dump, server.target)
        steps = [f"rename {dump.metadata['kept']} to replace {location}", *end_steps]
        return RestoreStrategy(method="swapped", retains_previous=True, steps=steps)
    refuse_newer(dump, central, server.target)
    if dump.foreign:
        scratch_role.require_rights(central, server.target)
    notes = _describe_other_server(central, dump)
    if live is None:
        if not creates:
            raise _create_denied_error(server.target, str(user))
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
        f"note: {tablespaces.describe_missing(name)}" for name in tablespaces.find_missing(session, dump)
    ]
    source = dump.metadata.get("system", "")
    system = database_properties.describe_server(session).get("system", "")
    if source in ("", system) or not system:
        return missing
    return [
        *missing,
        f"note: the backup is from another server: database {dump.metadata['database']} at {dump.metadata['at']}, system {source}",
    ]
