"""Create and drop vector indexes."""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Mapping
from math import isqrt
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.vectors import (
    Metric,
    VectorColumn,
    VectorIndex,
    VectorIndexes,
    VectorIndexKind,
    VectorIndexSpec,
)
from dbctl.errors.connection import BusyError, ConcurrentChangeError
from dbctl.errors.databases import VectorIndexUnsuitableError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.extensions.lancedb.catalog import Catalog
from dbctl.extensions.lancedb.reader import LancePart
from dbctl.extensions.lancedb.vectors import LanceVectors

if TYPE_CHECKING:
    from lancedb.index import IndexConfig
    from lancedb.table import LanceTable


#: The minimum number of vectors for an index; product quantization fails with fewer.
MIN_VECTORS = 256
#: The minimum number of vectors per partition; the library silently creates fewer partitions for IVF-PQ otherwise.
#: A graph (HNSW) of a million vectors needs no partitions.
ROWS_PER_PARTITION: Mapping[VectorIndexKind, int] = {
    "ivf-flat": 32,
    "ivf-sq": 32,
    "ivf-pq": 256,
    "ivf-rq": 256,
    "ivf-hnsw-flat": 1_000_000,
    "ivf-hnsw-sq": 1_000_000,
    "ivf-hnsw-pq": 1_000_000,
}


class LanceVectorIndexes(LancePart, VectorIndexes):
    def create_vector_index(self, spec: VectorIndexSpec) -> VectorIndex:
        from lancedb import index

        column = LanceVectors(self._db).require_vector_column(spec.table, spec.column)
        partitions = self._require_valid_index(spec, column)
        kinds = {
            "ivf-flat": index.IvfFlat,
            "ivf-sq": index.IvfSq,
            "ivf-pq": index.IvfPq,
            "ivf-rq": index.IvfRq,
            "ivf-hnsw-flat": index.HnswFlat,
            "ivf-hnsw-sq": index.HnswSq,
            "ivf-hnsw-pq": index.HnswPq,
        }
        config = kinds[spec.kind](distance_type=spec.metric, num_partitions=partitions)
        change_table(
            self._catalog,
            spec.table,
            lambda handle: handle.create_index(
                spec.column, config=config, replace=True, name=spec.name or None
            ),
        )
        return next(
            index
            for index in self._db.vectors.vector_indexes(spec.table)
            if index.column == spec.column and spec.name in ("", index.name)
        )

    def drop_vector_index(self, table: str, name: str) -> None:
        if name not in {index.name for index in self._db.vectors.vector_indexes(table)}:
            raise SchemaMismatchError(
                target=self._target, missing=f"index {name} of {table}", purpose="dropping it"
            )
        change_table(self._catalog, table, lambda handle: handle.drop_index(name))

    def _require_valid_index(self, spec: VectorIndexSpec, column: VectorColumn) -> int:
        """Return the number of partitions of a new index.

        Raises:
            VectorIndexUnsuitableError: there are too few vectors, or they cannot be indexed.
        """
        if column.dimension is None:
            raise self._unsuitable(
                spec,
                "its vectors have no fixed length",
                "Let the app recreate the column with a fixed length.",
            )
        faults = {
            fault.kind: fault.count
            for fault in self._db.vectors.find_vector_faults(spec.table, spec.column, ())
        }
        rows = self._db.count(spec.table) - sum(faults.values())
        if faults.get("not-finite"):
            reason = f"{faults['not-finite']} of its vectors contain NaN, infinity or NULL"
            hint = "Delete these rows, or let the app recreate their vectors."
        elif rows < MIN_VECTORS:
            reason = f"it has {rows} vectors, fewer than {MIN_VECTORS}"
            hint = "Without an index, each search scans all rows, which is as fast."
        else:
            return min(isqrt(rows), max(1, rows // ROWS_PER_PARTITION[spec.kind]))
        raise self._unsuitable(spec, reason, hint)

    def _unsuitable(self, spec: VectorIndexSpec, reason: str, hint: str) -> VectorIndexUnsuitableError:
        name = f"{spec.table}.{spec.column}"
        return VectorIndexUnsuitableError(target=self._target, name=name, reason=reason, hint=hint)


def describe_index(table: str, index: VectorIndex) -> VectorIndexSpec:
    """Return the specification of an existing index."""
    # the library writes IVF_HNSW_SQ, or IvfHnswSq
    kinds = {kind.replace("-", ""): kind for kind in ROWS_PER_PARTITION}
    metrics: dict[str, Metric] = {"l2": "l2", "dot": "dot"}
    return VectorIndexSpec(
        table=table,
        column=index.column,
        name=index.name,
        metric=metrics.get(index.metric, "cosine"),
        kind=kinds.get(index.kind.replace("_", "").lower(), "ivf-flat"),
    )


def describe_other_index(description: IndexConfig) -> Mapping[str, object] | None:
    """Return the options that create an existing index that is not one of vectors again; None if the library has none for all of its details."""
    from lancedb import index

    kinds = {"BTree": index.BTree, "Bitmap": index.Bitmap, "LabelList": index.LabelList}
    if kind := kinds.get(description.index_type):
        return {"config": kind(), "name": description.name}
    if description.index_type != "FTS":
        return None
    details = {
        re.sub("^(min|max)_ngram", r"ngram_\1", name): value
        for name, value in (description.index_details or {}).items()
    }
    known = inspect.signature(index.FTS).parameters
    if any(value not in (False, None, "text") for name, value in details.items() if name not in known):
        return None
    config = index.FTS(**{name: value for name, value in details.items() if name in known})
    return {"config": config, "name": description.name}


def change_table(catalog: Catalog, table: str, change: Callable[[LanceTable], object]) -> None:
    """Change a table outside of a transaction; repeat it after a conflict with another writer until the timeout.

    Raises:
        BusyError: there was a conflict each time.
        VersionsTaggedError: versions to be pruned have a tag.
    """
    timeout = catalog.location.timeout
    deadline = time.monotonic() + timeout
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                catalog.open_newest(table)
                catalog.create_version(table, change)
                catalog.open_newest(table)
        except ConcurrentChangeError as error:
            if time.monotonic() > deadline:
                reason = " by another process that writes continuously"
                raise BusyError(target=catalog.target, holder=reason, waited=f"{timeout:g}") from error
            signals.raise_if_interrupted()
            continue
        catalog.forget()
        return
