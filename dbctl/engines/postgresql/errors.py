"""Convert errors of PostgreSQL to dbctl errors, by SQLSTATE, because the text is in the server's language."""

from __future__ import annotations

import re

import psycopg
from msgspec import structs

from dbctl.engines.contract.route import create_unreachable_error
from dbctl.engines.servers.engine import CHECK_URL, FREE_CONNECTION, ErrorContext
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    PrivilegeMissingError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.operations import ReplicaConflictError
from dbctl.errors.usage import ValueInvalidError
from dbctl.url import Url

#: Errors by SQLSTATE, or by its class.
ERRORS: dict[str, type[DbctlError]] = {
    "55P03": BusyError,
    "40001": ConcurrentChangeError,
    "40P01": ConcurrentChangeError,
    "42501": PrivilegeMissingError,
    "25006": ReadOnlyError,
    "53100": DiskFullError,
    "23": ConstraintError,
    "XX001": CorruptError,
    "XX002": CorruptError,
}
STOPPED = "57014"
RAISED = "P0001"  #: a trigger or a function refuses a statement
#: Errors of connections that the server itself opened, for foreign tables or dblink; the session continues.
OTHER_CONNECTIONS = {"08001", "08003", "08004", "08006"}
CHECK_OTHER = "A server of foreign tables does not answer. Check its address: SELECT srvname, srvoptions FROM pg_foreign_server; or leave its tables out."
#: Privileges that a statement needs on a table, by its first word.
PRIVILEGES = {
    "select": "SELECT",
    "insert": "SELECT, INSERT",
    "copy": "INSERT",
    "update": "SELECT, UPDATE",
    "delete": "SELECT, DELETE",
    "truncate": "TRUNCATE",
}
#: The remedy if the locks of all tables do not fit into the memory of the server.
MORE_LOCKS = "It locks each table: ALTER SYSTEM SET max_locks_per_transaction = 1024; and restart the server."
_PERMISSION_DENIED = re.compile(
    r"permission denied for (?P<kind>(?:foreign |materialized )?\w+) (?P<name>.+)", re.DOTALL
)
_NOT_A_MEMBER = re.compile(
    r"must be (?:a member of role|member of role|able to SET ROLE) \"(.+)\"", re.DOTALL
)
#: libpq has no SQLSTATE of a refused login; a server with messages in another language does not match.
_LOGIN_REFUSED = re.compile(
    r"authentication failed for user|no password supplied|role \".*\" (?:does not exist|is not permitted)|pg_hba\.conf",
    re.DOTALL,
)
#: Of a refused login: the limit of a role or a database, or that of the server.
_FULL = re.compile(
    r"too many connections for (?P<kind>role|database) \"(?P<name>.+)\"|too many clients|connection slots are reserved",
    re.DOTALL,
)
RAISE_LIMIT = "ALTER SYSTEM SET max_connections = 500; and restart the server."
NO_LIMIT = "Connect without a limit by adding ?options=-cstatement_timeout%3D0 to the URL of this database."
SELECT_SCHEMA = "Add ?schema=NAME to the address, or set search_path of the role or the database."
RAISE_RESOURCES = "Raise the limit that the message names, or give the server more memory: SHOW temp_file_limit; and SHOW work_mem;"
#: The words of the next two patterns are in the server's language, and also quotes in the last one.
_COPY_LINE = re.compile(r"^COPY .*?, \w+ (\d+)(?:,|:|$)", re.MULTILINE)
_VALUES = re.compile(r"=\(.*\)(?!\w)", re.DOTALL)
#: Files of the server itself, of a table or of the states of transactions; statements can name other files.
_OWN_FILE = re.compile(r"\b(?:base|global|pg_tblspc|pg_xact|pg_multixact|pg_subtrans)/\w")


def is_unsupported(error: BaseException | None) -> bool:
    """Whether the server lacks the function or the feature of a statement, as compatible servers may."""
    return isinstance(error, psycopg.errors.UndefinedFunction | psycopg.errors.FeatureNotSupported)


