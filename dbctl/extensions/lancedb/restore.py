"""A folder of LanceDB tables as the target of a restore: it may be missing or damaged, and its writers cannot be blocked.

LanceDB has no locks, so a restore does not copy the folder first. It retains the folder next to the new one, with all
writes until the swap. The archive is extracted, read and compared in advance, so the swap itself is one step.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.dumps import (
    Dump,
    DumpVerification,
    LoadRequest,
    RestoreStrategy,
    RestoreTarget,
    RetainedDatabase,
    StagedDump,
    TrialRestore,
)
from dbctl.engines.file_locks import list_folder_users, write_lock
from dbctl.errors.backup import RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.connection import NotADatabaseError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb import swap
from dbctl.extensions.lancedb.dump import TOP_FOLDER, copy_ownership, verify_extracted
from dbctl.extensions.lancedb.location import find_folder
from dbctl.extensions.lancedb.swap import FolderSwap, UnchangedSwap
from dbctl.files import atomic, mounts, tar, temp
from dbctl.url import Url

NOT_REPLACED = "nothing to do: the interrupted restore did not replace it"


class LanceRestoreTarget(RestoreTarget):
    """A local folder of tables, which is retained as it is, even if it is damaged, with all writes.

    The name of the retained folder shows whether it was replaced.
    """

    requires_load = stages_early = True

    def __init__(self, url: Url, target: str) -> None:
        """Store the path; nothing is opened.

        Raises:
            NotSupportedError: the tables are in a bucket.
        """
        folder = find_folder(url, target)
        if folder is None:
            raise NotSupportedError(
                feature=f"backing up or restoring {target}",
                subject=f"{url}, which is not a local folder",
                hint="Enable versioning of the bucket, or copy it with the tools of the storage.",
            )
        self._url, self._target = url, target
        self._root = folder

    # State ---------------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        swap.complete_interrupted(self._root)
        return os.path.lexists(self._root)

    def identity(self) -> str:
        try:
            folder_stat = self._root.stat()
        except OSError:  # a missing folder is identified by its path
            return str(self._root)
        return f"{folder_stat.st_dev}:{folder_stat.st_ino}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._url)

    def has_content(self) -> bool:
        try:
            return any(True for _ in self._root.iterdir())
        except NotADirectoryError as error:
            raise NotADatabaseError(target=self._target, path=self._root, engine="LanceDB") from error
        except FileNotFoundError:
            return False

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        return write_lock(self._root, self._target, purpose, timeout=timeout)

    def require_space(self, required_bytes: int) -> None:
        with atomic.translate_errors(self._root.parent, self._root.parent):
            mounts.require_space(self._root.parent, required_bytes)

    def strategy(self, dump: Dump) -> RestoreStrategy:
        exists = self.exists()
        if exists:
            self._require_movable()
        if dump.form == "kept":
            retained = self._find_retained(dump)
            if retained is None:
                return RestoreStrategy(method="in place", steps=[NOT_REPLACED])
            steps = [f"swap {retained} and {self._root}"]
        else:
            last_step = "swap the two" if exists else "rename it"
            steps = [f"extract it next to {self._root}, read it completely, and {last_step}"]
        if exists and dump.form != "kept" and (links := self._find_links()):
            steps.append(f"warning: replace the linked {links} with folders on the disk of {self._root}")
        if exists and (names := self._describe_holders()):
            steps.append(f"warning: {names} has open files: stop the app, or restart it after the restore")
        return RestoreStrategy(
            method="swapped" if exists else "new", retains_previous=exists, steps=steps, location="next to it"
        )

    def _find_links(self) -> str:
        """Return the linked folders, joined: an archive has what they refer to, and the restored database no link."""
        return " and ".join(
            str(path.relative_to(self._root))
            for parent, folders, _ in os.walk(self._root)
            for path in (Path(parent, folder) for folder in sorted(folders))
            if path.is_symlink()
        )

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        root, retained = self._root, swap.free_sibling_path(self._root, f"{swap.RETAINED}{stamp}")
        quoted_root, quoted_retained = (shlex.quote(str(path)) for path in (root, retained))
        script = (
            f"# A restore retained the previous state of {self._target} in\n# {retained}\n"
            "# until the next restore. dbctl restore undo restores it; manually, while the app is stopped:\n"
            f"mv {quoted_root} {quoted_root}.restored\nmv {quoted_retained} {quoted_root}\n"
        )
        return RetainedDatabase(
            metadata={"kept": retained.name, "folder": str(root)},
            revert_script=script,
            script_suffix=".kept.sh",
        )

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        names = [dump.metadata.get("kept", "") for dump in retained]
        return [
            name for name in names if not name or "/" in name or swap.find_retained(self._root, name) is None
        ]

    def _find_retained(self, dump: Dump) -> Path | None:
        """Return the retained folder, or None if the swap that would have retained it did not happen.

        Raises:
            RetainedDatabaseMissingError: the folder does not exist.
        """
        swap.complete_interrupted(self._root)
        name = dump.metadata.get("kept", "")
        folder = swap.find_retained(self._root, name) if name and "/" not in name else None
        if folder is None:
            raise RetainedDatabaseMissingError(target=self._target, name=name)
        return None if folder.name == name and swap.is_prepared(folder) else folder

    def _require_movable(self) -> None:
        """Require a folder that can be renamed, owned by the user of this process or any user for root.

        Raises:
            NotSupportedError: it is a mount point.
            NotADatabaseError: it is not a folder.
            RestoreFailedError: it belongs to another user.
        """
        if not self._root.is_dir():
            raise NotADatabaseError(target=self._target, path=self._root, engine="LanceDB")
        if os.path.ismount(self._root):
            raise NotSupportedError(
                feature=f"restoring {self._target}",
                subject=f"{self._root}, which is a mount point and cannot be replaced",
                hint="Nothing was changed. Mount its parent folder instead, or restore into another one with --to.",
            )
        owner = self._root.stat().st_uid
        if os.geteuid() not in {0, owner}:
            raise RestoreFailedError(
                target=self._target,
                reason=f"{self._root} belongs to another user ({owner}), who could not write the restored files",
                hint="Run it as that user, or as root.",
            )

    def _describe_holders(self) -> str:
        """Return the processes with open files in the folder, as far as visible; may be empty."""
        try:
            processes = list_folder_users(self._root)
        except NotSupportedError:
            return ""
        return ", ".join(f"pid {process.pid} ({process.command})" for process in processes)

    # Restore -------------------------------------------------------------------------------------------------------

    @contextmanager
    def stage(self, request: LoadRequest) -> Iterator[StagedDump]:
        """Extract the dump next to the folder, read it completely and compare it with its checksums.

        Raises:
            RestoreFailedError: the content differs.
            DiskFullError, FileFailedError: it cannot be extracted.
            NotSupportedError, NotADatabaseError: the folder cannot be replaced.
        """
        with atomic.translate_errors(self._root.parent, self._root.parent), ExitStack() as stack:
            if self.exists():
                self._require_movable()
            swap.remove_leftovers(self._root)
            if request.dump.form != "kept":
                folder, _ = stack.enter_context(self._extract(request))
            elif retained := self._find_retained(request.dump):
                folder = retained
            else:
                yield UnchangedSwap(self._root, self._root.with_name(request.dump.metadata["kept"]))
                return
            is_retained = request.dump.form == "kept"
            swap.raise_versions(folder, self._root, self._target, is_retained=is_retained)
            staged = FolderSwap(self._root, folder, self._describe_holders)
            request.progress(1.0)
            signals.raise_if_interrupted()
            yield staged
            staged.drop_old()

    @contextmanager
    def trial_restore(self, request: LoadRequest) -> Iterator[TrialRestore]:
        """Yield a temporary folder with the content of an archive, next to the database."""
        with (
            atomic.translate_errors(self._root.parent, self._root.parent),
            self._extract(request) as (extracted, verification),
        ):
            yield TrialRestore(url=Url(engine="lancedb", path=str(extracted)), verification=verification)

    def drop_retained(self, is_dropped: Callable[[str], bool]) -> Sequence[str]:
        remarks = []
        for folder in swap.list_siblings(self._root):
            if folder.name.startswith(swap.temp_prefix(self._root)) or not is_dropped(folder.name):
                continue
            try:
                swap.remove(folder)
            except OSError as error:
                reason = error.strerror or error
                remarks.append(f"{folder}, retained by an earlier restore, could not be removed: {reason}")
        return remarks

    @contextmanager
    def _extract(self, request: LoadRequest) -> Iterator[tuple[Path, DumpVerification]]:
        """Extract an archive into a new folder next to the database, with its owner; yield the folder and its verification."""
        root, path = self._root, request.path
        with temp.folder(root.parent, swap.temp_prefix(root)) as temporary:
            tar.extract(path, temporary / "archive", name=path.name, max_bytes=path.stat().st_size)
            extracted = temporary / "archive" / TOP_FOLDER
            verification = verify_extracted(extracted, request.dump, self._target)
            copy_ownership(extracted, root if root.is_dir() else root.parent)
            yield extracted, verification
