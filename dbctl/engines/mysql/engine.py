"""The engine of MySQL and MariaDB."""

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


class MySQLEngine(Engine):
    """Databases on servers."""

    name, title = "mysql", "MySQL and MariaDB"
    damage_hint = (
        "Copy the whole data directory and restore a backup: dbctl restore apply. "
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher."
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
            from dbctl.engines.mysql.reader import MySQLReader
        return MySQLReader(url, target, timeout=timeout)

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
            from dbctl.engines.mysql.writer import MySQLWriter
        return MySQLWriter(url, target, timeout=timeout)

    def open_scratch(self, url: Url, target: str) -> Writable:
        with _require_driver(target):
            from dbctl.engines.mysql.scratch import MySQLScratch
        return MySQLScratch(url, target)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        with _require_driver(target):
            from dbctl.engines.mysql import reader
        return reader.holders_of(url, target)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        with _require_driver(target):
            from dbctl.engines.mysql.backup import MySQLRestoreTarget
        return MySQLRestoreTarget(url, target)

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del dump, quick, make_temp_dir
        with _require_driver(target):
            from dbctl.engines.mysql.backup import load
        return load.verify_dump(path, target)

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del content, max_bytes
        with _require_driver(target):
            from dbctl.engines.mysql.backup.foreign import dump
        return dump.import_dump(source, destination, target)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.mysql.sql import script

        return script


def _require_driver(target: str) -> AbstractContextManager[None]:
    return require_driver(target, driver="PyMySQL[rsa,ed25519]", extra="mysql")


ENGINE = MySQLEngine()
