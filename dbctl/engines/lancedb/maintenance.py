"""Maintenance of a LanceDB: tasks run outside of transactions and change no rows."""

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
from dbctl.engines.contract import (
    MaintenanceTask,
    Metric,
    VectorColumn,
    VectorIndex,
    VectorIndexKind,
    VectorIndexSpec,
)
from dbctl.engines.file_locks import write_lock
from dbctl.engines.lancedb.location import Location
from dbctl.engines.lancedb.ownership import match_owner
from dbctl.engines.lancedb.reader import LanceReader
from dbctl.errors import (
    BusyError,
    ConcurrentChangeError,
    SchemaMismatchError,
    UnreachableError,
    VectorIndexUnsuitableError,
)
from dbctl.files import lock as file_lock

if TYPE_CHECKING:
    from lancedb.table import LanceTable


#: The minimum number of vectors for an index; product quantization fails with fewer.
MIN_VECTORS = 256
#: The minimum number of vectors per partition; the library silently creates fewer partitions for IVF-PQ otherwise.
ROWS_PER_PARTITION: dict[VectorIndexKind, int] = {"ivf-flat": 32, "ivf-sq": 32, "ivf-pq": 256}
#: An age greater than that of any version.
KEEP_ALL = timedelta(days=36500)


class LanceMaintenance(LanceReader):
    """Maintenance tasks and vector indexes of a writer."""

    def maintain(self, task: MaintenanceTask) -> None:
        if task.statement.startswith("reindex "):
            for index in self.vector_indexes(task.table):
                self.create_vector_index(_to_spec(task.table, index))
            return
        # ``optimize`` always compacts and prunes; with ``KEEP_ALL`` it prunes nothing.
        age = KEEP_ALL if task.older_than is None else task.older_than
        self._retry_on_conflict(task.table, lambda handle: handle.optimize(cleanup_older_than=age))

    def create_vector_index(self, spec: VectorIndexSpec) -> VectorIndex:
        from lancedb import index

        column = self._require_vector_column(spec.table, spec.column)
        partitions = self._require_valid_index(spec, column)
        kinds = {"ivf-flat": index.IvfFlat, "ivf-sq": index.IvfSq, "ivf-pq": index.IvfPq}
        config = kinds[spec.kind](distance_type=spec.metric, num_partitions=partitions)
        self._retry_on_conflict(
            spec.table, lambda handle: handle.create_index(spec.column, config=config, replace=True)
        )
        return next(index for index in self.vector_indexes(spec.table) if index.column == spec.column)

    def drop_vector_index(self, table: str, name: str) -> None:
        if name not in {index.name for index in self.vector_indexes(table)}:
            raise SchemaMismatchError(
                target=self.target, missing=f"index {name} of {table}", purpose="dropping it"
            )
        self._retry_on_conflict(table, lambda handle: handle.drop_index(name))

    def _require_valid_index(self, spec: VectorIndexSpec, column: VectorColumn) -> int:
        """Return the number of partitions of a new index.

        Raises:
            VectorIndexUnsuitableError: there are too few vectors, or they cannot be indexed.
        """
        name = f"{spec.table}.{spec.column}"
        if column.dimension is None:
            raise VectorIndexUnsuitableError(
                target=self.target,
                name=name,
                reason="its vectors have no fixed length",
                hint="Let the app recreate the column with a fixed length.",
            )
        faults = {fault.kind: fault.count for fault in self.find_vector_faults(spec.table, spec.column, ())}
        rows = self.count(spec.table) - sum(faults.values())
        if faults.get("not-finite"):
            reason = f"{faults['not-finite']} of its vectors contain NaN or infinity"
            raise VectorIndexUnsuitableError(
                target=self.target,
                name=name,
                reason=reason,
                hint="Delete these rows, or let the app recreate their vectors.",
            )
        max_partitions = rows // ROWS_PER_PARTITION[spec.kind]
        if rows < MIN_VECTORS:
            reason = f"it has {rows} vectors, fewer than {MIN_VECTORS}"
            raise VectorIndexUnsuitableError(
                target=self.target,
                name=name,
                reason=reason,
                hint="Without an index, each search scans all rows, which is as fast.",
            )
        if (spec.partitions or 1) > max_partitions:
            reason = f"{spec.partitions} partitions are too many for {rows} vectors"
            raise VectorIndexUnsuitableError(
                target=self.target, name=name, reason=reason, hint=f"Use at most {max_partitions}."
            )
        return spec.partitions or max(1, min(isqrt(rows), max_partitions))

    def _retry_on_conflict(self, table: str, change: Callable[[LanceTable], object]) -> None:
        """Run a maintenance task; repeat it after a conflict with another writer until the timeout.

        Raises:
            BusyError: there was a conflict each time.
            VersionsTaggedError: versions to be pruned have a tag.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            handle = self._handle(table)
            try:
                with self._translate_errors(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    handle.checkout_latest()
                    with match_owner(self._location, table):
                        change(handle)
                    handle.checkout_latest()
            except ConcurrentChangeError as error:
                if time.monotonic() > deadline:
                    reason = " by another process that writes continuously"
                    raise BusyError(target=self.target, holder=reason, waited=f"{self._timeout:g}") from error
                signals.raise_if_interrupted()
                continue
            self._tables = None
            return


def _to_spec(table: str, index: VectorIndex) -> VectorIndexSpec:
    """Return the specification of an existing index."""
    kinds: dict[str, VectorIndexKind] = {"IVF_SQ": "ivf-sq", "IVF_PQ": "ivf-pq"}
    metrics: dict[str, Metric] = {"l2": "l2", "dot": "dot"}
    return VectorIndexSpec(
        table=table,
        column=index.column,
        metric=metrics.get(index.metric, "cosine"),
        kind=kinds.get(index.kind, "ivf-flat"),
    )


def lock(location: Location, purpose: str) -> AbstractContextManager[None]:
    """Acquire the lock of dbctl writers, a file next to the folder.

    A bucket has no locks: its lock covers this user on this machine. If two machines write concurrently, the library lets
    only one of them create each version.

    Raises:
        BusyError: another dbctl process held the lock until the timeout.
    """
    if location.folder is not None:
        return write_lock(location.folder, location.target, purpose, timeout=location.timeout)
    return _hold_local_lock(location, purpose)


@contextmanager
def _hold_local_lock(location: Location, purpose: str) -> Iterator[None]:
    name = hashlib.sha256(location.address.encode()).hexdigest()[:32]
    file = paths.default_staging_folder() / f".dbctl-{os.geteuid()}-{name}.lock"
    try:
        with file_lock.exclusive(file, location.target, purpose, timeout=location.timeout):
            yield
    except file_lock.CannotLockError as error:
        raise UnreachableError(
            target=location.target, reason=f"its lock {file}: {error}", hint="Nothing was changed."
        ) from error
