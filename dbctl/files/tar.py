"""Extract archives (tar) so that nothing in them can reach beyond their folder.

``tarfile`` of an older Python follows any name in an archive: out of the folder, over links, into devices. So only
regular files and folders are created here, by names that were validated, in a folder that no other user can enter, and
which gets its name once it is complete.
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
from dbctl.errors import (
    ArchiveUnsafeError,
    DiskFullError,
    FileExistsAlreadyError,
    FileFailedError,
    FileUnsoundError,
)
from dbctl.files.atomic import is_full, sync_directory
from dbctl.model import Value

#: Members that an archive may have, folders in each other, and bytes of a long header.
MOST_MEMBERS, DEEPEST, LONGEST_HEADER = 1_000_000, 64, 1 << 20
#: Times that a file may be of: from 1970 to the end of what a clock shows.
LATEST = 253_402_300_799


class Unarchived(Value, frozen=True, kw_only=True):
    """What came of an archive."""

    files: int
    bytes: int
    left_out: Sequence[str]  #: links, which are never made: ``name -> target``


def unpack(archive: Path, to: Path, *, name: str, most: int, members: int = MOST_MEMBERS) -> Unarchived:
    """Unpack an archive that is not compressed into the new folder ``to``, mode 0700; its files get 0600.

    Args:
        archive: the file, which no other process writes.
        to: the folder, which does not exist yet. It is created as a whole, or not at all.
        name: how messages call the archive.
        most: bytes that its files may hold.
        members: that it may have.

    Raises:
        ArchiveUnsafeError: it would reach beyond its folder, or is no archive of files.
        FileUnsoundError: it is cut off or damaged.
        FileExistsAlreadyError: ``to`` exists.
        DiskFullError, FileFailedError: it cannot be written.
    """
    if os.path.lexists(to):
        raise FileExistsAlreadyError(path=to, instead="Name a folder that is not there yet.")
    partial = to.with_name(f".{to.name}.dbctl-{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(mode=0o700)
        try:
            unpacking = _Unpacking(partial, name, most, members)
            with _Bounded(archive, name) as file:
                unpacking.take(file)
            unpacking.sync()
            partial.rename(to)  # over no file, and no folder that holds anything
        except BaseException:  # also on a signal: half of it must not stay
            with signals.unheard():
                shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_directory(to.parent)
    except OSError as error:
        if is_full(error):
            raise DiskFullError(target=str(to.parent)) from error
        raise FileFailedError(path=error.filename or to, reason=error.strerror or str(error)) from error
    return Unarchived(files=unpacking.files, bytes=unpacking.bytes, left_out=unpacking.left_out)


class _Bounded(FileIO):
    """A file that refuses to read more at once than a header may be long: a header itself contains its length."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, "rb")
        self._shown_name = name

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise ArchiveUnsafeError(path=self._shown_name, reason="a header in it is longer than any")
        return super().read(size)


class _Unpacking:
    def __init__(self, top: Path, name: str, most: int, members: int) -> None:
        self._top, self._name, self._most, self._members = top, name, most, members
        self.files = self.bytes = 0
        self.left_out = list[str]()
        self._links = set[tuple[str, ...]]()
        self._folders: dict[tuple[str, ...], Path] = {(): top}
        self._file_names = set[tuple[str, ...]]()

    def take(self, file: FileIO) -> None:
        """Create the files and folders of the archive."""
        try:
            with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as archive:
                for number, member in enumerate(_members(archive), 1):
                    signals.check()
                    if number > self._members:
                        raise self._unsafe(f"it has more than {self._members:,} members")
                    self._take(file, member)
                self._require_end(file, archive)
        except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            raise FileUnsoundError(path=self._name, reason=f"as an archive: {error}") from error

    def _require_end(self, file: FileIO, archive: tarfile.TarFile) -> None:
        """Check that the archive ends with a block of zeros: one that was cut between two members does not."""
        file.seek(archive.offset)
        if any(last := file.read(tarfile.BLOCKSIZE)) or len(last) < tarfile.BLOCKSIZE:
            raise FileUnsoundError(path=self._name, reason="its end is missing")

    def _take(self, file: FileIO, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        if any(parts[:end] in self._links for end in range(1, len(parts) + 1)):
            raise self._unsafe(f"{member.name!r} leads over a link of its own")
        if member.issym() or member.islnk():
            self._refuse_twice(parts, member.name)
            self._links.add(parts)
            self.left_out.append(f"{member.name} -> {member.linkname}")
        elif member.isdir():
            self._folder(parts, member.name)
        elif member.isreg() and not member.issparse():
            self._file(file, member, parts)
        else:
            raise self._unsafe(f"{member.name!r} is neither a file nor a folder")

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a name that leads nowhere else."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/"):
            raise self._unsafe(f"{name!r} begins at the root")
        if ".." in parts:
            raise self._unsafe(f"{name!r} leads out of its folder")
        if "\0" in name or len(parts) > DEEPEST:
            raise self._unsafe(f"{name[:60]!r} is no name of a file")
        return parts

    def _folder(self, parts: tuple[str, ...], name: str) -> Path:
        """Create a folder and its parents; return its path."""
        for end in range(1, len(parts) + 1):
            prefix = parts[:end]
            if prefix in self._file_names:
                raise self._unsafe(f"{name!r} is a file and a folder")
            if prefix not in self._folders:
                path = self._folders[prefix[:-1]] / prefix[-1]
                path.mkdir(mode=0o700)
                self._folders[prefix] = path
        return self._folders[parts]

    def _file(self, file: FileIO, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if not parts:
            raise self._unsafe("a file without a name")
        self._refuse_twice(parts, member.name)
        if member.size < 0 or self.bytes + member.size > self._most:
            raise self._unsafe(f"its files hold more than {self._most:,} bytes")
        path = self._folder(parts[:-1], member.name) / parts[-1]
        self._file_names.add(parts)
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(opened, "wb") as output:
            file.seek(member.offset_data)
            left = member.size
            while left:
                signals.check()
                if not (block := file.read(min(left, LONGEST_HEADER))):
                    raise FileUnsoundError(path=self._name, reason="its end is missing")
                left -= output.write(block)
            output.flush()
            if 0 <= member.mtime <= LATEST:
                os.utime(output.fileno(), (member.mtime, member.mtime))
            os.fsync(output.fileno())
        self.files += 1
        self.bytes += member.size

    def _refuse_twice(self, parts: tuple[str, ...], name: str) -> None:
        if parts in self._file_names or parts in self._links or parts in self._folders:
            raise self._unsafe(f"{name!r} is in it twice")

    def sync(self) -> None:
        """Make the names in every folder durable, the innermost first."""
        for path in reversed(self._folders.values()):
            sync_directory(path)

    def _unsafe(self, reason: str) -> ArchiveUnsafeError:
        return ArchiveUnsafeError(path=self._name, reason=reason)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in their order; ``tarfile`` itself would keep them all."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member
