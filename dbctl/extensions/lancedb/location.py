"""The location and files of a LanceDB, a local folder or a bucket, its errors, and the access of writers."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dbctl import signals
from dbctl.config import environment, s3
from dbctl.config.storage import parse_address
from dbctl.engines.contract.route import locate_path
from dbctl.engines.file_locks import write_lock
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    ConcurrentChangeError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    FolderMissingError,
    NotADatabaseError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.databases import VersionsTaggedError
from dbctl.errors.usage import require_driver
from dbctl.files import lock as file_lock
from dbctl.files.atomic import read_whole
from dbctl.url import S3_PREFIX, Url

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from pyarrow.fs import FileSystem


#: The end of a table's folder name.
SUFFIX = ".lance"
#: Of the file system, in the root of a disk; only root may read it.
SYSTEM_FOLDER = "lost+found"
#: A manifest with a hundred thousand files has a tenth of it.
MAX_MANIFEST_BYTES = 256 << 20
#: Defaults for environment variables of the library: no warnings, and a read-ahead buffer in bytes (its default is 2 GB).
LIBRARY_SETTINGS = {"LANCEDB_LOG": "error", "LANCE_DEFAULT_IO_BUFFER_SIZE": str(16 << 20)}
#: Tables per request.
PAGE_SIZE = 1000


class File(NamedTuple):
    """A file in the folder of the database."""

    path: str  #: relative to the folder, with slashes
    bytes: int


class Files(Protocol):
    """The files in the folder of a database; paths are relative to it."""

    def walk(self, path: str = "") -> Iterator[File]:
        """Yield every file below a path, unordered; no file if the path does not exist."""

    def read(self, path: str) -> bytes:
        """Return the content of a small file.

        Raises:
            OSError: it cannot be read.
        """

    def read_end(self, path: str, byte_count: int) -> bytes:
        """Return the last bytes of a file; raises as ``read``."""


class LocalFiles:
    def __init__(self, root: Path) -> None:
        self._root = root

    def walk(self, path: str = "") -> Iterator[File]:
        pending = [self._root / path]
        while pending:
            signals.raise_if_interrupted()
            try:
                with os.scandir(pending.pop()) as entries:
                    listed = [entry for entry in entries if entry.name != SYSTEM_FOLDER]
            except (FileNotFoundError, NotADirectoryError):
                continue  # another process removed it
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                    continue
                try:
                    size = entry.stat().st_size if entry.is_file() else None
                except FileNotFoundError:  # removed, for example a pruned version; the others remain
                    continue
                if size is not None:
                    yield File(os.path.relpath(entry.path, self._root), size)

    def read(self, path: str) -> bytes:
        return read_whole(self._root / path, MAX_MANIFEST_BYTES)

    def read_end(self, path: str, byte_count: int) -> bytes:
        descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            return os.pread(descriptor, byte_count, max(0, size - byte_count))
        finally:
            os.close(descriptor)


class StoredFiles:
    def __init__(self, location: Location) -> None:
        self._location = location

    def walk(self, path: str = "") -> Iterator[File]:
        from pyarrow.fs import FileSelector, FileType

        root = f"{self._root}/{path}".rstrip("/")
        for info in self._storage.get_file_info(FileSelector(root, allow_not_found=True, recursive=True)):
            if info.type == FileType.File:
                yield File(info.path.removeprefix(f"{self._root}/"), info.size)

    def read(self, path: str) -> bytes:
        with self._storage.open_input_file(f"{self._root}/{path}") as file:
            return bytes(file.read())

    def read_end(self, path: str, byte_count: int) -> bytes:
        with self._storage.open_input_file(f"{self._root}/{path}") as file:
            file.seek(max(0, file.size() - byte_count))
            return bytes(file.read())

    @cached_property
    def _root(self) -> str:
        return self._location.address.removeprefix("s3://").rstrip("/")

    @cached_property
    def _storage(self) -> FileSystem:
        with _require_driver(self._location.target):
            from pyarrow.fs import S3FileSystem
        access = self._location.access
        keys = {}
        if access.keys is not None:
            keys = {"access_key": access.keys.key, "secret_key": access.keys.secret.reveal()}
            if access.keys.token:
                keys["session_token"] = access.keys.token.reveal()
        scheme, _, host = access.endpoint.partition("://")
        endpoint_options = {"endpoint_override": host, "scheme": scheme} if access.endpoint else {}
        timeout = max(1.0, self._location.timeout)
        return S3FileSystem(
            region=access.region,
            connect_timeout=timeout,
            request_timeout=max(10.0, timeout),
            **keys,
            **endpoint_options,
        )


def find_folder(url: Url, target: str) -> Path | None:
    """Return the folder of a database on this machine; None: it is in a bucket.

    Raises:
        RoutedPathError: it is behind a route.
    """
    return None if url.path.startswith(S3_PREFIX) else Path(os.path.realpath(locate_path(url, target)))


class Location:
    """The location of one database: a local folder or a bucket."""

    def __init__(self, url: Url, target: str, *, timeout: float) -> None:
        """Store the URL; nothing is opened.

        Raises:
            RoutedPathError: it is a folder behind a route.
        """
        self.url, self.target, self.timeout = url, target, timeout
        self.folder = find_folder(url, target)

    @cached_property
    def connection(self) -> DBConnection:
        """The library's connection to the database.

        Raises:
            DriverMissingError: the library is not installed.
        """
        for name, value in LIBRARY_SETTINGS.items():
            os.environ.setdefault(name, value)
        with _require_driver(self.target):
            import lancedb
        signals.raise_if_interrupted()
        return lancedb.connect(self.address, storage_options=dict(self.options) or None)

    @cached_property
    def address(self) -> str:
        """The address for the library."""
        if self.folder is not None:
            return str(self.folder)
        address = parse_address(self.url.path)
        return f"s3://{address.bucket}/{address.prefix}".rstrip("/")

    @cached_property
    def files(self) -> Files:
        return StoredFiles(self) if self.folder is None else LocalFiles(self.folder)

    @cached_property
    def access(self) -> s3.Access:
        """Endpoint, region and keys of the storage; raises as ``options``."""
        return s3.resolve_access(parse_address(self.url.path))

    @cached_property
    def options(self) -> Mapping[str, str]:
        """The library's options for the storage; empty for a local folder.

        Raises:
            StorageSettingInvalidError, StorageKeysMissingError: the configuration of the storage is incomplete.
        """
        if self.folder is not None:
            return {}
        access = self.access
        seconds = max(1, round(self.timeout))
        options = {
            "region": access.region,
            # otherwise the library repeats requests for minutes
            "connect_timeout": f"{seconds}s",
            "client_max_retries": "3",
            "client_retry_timeout": str(max(10, seconds)),
        }
        if access.endpoint:
            options |= {"endpoint": access.endpoint, "virtual_hosted_style_request": "false"}
            if access.endpoint.startswith("http://"):
                options["allow_http"] = "true"
        if access.keys is not None:
            options["access_key_id"] = access.keys.key
            options["secret_access_key"] = access.keys.secret.reveal()
            if access.keys.token:
                options["session_token"] = access.keys.token.reveal()
        return options

    def require_database(self) -> None:
        """Check that the folder exists and may be a LanceDB; the library would create a missing folder.

        Raises:
            FolderMissingError: the folder does not exist.
            NotADatabaseError: it is not a LanceDB.
            UnreachableError: this user may not read it.
        """
        if self.folder is None:
            return
        try:
            names = {*os.listdir(self.folder)} - {SYSTEM_FOLDER}  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            raise FolderMissingError(target=self.target, path=self.folder) from None
        except NotADirectoryError:
            raise NotADatabaseError(target=self.target, path=self.folder, engine="LanceDB") from None
        except OSError as error:
            raise self.unreachable(error.strerror or str(error)) from error
        if not any(name.endswith(SUFFIX) for name in names) and not all(
            name.startswith(".") for name in names
        ):
            raise NotADatabaseError(target=self.target, path=self.folder, engine="LanceDB")

    def list_tables(self) -> list[str]:
        """Return the sorted names of the table folders, including incomplete tables."""
        if self.folder is not None:
            self.require_database()
            with os.scandir(self.folder) as entries:
                return sorted(
                    entry.name.removesuffix(SUFFIX)
                    for entry in entries
                    if entry.name.endswith(SUFFIX) and (entry.is_dir() or entry.is_symlink())
                )
        names, page_token = list[str](), None
        while True:
            page = self.connection.list_tables(page_token=page_token, limit=PAGE_SIZE)
            names += page.tables
            page_token = page.page_token
            if not page_token:
                return sorted(names)

    def unreachable(self, reason: str) -> UnreachableError:
        """Return the error for a database that cannot be reached."""
        hint = (
            f"Check owner and mode of {self.folder} and its files."
            if self.folder
            else Remedy("Check the address, AWS_ENDPOINT_URL and the keys, or run: `doctor`")
        )
        return UnreachableError(target=self.target, reason=reason, hint=hint)


@contextmanager
def _require_driver(target: str) -> Iterator[None]:
    """Import the library: it starts threads and does not handle signals; raises as ``require_driver``."""
    with require_driver(target, driver="lancedb", extra="lancedb"), signals.defer_signals():
        yield


#: Source locations of the library in its messages.
_SOURCE_LOCATION = re.compile(
    r",? ?/\S*?\.rs:\d+(?::\d+)?|This issue was likely caused by a bug.*", re.DOTALL
)
_PREFIX = re.compile(r"^(?:lance error: |Invalid input, |LanceError\(\w+\): |\[Errno \d+\] )+")
#: The response of the storage, or the reason for none, inside a long message of the library.
_STORAGE_REPLY = re.compile(
    r"RetryError.*?(?:status: (?P<status>\d+).*?(?:<Message>(?P<message>.*?)</Message>|$)|message: \"(?P<other>[^\"]+)\")",
    re.DOTALL,
)
_MAX_REASON = 400  #: characters
#: Classes of panics in the library's native code, for example after reading damaged files; they cannot be imported.
_PANIC_CLASSES = frozenset({"RustPanic", "PanicException"})


@contextmanager
def translate_errors(location: Location) -> Iterator[None]:
    """Raise errors of the library as errors of dbctl."""
    try:
        with translate_panics():
            yield
    except DbctlError:
        raise
    except (ValueError, RuntimeError, OSError, TypeError, NotImplementedError) as error:
        signals.raise_if_interrupted()
        raise translate_error(error, location) from error


@contextmanager
def translate_panics() -> Iterator[None]:
    """Raise a panic of the library as a RuntimeError, the class of its other file errors."""
    try:
        yield
    except BaseException as error:  # some panics do not derive from Exception
        if type(error).__name__ not in _PANIC_CLASSES:
            raise
        reason = "panic of the LanceDB library, caused by the content of the files"
        # It reads its settings late, and its error does not name the one that it refuses.
        settings = sorted(
            name
            for name, value in os.environ.items()
            if name.startswith("LANCE_") and LIBRARY_SETTINGS.get(name) != value
        )
        if settings:
            reason += f", or by a value in the environment ({', '.join(settings)})"
        raise RuntimeError(reason) from error


def translate_error(error: Exception, location: Location) -> DbctlError:
    reason = extract_reason(error)
    for pattern, create_error in _ERROR_PATTERNS.items():
        if re.search(pattern, str(error), re.IGNORECASE):
            return create_error(location, reason)
    return QueryFailedError(target=location.target, reason=reason)


def extract_reason(error: Exception) -> str:
    """Return the library's message without source locations."""
    reply = _STORAGE_REPLY.search(str(error))
    if reply:
        return reply["message"] or reply["other"] or f"status {reply['status']}"
    text = _PREFIX.sub("", _SOURCE_LOCATION.sub("", str(error))).strip()
    return (text[:_MAX_REASON] + "…" if len(text) > _MAX_REASON else text) or type(error).__name__


