"""Swap two folders in one step, and recover from an interrupted swap.

The replaced folder is retained next to the database folder (``root``), with a name that identifies its backup. Before the
swap, the prepared folder has this name and contains a marker, so the state after a crash is unambiguous.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.dumps import LoadResult, StagedDump
from dbctl.errors.connection import CorruptError
from dbctl.extensions.lancedb import manifest
from dbctl.extensions.lancedb.location import MAX_MANIFEST_BYTES, LocalFiles
from dbctl.extensions.lancedb.manifest import HINT_FILE, History, ManifestError
from dbctl.extensions.lancedb.snapshot import is_table
from dbctl.files import atomic
from dbctl.files.lock import is_held

#: A file in a prepared folder.
MARKER = ".dbctl-waits"
#: Parts of the names of sibling folders, after the name of the database folder and ``.dbctl-``.
RETAINED, PARTIAL, REPLACED = "kept-", ".partial", ".away"
#: The temporary name of a manifest while it is written.
PARTIAL_MANIFEST = ".dbctl-manifest.partial"
#: The difference between the versions of the new and the replaced tables.
VERSION_GAP = 1_000_000
_AT_FDCWD, _EXCHANGE = -100, 2
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def sibling_path(root: Path, name: str) -> Path:
    """Return the path of a folder of dbctl next to ``root``."""
    return root.with_name(f".{root.name}.dbctl-{name}")


def free_sibling_path(root: Path, name: str) -> Path:
    """Return an unused sibling path, with a number if necessary: a clock that is set back repeats names."""
    folder, number = sibling_path(root, name), 2
    while os.path.lexists(folder):
        folder, number = sibling_path(root, f"{name}-{number}"), number + 1
    return folder


def is_prepared(folder: Path) -> bool:
    """Whether a sibling is a prepared folder that was not swapped.

    The marker contains the name of the prepared folder; a leftover marker in a folder with another name is ignored.
    """
    return _read_marker(folder)[1] == folder.name


def _read_marker(folder: Path) -> tuple[str, str]:
    """Return the previous name and the name as a prepared folder; both empty without a marker."""
    try:
        previous_name, _, prepared_name = (
            atomic.read_whole(folder / MARKER, 4096).decode(errors="replace").partition("\n")
        )
    except OSError:
        return "", ""
    return previous_name, prepared_name.strip()


def cancel_prepared(prepared: Path, folder: Path) -> None:
    """Restore the previous name of a prepared folder and remove its marker."""
    prepared.rename(folder)
    (folder / MARKER).unlink()
    atomic.sync_directory(prepared.parent)


def drop_prepared(prepared: Path, root: Path) -> None:
    """Remove a prepared folder, or restore its name if it is the retained folder of an earlier restore."""
    previous_name, _ = _read_marker(prepared)
    if (
        previous_name.startswith(sibling_path(root, RETAINED).name)
        and "/" not in previous_name
        and previous_name != prepared.name
    ):
        cancel_prepared(prepared, root.with_name(previous_name))
    else:
        remove(prepared)


def find_retained(root: Path, name: str) -> Path | None:
    """Return the path of a retained folder, even if it is prepared with another name, or None."""
    retained = root.with_name(name)
    if retained.is_dir():
        return retained
    return next(
        (folder for folder in list_siblings(root) if is_prepared(folder) and _read_marker(folder)[0] == name),
        None,
    )


def exchange(prepared: Path, root: Path) -> bool:
    """Swap the prepared folder and the database folder; return whether the latter existed.

    Raises:
        OSError: the swap failed; nothing was changed.
    """
    exists = os.path.lexists(root)
    if not exists:
        prepared.rename(root)
    elif not _exchange_names(prepared, root):
        replaced = prepared.with_name(f"{prepared.name}{REPLACED}")
        root.rename(replaced)
        try:
            prepared.rename(root)
        except OSError:
            replaced.rename(root)
            raise
        with suppress(OSError):  # ``complete_interrupted`` repeats it
            replaced.rename(prepared)
    return exists


def complete_interrupted(root: Path) -> None:
    """Complete or revert an interrupted swap of two steps."""
    for replaced in (folder for folder in list_siblings(root) if folder.name.endswith(REPLACED)):
        if os.path.lexists(root):
            replaced.rename(replaced.with_name(replaced.name.removesuffix(REPLACED)))
        else:
            replaced.rename(root)
        atomic.sync_directory(root.parent)


def is_unfinished(root: Path) -> bool:
    """Whether a swap was prepared or interrupted."""
    return any(is_prepared(folder) or folder.name.endswith(REPLACED) for folder in list_siblings(root))


def list_siblings(root: Path) -> Iterator[Path]:
    """Yield the folders of dbctl next to ``root``: retained, prepared, temporary and partial ones."""
    with suppress(OSError):  # opening the database reports an unreadable parent
        for name in sorted(os.listdir(root.parent)):  # noqa: PTH208 - names are enough
            folder = root.with_name(name)
            if name.startswith(f".{root.name}.dbctl-") and folder.is_dir() and not folder.is_symlink():
                yield folder


def remove(folder: Path) -> None:
    """Remove a sibling; renamed first, so that ``remove_leftovers`` completes an interrupted removal."""
    partial = folder.with_name(f"{folder.name.removesuffix(PARTIAL)}{PARTIAL}")
    if partial != folder:
        folder.rename(partial)
    shutil.rmtree(partial)


def remove_leftovers(root: Path) -> None:
    """Remove partial siblings and replaced folders that are not retained. The caller has the write lock.

    Temporary folders are skipped: the process that extracts an archive removes its own.
    """
    for folder in list_siblings(root):
        if folder.name.endswith(PARTIAL) or not folder.name.startswith(
            (f".{root.name}.dbctl-{RETAINED}", temp_prefix(root))
        ):
            with suppress(OSError):
                remove(folder)


def list_abandoned(root: Path) -> list[Path]:
    """Return the temporary and partial folders of dbctl processes that were killed.

    The caller ensures that no dbctl process is writing.
    """
    return [
        folder
        for folder in list_siblings(root)
        if folder.name.endswith(PARTIAL)
        or (folder.name.startswith(temp_prefix(root)) and not is_held(folder))
    ]


def temp_prefix(root: Path) -> str:
    """Return the start of the names of the temporary folders for ``root``."""
    return f".{root.name}.dbctl-new-"


def _exchange_names(first: Path, second: Path) -> bool:
    """Swap two names atomically; return False if the system does not support it."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE) == 0:
        return True
    error_number = ctypes.get_errno()
    if error_number in _UNSUPPORTED:
        return False
    raise OSError(error_number, os.strerror(error_number), str(second))


