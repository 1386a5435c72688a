"""A SQLite file as the target of a restore; it may be missing, or no longer be a database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from dbctl.engines.contract.dumps import (
    Dump,
    LoadRequest,
    LoadResult,
    RestoreStrategy,
    RetainedDatabase,
    TrialRestore,
)
from dbctl.engines.file_locks import write_lock
from dbctl.engines.sqlite.backup import block_writers, replace
from dbctl.engines.sqlite.backup.dumps import SQLiteDumps
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.engines.sqlite.files import list_files
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import atomic, mounts
from dbctl.files.atomic import is_regular
from dbctl.url import Url


class SQLiteRestoreTarget:
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
        return block_writers.block_writers(Path(os.path.realpath(self._path)), self._target, timeout=timeout)

    def strategy(self, dump: Dump) -> RestoreStrategy:
        del dump
        path = os.path.realpath(self._path)
        if os.path.lexists(path) and not is_regular(Path(path)):
            raise NotSupportedError(
                feature="restoring a backup",
                subject=f"{self._path}, which is not a regular file",
                hint="Nothing was changed. Choose a new file or a database.",
            )
        return RestoreStrategy(method="in place" if self.exists() else "new")

    def describe_retained(self, stamp: str) -> RetainedDatabase:
        raise RuntimeError(f"{self._target} has no retained database {stamp}")

    def prepare(self, request: LoadRequest) -> AbstractContextManager[None]:
        """Return an empty context: no preparation is necessary."""
        del request
        return nullcontext()

    def find_missing(self, retained: Sequence[Dump]) -> Sequence[str]:
        """Return nothing, because the safety backup of a file contains a copy."""
        del retained
        return ()

    def markers(self) -> Mapping[str, str]:
        try:
            with closing(SQLiteReader(self._path, self._target)) as reader:
                ((version,),) = reader.query("pragma schema_version")
        except DbctlError:  # missing or unreadable
            return {}
        # SQLite's backup interface increments the schema version of the database that it overwrites.
        return {"file": self.identity(), "schema_version": str(version)}

    def load(self, request: LoadRequest) -> LoadResult:
        return replace.replace_database(self._path, request, self._target)

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

    def drop_retained(self, retained: Mapping[str, str]) -> Sequence[str]:
        del retained
        return ()
