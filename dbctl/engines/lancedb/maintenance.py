"""Looking after a LanceDB that may be written: each is a change of its own, outside any transaction, and changes no row."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from math import isqrt
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.config import paths
from dbctl.engines.contract import Kind, Metric, Task, VectorColumn, VectorIndex, VectorIndexWanted
from dbctl.engines.file_locks import write_lock
from dbctl.engines.lancedb.location import Place
from dbctl.engines.lancedb.ownership import for_the_app
from dbctl.engines.lancedb.reader import LanceReader
from dbctl.errors import (
    BusyError,
    ChangedMeanwhileError,
    SchemaLacksError,
    UnreachableError,
    VectorIndexUnfitError,
)
from dbctl.files import lock as lockfile

if TYPE_CHECKING:
    from lancedb.table import LanceTable


#: Vectors below which an index is not worth its room: one of products knows none of them at all then.
FEWEST = 256
#: Vectors that each part of an index wants; of products the library quietly makes fewer parts otherwise.
ROWS_EACH: dict[Kind, int] = {"ivf-flat": 32, "ivf-sq": 32, "ivf-pq": 256}
#: Older than any version.
NEVER = timedelta(days=36500)


class LanceKeeper(LanceReader):
    """What a writer does for a table beside writing rows."""

    def maintain(self, task: Task) -> None:
        if task.statement.startswith("reindex "):
            for one in self.vector_indexes(task.table):
                self.make_vector_index(_like(task.table, one))
            return
        # The library puts together and takes away in one; an age that nothing has lets it take nothing away.
        age = NEVER if task.older_than is None else task.older_than
        self._tried(task.table, lambda one: one.optimize(cleanup_older_than=age))

    def make_vector_index(self, wanted: VectorIndexWanted) -> VectorIndex:
        from lancedb import index

        column = self._vectors(wanted.table, wanted.column)
        partitions = self._want_fit(wanted, column)
        kinds = {"ivf-flat": index.IvfFlat, "ivf-sq": index.IvfSq, "ivf-pq": index.IvfPq}
        told = kinds[wanted.kind](distance_type=wanted.metric, num_partitions=partitions)
        self._tried(wanted.table, lambda one: one.create_index(wanted.column, config=told, replace=True))
        return next(one for one in self.vector_indexes(wanted.table) if one.column == wanted.column)

    def drop_vector_index(self, table: str, name: str) -> None:
        if name not in {one.name for one in self.vector_indexes(table)}:
            raise SchemaLacksError(target=self.target, what=f"index {name} of {table}", purpose="dropping it")
        self._tried(table, lambda one: one.drop_index(name))

    def _want_fit(self, wanted: VectorIndexWanted, column: VectorColumn) -> int:
        """Return into how many parts the rows are put.

        Raises:
            VectorIndexUnfitError: they are too few, or no index can be made of them.
        """
        name = f"{wanted.table}.{wanted.column}"
        if column.dimension is None:
            raise VectorIndexUnfitError(
                target=self.target,
                name=name,
                reason="its vectors have no fixed length",
                instead="Let the app make the column anew.",
            )
        told = {one.kind: one.number for one in self.vector_faults(wanted.table, wanted.column, ())}
        rows = self.count(wanted.table) - sum(told.values())
        if told.get("endless"):
            reason = f"{told['endless']} of its vectors have NaN or infinity in them"
            raise VectorIndexUnfitError(
                target=self.target,
                name=name,
                reason=reason,
                instead="Delete these rows, or have their vectors made anew.",
            )
        most = rows // ROWS_EACH[wanted.kind]
        if rows < FEWEST:
            reason = f"it has {rows} vectors, and none is worth it below {FEWEST}"
            raise VectorIndexUnfitError(
                target=self.target,
                name=name,
                reason=reason,
                instead="Without one every search looks at every row, and takes no longer.",
            )
        if (wanted.partitions or 1) > most:
            reason = f"{wanted.partitions} partitions are more than {rows} vectors can be put into"
            raise VectorIndexUnfitError(
                target=self.target, name=name, reason=reason, instead=f"Ask for at most {most}."
            )
        return wanted.partitions or max(1, min(isqrt(rows), most))

    def _tried(self, table: str, change: Callable[[LanceTable], object]) -> None:
        """Do what changes no row, again where somebody else was quicker, as long as is waited for a lock.

        Raises:
            BusyError: somebody else was quicker all the time.
            VersionsKeptError: versions that would be taken away are kept by a name.
        """
        until = time.monotonic() + self._timeout
        while True:
            handle = self._handle(table)
            try:
                with self._told(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    handle.checkout_latest()
                    with for_the_app(self._place, table):
                        change(handle)
                    handle.checkout_latest()
            except ChangedMeanwhileError as error:
                if time.monotonic() > until:
                    told = " by somebody who writes all the time"
                    raise BusyError(target=self.target, holder=told, waited=f"{self._timeout:g}") from error
                signals.check()
                continue
            self._tables = None
            return


def _like(table: str, told: VectorIndex) -> VectorIndexWanted:
    """Return what asks for an index like one that is there."""
    kinds: dict[str, Kind] = {"IVF_SQ": "ivf-sq", "IVF_PQ": "ivf-pq"}
    metrics: dict[str, Metric] = {"l2": "l2", "dot": "dot"}
    return VectorIndexWanted(
        table=table,
        column=told.column,
        metric=metrics.get(told.metric, "cosine"),
        kind=kinds.get(told.kind, "ivf-flat"),
    )


def lock(place: Place, purpose: str) -> AbstractContextManager[None]:
    """Hold the lock of all dbctl writers, in a file beside the folder.

    Storage has no locks: there it holds for this user on this machine, and two that write at once from elsewhere meet in
    the library, which lets each version be made by one alone.

    Raises:
        BusyError: another dbctl held it for too long.
    """
    if place.folder is not None:
        return write_lock(place.folder, place.target, purpose, timeout=place.timeout)
    return _here(place, purpose)


@contextmanager
def _here(place: Place, purpose: str) -> Iterator[None]:
    name = hashlib.sha256(place.address.encode()).hexdigest()[:32]
    file = paths.staging() / f".dbctl-{os.geteuid()}-{name}.lock"
    try:
        with lockfile.exclusive(file, place.target, purpose, timeout=place.timeout):
            yield
    except lockfile.CannotLockError as error:
        raise UnreachableError(
            target=place.target, reason=f"its lock {file}: {error}", instead="Nothing was changed."
        ) from error
