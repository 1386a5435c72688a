"""The engine of MySQL and MariaDB."""

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


class MySQLEngine(ServerEngine):
    """Databases on servers of MySQL and MariaDB."""

    name, title, driver = "mysql", "MySQL and MariaDB", "PyMySQL[rsa,ed25519]"
    damage_hint = (
        "Copy the whole data directory and restore a backup: dbctl restore apply. "
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher."
    )

    def reader_class(self) -> Callable[..., Readable]:
        from dbctl.engines.mysql.reader import MySQLReader

        return MySQLReader

    def writer_class(self) -> Callable[..., Writable]:
        from dbctl.engines.mysql.writer import MySQLWriter

        return MySQLWriter

    def scratch_class(self) -> Callable[[Url, str], Writable]:
        from dbctl.engines.mysql.scratch import MySQLScratch

        return MySQLScratch

    def restore_target_class(self) -> Callable[[Url, str], RestoreTarget]:
        from dbctl.engines.mysql.backup import MySQLRestoreTarget

        return MySQLRestoreTarget

    def lock_holders(self) -> Callable[[Url, str], Sequence[LockHolder]]:
        from dbctl.engines.mysql.reader import holders_of

        return holders_of

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del dump, quick, make_temp_dir
        with self.require_driver(target):
            from dbctl.engines.mysql.backup import load
        return load.verify_dump(path, target)

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del content, max_bytes
        with self.require_driver(target):
            from dbctl.engines.mysql.backup.foreign import dump
        return dump.import_dump(source, destination, target)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.mysql.sql import script

        return script


ENGINE = MySQLEngine()
