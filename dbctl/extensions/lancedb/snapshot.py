"""A snapshot of a folder of LanceDB tables: its files are open while the app writes, compacts and removes versions.

The files that a manifest names are never modified, and an open file remains readable after it was unlinked. So a snapshot
opens all files of the newest version of each table, which takes milliseconds. If a file disappears before it is opened,
there is a newer version, and the attempt is repeated. A snapshot writes nothing and leaves nothing after a crash.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors.connection import BusyError, CorruptError, FolderMissingError, UnreachableError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb import manifest
from dbctl.extensions.lancedb.location import MAX_MANIFEST_BYTES, SUFFIX, SYSTEM_FOLDER, LocalFiles
from dbctl.extensions.lancedb.manifest import VERSIONS_FOLDER, DataFile, History, Manifest, ManifestError
from dbctl.files import atomic
from dbctl.model import Struct, format_count, now

#: The first descriptor of a snapshot (``select`` does not support higher ones), the number reserved for others, and the limit.
FIRST_DESCRIPTOR, SPARE_DESCRIPTORS, MAX_DESCRIPTORS = 1024, 200, 1 << 20
#: Seconds after which repeated attempts end.
TIMEOUT = 30.0
TAGS_FOLDER = "_refs/tags"
BRANCHES_FOLDER = "tree"
EXTERNAL_FILES = "some of its files belong to another table"
#: What is wrong with the folder of a table that is elsewhere, for example on a disk that is not mounted.
LOST_LINK = "is a symbolic link to a folder that is missing"


class SnapshotFile(Struct, frozen=True, kw_only=True):
    name: str  #: relative to the folder of the tables
    path: Path
    stat: os.stat_result
    descriptor: int | None  #: None: the limit of open files is reached, so it is opened when it is read

    @property
    def size(self) -> int:
        return self.stat.st_size


class FileRemovedError(Exception):
    """A file is missing, or its size is wrong."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")


