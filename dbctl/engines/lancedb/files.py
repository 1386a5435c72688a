"""The files of a LanceDB, on this machine and in storage alike; needs the library of tables for none on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbctl import durable, interrupt, s3_access
from dbctl.engines.lancedb.place import Place
from dbctl.errors import DriverMissingError

if TYPE_CHECKING:
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
            interrupt.check()
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
            return durable.read_whole(self._place.folder / path, LARGEST_MANIFEST)
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
            with interrupt.held():
                from pyarrow.fs import S3FileSystem
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise DriverMissingError(
                target=self._place.target, driver="lancedb", extra="lancedb", reason=reason
            ) from error
        access = s3_access.access(s3_access.parse(self._place.url.path))
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
