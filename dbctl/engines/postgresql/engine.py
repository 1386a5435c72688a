"""The engine of PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract import Engine, TempDirFactory, fill_no_columns, require_driver, temp_dir

if TYPE_CHECKING:  # most commands only read a database
    from contextlib import AbstractContextManager

    from dbctl.engines.contract import (
        Content,
        Dump,
        DumpVerification,
        FillRow,
        ImportedDump,
        LockHolder,
        Readable,
        RestoreTarget,
        ScriptDialect,
        Writable,
    )
    from dbctl.url import Url


class PostgreSQLEngine(Engine):
    """Databases on servers."""

    name, title = "postgresql", "PostgreSQL"
    damage_hint = (
        "Copy the whole data directory, stop the server, and restore a backup: dbctl restore apply. "
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages."
    )

    def open_for_reading(
        self,
        url: Url,
        target: str,
        *,
        timeout: float,
        traceless: bool = False,
        use_external_indexes: bool = False,
        keys: Mapping[str, Sequence[str]] = {},
    ) -> Readable:
        del traceless, use_external_indexes, keys
        with _require_driver(target):
            from dbctl.engines.postgresql.reader import PostgreSQLReader
        return PostgreSQLReader(url, target, timeout=timeout)

    def open_for_writing(
        self,
        url: Url,
        target: str,
        *,
        timeout: float,
        pragmas: Mapping[str, str] = {},
        create: Mapping[str, str] | None = None,
        keys: Mapping[str, Sequence[str]] = {},
        fill: FillRow = fill_no_columns,
    ) -> Writable:
        del pragmas, create, keys, fill
        with _require_driver(target):
            from dbctl.engines.postgresql.writer import PostgreSQLWriter
        return PostgreSQLWriter(url, target, timeout=timeout)

    def open_scratch(self, url: Url, target: str) -> Writable:
        with _require_driver(target):
            from dbctl.engines.postgresql.scratch import PostgreSQLScratch
        return PostgreSQLScratch(url, target)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        with _require_driver(target):
            from dbctl.engines.postgresql import reader
        return reader.holders_of(url, target)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        with _require_driver(target):
            from dbctl.engines.postgresql.backup import PostgreSQLRestoreTarget
        return PostgreSQLRestoreTarget(url, target)

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del quick, make_temp_dir
        with _require_driver(target):
            from dbctl.engines.postgresql.backup import load
        return load.verify_dump(path, dump.metadata, target)

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del max_bytes
        with _require_driver(target):
            from dbctl.engines.postgresql.backup.foreign import dump
        return dump.import_dump(source, destination, content, target)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.postgresql.sql import script

        return script


def _require_driver(target: str) -> AbstractContextManager[None]:
    return require_driver(target, driver="psycopg[binary]", extra="postgresql")


ENGINE = PostgreSQLEngine()