def is_about_data(error: BaseException | None) -> bool:
    """Whether stored data is the reason: an invalid value, a file, or an internal error; not a limit, a lock or a privilege."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in {"22", "58", "XX"}


def is_too_long(error: BaseException | None) -> bool:
    """Whether a value would exceed the limit of the server."""
    return isinstance(error, psycopg.errors.ProgramLimitExceeded)


def unreachable_error(error: psycopg.Error, target: str, url: Url) -> UnreachableError:
    """Return the error of a connection to ``url`` that could not be opened."""
    lines = str(error).splitlines() or ["the server did not answer"]
    attempts = [line for line in lines if line.startswith("- ")]  # a host name with several addresses
    reason = (attempts or lines)[-1 if attempts else 0].rpartition("connection failed: ")[2]
    reason = reason.removeprefix("connection is bad: ")
    # The detail is in the server's language, but names the privilege.
    if any("CONNECT" in line.split() for line in lines[1:]):
        reason = lines[0].rpartition("FATAL:")[2].strip()
        grant = f"GRANT CONNECT ON DATABASE {ident(url.path)} TO {ident(url.user) if url.user else 'USER'};"
        return UnreachableError(target=target, reason=reason, hint=f"As its owner or a superuser: {grant}")
    if url.via:  # without the socket of the route
        reason = reason.partition(" failed: ")[2] or reason
    # libpq writes two spaces only after the severity in an answer of the server, which shows that the route works.
    if ":  " in reason:
        url = structs.replace(url, via="")
    can_pass, instead = not _LOGIN_REFUSED.search(reason), CHECK_URL
    instead = connection_limit_hint(reason) or instead
    return create_unreachable_error(url, target, reason, instead, can_pass=can_pass)


def connection_limit_hint(reason: str) -> str:
    """Return how to get a further connection; empty if no limit is the reason."""
    if not (full := _FULL.search(reason)):
        return ""
    limit = f"ALTER {full['kind'].upper()} {ident(full['name'])} CONNECTION LIMIT -1;" if full["kind"] else ""
    return f"{FREE_CONNECTION} with: {limit or RAISE_LIMIT}"


def translate_error(
    error: psycopg.Error, context: ErrorContext, sql: str, *, writing: bool, broken: bool
) -> DbctlError:
    """Convert a driver error; ``broken``: the connection is lost."""
    state, reason = error.sqlstate or "", _format_reason(error)
    refused = _COPY_LINE.search(error.diag.context or "")
    row = int(refused[1]) if refused else None
    if not broken and (hint := _find_remedy(error)):
        return context.query_error(reason, hint=hint)
    if broken and state == "40001":  # only a standby ends a session for this reason
        return ReplicaConflictError(target=context.target)
    is_in_doubt = state == "40003" or (broken and sql == "commit")
    if broken or is_in_doubt or (state[:2] in ("08", "57") and state != STOPPED):
        return context.disconnected_error(reason, committing=is_in_doubt)
    details = f"{error.diag.message_detail or ''}\n{error.diag.context or ''}"
    is_damaged = state.startswith("58") and _OWN_FILE.search(f"{reason}\n{details}")
    is_refused = state == RAISED and (writing or sql == "commit")  # a deferred trigger
    known = ERRORS.get(state) or ERRORS.get(state[:2]) or (is_refused and ConstraintError)
    if kind := CorruptError if is_damaged else known:
        return context.create_error(
            kind,
            reason,
            message=details,
            grant_hint=lambda: grant_hint(reason, context.account, context.schema, sql),
            row=row,
        )
    # Without a SQLSTATE, the driver could not encode a value.
    if (writing and state.startswith("22")) or (not state and isinstance(error, psycopg.DataError)):
        return ValueInvalidError(name="a value", value="given", reason=reason, row=row)
    limit = NO_LIMIT if state == STOPPED else ""
    is_table_missing = isinstance(error, psycopg.errors.UndefinedTable)
    hint = SELECT_SCHEMA if state == "3F000" and not context.schema else ""  # none of search_path exists
    return context.query_error(reason, limit=limit, hint=hint, is_table_missing=is_table_missing)


def _find_remedy(error: psycopg.Error) -> str:
    """Return the remedy if a limit of the server, or another server, is the reason; otherwise an empty text."""
    state = error.sqlstate or ""
    if state in OTHER_CONNECTIONS and error.diag.severity_nonlocalized == "ERROR":
        return CHECK_OTHER
    if not state.startswith("53") or state == "53100":
        return ""
    needs_locks = "max_locks_per_transaction" in (error.diag.message_hint or "")
    return MORE_LOCKS if needs_locks else RAISE_RESOURCES


def _format_reason(error: psycopg.Error) -> str:
    reason = error.diag.message_primary or (str(error).strip().splitlines() or ["the connection was lost"])[0]
    if error.diag.sqlstate in ("23503", "23505") and error.diag.message_detail:
        reason += f" ({_VALUES.sub('', error.diag.message_detail).rstrip('.')})"  # a value may be a secret
    if error.diag.sqlstate in OTHER_CONNECTIONS and error.diag.message_detail:
        reason += f": {error.diag.message_detail.splitlines()[0]}"
    return reason


def grant_hint(reason: str, account: str, schema: str, sql: str = "select ") -> str:
    """Return a hint with the GRANT statement, if the message names the object; ``account`` is quoted, ``sql`` was refused or contains what was."""
    if "row-level security policy" in reason:
        return (
            "Nothing was changed. A policy of the table refuses it. Connect as the owner of the table, if its policies are"
            f" not forced. As a superuser: ALTER ROLE {account} BYPASSRLS;"
        )
    if reason.startswith("must be owner of "):
        return "Nothing was changed. Sign in as its owner, or as a superuser."
    if role := _NOT_A_MEMBER.fullmatch(reason):
        return f"Nothing was changed. As a superuser: GRANT {ident(role[1])} TO {account};"
    match = _PERMISSION_DENIED.search(reason)
    words = sql.split(None, 1)
    if match is None or not words:
        return "Nothing was changed. The owner or a superuser can grant it."
    kind, name = match["kind"].strip(), match["name"]
    privileges = PRIVILEGES.get(words[0].lower(), "SELECT")
    if words[0].lower() == "copy" and " to stdout" in sql.lower():
        privileges = "SELECT"
    if " on conflict " in sql or " for no key update " in sql:  # row locks need UPDATE
        privileges += ", UPDATE"
    qualified = f"{ident(schema)}.{ident(name)}" if schema else ident(name)
    # the message has no schema; pg_dump names those of the tables that it reads
    names = f"(?:{re.escape(ident(name))}|{re.escape(name)})"
    place = rf'(?:(?:LOCK TABLE|COPY) .*?|FROM )((?:"(?:[^"]|"")+"|\b\w+)\.{names})(?=[\s,;(]|$)'
    if read := re.search(place, sql):
        qualified = read[1]
    grant = {
        "schema": f"USAGE ON SCHEMA {ident(name)}",
        "sequence": f"USAGE, SELECT ON SEQUENCE {qualified}",  # a dump reads its last value
        # after the login, only new schemas require a privilege of the database
        "database": f"CREATE ON DATABASE {ident(name)}",
    }.get(kind, f"{privileges} ON {qualified}")
    return f"Nothing was changed. As its owner or a superuser: GRANT {grant} TO {account};"