#: The first matching pattern decides.
_ERROR_PATTERNS: dict[str, Callable[[Location, str], DbctlError]] = {
    r"Query timeout": lambda location, reason: QueryFailedError(target=location.target, reason=reason),
    r"no space left|os error 28": lambda location, _: DiskFullError(target=location.target),
    r"read-only file ?system|os error 30": lambda location, reason: ReadOnlyError(
        target=location.target, reason=reason, hint="Nothing was changed."
    ),
    r"permission denied|os error 13|AccessDenied|403 Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch": lambda location, reason: (
        location.unreachable(reason)
    ),
    r"tagged version": lambda location, reason: VersionsTaggedError(
        target=location.target, tags=reason.partition("{")[2].partition("}")[0] or reason
    ),
    r"commit conflict|too many concurrent writers|was preempted|concurrent": lambda location, _: (
        ConcurrentChangeError(target=location.target)
    ),
    r"RetryError|error sending request|Generic S3 error|timed out|dispatch failure|NoSuchBucket|connect error": lambda location, reason: (
        location.unreachable(reason)
    ),
    r"NaN values|Cannot cast to FixedSizeList|non-nullable|contained null|cast error|append with different schema|(?<!magic number )does not match": lambda location, reason: (
        ConstraintError(target=location.target, reason=reason)
    ),
    r"correct footer|unsupported index version|not found: |no longer exists|object at location|no such file|os error 2\b|corrupt|invalid (?:magic|metadata|manifest|protobuf|file)|failed to (?:decode|fill|parse)|decode|unexpected end|out of bounds|file size|outside (?:of )?file|IPC footer|range|malformed|overflow|buffer|panic": lambda location, reason: (
        CorruptError(target=location.target, reason=reason)
    ),
}


