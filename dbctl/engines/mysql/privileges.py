"""Rights of a user on the whole database: without them, its catalog lacks tables, columns and other objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.errors import quote
from dbctl.engines.parsing.statements import unquote_name
from dbctl.errors.connection import PrivilegeMissingError

_NAME = r'(?:`(?:[^`]|``)*`|"(?:[^"]|"")*"|\*)'
_KIND = "TABLE|PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|LIBRARY"
_GRANT = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<rights>.+?) ON (?:(?P<kind>{_KIND}) )?(?P<database>{_NAME})\.(?P<name>{_NAME}) (?:TO|FROM) ",
    re.DOTALL,
)
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


def require_rights(connection: MySQLConnection, rights: Sequence[str], table: str = "") -> None:
    """Refuse a user who may not see every object of the database, or every column of a table.

    Raises:
        PrivilegeMissingError: it lacks one of ``rights`` on the database, or on ``table``.
    """
    granted: dict[str, set[str]] = {"GRANT": set(), "REVOKE": set()}
    for (line,) in connection.fetch("show grants"):
        grant = parse_grant(str(line))
        if grant is None or grant.name not in ("*", table):
            continue
        if grant.database == "*" or grant.is_of(connection.session.database):
            granted[grant.verb] |= set(rights if "ALL PRIVILEGES" in grant.words else grant.words)
    missing = [right for right in rights if right not in granted["GRANT"] - granted["REVOKE"]]
    if not missing:
        return
    session = connection.session
    place = f"{quote(session.database)}.{quote(table) if table else '*'}"
    raise PrivilegeMissingError(
        target=connection.target,
        reason=f"it may not {', '.join(missing)} on {f'every column of {table}' if table else 'every object of the database'}, and would leave out the others",
        hint=f"Nothing was changed. As an administrator: GRANT {', '.join(missing)} ON {place} TO {session.account};",
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
