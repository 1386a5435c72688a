"""Rights of the account of a session, and the GRANT statements of hints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import pymysql

from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import escape_pattern
from dbctl.engines.parsing.statements import unquote_name
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError

_NAME = r'(?:`(?:[^`]|``)*`|"(?:[^"]|"")*"|\*)'
_KIND = "TABLE|PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|LIBRARY"
_GRANT = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<rights>.+?) ON (?:(?P<kind>{_KIND}) )?(?P<database>{_NAME})\.(?P<name>{_NAME}) (?:TO|FROM) ",
    re.DOTALL,
)
EVENTS = "show events"
#: Routines of other definers whose code the server hides from this user.
HIDDEN_CODE = """select distinct routine_name from information_schema.routines where routine_schema = database()
and routine_body = 'SQL' and routine_definition is null order by 1"""
VIEWS = (
    "select table_name from information_schema.tables where table_schema = database() and table_type = 'VIEW'"
)
#: The server prefers the pattern whose first wildcard is the last.
_WILDCARD = re.compile(r"(?<!\\)[_%]")
#: Signs of a pattern for names of databases.
_SIGNS = re.compile(r"\\(.)|([_%])|(.)", re.DOTALL)


class GrantLine(NamedTuple):
    """A line of SHOW GRANTS."""

    verb: str  #: GRANT or REVOKE
    rights: str
    kind: str  #: of a routine; empty for tables
    database: str  #: for all of its objects, the pattern of its name; ``*``: every database
    name: str  #: of the object; ``*``: every object
    has_grant_option: bool

    @property
    def words(self) -> Sequence[str]:
        """The rights, each with its columns."""
        return [right.strip() for right in re.split(r",(?![^(]*\))", self.rights)]

    def is_of(self, database: str) -> bool:
        """Whether it is about a database, or about an object of it."""
        return self.database == database if self.name != "*" else matches_pattern(self.database, database)


#: Each shows all functions and procedures.
HIDDEN_TABLES = "tables and views"
ROUTINE_RIGHTS = ["EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "SHOW_ROUTINE"]


def find_missing_rights(
    connection: MySQLConnection, rights: Sequence[str], table: str = "", *, database: str = ""
) -> list[str]:
    """Return those of ``rights`` that a user lacks on a database (default: that of the connection), or on ``table``."""
    database = database or connection.session.database
    granted: dict[str, set[str]] = {"GRANT": set(), "REVOKE": set()}
    for (line,) in connection.fetch("show grants"):
        grant = parse_grant(str(line))
        if grant is None or grant.name not in ("*", table):
            continue
        if grant.database == "*" or grant.is_of(database):
            granted[grant.verb] |= set(rights if "ALL PRIVILEGES" in grant.words else grant.words)
    return [right for right in rights if right not in granted["GRANT"] - granted["REVOKE"]]


def find_hidden_objects(connection: MySQLConnection) -> Mapping[str, str]:
    """Return the kinds of objects of which the server may hide some from this user without an error, with the right that shows them.

    ``SHOW GRANTS`` of MySQL lists no rights of roles, so nothing is known of a user with one.
    """
    server, place = connection.server, find_place(connection.session)
    if not server.is_mariadb and connection.fetch("select current_role()") != [("NONE",)]:
        return {}
    missing = find_missing_rights(connection, ["SELECT", "TRIGGER", *ROUTINE_RIGHTS])
    hidden = {HIDDEN_TABLES: f"SELECT ON {place}"} if "SELECT" in missing else {}
    if "TRIGGER" in missing:
        hidden["triggers"] = f"TRIGGER ON {place}"
    if missing[-len(ROUTINE_RIGHTS) :] == ROUTINE_RIGHTS and find_missing_rights(
        connection, ["SELECT"], "proc", database="mysql"
    ):
        hidden["functions and procedures"] = _code_right(connection)
    return hidden


def _code_right(connection: MySQLConnection) -> str:
    return "SELECT ON `mysql`.`proc`" if connection.server.is_mariadb else "SHOW_ROUTINE ON *.*"


def require_rights(connection: MySQLConnection, rights: Sequence[str], table: str = "") -> None:
    """Refuse a user who may not see every object of the database, or every column of a table.

    Raises:
        PrivilegeMissingError: it lacks one of ``rights`` on the database, or on ``table``.
    """
    missing = find_missing_rights(connection, rights, table)
    if not missing:
        return
    session = connection.session
    place = f"{quote(session.database)}.{quote(table)}" if table else find_place(session)
    raise PrivilegeMissingError(
        target=connection.target,
        reason=f"it may not {', '.join(missing)} on {f'every column of {table}' if table else 'every object of the database'}, and would leave out the others",
        hint=f"Nothing was changed. As an administrator: GRANT {', '.join(missing)} ON {place} TO {session.account};",
    )


def require_all_tables(connection: MySQLConnection) -> None:
    """Refuse a user from whom the server may hide tables; raises as ``require_rights``."""
    if HIDDEN_TABLES in find_hidden_objects(connection):
        require_rights(connection, ["SELECT"])


def find_place(session: Session) -> str:
    """Return the database of a session as a hint with GRANT names it.

    The name is a pattern. Of several patterns that match, the server uses only the rights by the most specific one, so a grant
    by another pattern than that of the existing rights would hide these.
    """
    names = list[str]()
    with suppress(pymysql.Error):
        for (line,) in session.run("show grants"):
            grant = parse_grant(str(line))
            if grant and (grant.verb, grant.name) == ("GRANT", "*") and grant.is_of(session.database):
                names.append(grant.database)
    name = max(
        names, key=lambda name: len(_WILDCARD.split(name)[0]), default=escape_pattern(session.database)
    )
    return f"{quote(name)}.*"


def require_dump_rights(connection: MySQLConnection) -> None:
    """Refuse a user who may not read the events, a view or the code of a routine: the dump program would fail.

    Raises:
        PrivilegeMissingError: the hint has the statement that grants it.
    """
    session = connection.session
    views = [f"show create view {quote(str(name))}" for (name,) in connection.fetch(VIEWS)]
    for sql in (EVENTS, *views):
        try:
            connection.fetch(sql)
        except PrivilegeMissingError as error:
            if sql == EVENTS:  # its message does not name the right
                grant = f"GRANT EVENT ON {find_place(session)} TO {session.account};"
                error.hint = f"Nothing was changed. As an administrator: {grant}"
            raise
        except DbctlError:  # a view without its table, which the program reports or dumps
            continue
    if hidden := connection.fetch(HIDDEN_CODE):
        raise PrivilegeMissingError(
            target=connection.target,
            reason=f"it may not read the code of {', '.join(str(name) for (name,) in hidden)}, which has another definer",
            hint=f"Nothing was changed. As an administrator: GRANT {_code_right(connection)} TO {session.account};",
        )


def parse_grant(line: str) -> GrantLine | None:
    """Return a line about rights on objects; None for other ones."""
    if (match := _GRANT.match(line)) is None:
        return None
    database, name = (
        text if text == "*" else unquote_name(text) for text in (match["database"], match["name"])
    )
    option = line.endswith(" WITH GRANT OPTION")
    kind = "" if match["kind"] == "TABLE" else match["kind"] or ""
    return GrantLine(match["verb"], match["rights"], kind, database, name, option)


def matches_pattern(pattern: str, database: str) -> bool:
    """Whether the pattern of a grant is that of a database."""
    regex = _SIGNS.sub(
        lambda match: {"_": ".", "%": ".*"}.get(match[2]) or re.escape(match[1] or match[3]), pattern
    )
    return re.fullmatch(regex, database, re.DOTALL) is not None