def acquire_lock(location: Location, purpose: str) -> AbstractContextManager[None]:
    """Acquire the lock of dbctl writers, a file next to the folder.

    A bucket has no locks: its lock covers this user on this machine. If two machines write concurrently, the library lets
    only one of them create each version.

    Raises:
        BusyError: another dbctl process held the lock until the timeout.
    """
    if location.folder is not None:
        return write_lock(location.folder, location.target, purpose, timeout=location.timeout)
    name = hashlib.sha256(location.address.encode()).hexdigest()[:32]
    file = environment.default_staging_folder() / f".dbctl-{os.geteuid()}-{name}.lock"

    def lock_error(reason: str) -> UnreachableError:
        return UnreachableError(
            target=location.target, reason=f"its lock {file}: {reason}", hint="Nothing was changed."
        )

    return file_lock.exclusive(file, location.target, purpose, timeout=location.timeout, to_error=lock_error)


@contextmanager
def match_owner(location: Location, table: str) -> Iterator[None]:
    """Give new files of a table the owner and mode of its folder, even after an error.

    The app could not open its table with files that root owns.
    """
    if location.folder is None or os.geteuid() != 0:
        yield
        return
    folder = location.folder / f"{table}{SUFFIX}"
    folder_stat = folder.stat()
    previous_umask = os.umask(~folder_stat.st_mode & 0o777)  # for new files of the library
    try:
        yield
    finally:
        os.umask(previous_umask)
        if folder_stat.st_uid != 0:
            _change_owner(str(folder), folder_stat)


def _change_owner(folder: str, owner: os.stat_result) -> None:
    for _, folders, files, folder_descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            try:
                descriptor = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_descriptor
                )
            except OSError:
                continue  # a link, or another process removed it
            try:
                file_stat = os.fstat(descriptor)
                # with a second link, the owner could obtain a file outside of the folder
                is_safe = stat.S_ISDIR(file_stat.st_mode) or (
                    stat.S_ISREG(file_stat.st_mode) and file_stat.st_nlink == 1
                )
                if is_safe and file_stat.st_uid == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            finally:
                os.close(descriptor)
