"""What is wrong with vectors and keys, found batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import VectorFault
from dbctl.engines.lancedb.values import Row, rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: Rows that are told of each kind.
EXAMPLES = 3
KINDS = ("empty", "zeros", "endless", "length")


def vector_faults(batches: Iterator[pa.RecordBatch], column: str, key: Sequence[str]) -> list[VectorFault]:
    """Look at every vector; ``batches`` have it and the columns of ``key``."""
    numbers: Counter[str] = Counter()
    examples: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    lengths: Counter[int] = Counter()
    odd: dict[int, list[Row]] = {}
    for batch in batches:
        for kind, places in _found(batch.column(column)):
            numbers[kind] += len(places)
            wanted = places[: EXAMPLES - len(examples[kind])]
            examples[kind] += rows(batch.take(wanted), key) if wanted else []
        for length, places in _lengths(batch.column(column)):
            lengths[length] += len(places)
            kept = odd.setdefault(length, [])
            wanted = places[: EXAMPLES - len(kept)]
            kept += rows(batch.take(wanted), key) if wanted else []
    usual = max(lengths, key=lengths.__getitem__, default=0)
    for length, number in lengths.items():
        if length != usual:
            numbers["length"] += number
            examples["length"] += odd[length][: EXAMPLES - len(examples["length"])]
    return [
        VectorFault(kind=kind, number=numbers[kind], examples=examples[kind])  # type: ignore[arg-type]
        for kind in KINDS
        if numbers[kind]
    ]


def _found(column: pa.Array) -> Iterator[tuple[str, list[int]]]:
    import numpy as np
    import pyarrow.compute as pc

    null = pc.is_null(column).to_numpy(zero_copy_only=False)
    yield "empty", np.flatnonzero(null).tolist()
    finite, zeros = _judged(column, len(column))
    yield "endless", np.flatnonzero(~null & ~finite).tolist()
    yield "zeros", np.flatnonzero(~null & finite & zeros).tolist()


def _judged(column: pa.Array, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of each row whether every number is finite, and whether every number is 0."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        flat = column.flatten()
        if not flat.null_count:
            told = flat.to_numpy(zero_copy_only=False).reshape(number, column.type.list_size)
            return np.isfinite(told).all(axis=1), (told == 0).all(axis=1)
    finite, zeros = np.ones(number, bool), np.zeros(number, bool)
    for at, one in enumerate(column):
        if one.is_valid:
            told = np.asarray([np.nan if each is None else each for each in one.as_py()], dtype="f8")
            finite[at], zeros[at] = np.isfinite(told).all(), (told == 0).all()
    return finite, zeros


def _lengths(column: pa.Array) -> Iterator[tuple[int, list[int]]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(column.type):
        return
    told = pc.list_value_length(column).to_pylist()
    for length in {one for one in told if one is not None}:
        yield length, [at for at, one in enumerate(told) if one == length]
