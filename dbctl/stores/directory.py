"""A directory as a store: ``REPOSITORY/APP/FOLDER/FILE``, folders 0700 and files 0600."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors import FileUnsyncedError, RepositoryFailedError, RepositoryMissingError
from dbctl.files import atomic
from dbctl.files import lock as lockfile
from dbctl.stores import local
from dbctl.stores.base import LARGEST, LAST, LOCK, MARK, NOTE, SCRATCH, Kept, State, Told, digest, each_last


class Directory:
    """The backups of one app in a directory of this machine."""

    def __init__(self, repository: Path, app: str) -> None:
        self._repository, self._app = repository, app
        self._root = repository / app
        self.place = str(self._root)

    def folders(self) -> Mapping[str, State]:
        found = {}
        try:
            with os.scandir(self._root) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    if entry.name.startswith(SCRATCH) or not entry.is_dir(follow_symlinks=False):
                        continue
                    if state := self._state(entry.name):
                        found[entry.name] = state
        except FileNotFoundError as error:
            if not self._repository.is_dir():
                raise RepositoryMissingError(place=self._repository) from error
            return {}
        except OSError as error:
            raise local.failed(self.place, error) from error
        return found

    def _state(self, folder: str) -> State | None:
        """Return what stands in a folder; None where it is gone meanwhile."""
        try:
            names = set(os.listdir(self._root / folder))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return None
        except PermissionError:  # another user's; ``last`` tells so, and the others are not hidden by it
            return State.WHOLE
        if LAST in names:
            return State.WHOLE
        return State.INCOMPLETE if MARK in names or not names else State.FOREIGN

    def is_locked(self) -> bool:
        return lockfile.is_held(self._root / LOCK)

    def last(self, folder: str) -> bytes | None:
        return self._read(folder, LAST)

    def lasts(self, folders: Sequence[str]) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        return each_last(self, folders)

    def note(self, folder: str, text: str) -> None:
        with atomic.written_whole(self._root / folder / NOTE, replace=True, follow=False) as file:
            file.write(text)
            self._own(file.fileno())

    def noted(self, folder: str) -> bytes | None:
        return self._read(folder, NOTE)

    def _read(self, folder: str, name: str) -> bytes | None:
        try:
            return atomic.read_whole(self._root / folder / name, LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RepositoryFailedError(
                place=self.place, reason=f"{folder}/{name}: {error.strerror}"
            ) from error

    def files(self, folder: str) -> Mapping[str, int]:
        top, found = self._root / folder, {}
        try:
            for where, _folders, names in os.walk(top, onerror=_raise):
                for name in names:
                    path = Path(where, name)
                    told = path.lstat()
                    if stat.S_ISREG(told.st_mode):
                        found[str(path.relative_to(top))] = told.st_size
        except FileNotFoundError:  # another dbctl has pruned it meanwhile
            return {}
        except OSError as error:
            raise local.failed(self.place, error) from error
        return {name: size for name, size in sorted(found.items()) if name not in (LAST, MARK, NOTE)}

    def path(self, folder: str, name: str) -> Path | None:
        return self._root / folder / name

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        with local.translated(self.place):
            yield from atomic.blocks(self._root / folder / name)

    @contextmanager
    def opened(self, folder: str, name: str) -> Iterator[Path]:
        yield self._root / folder / name

    @contextmanager
    def scratch(self, need: int) -> Iterator[Path]:
        import tempfile

        from dbctl.files import temp

        # Beside the backups, where there is room for such files; one who may only read them does it elsewhere.
        writable = os.access(self._root, os.W_OK)
        place = self._root if writable else Path(tempfile.gettempdir())
        local.want_room(place, need)
        with ExitStack() as held:
            with local.translated(self.place):
                folder = held.enter_context(temp.folder(place, SCRATCH))
            yield folder

    @contextmanager
    def begin(self, folder: str) -> Iterator[Filling]:
        with local.translated(self.place):
            self._make_root()
        filling = Filling(self._root / folder)
        try:
            with local.translated(self.place):
                filling.begin()
                yield filling
        except BaseException:  # also on a signal: what is not whole must not stay
            filling.undo()
            raise
        if not filling.whole:
            raise RuntimeError(f"{folder} was not finished")

    def remove(self, folder: str) -> None:
        with local.translated(self.place):
            path = self._root / folder
            # The last file becomes the mark, so that a cut leaves a folder that calls itself incomplete. No file is
            # made for that: on a full disk this is how room comes.
            with suppress(FileNotFoundError):
                (path / LAST).rename(path / MARK)
            atomic.sync_directory(path)
            _remove(path)
            atomic.sync_directory(self._root)

    def want_room(self, need: int, *, aside: bool = True) -> None:
        del aside  # they are made where they rest
        local.want_room(self._nearest(), need)

    def room(self) -> int | None:
        return local.room(self._nearest())

    def _nearest(self) -> Path:
        """Return the folder that is there, of this one and those that it is to stand in."""
        return next(one for one in (self._root, *self._root.parents) if one.is_dir())

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        try:
            self._make_root()
        except OSError as error:
            raise local.failed(self.place, error) from error
        try:
            with lockfile.exclusive(
                self._root / LOCK, self.place, purpose, timeout=timeout, prepare=self._own
            ):
                self._remove_leftovers()
                yield
        except lockfile.CannotLockError as error:
            raise RepositoryFailedError(place=self.place, reason=f"its lock: {error}") from error

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left: scratch folders, and marks of folders that are whole."""
        from dbctl.files import temp

        temp.sweep(self._root, SCRATCH)
        for mark in self._root.glob(f"*/{MARK}"):
            if (mark.parent / LAST).exists():
                _settle(mark.parent)

    def _make_root(self) -> None:
        """Make the repository where it is missing, but not what it stands in: that may be a disk not mounted."""
        try:
            self._repository.mkdir(mode=0o700)
            _give(self._repository, self._repository.parent.stat(), empty=True)
            atomic.sync_directory(self._repository.parent)
        except FileExistsError:
            pass
        told = self._repository.stat()
        if not stat.S_ISDIR(told.st_mode):
            raise NotADirectoryError(20, "it is not a directory")
        local.refuse_open(self._repository, told)
        try:
            self._root.mkdir(mode=0o700)
            _give(self._root, told, empty=True)
            atomic.sync_directory(self._repository)
        except FileExistsError:
            found = self._root.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(20, "it is not a directory") from None
            local.refuse_open(self._root, found)

    def _own(self, descriptor: int) -> None:
        """Give an open file that root has made to the owner of the backups."""
        like = self._root.stat()
        if os.geteuid() == 0:
            with suppress(OSError):  # as for a folder
                os.fchown(descriptor, like.st_uid, like.st_gid)


