"""Rights of a user on the whole database: without them, its catalog lacks tables, columns and other objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.errors import quote
from dbctl.errors import PrivilegeMissingError

_NAME = r'(?:`((?:[^`]|``)*)`|"((?:[^"]|"")*)"|(\*))'
_GRANT = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<rights>.+) ON (?:TABLE )?{_NAME}\.{_NAME} (?:TO|FROM) ", re.DOTALL
)
#: Signs of a pattern for names of databases.
_SIGNS = re.compile(r"\\(.)|([_%])|(.)", re.DOTALL)


def require_rights(connection: MySQLConnection, rights: Sequence[str], table: str = "") -> None:
    """Refuse a user who may not see every object of the database, or every column of a table.

    Raises:
        PrivilegeMissingError: it lacks one of ``rights`` on the database, or on ``table``.
    """
    granted: dict[bool, set[str]] = {True: set(), False: set()}
    for verb, words in _read_grants(connection, table):
        granted[verb == "GRANT"] |= set(rights) if "ALL PRIVILEGES" in words else set(words)
    missing = [right for right in rights if right not in granted[True] - granted[False]]
    if not missing:
        return
    session = connection.session
    place = f"{quote(session.database)}.{quote(table) if table else '*'}"
    raise PrivilegeMissingError(
        target=connection.target,
        reason=f"it may not {', '.join(missing)} on {f'every column of {table}' if table else 'every object of the database'}, and would leave out the others",
        hint=f"Nothing was changed. As an administrator: GRANT {', '.join(missing)} ON {place} TO {session.account};",
    )


def _read_grants(connection: MySQLConnection, table: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the verb and the rights of each grant, also of active roles, that holds for the whole database or for ``table``."""
    database = connection.session.database
    for (line,) in connection.fetch("show grants"):
        if (match := _GRANT.match(str(line))) is None:
            continue
        verb, rights, *names = match.groups()
        places = [names[:3], names[3:]]
        pattern, name = (
            star or (quoted or "").replace("``", "`") or (doubled or "").replace('""', '"')
            for quoted, doubled, star in places
        )
        is_named = name != "*"
        if is_named and (name != table or pattern != database):
            continue
        if pattern == "*" or is_named or _matches(pattern, database):
            yield verb, [right.strip() for right in re.split(r",(?![^(]*\))", rights)]


def _matches(pattern: str, database: str) -> bool:
    """Whether the pattern of a grant is that of a database."""
    regex = _SIGNS.sub(
        lambda match: {"_": ".", "%": ".*"}.get(match[2]) or re.escape(match[1] or match[3]), pattern
    )
    return re.fullmatch(regex, database, re.DOTALL) is not None
