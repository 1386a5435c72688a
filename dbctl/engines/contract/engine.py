"""Contract: an engine, which opens its databases and processes their dumps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dbctl.engines.contract.database import FillRow, Readable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract.checks import DatabaseFiles, LockHolder
    from dbctl.engines.contract.database import Writable
    from dbctl.engines.contract.dumps import (
        Content,
        Dump,
        Dumps,
        DumpVerification,
        LoadRequest,
        RestoreTarget,
        TrialRestore,
    )
    from dbctl.engines.contract.schema import ScriptDialect
    from dbctl.url import Url

P = TypeVar("P")
#: Provides a private folder with free space for a number of bytes.
TempDirFactory = Callable[[int], AbstractContextManager[Path]]
#: What to do without a server for a trial restore.
TRIAL_HINT = "Set scratch in [apps.NAME.backup] of the configuration, or verify without --deep."


@contextmanager
def temp_dir(_required_bytes: int) -> Iterator[Path]:
    """Provide a private folder in the system's folder for temporary files."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dbctl-") as folder:
        yield Path(folder)


class VerifyOptions(Struct, frozen=True, kw_only=True):
    """How a dump is verified; an engine ignores what it does not need."""

    #: skip slow checks: the comparison of indexes with tables, or decompression, which needs free space for the size of the file
    quick: bool
    make_temp_dir: TempDirFactory = temp_dir
    server: Url | None = (
        None  #: an address whose container may have the client programs that this machine lacks
    )


class OpenOptions(Struct, frozen=True, kw_only=True):
    """How a database is opened; an engine ignores what it does not have."""

    timeout: float = 5.0  #: seconds to wait for a lock
    #: for tables of an engine without primary keys: the first existing one of these columns identifies a row, as a profile names them
    keys: Mapping[str, Sequence[str]] = {}
    #: for reading: fail instead of changing a file or leaving one next to the database
    traceless: bool = False
    pragmas: Mapping[str, str] = {}  #: for writing: of the connection
    exclusive: bool = False  #: for writing: a transaction begins after all that could prevent its commit
    create: Mapping[str, str] | None = None  #: for writing: the pragmas of a file that is created if missing
    #: for writing: completes new rows if the engine has no type for times; None: the database does that alone
    fill: FillRow | None = None
    #: for writing: a closed reader of the same database, whose tables are used if they have not changed since
    reader: Readable | None = None


class ImportedDump(Struct, frozen=True, kw_only=True):
    """A file of another program, converted to the format of ``Dumps.dump`` of an engine."""

    metadata: Mapping[str, str]
    remarks: Sequence[str] = ()  #: what the user should know about it


class DumpImport(ABC):
    """The conversion of dumps of other programs for one engine: a part that an extension adds to the engine."""

    @abstractmethod
    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        """Convert a file of another program to the format of ``Dumps.dump``.

        ``source`` is a private uncompressed copy, which is consumed. The result has at most ``max_bytes``.

        Raises:
            CorruptError: it is incomplete.
            FileInvalidError: it contains more than a dump.
            DiskFullError: there is not enough free space.
        """


class FolderImport(ABC):
    """The conversion of folders of tables for one engine: a part that an extension adds to the engine."""

    @abstractmethod
    def import_folder(self, folder: Path, destination: Path, target: str) -> ImportedDump:
        """Convert a folder for which ``Engine.is_table_folder`` is true as ``DumpImport.import_dump`` does, without changing it."""


