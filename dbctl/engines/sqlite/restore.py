"""A SQLite file as the target of a restore: it may be missing, no longer be a database, or open in an app.

An open file is never replaced: the app would continue to write to the old file, and its commits would be lost without
an error. Instead, SQLite's backup interface writes the whole content in one transaction, so that readers see either the
old or the new content.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NoReturn

from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import (
    Dump,
    LoadRequest,
    LoadResult,
    RestoreStrategy,
    RestoreTarget,
    StagedDump,
    TrialRestore,
)
from dbctl.engines.file_locks import write_lock
from dbctl.engines.sqlite.connection import connect
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.engines.sqlite.dump import SQLiteDumps, block_writers, copy_database
from dbctl.engines.sqlite.errors import ErrorContext, get_error_name, translate_error
from dbctl.engines.sqlite.files import SIDE_FILES, list_files, list_partial_files, new_partial_path
from dbctl.engines.sqlite.replace_content import ContentReplacer, refuse_users, remove_files
from dbctl.engines.sqlite.write_connection import refuse_unsafe
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import NotADatabaseError, RoutedReadOnlyError
from dbctl.errors.databases import SameFileError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import atomic, mounts
from dbctl.progress import no_progress
from dbctl.url import Url


class _StagedFile(StagedDump):
    """A new file that is renamed."""

    can_revert = True

    def __init__(self, replacer: ContentReplacer, partial: Path, path: Path) -> None:
        self._replacer, self._partial, self._path = replacer, partial, path

    def swap(self) -> LoadResult:
        self._replacer.install(self._partial)
        return LoadResult(method="new")

    def revert(self) -> None:
        remove_files(self._path)


class _StagedContent(StagedDump):
    """A file that replaces the content of another one, which was copied, unless it is damaged."""

    def __init__(self, replacer: ContentReplacer, previous: ContentReplacer | None) -> None:
        self._replacer, self._previous = replacer, previous
        self.can_revert = previous is not None

    def swap(self) -> LoadResult:
        return self._replacer.replace_content()

    def revert(self) -> None:
        if self._previous is None:
            raise RuntimeError("it was not copied")
        self._previous.replace_content(refuses_changes=False)


def _copy_content(path: Path, destination: Path, context: ErrorContext) -> bool:
    """Copy a database into a new private file; return False if it is not one."""
    for leftover in list_partial_files(path):  # left by a dbctl that was killed
        leftover.unlink()
    try:
        with closing(connect(path, "mode=ro")) as source:
            copy_database(source, destination, no_progress)
    except sqlite3.Error as error:
        if get_error_name(error) != "SQLITE_NOTADB":
            raise translate_error(error, context) from error
        return False
    return True


class SQLiteRestoreTarget(RestoreTarget):
    """A SQLite file and its side files."""

    requires_load = False

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._target = path, target

    def exists(self) -> bool:
        return bool(self.files())

    def identity(self) -> str:
        path = os.path.realpath(self._path)
        try:
            status = os.stat(path)  # noqa: PTH116 - the path is a text
        except OSError:  # a missing file is identified by its path
            return path
        return f"{status.st_dev}:{status.st_ino}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._path)

    def has_content(self) -> bool:
        if not any(path.stat().st_size for path in self.files()):
            return False
        if not Path(self._path).exists():  # the log of a deleted file may have the only copy of its rows
            return True
        with closing(SQLiteReader(self._path, self._target)) as reader:
            return bool(reader.query("select 1 from sqlite_master limit 1"))

    def files(self) -> Sequence[Path]:
        return list_files(self._path)

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        path = Path(os.path.realpath(self._path))
        return write_lock(path, self._target, purpose, timeout=timeout)

    def require_space(self, required_bytes: int) -> None:
        folder = Path(os.path.realpath(self._path)).parent
        with atomic.translate_errors(folder, folder):
            mounts.require_space(folder, required_bytes)

    def block_writers(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        del dump
        return block_writers(Path(os.path.realpath(self._path)), self._target, timeout=timeout)

    def strategy(self, dump: Dump) -> RestoreStrategy:
        del dump
        path = os.path.realpath(self._path)
        reason = "is not a regular file" if os.path.lexists(path) and not os.path.isfile(path) else ""
        if any(path.endswith(end) and os.path.lexists(path.removesuffix(end)) for end in SIDE_FILES):
            reason = "SQLite uses and deletes with the database next to it"
        if reason:
            raise NotSupportedError(
                feature="restoring a backup",
                subject=f"{self._path}, which {reason}",
                hint="Nothing was changed. Choose a new file or a database.",
            )
        is_replaced = not os.path.lexists(path)
        if not is_replaced:
            try:
                with closing(SQLiteReader(self._path, self._target, timeout=0)) as reader:
                    reader.query("pragma schema_version")
            except DbctlError as error:
                is_replaced = isinstance(error, NotADatabaseError)
        if is_replaced:
            refuse_users(Path(path), self._target)
        return RestoreStrategy(method="in place" if self.exists() else "new")

    def markers(self) -> Mapping[str, str]:
        try:
            with closing(SQLiteReader(self._path, self._target)) as reader:
                ((version,),) = reader.query("pragma schema_version")
        except DbctlError:  # missing or unreadable
            return {}
        # SQLite's backup interface increments the schema version of the database that it overwrites.
        return {"file": self.identity(), "schema_version": str(version)}

    def load(self, request: LoadRequest) -> LoadResult:
        path, replacer = self._open_replacer(request)
        # An exception after the commit would hide it. Until then, each step of the copy ends after a signal.
        with signals.defer_signals():
            if not path.exists():
                return replacer.create(owner=path.parent.stat(), can_consume=request.can_consume)
            return replacer.replace_content()

    @contextmanager
    def stage(self, request: LoadRequest) -> Iterator[StagedDump]:
        path, replacer = self._open_replacer(request)
        if not path.exists():
            with replacer.build(owner=path.parent.stat(), can_consume=request.can_consume) as partial:
                yield _StagedFile(replacer, partial, path)
            return
        previous = new_partial_path(path)
        try:
            reverse = None
            if _copy_content(path, previous, replacer.context):
                _, reverse = self._open_replacer(structs.replace(request, path=previous))
            yield _StagedContent(replacer, reverse)
        finally:
            remove_files(previous)

    def _open_replacer(self, request: LoadRequest) -> tuple[Path, ContentReplacer]:
        path = Path(os.path.realpath(self._path))
        context = ErrorContext(target=self._target, path=path, timeout=request.timeout)
        if path.exists():
            if path.samefile(request.path):  # SQLite would never finish
                raise SameFileError(path=request.path)
            refuse_unsafe(path, self._target)
        return path, ContentReplacer(context, request)

    @contextmanager
    def restored_copy(self, request: LoadRequest) -> Iterator[Url]:
        """Yield the dump itself, which is a database in a private folder."""
        yield Url(engine="sqlite", path=str(request.path))

    @contextmanager
    def trial_restore(self, request: LoadRequest) -> Iterator[TrialRestore]:
        self.load(request)
        with closing(SQLiteReader(self._path, self._target, timeout=request.timeout)) as reader:
            verification = SQLiteDumps(reader).verify_dump(quick=False)
        yield TrialRestore(url=Url(engine="sqlite", path=str(self._path)), verification=verification)


class RemoteRestoreTarget(SQLiteRestoreTarget):
    """A file of another machine, which nothing replaces; a temporary copy of its dump needs nothing of it."""

    def __init__(self, url: Url, target: str) -> None:
        super().__init__(Path(url.path), target)
        self._url = url

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return str(self._url)

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._url)

    def has_content(self) -> bool:
        return True

    def files(self) -> Sequence[Path]:
        return ()

    def markers(self) -> Mapping[str, str]:
        return {}

    def _refuse(self, *_values: object, **_options: object) -> NoReturn:
        """Refuse a change.

        Raises:
            RoutedReadOnlyError: always.
        """
        raise RoutedReadOnlyError(target=self._target, path=self._url.path, via=self._url.via)

    lock = block_writers = require_space = strategy = load = _refuse