class Filling:
    """A folder of a directory that is being filled."""

    def __init__(self, path: Path) -> None:
        self._path, self._ours = path, False
        self.whole = False

    def begin(self) -> None:
        """Make it, and mark it."""
        with signals.held():  # or a signal could come between the folder and the knowledge that it is ours
            self._path.mkdir(mode=0o700)
            self._ours = True
            _mark(self._path)
            atomic.sync_directory(self._path.parent)
        signals.check()

    def undo(self) -> None:
        """Remove what was begun and is not whole."""
        if self._ours and not self.whole:
            with suppress(OSError):
                _remove(self._path)

    def place(self, name: str) -> Path:
        path = self._path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def keep(self, name: str, sha256: str = "") -> Kept:
        path = self._path / name
        atomic.sync_file(path)
        kept = Kept(bytes=path.lstat().st_size, sha256=sha256) if sha256 else digest(atomic.blocks(path))
        atomic.sync_directory(path.parent)
        return kept

    def write(self, name: str, blocks: Iterable[bytes], size: int) -> Kept:
        del size  # what does not fit is told by the disk
        path, told = self.place(name), Told(blocks)
        atomic.filled(path, told)
        atomic.sync_directory(path.parent)
        return told.kept

    def drop(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def finish(self, text: str) -> None:
        try:
            # The folder is ours alone. One rename it must be, for a file beside a manifest is part of the backup.
            with atomic.written_whole(self._path / LAST, replace=True, follow=False) as file:
                file.write(text)
        except FileUnsyncedError as error:  # it goes again with all the rest
            raise RepositoryFailedError(place=self._path, reason=error.facts["reason"]) from error
        self.whole = True
        _settle(self._path)


def _settle(folder: Path) -> None:
    """Do what remains once a folder has its last file: with that it is whole for good, and its mark says nothing."""
    with suppress(OSError):
        _give(folder, folder.parent.stat())
        (folder / MARK).unlink()
        atomic.sync_directory(folder)


def _raise(error: OSError) -> None:
    raise error


def _give(folder: Path, like: os.stat_result, *, empty: bool = False) -> None:
    """Give what root has made, a folder and its files, to the owner of what it was made in.

    Else one backup that root makes, as it does before a restore, is one that the owner's next prune cannot read. One that
    was just made is ``empty``: whoever may rename it could have put another folder of root's in its place.
    """
    if os.geteuid() != 0:
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(opened).st_uid == 0:  # else it is not the one that was made
            with suppress(OSError):  # some file systems know no owners
                names = os.listdir(opened)  # noqa: PTH208 - not of a path
                if empty and names:
                    return
                for name in names:
                    os.chown(name, like.st_uid, like.st_gid, dir_fd=opened, follow_symlinks=False)
                os.fchown(opened, like.st_uid, like.st_gid)
    finally:
        os.close(opened)


def _mark(folder: Path) -> None:
    os.close(os.open(folder / MARK, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    atomic.sync_directory(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, its mark last."""
    import shutil

    for entry in sorted(folder.iterdir(), key=lambda one: one.name == MARK):
        if stat.S_ISDIR(entry.lstat().st_mode):
            shutil.rmtree(entry)
        else:
            entry.unlink()
    folder.rmdir()
