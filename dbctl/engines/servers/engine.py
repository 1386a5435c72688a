"""What the engines of servers share: opening their databases with a driver that may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dbctl.engines.contract.engine import Engine, OpenOptions, TempDirFactory, temp_dir
from dbctl.errors.usage import require_driver

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract.checks import LockHolder
    from dbctl.engines.contract.database import Readable, Writable
    from dbctl.engines.contract.dumps import Content, Dump, DumpVerification, ImportedDump, RestoreTarget
    from dbctl.engines.contract.schema import ScriptDialect
    from dbctl.url import Url


#: Classes and functions in the package of each engine by their use; their modules require the driver.
ENTRY_POINTS = {
    "reader": "database:{}Reader",
    "writer": "database:{}Writer",
    "scratch": "scratch:{}Scratch",
    "lock_holders": "monitoring.sessions:list_lock_holders",
    "restore_target": "backup.restore_target:{}RestoreTarget",
    "verify_dump": "backup.load:verify_dump",
    "import_dump": "backup.foreign.dump:import_dump",
    "script_dialect": "sql.script:SCRIPTS",
}


#: Parts of readers and writers.
PARTS = {
    "Advisor": "monitoring.advice:{}Advice",
    "BloatMonitor": "monitoring.statistics:{}Bloat",
    "Checks": "monitoring.checks:{}Checks",
    "Explainer": "queries:{}Explainer",
    "FullText": "queries:{}FullText",
    "IndexMonitor": "monitoring.statistics:{}Indexes",
    "Maintenance": "monitoring.maintenance:{}Maintenance",
    "NativeSchemas": "native.schema:{}NativeSchemas",
    "RowSource": "transfer.source:{}RowSource",
    "PortableSchemas": "portable.schema:{}PortableSchemas",
    "RowStreams": "stream:{}Streams",
    "SchemaReader": "schema:{}SchemaReader",
    "SessionMonitor": "monitoring.sessions:{}Sessions",
    "SizeMonitor": "monitoring.statistics:{}Sizes",
    "SlowQueryMonitor": "monitoring.statistics:{}SlowQueries",
    "ValueCodec": "types.codec:{}Codec",
    "ValueScreen": "portable.screen:{}ValueScreen",
    "WriteLock": "transfer.write_lock:{}WriteLock",
}
READER_PARTS = {"Dumps": "backup.dump:{}Dumper"}
WRITER_PARTS = {
    "RowSink": "transfer.sink:{}RowSink",
    "ScriptRunner": "scripts:{}Scripts",
    "StagingTables": "staging:{}Staging",
    "TextIndexes": "queries:{}TextIndexes",
    "WriteProofs": "transfer.write_proof:{}WriteProofs",
}


def locate_parts(
    package: str, class_prefix: str, parts: Mapping[str, str], **further: str
) -> Mapping[str, str]:
    """Return the parts of readers or writers: the shared ones, ``parts``, and those that only one engine has."""
    located = {name: f"{package}.{place}" for name, place in {**PARTS, **parts, **further}.items()}
    shared = {
        "Preview": "dbctl.engines.sql.checks:SqlPreview",
        "TextScanner": "dbctl.engines.sql.fulltext:SqlTextScanner",
    }
    return {name: place.format(class_prefix) for name, place in (shared | located).items()}


class ServerEngine(Engine):
    """Databases on servers."""

    driver: str  #: the name of the package; the extra of dbctl that installs it has the name of the engine
    class_prefix: str  #: with which the names of its classes begin
    entry_points: ClassVar[Mapping[str, str]] = {}  #: entries in place of those of ``ENTRY_POINTS``

    def _load(self, use: str, target: str) -> Any:
        """Import a class or function of ``ENTRY_POINTS``.

        Raises:
            DriverMissingError: the driver is not installed.
        """
        module, _, name = self._find_entry_point(use)
        with require_driver(target, driver=self.driver, extra=self.name):
            return getattr(import_module(module), name)

    def _find_entry_point(self, use: str) -> tuple[str, str, str]:
        place = {**ENTRY_POINTS, **self.entry_points}[use]
        return f"dbctl.engines.{self.name}.{place}".format(self.class_prefix).partition(":")

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        reader: Readable = self._load("reader", target)(url, target, timeout=options.timeout)
        return reader

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        writer: Writable = self._load("writer", target)(url, target, timeout=options.timeout)
        return writer

    def open_scratch(self, url: Url, target: str) -> Writable:
        scratch: Writable = self._load("scratch", target)(url, target)
        return scratch

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        holders: Sequence[LockHolder] = self._load("lock_holders", target)(url, target)
        return holders

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        restore_target: RestoreTarget = self._load("restore_target", target)(url, target)
        return restore_target

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del quick, make_temp_dir
        verification: DumpVerification = self._load("verify_dump", target)(path, dump.metadata, target)
        return verification

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del max_bytes
        imported: ImportedDump = self._load("import_dump", target)(source, destination, content, target)
        return imported

    @property
    def script_dialect(self) -> ScriptDialect:
        # it does not require the driver
        module, _, name = self._find_entry_point("script_dialect")
        dialect: ScriptDialect = getattr(import_module(module), name)
        return dialect