# Versions ----------------------------------------------------------------------------------------------------------


def raise_versions(folder: Path, root: Path, target: str, *, is_retained: bool) -> None:
    """Add one version with the same files to each table, with a number far above those of the replaced table.

    A process that has a table open creates its next version from the version that it read. If its number were the highest,
    this version would become the newest of the restored table and name files that do not exist. If its number is lower,
    LanceDB detects a conflict and reads the newest version. A damaged table of a retained folder
    remains as it was.

    Raises:
        CorruptError: a manifest cannot be read.
        OSError: a manifest cannot be written.
    """
    for table in sorted(folder.iterdir()):
        if not is_table(table):
            continue
        restored, existing = (History(LocalFiles(parent), table.name).versions() for parent in (folder, root))
        if not restored:
            continue
        newest = max(restored)
        number = max(newest, *existing, 0) + VERSION_GAP
        path = folder / restored[newest]
        try:
            content = manifest.renumber(atomic.read_whole(path, MAX_MANIFEST_BYTES), number)
        except ManifestError as error:
            if is_retained:
                continue
            raise CorruptError(target=target, reason=f"{table.name}: {path.name}: {error}") from error
        with suppress(FileNotFoundError):  # it contains the old number
            (path.parent / HINT_FILE).unlink()
        # A partial manifest with the final name would make the table unreadable.
        partial = folder / PARTIAL_MANIFEST
        partial.unlink(missing_ok=True)
        atomic.write_blocks(partial, [content])
        file_stat = path.stat()
        if os.geteuid() == 0:
            os.chown(partial, file_stat.st_uid, file_stat.st_gid)
        partial.chmod(file_stat.st_mode & 0o777)
        partial.rename(path.with_name(manifest.manifest_name(path.name, number)))
        atomic.sync_directory(path.parent)


