"""The server of a restore: connections to the database, to its siblings, and to one that always exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.postgresql.backup import database_properties
from dbctl.engines.postgresql.backup.foreign import scratch_role
from dbctl.engines.postgresql.connection.session import Session, open_session
from dbctl.engines.postgresql.errors import translate_error, unreachable_error
from dbctl.engines.postgresql.schema import resolve_scope
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.errors import ErrorContext
from dbctl.engines.sql.catalog import ident
from dbctl.errors.restore import RestoreFailedError
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

    @contextmanager
    def central(self, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        """Connect to such a database."""
        url = self.central_url() or self.sibling_url(CENTRAL[0])
        with self.open_session(url, timeout=timeout) as session:
            yield session

    @contextmanager
    def open_session(self, url: Url, *, timeout: float = SHORT_TIMEOUT) -> Iterator[Session]:
        """Connect to ``url`` for writing, without a limit for statements."""
        with closing(open_session(url, self.target, timeout=timeout, read_only=False)) as session:
            # Settings of the database or role are meant for the app.
            session.execute(b"set statement_timeout = 0")
            yield session

    @contextmanager
    def open_catalog_first(self, name: str) -> Iterator[Session]:
        """Connect with ``pg_catalog`` first in the search path, since a dump may define objects with built-in names."""
        with self.open_session(scratch_role.catalog_first_url(self.sibling_url(name))) as session:
            yield session

    def read_scope(self, central: Session) -> str:
        """Return the schema of the app; check that both sessions are on the same server."""
        with self.open_session(self.url) as session:
            server, central_server = (
                database_properties.describe_server(session),
                database_properties.describe_server(central),
            )
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
            context = ErrorContext(target=self.target, timeout=SHORT_TIMEOUT, account=ident(self.url.user))
            raise translate_error(error, context, "", writing=True, broken=False) from error
