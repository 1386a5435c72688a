"""The engine of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract import TempDirFactory, temp_dir
from dbctl.engines.servers import ServerEngine

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract import (
        Content,
        Dump,
        DumpVerification,
        ImportedDump,
        LockHolder,
        Readable,
        RestoreTarget,
        ScriptDialect,
        Writable,
    )
    from dbctl.url import Url


class PostgreSQLEngine(ServerEngine):
    """Databases on servers of PostgreSQL."""

    name, title, driver = "postgresql", "PostgreSQL", "psycopg[binary]"
    damage_hint = (
        "Copy the whole data directory, stop the server, and restore a backup: dbctl restore apply. "
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages."
    )

    def reader_class(self) -> Callable[..., Readable]:
        from dbctl.engines.postgresql.reader import PostgreSQLReader

        return PostgreSQLReader

    def writer_class(self) -> Callable[..., Writable]:
        from dbctl.engines.postgresql.writer import PostgreSQLWriter

        return PostgreSQLWriter

    def scratch_class(self) -> Callable[[Url, str], Writable]:
        from dbctl.engines.postgresql.scratch import PostgreSQLScratch

        return PostgreSQLScratch

    def restore_target_class(self) -> Callable[[Url, str], RestoreTarget]:
        from dbctl.engines.postgresql.backup import PostgreSQLRestoreTarget

        return PostgreSQLRestoreTarget

    def lock_holders(self) -> Callable[[Url, str], Sequence[LockHolder]]:
        from dbctl.engines.postgresql.reader import holders_of

        return holders_of

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del quick, make_temp_dir
        with self.require_driver(target):
            from dbctl.engines.postgresql.backup import load
        return load.verify_dump(path, dump.metadata, target)

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del max_bytes
        with self.require_driver(target):
            from dbctl.engines.postgresql.backup.foreign import dump
        return dump.import_dump(source, destination, content, target)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.postgresql.sql import script

        return script


ENGINE = PostgreSQLEngine()