#: The remark about processes with open files.
OPEN_FILES = "{names} had open files during the swap: restart these processes"


class UnchangedSwap(StagedDump):
    """A swap without work: an interrupted restore did not replace this database, and its prepared folder is the marker."""

    def __init__(self, root: Path, prepared: Path) -> None:
        self._root, self._prepared = root, prepared

    def swap(self) -> LoadResult:
        """Remove the prepared folder: all databases of the app are in their previous state."""
        remarks = []
        try:
            drop_prepared(self._prepared, self._root)
        except OSError as error:
            remarks.append(
                f"{self._prepared}, the prepared folder, could not be removed: {error.strerror or error}"
            )
        return LoadResult(method="in place", remarks=remarks)


class FolderSwap(StagedDump):
    """Swap the database folder with an extracted and verified, or a retained, folder; until the end, the replaced one remains."""

    can_revert = True

    def __init__(self, root: Path, folder: Path, describe_holders: Callable[[], str]) -> None:
        self._root, self._folder, self._describe_holders = root, folder, describe_holders
        self._prepared: Path | None = None
        self._old: Path | None = None  #: the replaced folder, or its place if there was none
        self._keeps_old = False
        self._remarks = list[str]()

    def write_marker(self, retained: Mapping[str, str]) -> None:
        """Rename the new folder, durably, to the name that the replaced folder will get."""
        name = retained.get("kept") or sibling_path(self._root, secrets.token_hex(4)).name
        self._keeps_old = bool(retained.get("kept"))
        prepared = self._root.with_name(name)
        with atomic.translate_errors(self._root.parent, self._root.parent):
            with atomic.write_atomically(self._folder / MARKER, replace=True) as mark:
                mark.write(f"{self._folder.name}\n{prepared.name}\n")
            self._folder.rename(prepared)
            self._prepared = prepared
            try:
                atomic.sync_directory(self._root.parent)
            except OSError:  # otherwise the folder would remain as the mark of an interrupted swap
                self.remove_marker()
                raise

    def remove_marker(self) -> None:
        """Restore the previous name of the new folder."""
        if self._prepared is not None:
            with suppress(OSError):  # a remaining folder is reported
                cancel_prepared(self._prepared, self._folder)
            self._prepared = None

    def swap(self) -> LoadResult:
        """Swap the folders in one step."""
        if self._prepared is None:
            raise RuntimeError("write_marker was not called")
        if os.path.lexists(self._root) and (names := self._describe_holders()):
            self._remarks.append(OPEN_FILES.format(names=names))
        with atomic.translate_errors(self._root.parent, self._root.parent), signals.block_signals():
            replaced = exchange(self._prepared, self._root)
            self._old, self._prepared = self._prepared, None
            with suppress(OSError):
                (self._root / MARKER).unlink()
            try:  # errors after the swap are only remarks
                atomic.sync_directory(self._root.parent)  # otherwise a power failure may revert the swap
            except OSError as error:
                self._keeps_old = True
                self._add_remark(error)
        return LoadResult(method="swapped" if replaced else "new", remarks=self._remarks)

    def revert(self) -> None:
        if self._old is None:
            raise RuntimeError("swap was not called")
        with atomic.translate_errors(self._root.parent, self._root.parent), signals.block_signals():
            if self._old.exists():
                exchange(self._old, self._root)
            else:
                self._root.rename(self._old)
            remove(self._old)

    def drop_old(self) -> None:
        """Remove the replaced folder, unless it is retained; an error is a remark, because the swap was made."""
        if self._old is not None and not self._keeps_old and self._old.exists():
            with signals.block_signals():
                try:
                    remove(self._old)
                except OSError as error:
                    self._add_remark(error)

    def _add_remark(self, error: OSError) -> None:
        self._remarks.append(f"{error.filename or self._root.parent}: {error.strerror or error}")
