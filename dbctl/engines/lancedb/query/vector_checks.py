"""Find faulty vectors, batch by batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.vectors import VectorFault
from dbctl.engines.lancedb.values import Row, to_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: Reported rows per kind of fault.
MAX_EXAMPLES = 3
KINDS = ("empty", "zeros", "not-finite", "length")


def find_faults(batches: Iterator[pa.RecordBatch], column: str, key: Sequence[str]) -> list[VectorFault]:
    """Return the faults of all vectors; ``batches`` have the vector column and the columns of ``key``."""
    counts: Counter[str | int] = Counter()  # by kind, or by length
    examples: defaultdict[str | int, list[Row]] = defaultdict(list)
    for batch in batches:
        vectors = batch.column(column)
        for kind, indexes in (*_classify_vectors(vectors), *_group_by_length(vectors)):
            counts[kind] += len(indexes)
            sampled = indexes[: MAX_EXAMPLES - len(examples[kind])]
            examples[kind] += to_rows(batch.take(sampled), key) if sampled else []
    lengths = [length for length in counts if isinstance(length, int)]
    usual_length = max(lengths, key=counts.__getitem__, default=0)
    for length in lengths:
        if length != usual_length:
            counts["length"] += counts[length]
            examples["length"] += examples[length][: MAX_EXAMPLES - len(examples["length"])]
    return [
        VectorFault(kind=kind, count=counts[kind], examples=examples[kind])  # type: ignore[arg-type]
        for kind in KINDS
        if counts[kind]
    ]


def _classify_vectors(column: pa.Array) -> Iterator[tuple[str | int, list[int]]]:
    import numpy as np
    import pyarrow.compute as pc

    is_null = pc.is_null(column).to_numpy(zero_copy_only=False)
    yield "empty", np.flatnonzero(is_null).tolist()
    is_finite, is_zero = _check_vectors(column, len(column))
    yield "not-finite", np.flatnonzero(~is_null & ~is_finite).tolist()
    yield "zeros", np.flatnonzero(~is_null & is_finite & is_zero).tolist()


def _check_vectors(column: pa.Array, row_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row whether all components are finite, and whether all are 0."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        flat = column.flatten()
        if not flat.null_count:
            matrix = flat.to_numpy(zero_copy_only=False).reshape(row_count, column.type.list_size)
            return np.isfinite(matrix).all(axis=1), (matrix == 0).all(axis=1)
    is_finite, is_zero = np.ones(row_count, bool), np.zeros(row_count, bool)
    for index, vector in enumerate(column):
        if vector.is_valid:
            matrix = np.asarray(
                [np.nan if component is None else component for component in vector.as_py()], dtype="f8"
            )
            is_finite[index], is_zero[index] = np.isfinite(matrix).all(), (matrix == 0).all()
    return is_finite, is_zero


def _group_by_length(column: pa.Array) -> Iterator[tuple[str | int, list[int]]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(column.type):
        return
    indexes_by_length: defaultdict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(pc.list_value_length(column).to_pylist()):
        if length is not None:
            indexes_by_length[length].append(index)
    yield from indexes_by_length.items()
