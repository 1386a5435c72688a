"""A snapshot of a folder of LanceDB tables: its files are open while the app writes, compacts and removes versions.

The files that a manifest names are never modified, and an open file remains readable after it was unlinked. So a snapshot
opens all files of the newest version of each table, which takes milliseconds. If a file disappears before it is opened,
there is a newer version, and the attempt is repeated. A snapshot writes nothing and leaves nothing after a crash.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.lancedb.backup.open_files import (
    TIMEOUT,
    FileRemovedError,
    OpenFiles,
    SnapshotFile,
    pruned_error,
)
from dbctl.engines.lancedb.location import MAX_MANIFEST_BYTES, SUFFIX
from dbctl.engines.lancedb.storage import (
    HINT_FILE,
    VERSIONS_FOLDER,
    DataFile,
    Manifest,
    ManifestError,
    manifest,
)
from dbctl.errors import CorruptError, FolderMissingError, NotSupportedError
from dbctl.files import atomic
from dbctl.model import now

#: Bytes of a file with the number of a version.
MAX_HINT_BYTES = 1 << 12
TAGS_FOLDER = "_refs/tags"
BRANCHES_FOLDER = "tree"
EXTERNAL_FILES = "some of its files belong to another table"


class Snapshot:
    """The open files of the tables, with the manifest of each table last. The caller closes it."""

    def __init__(self, root: Path, target: str) -> None:
        """Open no file yet; ``target`` is ``app/database``, for messages."""
        self.root, self._target = root, target
        self.taken_at = now()
        self.tables = dict[str, Manifest]()  #: the copied version of each table
        self.folders, self.remarks = list[str](), list[str]()
        self._open_files = OpenFiles(root, target)

    @property
    def files(self) -> list[SnapshotFile]:
        """All files, in the order in which they are copied."""
        return self._open_files.files

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        return {name: version.rows for name, version in self.tables.items()}

    @property
    def versions(self) -> dict[str, str]:
        """The version of each table, as metadata of a dump."""
        return {f"version of {name}": str(version.version) for name, version in self.tables.items()}

    def close(self) -> None:
        """Close all files; may be called repeatedly."""
        self._open_files.close()

    def blocks(self, file: SnapshotFile) -> Iterator[bytes]:
        """Yield the content of a file; raises as ``OpenFiles.blocks``."""
        return self._open_files.blocks(file)

    def add_all(self, *, allow_older: bool) -> None:
        """Add all files; ``allow_older``: use an older version of a table if the newest is incomplete."""
        for name in _list_names(self.root):
            path = self.root / name
            if is_table(path):
                self._add_table(name, allow_older=allow_older)
            elif path.is_dir() and not path.is_symlink():
                self._add_folder(name)
            elif atomic.is_regular(path) and not path.is_symlink():
                with suppress(FileRemovedError):
                    self._open_files.add(name)

    def _add_folder(self, folder: str) -> None:
        """Add all files of a folder that is not a table."""
        self.folders.append(folder)
        for name in _list_names(self.root / folder):
            child = f"{folder}/{name}"
            path = self.root / child
            if path.is_symlink():
                continue
            if path.is_dir():
                self._add_folder(child)
            else:
                with suppress(FileRemovedError):
                    self._open_files.add(child)

    def _add_table(self, folder: str, *, allow_older: bool) -> None:
        """Add the newest version of a table, and its tags."""
        hint = _read_hint(self.root / folder)  # before the manifests, because the app may add versions
        manifests = _list_manifests(self.root / folder)
        newest = next(iter(manifests), 0)
        if manifests and hint > newest:
            self.remarks.append(
                f"{folder}: version {hint} is missing; {newest} is the newest remaining version"
            )
        if not manifests:  # being created or removed; LanceDB cannot open it either
            self.remarks.append(f"{folder} has no version and was skipped")
            return
        failed: FileRemovedError | None = None
        for number, name in manifests.items():
            first_file = len(self.files)
            try:
                version = self._add_version(folder, name)
            except (FileRemovedError, ManifestError) as error:
                if not allow_older:
                    raise
                self._open_files.remove_from(first_file)
                reason = error if isinstance(error, FileRemovedError) else f"{name}: {error}"
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

    def _add_version(self, folder: str, manifest_name: str) -> Manifest:
        """Add all files of a version, and its manifest last."""
        name = f"{folder}/{VERSIONS_FOLDER}/{manifest_name}"
        index = len(self.files)
        self._open_files.add(name)
        content = b"".join(self.blocks(self.files[index]))
        if len(content) > MAX_MANIFEST_BYTES:
            raise ManifestError("manifest too large")
        version = manifest.parse(content)
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
                self._open_files.add(file_name, data_file.bytes)
        if version.transaction:
            with suppress(FileRemovedError):
                self._open_files.add(f"{folder}/{version.transaction}")
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
                if not os.path.isdir(path / name):  # noqa: PTH112 - pathlib's version raises PermissionError
                    yield DataFile(f"{subfolder}/{name}")

    def _add_tags(self, folder: str, manifests: Mapping[int, str], current_number: int) -> None:
        for name in _list_names(self.root / folder / TAGS_FOLDER, missing=True):
            first_file = len(self.files)
            try:
                number, branch = _read_tag(self.root / folder / TAGS_FOLDER / name)
                if number != current_number:
                    self._add_version(folder, "" if branch else manifests[number])
                self._open_files.add(f"{folder}/{TAGS_FOLDER}/{name}")
            except (
                FileRemovedError,
                ManifestError,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
                OSError,
            ):
                self._open_files.remove_from(first_file)
                self.remarks.append(f"{folder}: tag {name.removesuffix('.json')} was skipped")


@contextmanager
def open_snapshot(root: Path, target: str, *, allow_older: bool = False) -> Iterator[Snapshot]:
    """Yield a snapshot, and close it at the end; raises as ``create_snapshot``."""
    snapshot = create_snapshot(root, target, allow_older=allow_older)
    try:
        yield snapshot
    finally:
        snapshot.close()


def create_snapshot(root: Path, target: str, *, allow_older: bool = False) -> Snapshot:
    """Create a snapshot of the folder ``root``; nothing is written.

    Args:
        root: the folder of the tables.
        target: ``app/database``, for messages.
        allow_older: use an older version of a table if the newest is incomplete, as in a copy by another program.

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
        state = _folder_state(root)
        try:
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
    """Whether a folder contains a table."""
    try:
        return any(name.endswith(SUFFIX) and is_table(folder / name) for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def is_table(path: Path) -> bool:
    """Whether a folder is a table."""
    return not path.is_symlink() and os.path.isdir(path / VERSIONS_FOLDER)  # noqa: PTH112 - pathlib's version raises PermissionError


def _folder_state(root: Path) -> Sequence[tuple[str, Mapping[int, str]]]:
    return [(name, _list_manifests(root / name)) for name in _list_names(root) if is_table(root / name)]


def _list_names(folder: Path, *, missing: bool = False) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
    except (FileNotFoundError, NotADirectoryError):
        if missing:
            return ()
        raise FileRemovedError(folder.name, "is missing") from None


def _read_hint(table: Path) -> int:
    try:
        return manifest.parse_hint(atomic.read_whole(table / VERSIONS_FOLDER / HINT_FILE, MAX_HINT_BYTES))
    except OSError:
        return 0


def _list_manifests(table: Path) -> Mapping[int, str]:
    """Return the manifests of a table by version, the newest first."""
    return manifest.list_manifests(_list_names(table / VERSIONS_FOLDER, missing=True))


def _read_tag(path: Path) -> tuple[int, bool]:
    """Return the version of a tag, and whether it belongs to a branch."""
    tag = json.loads(atomic.read_whole(path, 1 << 16))
    return int(tag["version"]), bool(tag.get("branch"))
