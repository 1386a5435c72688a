"""The engine of a server: its modules are imported when they are used, with the driver, which may be missing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dbctl.engines.contract.engine import Engine, OpenOptions, TempDirFactory, temp_dir
from dbctl.errors.usage import require_driver

if TYPE_CHECKING:  # most commands only read a database
    from collections.abc import Sequence
    from pathlib import Path

    from dbctl.engines.contract.checks import LockHolder
    from dbctl.engines.contract.database import Readable, Writable
    from dbctl.engines.contract.dumps import Content, Dump, DumpVerification, ImportedDump, RestoreTarget
    from dbctl.engines.contract.schema import ScriptDialect
    from dbctl.url import Url


class ServerEngine(Engine):
    """Databases on servers. The package of each engine has the same modules, except the two that are attributes here."""

    prefix: str  #: of the names of its classes
    driver: str  #: the package of the driver, with its extras
    scratch_module = "database"
    foreign_module = "foreign"  #: imports dumps of other programs

    def _load(self, name: str, target: str) -> Any:
        """Return a class or a function by its module and its name, such as ``load:verify_dump``; ``{}`` is the prefix."""
        module, _, attribute = name.partition(":")
        with require_driver(target, driver=self.driver, extra=self.name):
            loaded = import_module(f"dbctl.engines.{self.name}.{module}")
        return getattr(loaded, attribute.format(self.prefix))

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        reader: Readable = self._load("database:{}Reader", target)(url, target, timeout=options.timeout)
        return reader

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        writer: Writable = self._load("database:{}Writer", target)(url, target, timeout=options.timeout)
        return writer

    def open_scratch(self, url: Url, target: str) -> Writable:
        scratch: Writable = self._load(f"{self.scratch_module}:open_scratch", target)(url, target)
        return scratch

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        holders: Sequence[LockHolder] = self._load("sessions:list_lock_holders", target)(url, target)
        return holders

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        restore_target: RestoreTarget = self._load("restore:{}RestoreTarget", target)(url, target)
        return restore_target

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del quick, make_temp_dir
        verification: DumpVerification = self._load("load:verify_dump", target)(path, dump.metadata, target)
        return verification

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del max_bytes
        load = self._load(f"{self.foreign_module}:import_dump", target)
        dump: ImportedDump = load(source, destination, content, target)
        return dump

    @property
    def script_dialect(self) -> ScriptDialect:
        dialect: ScriptDialect = import_module(
            f"dbctl.engines.{self.name}.lint"
        ).SCRIPTS  # without the driver
        return dialect
