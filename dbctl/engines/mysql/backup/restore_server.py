"""The server of a restore: connections without a database, and the databases that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.mysql.connection.opening import open_session
from dbctl.engines.mysql.connection.server import parse_server
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import error_number, translate_error, unreachable_error
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.errors import ErrorContext
from dbctl.engines.sql.catalog import ident
from dbctl.errors.restore import RestoreFailedError, RetainedDatabaseMissingError
from dbctl.url import Url

#: The database that every server has, and every user may connect to.
CENTRAL = "information_schema"
DATABASES = "select schema_name from information_schema.schemata"
CHARSET = "select default_character_set_name, default_collation_name from information_schema.schemata where schema_name = {}"
TABLES = """select table_name from information_schema.tables
where table_schema = {} and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""


class RestoreServer:
    """Opens sessions on the server of the database at ``url``, which may be missing."""

    def __init__(self, url: Url, target: str) -> None:
        self.url, self.target, self.name = url, target, url.path

    @contextmanager
    def central(self, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        """Connect to a database that every server has."""
        url = structs.replace(self.url, path=CENTRAL)
        session = open_session(url, self.target, timeout=timeout, read_only=False)
        try:
            yield session
        finally:
            session.drop()

    def exists(self, central: Session, name: str) -> bool:
        return bool(central.run(CHARSET.format(format_literal(name))))

    def require_retained(self, central: Session, dump: Dump) -> None:
        """Refuse to restore a retained database that was dropped.

        Raises:
            RetainedDatabaseMissingError: it does not exist.
        """
        if not self.exists(central, dump.metadata["kept"]):
            raise RetainedDatabaseMissingError(target=self.target, name=dump.metadata["kept"])

    def refuse_newer(self, dump: Dump, session: Session) -> None:
        """Refuse a dump of another product or of a newer version.

        Raises:
            RestoreFailedError: the server cannot load it.
        """
        dump_server = parse_server(dump.metadata.get("server", session.server.version_text), self.target)
        server = session.server
        if dump_server.product != server.product or dump_server.version[:2] > server.version[:2]:
            raise RestoreFailedError(
                target=self.target,
                reason=f"it is from {dump_server.product} {dump_server.version_text}, and this server is {server.product} {server.version_text}",
                hint=f"Use a server of {dump_server.product} of that version or later.",
            )

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()
            if error_number(error) in (0, 1040, 1045, 2002, 2003, 2006, 2013):
                raise unreachable_error(error, self.target) from None
            context = ErrorContext(target=self.target, timeout=SHORT_TIMEOUT, schema=self.name)
            raise translate_error(error, context, "", writing=True, broken=False) from error


def create_statement(name: str, metadata: Mapping[str, str]) -> str:
    """Return the statement that creates a database with the character set of ``metadata``."""
    return f"create database {ident(name)}{charset_clause(metadata)}"


def charset_clause(metadata: Mapping[str, str]) -> str:
    """Return the clause for the character set of ``metadata``; empty without a valid one."""
    charset, collation = metadata.get("charset", ""), metadata.get("collation", "")
    if not (re.fullmatch(r"\w+", charset) and re.fullmatch(r"\w+", collation)):
        return ""
    return f" character set {charset} collate {collation}"
