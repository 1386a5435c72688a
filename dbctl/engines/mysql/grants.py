"""Rights of the account of a session, and the GRANT statements of hints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import pymysql

from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import escape_pattern
from dbctl.engines.parsing.statements import unquote_name

_NAME = r'(?:`(?:[^`]|``)*`|"(?:[^"]|"")*"|\*)'
_KIND = "TABLE|PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|LIBRARY"
_GRANT = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<rights>.+?) ON (?:(?P<kind>{_KIND}) )?(?P<database>{_NAME})\.(?P<name>{_NAME}) (?:TO|FROM) ",
    re.DOTALL,
)
#: The server prefers the pattern whose first wildcard is the last.
_WILDCARD = re.compile(r"(?<!\\)[_%]")
#: Signs of a pattern for names of databases.
_SIGNS = re.compile(r"\\(.)|([_%])|(.)", re.DOTALL)


class GrantLine(NamedTuple):
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
    regex = _SIGNS.sub(
        lambda match: {"_": ".", "%": ".*"}.get(match[2]) or re.escape(match[1] or match[3]), pattern
    )
    return re.fullmatch(regex, database, re.DOTALL) is not None