class Snapshot:
    """The files of the tables, most of them open, with the manifest of each table last. The caller closes it."""

    def __init__(self, root: Path, target: str) -> None:
        """Open no file yet; ``target`` is ``app/database``, for messages."""
        self.root, self._target = root, target
        self.files = list[SnapshotFile]()
        self._descriptors = list[int]()
        self.taken_at = now()
        self.tables = dict[str, Manifest]()  #: the copied version of each table
        self.folders, self.remarks = list[str](), list[str]()

    @property
    def rows(self) -> dict[str, int]:
        return {name: version.rows for name, version in self.tables.items()}

    @property
    def versions(self) -> dict[str, str]:
        """The version of each table, as metadata of a dump."""
        return {f"version of {name}": str(version.version) for name, version in self.tables.items()}

    def add_all(self, folder: str = "", *, allow_older: bool) -> None:
        """Add all tables and files of a folder; ``allow_older``: use an older version of a table if the newest is incomplete."""
        for name in _list_names(self.root / folder):
            if name == SYSTEM_FOLDER:
                continue
            child = f"{folder}/{name}" if folder else name
            path = self.root / child
            # a copy by another program may contain links to any place
            is_named = name.endswith(SUFFIX) and path.is_dir() and not path.is_symlink()
            if not folder and (is_named or is_table(path, follow_link=not allow_older)):
                self._add_table(name, allow_older=allow_older)
            elif path.is_symlink():
                if not folder and is_lost_link(path):
                    raise FileRemovedError(name, LOST_LINK)
                self.remarks.append(f"{child} is a symbolic link and was skipped")
            elif path.is_dir():
                self.folders.append(child)
                self.add_all(child, allow_older=allow_older)
            elif os.path.isfile(path):
                with suppress(FileRemovedError):
                    self.add(child)

    def _add_table(self, folder: str, *, allow_older: bool) -> None:
        """Add the newest version of a table, and its tags."""
        history = History(LocalFiles(self.root), folder)
        hint = history.read_hint()  # before the manifests, because the app may add versions
        # Twice: while the app adds a version and removes the others, a listing may contain neither (readdir of POSIX), and a backup
        # would lack the table.
        manifests = history.versions() or history.versions()
        newest = next(iter(manifests), 0)
        if manifests and (missing := describe_missing(hint, newest)):
            self.remarks.append(f"{folder}: {missing}")
        if not manifests:  # being created or removed; LanceDB cannot open it either
            if not allow_older and (loss := describe_loss(history)):
                raise FileRemovedError(folder, loss)
            self.remarks.append(f"{folder} has no version and was skipped")
            return
        failed: FileRemovedError | None = None
        for number, path in manifests.items():
            first_file = len(self.files)
            try:
                version = self._add_version(folder, path)
            except (FileRemovedError, ManifestError) as error:
                is_removed = isinstance(error, FileRemovedError)
                if not allow_older:
                    raise error if is_removed else ManifestError(f"{path}: {error}") from error
                self.remove_from(first_file)
                reason = error if is_removed else f"{Path(path).name}: {error}"
                failed = failed or FileRemovedError(
                    f"version {number} of {folder}", f"is incomplete: {reason}"
                )
                continue
            if failed:
                self.remarks.append(f"{failed}; version {version.version} is used")
            self.tables[folder.removesuffix(SUFFIX)] = version
            self._add_tags(folder, manifests, version.version)
            if (self.root / folder / BRANCHES_FOLDER).is_dir():
                self.remarks.append(f"{folder}: its branches were skipped")
            return
        raise failed or FileRemovedError(folder, "has no version")

    def _add_version(self, folder: str, name: str) -> Manifest:
        """Add all files of the version with this manifest, and the manifest last."""
        index = len(self.files)
        self.add(name)
        content = b"".join(self.blocks(self.files[index]))
        if len(content) > MAX_MANIFEST_BYTES:
            raise ManifestError("manifest too large")
        version = manifest.parse_version(content, Path(name).name)
        if version.is_branch:
            raise ManifestError("manifest of a branch")
        if version.is_external:
            raise NotSupportedError(
                feature=f"copying {self._target}",
                subject=f"{folder}: {EXTERNAL_FILES}",
                hint="Create a deep copy of the table first.",
            )
        file_names = {file.name for file in self.files}
        for data_file in self._version_files(folder, version):
            file_name = f"{folder}/{data_file.path}"
            if file_name not in file_names:
                file_names.add(file_name)
                self.add(file_name, data_file.bytes)
        if version.transaction:
            with suppress(FileRemovedError):
                self.add(f"{folder}/{version.transaction}")
        self.files.append(self.files.pop(index))  # last, in the order in which a table is written
        return version

    def _version_files(self, folder: str, version: Manifest) -> Iterator[DataFile]:
        """Yield the files of a version, including those that only their folder identifies: of indexes, and of blobs."""
        listed = list(version.files())
        yield from listed
        blob_folders = [file.path.removesuffix(SUFFIX) for file in listed if file.path.startswith("data/")]
        required = {index.folder for index in version.indexes if not index.files}
        for subfolder in (*(index.folder for index in version.indexes), *blob_folders):
            path = self.root / folder / subfolder
            try:
                names = sorted(os.listdir(path))  # noqa: PTH208 - names are enough
            except (FileNotFoundError, NotADirectoryError):
                if subfolder in required:
                    raise FileRemovedError(f"{folder}/{subfolder}", "is missing") from None
                continue
            for name in names:
                if not os.path.isdir(path / name):
                    yield DataFile(f"{subfolder}/{name}")

    def _add_tags(self, folder: str, manifests: Mapping[int, str], current_number: int) -> None:
        for name in _list_names(self.root / folder / TAGS_FOLDER, missing=True):
            first_file = len(self.files)
            try:
                number, branch = _read_tag(self.root / folder / TAGS_FOLDER / name)
                if number != current_number:
                    self._add_version(folder, "" if branch else manifests[number])
                self.add(f"{folder}/{TAGS_FOLDER}/{name}")
            except (
                FileRemovedError,
                ManifestError,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
                OSError,
            ):
                self.remove_from(first_file)
                self.remarks.append(f"{folder}: tag {name.removesuffix('.json')} was skipped")

    def close(self) -> None:
        """Close all files; may be called repeatedly."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def add(self, name: str, expected_size: int | None = None) -> None:
        """Open a file, with its path relative to the folder, and add it.

        Raises:
            FileRemovedError: it is missing, or has another size than ``expected_size``.
            UnreachableError: it cannot be opened.
        """
        path = self.root / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise FileRemovedError(name, "is missing") from error
            raise self._read_error(path, error) from error
        file_stat = os.fstat(descriptor)
        if not stat.S_ISREG(file_stat.st_mode):
            os.close(descriptor)
            raise FileRemovedError(name, "is not a file")
        if expected_size is not None and file_stat.st_size != expected_size:
            os.close(descriptor)
            raise FileRemovedError(name, f"has {file_stat.st_size:,} bytes and should have {expected_size:,}")
        reserved = _reserve_descriptor(descriptor, len(self._descriptors))
        if reserved is not None:
            self._descriptors.append(reserved)
        self.files.append(SnapshotFile(name=name, path=path, stat=file_stat, descriptor=reserved))

    def remove_from(self, first: int) -> None:
        """Close and remove the files from index ``first`` on."""
        for file in self.files[first:]:
            if file.descriptor is not None:
                self._descriptors.remove(file.descriptor)
                os.close(file.descriptor)
        del self.files[first:]

    def blocks(self, file: SnapshotFile) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            CorruptError: the file was truncated.
            BusyError: the file was not open and was removed.
        """
        descriptor, offset = file.descriptor, 0
        if descriptor is None:
            try:
                descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise pruned_error(self._target) from error
        try:
            while offset < file.size:
                signals.raise_if_interrupted()
                block = os.pread(descriptor, min(atomic.BLOCK, file.size - offset), offset)
                if not block:
                    raise CorruptError(target=self._target, reason=f"{file.name} was truncated")
                offset += len(block)
                yield block
        except OSError as error:
            raise self._read_error(file.path, error) from error
        finally:
            if file.descriptor is None:
                os.close(descriptor)

    @contextmanager
    def report_unreadable(self) -> Iterator[None]:
        """Raise UnreachableError for a folder or a file that this user may not read."""
        try:
            yield
        except OSError as error:
            raise self._read_error(Path(error.filename or self.root), error) from error

    def _read_error(self, path: Path, error: OSError) -> UnreachableError:
        return UnreachableError(
            target=self._target,
            reason=f"{path}: {error.strerror or error}",
            hint="Run dbctl as a user who may read all files of the database.",
        )


