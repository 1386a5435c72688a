"""Load dumps into databases that are dropped again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import Dump, DumpVerification
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.foreign import scratch_role
from dbctl.engines.mysql.backup.foreign import stored_code as foreign
from dbctl.engines.mysql.backup.load import UNCHANGED, load_dump
from dbctl.engines.mysql.backup.names import (
    DATABASES,
    RETAINED_SUFFIX,
    SCRATCH_SUFFIX,
    derived_name,
    scratch_name_pattern,
)
from dbctl.engines.mysql.backup.restore_server import TABLES, RestoreServer, create_statement
from dbctl.engines.mysql.connection import Session
from dbctl.engines.mysql.errors import error_number
from dbctl.engines.mysql.reader import MySQLReader
from dbctl.engines.mysql.schema import MySQLSchemaReader
from dbctl.engines.sql import digest_tables, ident, require_loaded_rows
from dbctl.errors import (
    DumpOverreachesError,
    ForeignDumpRefusedError,
    PrivilegeMissingError,
    UnreachableError,
)
from dbctl.files import Progress
from dbctl.url import Url

VERSIONED = """select table_name from information_schema.tables
where table_schema = {} and table_type = 'SYSTEM VERSIONED' order by 1"""
MAY_NOT_CREATE = 1044
UNTRUSTED = "Check the dump. With a binary log, triggers and functions need SET GLOBAL log_bin_trust_function_creators = 1."


class ScratchDatabases:
    """Databases next to the one of a URL, with names that the next restore recognizes."""

    def __init__(self, server: RestoreServer) -> None:
        self._server = server

    @contextmanager
    def create(self, central: Session, dump: Dump, remarks: list[str], timeout: float) -> Iterator[Url]:
        """Create a scratch database, and drop it at the end; leftovers of killed processes are dropped, too.

        A foreign dump gets a scratch user, which is dropped as well.
        """
        pattern = scratch_name_pattern(self._server.name)
        for (leftover,) in central.run(DATABASES):
            if pattern.fullmatch(str(leftover)) and central.run(
                locks.acquire_sql(locks.lock_name(str(leftover)))
            ) == [(1,)]:
                remarks += scratch_role.remove(central, str(leftover))
        for account in list(scratch_role.list_abandoned(central)):
            with suppress(pymysql.Error):
                central.run(f"drop user {account}")
        name = derived_name(self._server.name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")
        central.run(locks.acquire_sql(locks.lock_name(name)))
        try:
            central.run(create_statement(name, dump.metadata))
        except pymysql.Error as error:
            if error_number(error) != MAY_NOT_CREATE:
                raise
            grant_pattern = derived_name(self._server.name, RETAINED_SUFFIX).replace("_", "\\_")
            grant = f"GRANT ALL ON `{grant_pattern}%`.* TO {central.account};"
            reason = f"{central.account} may not create databases next to it"
            if dump.foreign:
                raise ForeignDumpRefusedError(
                    target=self._server.target, reason=reason, hint=f"As an administrator: {grant}"
                ) from error
            raise PrivilegeMissingError(
                target=self._server.target,
                reason=reason,
                hint=f"Nothing was changed. As an administrator: {grant}",
            ) from error
        url, prepared = structs.replace(self._server.url, path=name), None
        try:
            if dump.foreign:
                prepared = scratch_role.list_prepared(central)
                user, password = scratch_role.create_user(central, name, self._server.target)
                url = scratch_role.user_url(url, name, user, password)
                scratch_role.require_confined(url, self._server.target, timeout=timeout)
            yield url
        finally:
            with signals.block_signals(), suppress(pymysql.Error):
                remarks += scratch_role.remove(central, name, prepared)

    def load(
        self, central: Session, url: Url, path: Path, dump: Dump, timeout: float, progress: Progress
    ) -> DumpVerification:
        """Load a dump into a new database, and compare its rows, as the user of ``url``."""
        scratch_name = url.path
        try:
            load_dump(
                path,
                url,
                central.server,
                self._server.target,
                database=dump.metadata.get("database", ""),
                tables=dump.tables,
                timeout=timeout,
                progress=progress,
                change=partial(foreign.remove_definers, target=self._server.target) if dump.foreign else iter,
            )
            with closing(MySQLReader(url, self._server.target, timeout=timeout)) as reader:
                tables = stored_code.list_names(central, TABLES, scratch_name)
                versioned = stored_code.list_names(central, VERSIONED, scratch_name)
                row_counts = {name: reader.count(name) for name in tables if name in reader.tables()}
                row_counts |= {
                    name: stored_code.count_versions(central, scratch_name, name) for name in versioned
                }
                fingerprint = MySQLSchemaReader(reader).fingerprint()
                content = digest_tables(reader, {name: dump.tables[name] for name in dump.digests})
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or not central.open:
                raise
            raise DumpOverreachesError(
                target=self._server.target, reason=error.context["reason"], hint=UNTRUSTED
            ) from error
        require_loaded_rows(dump, row_counts, content, target=self._server.target, hint=UNCHANGED)
        if row_counts:
            central.run(
                f"analyze table {', '.join(f'{ident(scratch_name)}.{ident(name)}' for name in row_counts)}"
            )
        return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)
