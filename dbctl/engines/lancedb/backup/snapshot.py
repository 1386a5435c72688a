"""One moment of a folder of LanceDB tables, held open while the app writes, compacts and removes versions.

What a manifest names is never written again, so the files of one version are that version for as long as they exist; and
a file that is open exists, also when compacting takes its name away. So the newest version of each table is looked up and
all its files are opened, which takes milliseconds; a file that went away meanwhile means that there is a newer version by
now, of which the same is tried. Nothing is written beside the tables, and nothing is left by who is killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.lancedb.location import HINT, SUFFIX, VERSIONS, hinted
from dbctl.engines.lancedb.storage import ManifestError, Piece, Version, fragments
from dbctl.errors import BusyError, CorruptError, FolderMissingError, NotSupportedError, UnreachableError
from dbctl.files import atomic
from dbctl.model import Value, now

#: Bytes that a manifest may have: one that names a hundred thousand files has a tenth of it.
LARGEST_MANIFEST, LARGEST_HINT = 256 << 20, 1 << 12
#: Where the descriptors of what is held begin (``select`` knows none behind), how many are left to others, and the most.
FIRST_DESCRIPTOR, SPARE_DESCRIPTORS, MOST_DESCRIPTORS = 1024, 200, 1 << 20
#: Seconds for which newer versions are followed.
PATIENCE = 30.0
TAGS = "_refs/tags"
BRANCHES = "tree"
ELSEWHERE = "files of it lie in another table"


class Held(Value, frozen=True, kw_only=True):
    """One file of a snapshot."""

    name: str  #: relative to the folder of the tables
    path: Path
    size: int
    mode: int
    owner: tuple[int, int]
    changed: int  #: seconds since 1970
    descriptor: int | None  #: None: more are open than may be, so that it is opened when it is read


class Taken(Value, frozen=True, kw_only=True):
    """One table of a snapshot."""

    name: str
    version: Version


class _GoneError(Exception):
    """A file that a version is made of is not there, or not of its size."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")