class Engine(ABC):
    """One engine. Each package of an engine has one instance, ``ENGINE``; it loads modules and drivers when it uses them.

    ``url`` is always an address of this engine, and ``target`` is ``app/database``, for messages. Every method that
    opens a database raises ``DriverMissingError`` if the driver is not installed.
    """

    name: str  #: as in addresses and profiles
    title: str  #: for messages
    #: what an admin can do with damaged files of a database
    damage_hint = Remedy("Restore a backup with: `restore apply ID`")
    #: whether writes create files that only maintenance merges
    creates_fragments = False
    #: whether opening a database for writing can change its files, or leave one next to them
    writers_leave_traces = False

    @abstractmethod
    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        """Open a database as ``open_for_reading`` does."""

    @abstractmethod
    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        """Open a database as ``open_for_writing`` does."""

    def open_for_reading(self, url: Url, target: str, *, timeout: float) -> Readable:
        """Open a database read-only; ``timeout``: seconds to wait for a lock."""
        return self.create_reader(url, target, OpenOptions(timeout=timeout))

    def open_for_writing(
        self,
        url: Url,
        target: str,
        *,
        timeout: float,
        pragmas: Mapping[str, str] = {},
        create: Mapping[str, str] | None = None,
    ) -> Writable:
        """Open a database for writing; a missing file is created if ``create`` is set, but not a database on a server."""
        return self.create_writer(url, target, OpenOptions(timeout=timeout, pragmas=pragmas, create=create))

    @abstractmethod
    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        """Return the processes that have a database open; a file itself is not opened.

        Raises:
            DatabaseMissingError: it does not exist.
        """

    @abstractmethod
    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        """Return a database as backups and restores use it: it may be missing, or not be a database."""

    def trial_restore(
        self, url: Url | None, request: LoadRequest, target: str
    ) -> AbstractContextManager[TrialRestore]:
        """Provide a temporary database with a loaded dump; it is dropped at the end.

        ``url`` is a database of a server that can create another one, or a file that does not exist.

        Raises:
            NotSupportedError: no server is configured for it.
            PrivilegeMissingError: the user may not create databases on the server.
            RestoreFailedError, CorruptError: it cannot be loaded.
        """
        if url is None or url.engine != self.name:
            raise NotSupportedError(
                feature=f"a trial restore of {target}",
                subject="a configuration without a server",
                hint=TRIAL_HINT,
            )
        return self.restore_target(url, target).trial_restore(request)

    @abstractmethod
    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        """Verify a dump that ``Dumps.dump`` of this engine created, without changing it.

        Raises:
            NotADatabaseError, CorruptError: it cannot be opened.
        """

    @property
    def script_dialect(self) -> ScriptDialect:
        """The SQL dialect of scripts.

        Raises:
            NotSupportedError: the engine has no scripts.
        """
        raise self._unsupported("running SQL scripts", "Supported by SQLite, PostgreSQL, MySQL and MariaDB.")

    def open_scratch(self, url: Url, target: str) -> Writable:
        """Open an empty private database next to the one at ``url``, which is not read; it is dropped when it is closed.

        Raises:
            NotSupportedError: the engine has none.
        """
        raise self._unsupported(
            f"a scratch database for {target}", "Supported by SQLite, PostgreSQL, MySQL and MariaDB."
        )

    def list_databases(self, url: Url, target: str, *, timeout: float) -> Sequence[str]:
        """Return the databases of the server of an address, without those of the server itself, and those that restores of dbctl create.

        Raises:
            NotSupportedError: the engine has no server.
            UnreachableError: the server does not respond, or refuses the login.
        """
        raise self._unsupported("a list of databases", "It is supported for servers.")

    def no_backup_reason(self, url: Url) -> str:
        """Return why a database cannot be backed up; empty: it can."""
        return ""

    def has_unfinished_restore(self, url: Url) -> bool:
        """Whether a restore was interrupted before it replaced the database, or is running."""
        return False

    def database_files(self, url: Url) -> DatabaseFiles | None:
        """Return the files of a database; None on a server, or behind a route. No file is opened."""
        return None

    def find_leftovers(self, url: Url) -> Sequence[Path]:
        """Return the files that a killed dbctl process left next to a database; empty while a process is writing."""
        return ()

    def open_copier(self, url: Url, target: str) -> Dumps | None:
        """Return an object that dumps a database as files, without its driver; None if the engine has none."""
        return None

    def is_table_folder(self, folder: Path) -> bool:
        """Whether a folder contains tables of this engine, each of which is a folder."""
        return False

    def create_table(
        self, url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float
    ) -> None:
        """Create an empty table of a sample in a folder that exists; other engines create tables with SQL.

        ``columns`` has the type of each column: ``text``, ``number``, ``vector(768)`` of 32-bit floats, or ``object(a, b)`` of texts.
        """
        raise self._unsupported(f"creating the table {table}", "Run SQL.")

    def extension_part(self, kind: type[P]) -> P | None:
        """Return the part of an extension with the contract ``kind``, such as ``Salvage``; None if the engine lacks it."""
        from dbctl.extensions import registry

        parts = (part for place in registry.list_engine_parts(self.name) for part in registry.load(place)())
        return next((part for part in parts if isinstance(part, kind)), None)

    def _unsupported(self, feature: str, hint: Remedy | str) -> NotSupportedError:
        return NotSupportedError(feature=feature, subject=self.title, hint=hint)
