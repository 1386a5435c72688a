"""Replace the content of a database: in place, or by swapping it with another one."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import Dump, LoadResult
from dbctl.engines.postgresql.backup import database_properties
from dbctl.engines.postgresql.backup.database_properties import Properties
from dbctl.engines.postgresql.backup.dump_scanner import DumpScanner, create_missing_schemas
from dbctl.engines.postgresql.backup.empty_schemas import (
    RESTORE_DEFAULT_PRIVILEGES,
    empty_statement,
    row_count_check,
)
from dbctl.engines.postgresql.backup.foreign import scratch_role
from dbctl.engines.postgresql.backup.load import UNCHANGED, Psql, load_dump
from dbctl.engines.postgresql.backup.names import SCRATCH_SUFFIX, derived_name
from dbctl.engines.postgresql.backup.rename_swap import rename_statements, swap_databases
from dbctl.engines.postgresql.backup.restore_server import RestoreServer
from dbctl.engines.postgresql.backup.restore_strategy import find_retained, refuse_newer
from dbctl.engines.postgresql.backup.scratch_database import ScratchDatabases, analyze, copy_settings
from dbctl.engines.postgresql.connection import Session
from dbctl.engines.postgresql.schema import read_scope
from dbctl.engines.sql import ident
from dbctl.errors import RestoreFailedError
from dbctl.files import Progress


class InPlaceRestore:
    """Empties the schemas of a database and fills them, in one transaction."""

    def __init__(self, server: RestoreServer) -> None:
        self._server = server

    def run(
        self, path: Path, dump: Dump, timeout: float, progress: Progress, within: Psql | None
    ) -> LoadResult:
        """Replace the content of the database in one transaction: the one that blocks writers, if any."""
        with self._server.open_session(self._server.url, timeout=timeout) as session:
            refuse_newer(dump, session, self._server.target)
            schema = read_scope(session)
            load_dump(
                path,
                dump.metadata,
                session,
                self._server.name,
                self._server.target,
                tables=dump.tables,
                timeout=timeout,
                transaction=within,
                head=empty_statement(schema),
                change=create_missing_schemas,
                tail=_closing_statements,
                progress=progress,
                permanent=True,
            )
            with signals.block_signals():
                return LoadResult(method="in place", remarks=analyze(session))


class SwapRestore:
    """Gives another database the name of the restored one."""

    def __init__(self, server: RestoreServer) -> None:
        self._server, self._scratch_databases = server, ScratchDatabases(server)

    def load(
        self, path: Path, dump: Dump, retained_name: str, timeout: float, progress: Progress
    ) -> LoadResult:
        """Load into a new database, verify it, and swap the names."""
        with self._server.central(timeout) as central, self._server.central(timeout) as other:
            refuse_newer(dump, central, self._server.target)
            live = database_properties.read_properties(central, self._server.name)
            properties = live or structs.replace(
                new_properties(dump, self._server.name), name=self._server.name
            )
            remarks = list[str]()
            with self._scratch_databases.create(central, properties, dump, remarks, timeout) as url:
                scratch_name = url.path
                copy_settings(central, scratch_name, properties)
                self._scratch_databases.load(central, url, path, dump, timeout, progress, remarks)
                if dump.foreign:
                    remarks += self._transfer_ownership(central, scratch_name, live=live is not None)
                    owner = ident(properties.owner or central.info.user)
                    central.execute(f"alter database {ident(scratch_name)} owner to {owner}".encode())
                database_properties.apply_properties(central, scratch_name, properties)
                actual = database_properties.read_properties(central, scratch_name)
                differences = (
                    database_properties.find_differences(properties, actual) if actual else ["everything"]
                )
                # Most properties of a foreign dump are unknown, and its grants and settings may name missing roles.
                known = [name for name, text in properties.transferable().items() if text]
                optional = ("comment", "grants", "settings")
                differences = [
                    name for name in differences if live or (name in known and name not in optional)
                ]
                if differences:
                    raise RestoreFailedError(
                        target=self._server.target,
                        reason=f"a new database cannot have the same properties: {', '.join(differences)}",
                        hint=UNCHANGED,
                    )
                old_name = retained_name or derived_name(
                    self._server.name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}"
                )
                statements = rename_statements(
                    self._server.name, scratch_name, old_name, exists=live is not None
                )
                swap_databases(
                    central, other, statements, self._server.name, self._server.target, timeout=timeout
                )
            if not retained_name:
                with signals.block_signals(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(old_name)}".encode())
        return LoadResult(method="swapped" if live else "new", remarks=remarks)

    def restore_retained(self, dump: Dump, retained_name: str, timeout: float) -> LoadResult:
        """Rename a retained database to its original name."""
        source = dump.metadata["kept"]
        with self._server.central(timeout) as central, self._server.central(timeout) as other:
            find_retained(central, dump, self._server.target)
            live = database_properties.read_properties(central, self._server.name)
            old_name = retained_name or derived_name(
                self._server.name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}"
            )
            statements = rename_statements(self._server.name, source, old_name, exists=live is not None)
            swap_databases(
                central, other, statements, self._server.name, self._server.target, timeout=timeout
            )
            if not retained_name:
                with signals.block_signals(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(old_name)}".encode())
        return LoadResult(method="swapped" if live else "new")

    def _transfer_ownership(self, central: Session, new: str, *, live: bool) -> list[str]:
        with ExitStack() as stack:
            scratch = stack.enter_context(self._server.open_catalog_first(new))
            old = stack.enter_context(self._server.open_catalog_first(self._server.name)) if live else None
            return scratch_role.transfer_ownership(central, scratch, old, new)


def new_properties(dump: Dump, name: str) -> Properties:
    """Return the properties of a new database; a foreign dump only determines its encoding and collation."""
    metadata = {"database": name, **dump.metadata}
    if dump.foreign:
        used = ("encoding", "collation", "ctype", "provider", "locale")
        metadata = {"database": name, **{key: text for key, text in dump.metadata.items() if key in used}}
    return database_properties.from_metadata(metadata)


def _closing_statements(scanner: DumpScanner) -> str:
    return "\n".join(
        [
            RESTORE_DEFAULT_PRIVILEGES,
            *(row_count_check(schema, table, rows) for (schema, table), rows in scanner.rows.items()),
        ]
    )