class Snapshot:
    """The files of one moment, the manifest of each table last; whoever opened it closes it."""

    def __init__(self, root: Path, target: str) -> None:
        self.root, self._target = root, target
        self.taken_at = now()
        self.tables, self.files, self.folders = list[Taken](), list[Held](), list[str]()
        self.remarks = list[str]()
        self._open = list[int]()

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        return {one.name: one.version.rows for one in self.tables}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)

    def close(self) -> None:
        """Let go; a second time does nothing."""
        while self._open:
            os.close(self._open.pop())

    def hold(self, name: str, told: int = 0) -> None:
        """Take a file in; ``told`` is how many bytes it must have, 0 where nobody knows."""
        path = self.root / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise _GoneError(name, "is missing") from error
            raise self._failed(path, error) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise _GoneError(name, "is no file")
        if told and found.st_size != told:
            os.close(descriptor)
            raise _GoneError(name, f"has {found.st_size:,} bytes and should have {told:,}")
        kept = _kept(descriptor, len(self._open))
        if kept is not None:
            self._open.append(kept)
        self.files.append(
            Held(
                name=name,
                path=path,
                size=found.st_size,
                mode=stat.S_IMODE(found.st_mode),
                owner=(found.st_uid, found.st_gid),
                changed=int(found.st_mtime),
                descriptor=kept,
            )
        )

    def blocks(self, one: Held) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            CorruptError: it is not as long as it was.
            BusyError: it was not held, and went away.
        """
        descriptor, at = one.descriptor, 0
        if descriptor is None:
            try:
                descriptor = os.open(one.path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise self._written() from error
        try:
            while at < one.size:
                signals.check()
                block = os.pread(descriptor, min(atomic.BLOCK, one.size - at), at)
                if not block:
                    raise CorruptError(target=self._target, reason=f"{one.name} became shorter")
                at += len(block)
                yield block
        except OSError as error:
            raise self._failed(one.path, error) from error
        finally:
            if one.descriptor is None:
                os.close(descriptor)

    def _failed(self, path: Path, error: OSError) -> UnreachableError:
        return UnreachableError(
            target=self._target,
            reason=f"{path}: {error.strerror or error}",
            instead="Run it as a user who may read all of its files.",
        )

    def _written(self) -> BusyError:
        return BusyError(
            target=self._target,
            holder=": its versions are removed faster than they are read",
            waited=f"{PATIENCE:g}",
        )

    # Taking it -----------------------------------------------------------------------------------------------------

    def take(self, *, older: bool) -> None:
        """Take everything; ``older`` says whether an older version serves where the newest is not whole."""
        for name in _names(self.root):
            path = self.root / name
            if is_table(path):
                self._take_table(name, older=older)
            elif path.is_dir() and not path.is_symlink():
                self._take_rest(name)
            elif atomic.is_regular(path) and not path.is_symlink():
                with suppress(_GoneError):
                    self.hold(name)

    def _take_rest(self, folder: str) -> None:
        """Take a folder that is no table as it lies."""
        self.folders.append(folder)
        for name in _names(self.root / folder):
            below = f"{folder}/{name}"
            path = self.root / below
            if path.is_symlink():
                continue
            if path.is_dir():
                self._take_rest(below)
            else:
                with suppress(_GoneError):
                    self.hold(below)

    def _take_table(self, folder: str, *, older: bool) -> None:
        hinted = _hinted(self.root / folder)  # before the others are looked up, for they may become more
        manifests = _manifests(self.root / folder)
        if manifests and hinted > manifests[0][0]:
            self.remarks.append(
                f"{folder}: version {hinted} was written and is gone; {manifests[0][0]} is the newest that is left"
            )
        if not manifests:  # it was not finished, or is being removed: LanceDB opens no such table either
            self.remarks.append(f"{folder} has no version, and is not taken")
            return
        failed: _GoneError | None = None
        for number, manifest in manifests:
            before = len(self.files)
            try:
                version = self._take_version(folder, manifest)
            except (_GoneError, ManifestError) as error:
                if not older:
                    raise
                self._drop(before)
                reason = error if isinstance(error, _GoneError) else f"{manifest}: {error}"
                failed = failed or _GoneError(f"version {number} of {folder}", f"is not whole: {reason}")
                continue
            if failed:
                self.remarks.append(f"{failed}; version {version.number} is taken")
            self.tables.append(Taken(name=folder.removesuffix(SUFFIX), version=version))
            self._take_tags(folder, dict(manifests), version.number)
            if (self.root / folder / BRANCHES).is_dir():
                self.remarks.append(f"{folder}: its branches are not taken")
            return
        raise failed or _GoneError(folder, "has no version")

    def _take_version(self, folder: str, manifest: str) -> Version:
        name = f"{folder}/{VERSIONS}/{manifest}"
        at = len(self.files)
        self.hold(name)
        content = b"".join(self.blocks(self.files[at]))
        if len(content) > LARGEST_MANIFEST:
            raise ManifestError("it is larger than any")
        version = fragments.read(content)
        if version.elsewhere:
            raise NotSupportedError(
                what=f"copying {self._target}",
                by=f"{folder}, for {ELSEWHERE}",
                instead="Deep-copy the table first, or back up the other one with it.",
            )
        known = {one.name for one in self.files}
        for piece in self._all(folder, version):
            full = f"{folder}/{piece.name}"
            if full not in known:
                known.add(full)
                self.hold(full, piece.size)
        if version.transaction:
            with suppress(_GoneError):
                self.hold(f"{folder}/{version.transaction}")
        self.files.append(self.files.pop(at))  # last, as who writes a table does
        return version

    def _all(self, folder: str, version: Version) -> Iterator[Piece]:
        """Yield what a version is made of, with what lies in folders of its own."""
        yield from version.pieces
        beside = [one.name.removesuffix(SUFFIX) for one in version.pieces if one.name.startswith("data/")]
        for within in (*version.folders, *beside):
            place = self.root / folder / within
            try:
                names = sorted(os.listdir(place))  # noqa: PTH208 - names are enough
            except (FileNotFoundError, NotADirectoryError):
                if within in version.folders and not any(
                    one.name.startswith(f"{within}/") for one in version.pieces
                ):
                    raise _GoneError(f"{folder}/{within}", "is missing") from None
                continue
            for name in names:
                if not os.path.isdir(place / name):  # noqa: PTH112 - pathlib's raises where it may not look
                    yield Piece(f"{within}/{name}")

    def _take_tags(self, folder: str, manifests: dict[int, str], taken: int) -> None:
        for name in _names(self.root / folder / TAGS, missing=True):
            before = len(self.files)
            try:
                number, branch = _tagged(self.root / folder / TAGS / name)
                if number != taken:
                    self._take_version(folder, "" if branch else manifests[number])
                self.hold(f"{folder}/{TAGS}/{name}")
            except (_GoneError, ManifestError, LookupError, TypeError, ValueError, AttributeError, OSError):
                self._drop(before)
                self.remarks.append(f"{folder}: tag {name.removesuffix('.json')} is not taken")

    def _drop(self, before: int) -> None:
        """Take away what was taken last."""
        for one in self.files[before:]:
            if one.descriptor is not None:
                self._open.remove(one.descriptor)
                os.close(one.descriptor)
        del self.files[before:]


@contextmanager
def taken(root: Path, target: str, *, older: bool = False) -> Iterator[Snapshot]:
    """Give a snapshot, and close it."""
    found = take(root, target, older=older)
    try:
        yield found
    finally:
        found.close()


def take(root: Path, target: str, *, older: bool = False) -> Snapshot:
    """Take a snapshot of the folder ``root``; nothing is written.

    Args:
        root: the folder of the tables.
        target: ``app/database``, for messages.
        older: whether an older version serves where the newest is not whole, as in what somebody copied.

    Raises:
        FolderMissingError: there is no such folder.
        CorruptError: the newest version of a table is not whole, and stays so.
        BusyError: versions are removed faster than they can be opened.
        NotSupportedError: a table is made of files of another one.
        UnreachableError: a file may not be read.
    """
    if not root.is_dir():
        raise FolderMissingError(target=target, path=root)
    until, before = time.monotonic() + PATIENCE, ""
    while True:
        signals.check()
        found = Snapshot(root, target)
        seen = _seen(root)
        try:
            found.take(older=older)
        except (_GoneError, ManifestError) as error:
            found.close()
            told = str(error)
            if told == before and seen == _seen(root):  # nobody writes, and it is still not there
                raise CorruptError(target=target, reason=told) from error
            if time.monotonic() >= until:
                raise found._written() from error  # noqa: SLF001 - of this module
            before = told
        except BaseException:
            found.close()
            raise
        else:
            return found


def holds_tables(folder: Path) -> bool:
    """Whether a folder has a table in it."""
    try:
        return any(one.endswith(SUFFIX) and is_table(folder / one) for one in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def is_table(path: Path) -> bool:
    """Whether a folder is one of a table."""
    return not path.is_symlink() and os.path.isdir(path / VERSIONS)  # noqa: PTH112 - as above


def _seen(root: Path) -> Sequence[tuple[str, list[tuple[int, str]]]]:
    return [(name, _manifests(root / name)) for name in _names(root) if is_table(root / name)]


def _names(folder: Path, *, missing: bool = False) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
    except (FileNotFoundError, NotADirectoryError):
        if missing:
            return ()
        raise _GoneError(folder.name, "is missing") from None


def _hinted(table: Path) -> int:
    try:
        return hinted(atomic.read_whole(table / VERSIONS / HINT, LARGEST_HINT))
    except OSError:
        return 0


def _manifests(table: Path) -> list[tuple[int, str]]:
    """Return the manifests of a table by their versions, the newest first."""
    found = [
        (number, name)
        for name in _names(table / VERSIONS, missing=True)
        if (number := fragments.number_of(name)) is not None
    ]
    return sorted(found, reverse=True)


def _tagged(path: Path) -> tuple[int, bool]:
    """Return which version a tag names, and whether it is of a branch."""
    told = json.loads(atomic.read_whole(path, 1 << 16))
    return int(told["version"]), bool(told.get("branch"))


def _kept(descriptor: int, held: int) -> int | None:
    """Keep a file open, behind the descriptors that others look for below a thousand; None where no more may be.

    The limit of this process is raised as far as it may raise it itself.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    limit = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MOST_DESCRIPTORS)
    first = FIRST_DESCRIPTOR if limit >= 4 * FIRST_DESCRIPTOR else 0
    try:
        if held < limit - first - SPARE_DESCRIPTORS:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first)
    except OSError:  # the whole system has no more
        pass
    finally:
        os.close(descriptor)
    return None