def pruned_error(target: str) -> BusyError:
    """Return the error for files that are removed faster than they can be copied."""
    return BusyError(
        target=target, holder=": versions are removed faster than they are read", waited=f"{TIMEOUT:g}"
    )


def _reserve_descriptor(descriptor: int, open_count: int) -> int | None:
    """Move a descriptor above those that ``select`` can use; return None and close it if the limit is reached.

    Raises the soft limit of this process to its hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    limit = MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MAX_DESCRIPTORS)
    first = FIRST_DESCRIPTOR if limit >= 4 * FIRST_DESCRIPTOR else 0
    try:
        if open_count < limit - first - SPARE_DESCRIPTORS:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first)
    except OSError:  # the limit of the whole system
        pass
    finally:
        os.close(descriptor)
    return None


def create_snapshot(root: Path, target: str, *, allow_older: bool = False) -> Snapshot:
    """Create a snapshot of the tables in the folder ``root``; nothing is written.

    With ``allow_older``, an older version of a table is used if the newest is incomplete, as in a copy by another program.

    Raises:
        FolderMissingError: the folder does not exist.
        CorruptError: the newest version of a table is incomplete, and no process is writing.
        BusyError: versions are removed faster than they can be opened.
        NotSupportedError: a table has files of another table.
        UnreachableError: a file cannot be read.
    """
    if not root.is_dir():
        raise FolderMissingError(target=target, path=root)
    deadline, last_reason = time.monotonic() + TIMEOUT, ""
    while True:
        signals.raise_if_interrupted()
        snapshot = Snapshot(root, target)
        with snapshot.report_unreadable():
            state = _folder_state(root)
        try:
            with snapshot.report_unreadable():
                snapshot.add_all(allow_older=allow_older)
        except (FileRemovedError, ManifestError) as error:
            snapshot.close()
            reason = str(error)
            # no process writes, and the file is still missing
            if reason == last_reason and state == _folder_state(root):
                raise CorruptError(target=target, reason=reason) from error
            if time.monotonic() >= deadline:
                raise pruned_error(target) from error
            last_reason = reason
        except BaseException:
            snapshot.close()
            raise
        else:
            return snapshot


def contains_tables(folder: Path) -> bool:
    try:
        return any(name.endswith(SUFFIX) and is_table(folder / name) for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def is_table(path: Path, *, follow_link: bool = False) -> bool:
    """Whether a folder is a table; ``follow_link``: also a symbolic link to one."""
    return (follow_link or not path.is_symlink()) and os.path.isdir(path / VERSIONS_FOLDER)


def is_lost_link(path: Path) -> bool:
    """Whether the folder of a table is a symbolic link to a missing one."""
    return path.name.endswith(SUFFIX) and path.is_symlink() and not path.exists()


def describe_loss(history: History) -> str:
    """Return that a table without a version had one, because each commit leaves a transaction; empty if its creation was not completed."""
    count = sum(path.startswith("_transactions/") for path in history.file_sizes())
    is_lost = count and not history.versions()
    return f"has no version in {VERSIONS_FOLDER}, but {format_count(count, 'transaction')}" if is_lost else ""


def describe_missing(hint: int, newest: int) -> str:
    """Return that the newest version at the last write, ``hint``, is missing; empty if it is not."""
    return f"version {hint} is missing: all changes since version {newest} are lost" if hint > newest else ""


def _folder_state(root: Path) -> Sequence[tuple[str, Mapping[int, str]]]:
    files = LocalFiles(root)
    names = [name for name in _list_names(root) if is_table(root / name, follow_link=True)]
    return [(name, History(files, name).versions()) for name in names]


def _list_names(folder: Path, *, missing: bool = False) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
    except (FileNotFoundError, NotADirectoryError):
        if missing:
            return ()
        raise FileRemovedError(folder.name, "is missing") from None


def _read_tag(path: Path) -> tuple[int, bool]:
    """Return the version of a tag, and whether it belongs to a branch."""
    tag = json.loads(atomic.read_whole(path, 1 << 16))
    return int(tag["version"]), bool(tag.get("branch"))
