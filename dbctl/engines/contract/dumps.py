"""Contract: dump a database to a file, and restore a dump."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import field

from dbctl import signals
from dbctl.files.atomic import HashingCounter, create_file
from dbctl.model import Compression, Struct
from dbctl.progress import Progress, no_progress
from dbctl.url import Url

#: ``in place``: one transaction in the database; ``new``: there was no database; ``replaced``: the file was not a readable
#: database and was moved; ``swapped``: a new database took the name of the old one.
RestoreMethod: TypeAlias = Literal["in place", "new", "replaced", "swapped"]
#: The content of a file after decompression.
Content: TypeAlias = Literal[
    "sqlite",
    "sqlite-sql",
    "postgresql-custom",
    "postgresql-sql",
    "mysql-sql",
    "postgresql-tar",
    "postgresql-directory",
    "postgresql-cluster",
    "lancedb",
    "tar",
    "json",
    "encrypted",
    "compressed",
    "marked",
    "crlf",
    "empty",
    "unknown",
]


def release_nothing() -> None:
    """Do nothing: no other process is blocked."""


class DumpVerification(Struct, frozen=True, kw_only=True):
    """The content and the problems of a dump."""

    tables: Mapping[str, int]  #: rows
    schema: str  #: the fingerprint of its schema; empty if only a loaded database can provide it
    problems: Sequence[str]  #: in the engine's words; empty: it can be loaded
    #: ``table_digest.digests``; empty if only a loaded database can provide them
    digests: Mapping[str, str] = {}


class BlockWriter(Protocol):
    """A destination of blocks; ``NewFile`` is one."""

    @property
    def counter(self) -> HashingCounter:
        """The counter of the written bytes, with their hash."""

    def write(self, block: bytes) -> int:
        """Write the complete block, and return its size."""


class DumpOutput(Protocol):
    """A destination of a dump that is no file."""

    def begin(self) -> AbstractContextManager[BlockWriter]:
        """Begin the dump; the block writes it completely."""

    def discard(self) -> None:
        """Delete the dump, so that another one can begin."""


class DumpRequest(Struct, frozen=True):
    """A dump to create."""

    destination: Path  #: the new file
    form: str = ""  #: one of ``Dumps.forms``; empty: the default
    tables: Sequence[str] = ()  #: only these tables, if ``Dumps.supports_partial``; empty: all tables
    progress: Progress = no_progress  #: receives the completed share
    #: for an engine whose ``Dumps.is_compressed`` is true; a dump of text, whose suffix ends in ``.gz``, is compressed with
    #: gzip or not at all
    compress: Compression = "none"
    #: whether the metadata shall have the position of the snapshot in the log of its server, if reading it needs no lock
    records_log: bool = False
    schema_only: Collection[str] = ()  #: tables without their rows: values of ``Dumps.list_emptiable_tables``
    output: DumpOutput | None = None  #: the destination instead of the new file, if ``Dumps.can_stream``

    def begin(self) -> AbstractContextManager[BlockWriter]:
        """Begin the dump; a new file is deleted if the block raises.

        Raises:
            DiskFullError, FileFailedError: it cannot be written.
        """
        return self.output.begin() if self.output else create_file(self.destination)

    def discard(self) -> None:
        """Delete the dump that the block of ``begin`` has written, if it exists."""
        if self.output:
            self.output.discard()
        else:
            self.destination.unlink(missing_ok=True)


class DumpResult(Struct, frozen=True, kw_only=True):
    """A self-contained file with one snapshot of a database.

    The caller syncs the file.
    """

    taken_at: datetime  #: the time of the snapshot
    #: properties of the database that the file does not contain, with names of the engine
    metadata: Mapping[str, str]
    #: collected while the dump was written; None: to be read from the file
    verification: DumpVerification | None = None
    sha256: str = ""  #: of the file, hexadecimal; empty: to be computed from the file
    #: the size of its content, which has to be decompressed before it is loaded; 0: as it is
    plain_bytes: int = 0
    #: the first moment, by the clock of the server, that the dump and the log since its position have; None: it has no position
    log_since: datetime | None = None


class Dump(Struct, frozen=True, kw_only=True):
    """A dump to restore."""

    #: ``dump``: a file that ``Dumps.dump`` created; ``kept``: a retained database of an earlier restore on the server.
    form: Literal["dump", "kept"] = "dump"
    #: ``DumpResult.metadata``, or the metadata of ``RestoreTarget.describe_retained``
    metadata: Mapping[str, str]
    tables: Mapping[str, int]  #: rows
    schema: str  #: the fingerprint of its schema
    is_partial: bool = False  #: it contains some tables only, without the tables to which they refer
    digests: Mapping[str, str] = {}  #: of the content of its small tables: ``table_digest.digests``
    foreign: bool = False  #: another program created it, so a temporary role has to load it


class RolePolicy(Struct, frozen=True, kw_only=True):
    """What a load does with the roles and accounts that a dump names and its server lacks."""

    #: ``create``: with their attributes and memberships; ``skip``: their objects belong to the role that loads them, and
    #: their grants are left out
    missing: Literal["refuse", "create", "skip"] = "refuse"
    replaced: Mapping[str, str] = {}  #: names in the dump, each with the existing role that takes its place
    passwords: Mapping[str, str] = {}  #: of created roles, as ``Dumps.read_role_passwords`` returned them


class MissingRole(Struct, frozen=True, kw_only=True):
    """A role or account that a dump names, and that a server lacks."""

    name: str
    description: str  #: its attributes and memberships; if the policy creates it, those that it gets, and what is left out
    is_required: bool = True  #: whether the dump cannot be loaded, or used, without it


class LoadRequest(Struct, frozen=True, kw_only=True):
    """A dump to load, and how."""

    path: Path  #: a file that ``Dumps.dump`` of the same engine created
    dump: Dump
    timeout: float  #: seconds to wait for a lock
    #: metadata of ``RestoreTarget.describe_retained``; without it, a swapped database is dropped
    retained: Mapping[str, str] = {}
    progress: Progress = no_progress  #: receives the completed share
    #: releases ``RestoreTarget.block_writers``, if the current database was copied; called as late as possible
    release_locks: Callable[[], None] = release_nothing
    can_consume: bool = False  #: whether ``path`` is not needed any more, so that it may be moved
    roles: RolePolicy = RolePolicy()

    @property
    def retained_name(self) -> str:
        """The name with which a replaced database is retained; empty: it is dropped."""
        return self.retained.get("kept", "")


class LoadResult(Struct, frozen=True, kw_only=True):
    """The result of loading a dump."""

    method: RestoreMethod
    remarks: Sequence[str] = ()  #: what the user has to check or remove


class TrialRestore(Struct, frozen=True, kw_only=True):
    """A temporary database with a loaded dump."""

    url: Url
    verification: DumpVerification  #: the content of the database
    #: what could not be removed; complete when the database has been dropped
    remarks: list[str] = field(default_factory=list)


class RestoreStrategy(Struct, frozen=True, kw_only=True):
    """How a restore will replace a database."""

    method: RestoreMethod
    #: the replaced database is retained with another name; otherwise it is copied first
    retains_previous: bool = False
    steps: Sequence[str] = ()  #: further steps besides replacing the content; for a plan
    location: str = "on its server"  #: the location of the retained database


class RetainedDatabase(Struct, frozen=True, kw_only=True):
    """A database that a restore is about to retain with another name."""

    metadata: Mapping[str, str]  #: identifies the retained database
    revert_script: str  #: lines of a script that restores it without dbctl
    script_suffix: str = ".kept.sql"  #: the end of the script's file name


class StagedDump(ABC):
    """A dump that only has to take the place of a database: ``write_marker``, ``swap``, and perhaps ``revert``."""

    can_revert = False  #: whether ``revert`` is possible

    def write_marker(self, retained: Mapping[str, str]) -> None:
        """Write a marker of the upcoming swap to disk; called before the first database of an app is replaced.

        After a crash, the marker shows that this database was not replaced, while others of the app may have been.
        ``retained`` as of ``LoadRequest``.
        """

    def remove_marker(self) -> None:
        """Remove the marker: the swap will not happen."""

    @abstractmethod
    def swap(self) -> LoadResult:
        """Replace the database; errors as of ``RestoreTarget.load``."""

    def revert(self) -> None:
        """Replace the database by what it was before ``swap``, or drop it if it was missing.

        Raises:
            RestoreFailedError, RestoreUnfinishedError: it remains.
        """
        raise RuntimeError("it cannot be reverted")


class Dumps(ABC):
    """The part that dumps a database to a file."""

    #: The forms of a dump, the default first, with the suffix of the file name after the time; if it is empty, the
    #: profile defines it.
    forms: Mapping[str, str]
    supports_partial: bool  #: whether single tables can be dumped
    is_compressed: bool  #: whether ``dump`` compresses while it writes, according to the request
    has_roles = False  #: whether the database is on a server whose roles have passwords
    can_stream = False  #: whether ``dump`` writes its blocks once and in order, so that it needs no file, and verifies them

    def blocks_writers(self) -> bool:
        """Whether writers have to wait while the database is copied."""
        return False

    @abstractmethod
    def dump(self, request: DumpRequest) -> DumpResult:
        """Copy one snapshot of the database into a new file, mode 0600, which is removed if the dump fails.

        Raises:
            DiskFullError, FileFailedError: the file cannot be written; the database was not changed.
            ClientMissingError, ClientOldError, ClientFailedError: the server's dump program is missing, old or failed.
        """

    @abstractmethod
    def estimate_dump_size(self) -> int:
        """Return the approximate size of an uncompressed dump in bytes."""

    def list_emptiable_tables(self) -> Mapping[str, Sequence[str]] | None:
        """Return the tables whose rows a dump can leave out, each with the names that its verification uses for it, of its partitions if it has any.

        None: every dump has the rows of all tables.
        """
        return None

    def find_dependents(self, tables: Collection[str]) -> Sequence[str]:
        """Return what of the other tables needs rows of these, in words: a copy without the rows would violate it."""
        return ()

    def list_remote_tables(self) -> Sequence[str]:
        """Return the dumped tables whose rows another server stores: a statement on a copy of the database would change these."""
        return ()

    def read_identity(self) -> str:
        """Return a text about the files of the database that differs after any change of its content; empty: there is none now.

        It is compared with earlier ones on this machine.
        """
        return ""

    def require_rights(self, schema_only: Collection[str] = (), tables: Collection[str] = ()) -> None:
        """Raise PrivilegeMissingError if this user may not read all that a dump of ``tables`` (empty: all) without the rows of ``schema_only`` contains."""

    def require_programs(self) -> bool:
        """Check that the programs which create and load dumps are installed, and not older than the server; return whether it needs any.

        Raises:
            ClientMissingError, ClientOldError: one is missing, or too old.
        """
        return False

    def pin_snapshot(self) -> bool:
        """Let the next ``dump`` copy the current state, without blocking writers; return whether the engine can.

        The snapshot is released by the dump or by closing the database.
        """
        return False

    def read_role_passwords(self) -> Mapping[str, str]:
        """Return what the server stores for the password of each role that a dump names, in a form of the engine.

        A role that administers the server is omitted: a restore does not give its rights to a created one.

        Raises:
            PrivilegeMissingError: this user may not read them.
        """
        return {}


class RestoreTarget(ABC):
    """A database as backups and restores use it: it may be missing, damaged, or locked."""

    requires_load: bool  #: whether a dump has to be loaded before its rows can be read
    stages_early = False  #: whether a restore stages a dump before the safety backup

    @abstractmethod
    def exists(self) -> bool:
        """Return whether a restore would replace something."""

    @abstractmethod
    def identity(self) -> str:
        """Return a value that identifies the database regardless of the address that is used for it."""

    @abstractmethod
    def address(self, dump: Dump) -> str:
        """Return the address of the tables of a dump after it was loaded here, without a password."""

    @abstractmethod
    def has_content(self) -> bool:
        """Return whether the database contains anything, including data of other apps.

        Raises:
            NotADatabaseError, CorruptError, UnreachableError: it cannot be examined.
        """

    def files(self) -> Sequence[Path]:
        """Return the local files of the database that a restore changes; empty for a server. No file is opened."""
        return ()

    @abstractmethod
    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        """Block other dbctl processes from writing the database, even if it is missing or cannot be opened."""

    def block_writers(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Block all writers until the returned function is called, if the database has to be copied before ``dump`` replaces it.

        Otherwise the replaced database is retained with all later writes.

        Raises:
            BusyError: another process was writing for all of ``timeout`` seconds.
        """
        return nullcontext(release_nothing)

    def require_space(self, required_bytes: int) -> None:
        """Check that ``required_bytes`` fit, if the free space is known, which a server does not report."""

    @abstractmethod
    def strategy(self, dump: Dump) -> RestoreStrategy:
        """Return how ``load`` would restore a dump.

        Raises:
            RetainedDatabaseMissingError: the dump is a retained database that does not exist.
            RestoreFailedError, PrivilegeMissingError: the dump cannot be restored.
        """

    def read_version(self) -> str:
        """Return the version of the server, whether the database exists or not; empty: it has no server."""
        return ""

    def find_missing_roles(self, dump: Dump, policy: RolePolicy) -> Sequence[MissingRole]:
        """Return the roles of a dump that the server lacks and that ``policy.replaced`` does not replace.

        Raises:
            RoleReplacementInvalidError: a replaced role is not in the dump, or its replacement does not exist.
        """
        return ()

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        """Return how a restore at ``stamp`` would retain the current database, if ``RestoreStrategy.retains_previous``."""
        raise RuntimeError(f"a restore at {stamp} retains no database")

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        """Return the names (``metadata["kept"]``) of the retained databases that no longer exist.

        Raises:
            UnreachableError: the server does not respond.
        """
        return ()

    def markers(self) -> Mapping[str, str]:
        """Return properties of the current database that ``load`` changes when it restores in place.

        They are empty if the retained database identifies the state.
        """
        return {}

    def load(self, request: LoadRequest) -> LoadResult:
        """Replace the database with the content of a dump, as one change or not at all.

        The caller has verified the dump, holds ``lock``, and has copied the current database, unless the engine retains
        it (``retained``).

        Raises:
            BusyError: another session held a lock for all of ``timeout`` seconds; nothing was changed.
            WriteConflictError: another process wrote after the locks were released; nothing was changed.
            ReadOnlyError, SameFileError, DiskFullError, FileFailedError, RestoreFailedError: nothing was changed.
        """
        with ExitStack() as committed, self.stage(request) as staged:
            staged.write_marker(request.retained)
            # A swap is short, and an exception in it, or in what the end of the stage removes, could hide that it has committed.
            # A load in place must stay interruptible.
            with signals.defer_signals() if staged.can_revert else nullcontext():
                result = staged.swap()
                committed.enter_context(signals.defer_signals())
        return result

    @abstractmethod
    def stage(self, request: LoadRequest) -> AbstractContextManager[StagedDump]:
        """Load and verify a dump next to the database, if the engine can; remove what is no longer needed at the end.

        Raises:
            RestoreFailedError, DiskFullError, FileFailedError: it cannot be loaded; nothing was changed.
        """

    @contextmanager
    def restored_copy(self, request: LoadRequest) -> Iterator[Url]:
        """Provide a temporary database with the content of a dump; it is dropped at the end.

        Raises:
            PrivilegeMissingError: the user may not create databases on the server.
        """
        with self.trial_restore(request) as trial:
            yield trial.url

    @abstractmethod
    def trial_restore(self, request: LoadRequest) -> AbstractContextManager[TrialRestore]:
        """Load a dump as ``load`` does, but into a temporary database; it is dropped at the end.

        For an engine with files, the database is created at this target's path, in a folder of the caller.

        Raises:
            PrivilegeMissingError: the user may not create databases on the server.
            RestoreFailedError, CorruptError: it cannot be loaded.
        """

    def drop_retained(self, is_dropped: Callable[[str], bool]) -> Sequence[str]:
        """Drop the databases that earlier restores retained with names for which ``is_dropped`` is true; return what could not be dropped."""
        return ()
