"""The files of a LanceDB, on this machine and in storage alike; needs the library of tables for none on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dbctl import signals
from dbctl.config import s3
from dbctl.errors import DriverMissingError, FolderMissingError, NotADatabaseError, UnreachableError
from dbctl.files import read_whole
from dbctl.model import Value
from dbctl.url import Url

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from pyarrow.fs import FileSystem


#: Bytes; a manifest of ten thousand fragments takes 2 MB.
LARGEST_MANIFEST = 256 << 20


class File(NamedTuple):
    """A file below the folder of the database."""

    path: str  #: with slashes, from there
    bytes: int


class Files:
    """What stands in the folder of a database."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def below(self, path: str = "") -> Iterator[File]:
        """Yield every file below a path, in no order; none where there is no such path."""
        if self._place.folder is None:
            yield from self._stored(path)
            return
        waiting = [self._place.folder / path]
        while waiting:
            signals.check()
            try:
                with os.scandir(waiting.pop()) as entries:
                    for one in entries:
                        if one.is_dir(follow_symlinks=False):
                            waiting.append(Path(one.path))
                        elif one.is_file():
                            yield File(os.path.relpath(one.path, self._place.folder), one.stat().st_size)
            except (FileNotFoundError, NotADirectoryError):
                continue  # somebody took it away meanwhile

    def read(self, path: str) -> bytes:
        """Return a small file whole.

        Raises:
            OSError: it cannot be read.
        """
        if self._place.folder is not None:
            return read_whole(self._place.folder / path, LARGEST_MANIFEST)
        with self._storage.open_input_file(f"{self._root}/{path}") as file:
            return bytes(file.read())

    def tail(self, path: str, number: int) -> bytes:
        """Return the last bytes of a file.

        Raises:
            OSError: it cannot be read.
        """
        if self._place.folder is not None:
            descriptor = os.open(self._place.folder / path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(descriptor).st_size
                return os.pread(descriptor, number, max(0, size - number))
            finally:
                os.close(descriptor)
        with self._storage.open_input_file(f"{self._root}/{path}") as file:
            file.seek(max(0, file.size() - number))
            return bytes(file.read())

    def _stored(self, path: str) -> Iterator[File]:
        from pyarrow.fs import FileSelector, FileType

        root = f"{self._root}/{path}".rstrip("/")
        for one in self._storage.get_file_info(FileSelector(root, allow_not_found=True, recursive=True)):
            if one.type == FileType.File:
                yield File(one.path.removeprefix(f"{self._root}/"), one.size)

    @cached_property
    def _root(self) -> str:
        return self._place.address.removeprefix("s3://").rstrip("/")

    @cached_property
    def _storage(self) -> FileSystem:
        try:
            with signals.held():
                from pyarrow.fs import S3FileSystem
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise DriverMissingError(
                target=self._place.target, driver="lancedb", extra="lancedb", reason=reason
            ) from error
        access = s3.access(s3.parse(self._place.url.path))
        keys = {}
        if access.keys is not None:
            keys = {"access_key": access.keys.key, "secret_key": access.keys.secret.reveal()}
            if access.keys.token:
                keys["session_token"] = access.keys.token.reveal()
        scheme, _, host = access.endpoint.partition("://")
        more = {"endpoint_override": host, "scheme": scheme} if access.endpoint else {}
        wait = max(1.0, self._place.timeout)
        return S3FileSystem(
            region=access.region, connect_timeout=wait, request_timeout=max(10.0, wait), **keys, **more
        )


#: What the library takes from variables of its own, unless they say otherwise: its warnings are for those who write
#: programs, and what it reads ahead, in bytes, would be 2 GB.
LIBRARY = {"LANCEDB_LOG": "error", "LANCE_DEFAULT_IO_BUFFER_SIZE": str(16 << 20)}
#: How the folder of a table ends.
SUFFIX = ".lance"
#: Where the versions of a table are told.
VERSIONS = "_versions"
#: In there, which version was the newest when one was written last: never a later one than has been there.
HINT = "latest_version_hint.json"
#: Tables that are asked for at a time.
PAGE = 1000


class _Hint(Value, frozen=True):
    version: int


def hinted(content: bytes) -> int:
    """Return which version a hint names; 0 where it says none."""
    try:
        found = msgspec.json.decode(content, type=_Hint)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return found.version


class Place:
    """The folder of one database."""

    def __init__(self, url: Url, target: str, *, timeout: float) -> None:
        """Reach nothing yet.

        Raises:
            StorageUnknownError, StorageKeysMissingError: nothing says how storage is reached.
        """
        self.url, self.target, self.timeout = url, target, timeout
        self.folder = Path(os.path.realpath(url.path)) if url.is_folder else None

    @property
    def text(self) -> str:
        """How messages name it."""
        return str(self.folder or self.url.path)

    @cached_property
    def connection(self) -> DBConnection:
        """The database as the library sees it.

        Raises:
            DriverMissingError: the library is not installed.
        """
        for name, value in LIBRARY.items():
            os.environ.setdefault(name, value)
        try:
            with signals.held():  # it starts threads, and knows nothing of signals while it does
                import lancedb
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise DriverMissingError(
                target=self.target, driver="lancedb", extra="lancedb", reason=reason
            ) from error
        signals.check()
        return lancedb.connect(self.address, storage_options=dict(self.options) or None)

    @cached_property
    def address(self) -> str:
        """What the library is told."""
        if self.folder is not None:
            return str(self.folder)
        where = s3.parse(self.url.path)
        return f"s3://{where.bucket}/{where.prefix}".rstrip("/")

    @cached_property
    def options(self) -> Mapping[str, str]:
        """How storage is reached; nothing for a folder on this machine.

        Raises:
            StorageUnknownError, StorageKeysMissingError: nothing says how.
        """
        if self.folder is not None:
            return {}
        access = s3.access(s3.parse(self.url.path))
        told = {"region": access.region, **_patience(self.timeout)}
        if access.endpoint:
            told |= {"endpoint": access.endpoint, "virtual_hosted_style_request": "false"}
            if access.endpoint.startswith("http://"):
                told["allow_http"] = "true"
        if access.keys is not None:
            told |= {
                "access_key_id": access.keys.key,
                "secret_access_key": access.keys.secret.reveal(),
            }
            if access.keys.token:
                told["session_token"] = access.keys.token.reveal()
        return told

    def want(self) -> None:
        """Look whether a database is there; the library would make the folder.

        Raises:
            FolderMissingError: there is none.
            NotADatabaseError: something else is there.
            UnreachableError: this user may not look.
        """
        if self.folder is None:
            return
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            raise FolderMissingError(target=self.target, path=self.folder) from None
        except NotADirectoryError:
            raise NotADatabaseError(target=self.target, path=self.folder, engine="LanceDB") from None
        except OSError as error:
            raise self.unreachable(error.strerror or str(error)) from error
        if names and not any(name.endswith(SUFFIX) for name in names) and any(map(_is_strange, names)):
            raise NotADatabaseError(target=self.target, path=self.folder, engine="LanceDB")

    def names(self) -> list[str]:
        """Return the names of the folders that are, or should be, tables."""
        if self.folder is not None:
            self.want()
            with os.scandir(self.folder) as entries:
                return sorted(
                    one.name.removesuffix(SUFFIX)
                    for one in entries
                    if one.name.endswith(SUFFIX) and one.is_dir()
                )
        found, after = list[str](), None
        while True:
            page = self.connection.list_tables(page_token=after, limit=PAGE)
            found += page.tables
            after = page.page_token
            if not after:
                return sorted(found)

    def unreachable(self, reason: str) -> UnreachableError:
        """Return the failure of a database that cannot be got at."""
        instead = (
            f"Check owner and mode of {self.folder} and of what is in it."
            if self.folder
            else "Check the address, AWS_ENDPOINT_URL and the keys; dbctl doctor tells what it finds."
        )
        return UnreachableError(target=self.target, reason=reason, instead=instead)


def _patience(timeout: float) -> dict[str, str]:
    """Return how long the library waits for storage: it would try for minutes where nothing answers."""
    seconds = max(1, round(timeout))
    return {
        "connect_timeout": f"{seconds}s",
        "client_max_retries": "3",
        "client_retry_timeout": str(max(10, seconds)),
    }


def _is_strange(name: str) -> bool:
    return not name.startswith(".")
