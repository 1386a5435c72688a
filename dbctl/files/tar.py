"""Extract tar archives safely: no member can write outside of the destination folder.

``tarfile`` of older Python versions accepts any name in an archive: outside of the folder, through links, of devices. So
only regular files and folders are created, with validated names, in a folder that no other user can enter, and which gets
its final name when it is complete.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

from dbctl import signals
from dbctl.errors.backup import ArchiveUnsafeError, FileInvalidError
from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.files.atomic import sync_directory, sync_name, translate_errors
from dbctl.model import Struct

#: Limits of an archive: members, nested folders, and bytes of a long header.
MAX_MEMBERS, MAX_DEPTH, MAX_HEADER_BYTES = 1_000_000, 64, 1 << 20
#: The latest accepted modification time: the end of the year 9999.
MAX_TIMESTAMP = 253_402_300_799


class ExtractResult(Struct, frozen=True, kw_only=True):
    files: int
    bytes: int
    skipped_links: Sequence[str]  #: links, which are never created: ``name -> target``


def extract(
    archive: Path,
    destination: Path,
    *,
    name: str,
    max_bytes: int,
    max_members: int = MAX_MEMBERS,
    max_depth: int = MAX_DEPTH,
) -> ExtractResult:
    """Extract an uncompressed archive into the new folder ``destination``, mode 0700; its files get 0600.

    No other process may write the archive; ``name`` is its name for messages. The folder is created completely or not at all.

    Raises:
        ArchiveUnsafeError: a member is outside of the folder, or is not a file or folder; or there are too many bytes or members.
        FileInvalidError: it is truncated or damaged.
        FileExistsAlreadyError: ``destination`` exists.
        DiskFullError, FileFailedError: it cannot be written.
        FileUnsyncedError: it is complete, but its name could not be synced.
    """
    if os.path.lexists(destination):
        raise FileExistsAlreadyError(path=destination, hint="Choose a folder that does not exist.")
    partial = destination.with_name(f".{destination.name}.dbctl-{secrets.token_hex(4)}.partial")
    with translate_errors(destination, destination.parent):
        partial.mkdir(mode=0o700)
        try:
            extraction = _Extraction(partial, name, max_bytes, max_members, max_depth)
            with _Bounded(archive, name) as file:
                extraction.extract_all(file)
            extraction.sync()
            partial.rename(destination)  # does not replace a file or a non-empty folder
        except BaseException:  # also on a signal: an incomplete folder must not remain
            with signals.block_signals():
                shutil.rmtree(partial, ignore_errors=True)
            raise
    sync_name(destination)
    return ExtractResult(files=extraction.files, bytes=extraction.bytes, skipped_links=extraction.left_out)


class _Bounded(FileIO):
    """A file that refuses to read more than a long header in one call: a header contains its own length."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, "rb")
        self._shown_name = name

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            raise ArchiveUnsafeError(path=self._shown_name, reason="a header is too long")
        return super().read(size)


class _Extraction:
    def __init__(self, top: Path, name: str, max_bytes: int, max_members: int, max_depth: int) -> None:
        self._name = name
        self._max_bytes, self._max_members, self._max_depth = max_bytes, max_members, max_depth
        self.files = self.bytes = 0
        self.left_out = list[str]()
        self._links = set[tuple[str, ...]]()
        self._folders: dict[tuple[str, ...], Path] = {(): top}
        self._file_names = set[tuple[str, ...]]()

    def extract_all(self, file: FileIO) -> None:
        """Create the files and folders of the archive."""
        try:
            with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as archive:
                for index, member in enumerate(_members(archive), 1):
                    signals.raise_if_interrupted()
                    if index > self._max_members:
                        raise self._unsafe(f"it has more than {self._max_members:,} members")
                    self._extract_member(file, member)
                self._require_end(file, archive)
        except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            raise FileInvalidError(path=self._name, reason=f"not a tar archive: {error}") from error

    def _require_end(self, file: FileIO, archive: tarfile.TarFile) -> None:
        """Check that the archive ends with a block of zeros: one that was truncated between two members does not."""
        file.seek(archive.offset)
        if any(last := file.read(tarfile.BLOCKSIZE)) or len(last) < tarfile.BLOCKSIZE:
            raise FileInvalidError(path=self._name, reason="its end is missing")

    def _extract_member(self, file: FileIO, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        if any(parts[:end] in self._links for end in range(1, len(parts) + 1)):
            raise self._unsafe(f"the path {member.name!r} contains a link of the archive")
        if member.issym() or member.islnk():
            self._refuse_duplicate(parts, member.name)
            self._links.add(parts)
            self.left_out.append(f"{member.name} -> {member.linkname}")
        elif member.isdir():
            self._folder(parts, member.name)
        elif member.isreg() and not member.issparse():
            self._file(file, member, parts)
        else:
            raise self._unsafe(f"{member.name!r} is neither a file nor a folder")

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a name that stays in the folder."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/"):
            raise self._unsafe(f"{name!r} is an absolute path")
        if ".." in parts:
            raise self._unsafe(f"{name!r} leads out of its folder")
        if len(parts) > self._max_depth:
            raise self._unsafe(f"{name[:60]!r} is in more than {self._max_depth} nested folders")
        if "\0" in name:
            raise self._unsafe(f"{name[:60]!r} is not a valid file name")
        return parts

    def _folder(self, parts: tuple[str, ...], name: str) -> Path:
        """Create a folder and its parents; return its path."""
        for end in range(1, len(parts) + 1):
            prefix = parts[:end]
            if prefix in self._file_names:
                raise self._unsafe(f"{name!r} is both a file and a folder")
            if prefix not in self._folders:
                path = self._folders[prefix[:-1]] / prefix[-1]
                path.mkdir(mode=0o700)
                self._folders[prefix] = path
        return self._folders[parts]

    def _file(self, file: FileIO, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if not parts:
            raise self._unsafe("a file has no name")
        self._refuse_duplicate(parts, member.name)
        if member.size < 0 or self.bytes + member.size > self._max_bytes:
            raise self._unsafe(f"its files have more than {self._max_bytes:,} bytes")
        path = self._folder(parts[:-1], member.name) / parts[-1]
        self._file_names.add(parts)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            file.seek(member.offset_data)
            remaining = member.size
            while remaining:
                signals.raise_if_interrupted()
                if not (block := file.read(min(remaining, MAX_HEADER_BYTES))):
                    raise FileInvalidError(path=self._name, reason="its end is missing")
                remaining -= output.write(block)
            output.flush()
            if 0 <= member.mtime <= MAX_TIMESTAMP:
                os.utime(output.fileno(), (member.mtime, member.mtime))
            os.fsync(output.fileno())
        self.files += 1
        self.bytes += member.size

    def _refuse_duplicate(self, parts: tuple[str, ...], name: str) -> None:
        if parts in self._file_names or parts in self._links or parts in self._folders:
            raise self._unsafe(f"{name!r} occurs twice")

    def sync(self) -> None:
        """Make the names in every folder durable, innermost first."""
        for path in reversed(self._folders.values()):
            sync_directory(path)

    def _unsafe(self, reason: str) -> ArchiveUnsafeError:
        return ArchiveUnsafeError(path=self._name, reason=reason)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in order; ``tarfile`` itself would store all of them."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member
