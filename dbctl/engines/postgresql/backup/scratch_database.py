"""Load dumps into databases that are dropped again unless a restore renames them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import Dump, DumpVerification
from dbctl.engines.postgresql.backup import database_properties, partial
from dbctl.engines.postgresql.backup.database_properties import Properties
from dbctl.engines.postgresql.backup.dump import PostgreSQLRowCounter
from dbctl.engines.postgresql.backup.foreign import make_statement_filter, scratch_role
from dbctl.engines.postgresql.backup.load import UNCHANGED, load_dump
from dbctl.engines.postgresql.backup.names import SCRATCH_SUFFIX, derived_name, scratch_name_pattern
from dbctl.engines.postgresql.backup.restore_server import RestoreServer
from dbctl.engines.postgresql.connection import Session, lock_key, open_session
from dbctl.engines.postgresql.reader import PostgreSQLReader
from dbctl.engines.postgresql.schema import PostgreSQLSchemaReader
from dbctl.engines.sql import digest_tables, require_loaded_rows
from dbctl.errors import (
    DbctlError,
    DumpOverreachesError,
    PrivilegeMissingError,
    UnreachableError,
)
from dbctl.files import Progress
from dbctl.url import Url

#: Leftovers of killed restores and test restores: databases, and the roles that loaded them.
SCRATCH_NAMES = b"""select datname::text from pg_catalog.pg_database where datname ~ $1
union select rolname::text from pg_catalog.pg_roles where rolname ~ $1"""
UNTRUSTED = "Check the dump. Install untrusted extensions in the live database first."


class ScratchDatabases:
    """Databases next to the one of a URL, with names that the next restore recognizes."""

    def __init__(self, server: RestoreServer) -> None:
        self._server = server

    @contextmanager
    def create(
        self, central: Session, properties: Properties, dump: Dump, remarks: list[str], timeout: float
    ) -> Iterator[Url]:
        """Create a scratch database, and drop it at the end unless it was renamed.

        Leftovers of killed processes are dropped, too; a lock protects those in use. For a foreign dump the owner is a
        scratch role of the same name, which is dropped as well.
        """
        for (leftover,) in central.execute(
            SCRATCH_NAMES, [scratch_name_pattern(self._server.name)]
        ).fetchall():
            locked = central.execute(b"select pg_try_advisory_lock($1)", [lock_key(str(leftover))]).fetchall()
            if locked == [(True,)]:
                remarks += self._drop(central, str(leftover))
        name = derived_name(self._server.name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
        central.execute(b"select pg_advisory_lock($1)", [lock_key(name)])
        url = structs.replace(self._server.url, path=name)
        try:
            if dump.foreign:
                password = scratch_role.create_role(central, name)
                url, properties = (
                    scratch_role.role_url(url, name, password),
                    structs.replace(properties, owner=name),
                )
            central.execute(database_properties.create_statement(name, properties).encode())
            if dump.foreign:
                scratch_role.require_sign_in(url, self._server.target, timeout=timeout)
                with suppress(psycopg.Error, DbctlError), ExitStack() as stack:
                    # The live database may be missing.
                    live = stack.enter_context(self._server.open_catalog_first(self._server.name))
                    scratch_role.install_extensions(
                        live, stack.enter_context(self._server.open_catalog_first(name))
                    )
            yield url
        finally:
            with signals.block_signals(), suppress(psycopg.Error):
                remarks += self._drop(central, name)

    def load(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        *,
        head: str = "",
    ) -> DumpVerification:
        """Load a dump into a new database, compare its rows, and analyze it.

        Everything runs as the role of ``url``, for a foreign dump the scratch role.
        """
        try:
            return self._load_and_compare(central, url, path, dump, timeout, progress, remarks, head)
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or central.broken:
                raise
            raise DumpOverreachesError(
                target=self._server.target, reason=error.context["reason"], hint=UNTRUSTED
            ) from error

    def _load_and_compare(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        head: str,
    ) -> DumpVerification:
        change = partial.remove_tail if dump.is_partial else iter
        with ExitStack() as stack:
            session = (
                stack.enter_context(self._server.open_session(url, timeout=timeout))
                if dump.foreign
                else central
            )
            load_dump(
                path,
                dump.metadata,
                session,
                url.path,
                self._server.target,
                tables=dump.tables,
                timeout=timeout,
                head=head,
                change=make_statement_filter(self._server.target, remarks, change)
                if dump.foreign
                else change,
                progress=progress,
                atomic=dump.foreign,
            )
        with closing(PostgreSQLReader(url, self._server.target, timeout=timeout)) as reader:
            counter = PostgreSQLRowCounter(reader)
            counts = counter.count_dump_rows(dump.tables, path=dump.metadata.get("path", ""))
            # A dump may lack the rows of a table, such as an unlogged table on a standby.
            row_counts = {name: rows for name, rows in counts.items() if rows or name in dump.tables}
            fingerprint = PostgreSQLSchemaReader(reader).fingerprint()
            content = digest_tables(reader, {name: dump.tables[name] for name in dump.digests})
        require_loaded_rows(dump, row_counts, content, target=self._server.target, hint=UNCHANGED)
        with closing(
            open_session(url, self._server.target, timeout=timeout, read_only=False, is_new=True)
        ) as analyzer:
            analyze(analyzer)
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)

    def _drop(self, central: Session, name: str) -> Sequence[str]:
        remarks = scratch_role.remove(central, self._server.open_catalog_first, name)
        central.execute(b"select pg_advisory_unlock($1)", [lock_key(name)])
        return remarks


def copy_settings(central: Session, name: str, properties: Properties) -> None:
    """Copy the settings of a database, as far as this role may.

    Some affect how the text of a dump is read: the search path, and the format of money values.
    """
    for setting in properties.settings:
        with suppress(psycopg.Error):
            database_properties.apply_properties(
                central, name, structs.replace(properties, settings=[setting], grants=None, comment="")
            )


def analyze(session: Session) -> list[str]:
    """Analyze a database after a load; return a remark if that fails."""
    try:
        session.execute(b"set statement_timeout = 0")
        session.execute(b"analyze")
    except psycopg.Error as error:
        return [f"the database could not be analyzed: {error.diag.message_primary}"]
    return []
