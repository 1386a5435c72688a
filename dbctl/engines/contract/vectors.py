"""Contract: vector columns and indexes, for readers and writers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.engines.contract.database import Row, Where
from dbctl.model import Struct

if TYPE_CHECKING:
    from array import array

#: The distance of two vectors: ``cosine`` 0 to 2 (1 minus the cosine of the angle between them), ``l2`` the square of
#: the Euclidean distance, ``dot`` 1 minus the dot product.
Metric: TypeAlias = Literal["cosine", "l2", "dot"]

#: How an index stores vectors in its partitions: unchanged, quantized to one byte per number, product-quantized.
VectorIndexKind: TypeAlias = Literal[
    "ivf-flat", "ivf-sq", "ivf-pq", "ivf-rq", "ivf-hnsw-flat", "ivf-hnsw-sq", "ivf-hnsw-pq"
]


class VectorColumn(Struct, frozen=True, kw_only=True):
    table: str
    column: str
    dimension: int | None  #: length of the vectors; None: the column accepts vectors of any length
    type: str  #: as in ``Column.type``


class VectorFault(Struct, frozen=True, kw_only=True):
    """Rows whose vector cannot be searched, or gives meaningless distances."""

    #: ``empty``: NULL; ``zeros``: no direction, so cosine never finds it; ``not-finite``: a number is not finite; ``length``:
    #: another length than most vectors
    kind: Literal["empty", "zeros", "not-finite", "length"]
    count: int
    examples: Sequence[Row]  #: keys of the first rows


class VectorIndex(Struct, frozen=True, kw_only=True):
    """An approximate index: it finds near vectors without reading all, and may miss some."""

    name: str
    column: str
    kind: str  #: in the engine's words: IVF_PQ and similar
    metric: str  #: the metric of the index; empty if unknown
    rows: int  #: indexed rows
    unindexed_rows: int  #: newer rows, which a search reads one by one
    partitions: int | None  #: None if unknown
    bytes: int | None


class VectorIndexSpec(Struct, frozen=True, kw_only=True):
    """The definition of an index to create; it replaces one with its name."""

    table: str
    column: str
    name: str = ""  #: empty: the name that the engine gives to an index of the column
    metric: Metric = "cosine"
    kind: VectorIndexKind = "ivf-flat"


class Recall(Struct, frozen=True, kw_only=True):
    """The recall and speed of an index."""

    queries: int  #: number of searches with vectors of stored rows
    limit: int  #: neighbours of each search
    share: float  #: the share of the true neighbours that the index finds, from 0 to 1
    exact_ms: float  #: median milliseconds of a search that reads all rows
    index_ms: float  #: median milliseconds of a search with the index


class VectorSearch(ABC):
    """The part that searches vectors.

    Unknown tables, columns and wrong dimensions are refused before any query. All results are from the snapshot of the
    reader.
    """

    @abstractmethod
    def vector_columns(self, table: str) -> Sequence[VectorColumn]:
        """Return the columns with vectors, in the order of the table.

        Raises:
            SchemaMismatchError: the table does not exist.
        """

    @abstractmethod
    def find_nearest(
        self,
        table: str,
        vector: Sequence[float],
        columns: Sequence[str],
        *,
        column: str,
        limit: int,
        where: Sequence[Where] = (),
        metric: Metric = "cosine",
        exact: bool = True,
    ) -> list[Row]:
        """Return rows as ``select`` does, the nearest first, each followed by its distance; equal distances by key.

        ``where`` is applied first, so ``limit`` rows are returned if that many meet it. ``column`` has the vectors. An index
        for ``metric`` is used if there is one, unless ``exact``.

        Raises:
            SchemaMismatchError: the table or column does not exist, or has no vectors.
            ValueInvalidError: ``vector`` has another length, is not finite, or is zero and the metric needs a direction.
        """

    @abstractmethod
    def read_vector(self, table: str, key: Mapping[str, object], column: str) -> array[float] | None:
        """Return the vector of the first row with this key; None if it is NULL.

        Raises:
            RowNotFoundError: no row has the key.
        """

    @abstractmethod
    def stream_vectors(
        self, table: str, columns: Sequence[str], *, batch_size: int = 1000
    ) -> Iterator[list[Row]]:
        """Yield rows in batches, in the order in which they are stored; a column with vectors returns ``array``s.

        Other statements on the same database can run in the meantime.
        """

    @abstractmethod
    def find_vector_faults(self, table: str, column: str, key: Sequence[str]) -> Sequence[VectorFault]:
        """Check every vector; ``key`` are the columns of the examples."""

    @abstractmethod
    def vector_indexes(self, table: str) -> Sequence[VectorIndex]:
        """Return the vector indexes of a table; empty: every search reads all rows."""

    @abstractmethod
    def measure_recall(
        self, table: str, column: str, *, query_count: int = 100, limit: int = 10, metric: Metric = "cosine"
    ) -> Recall:
        """Run the same searches with and without the index, for vectors of rows from the whole table.

        Raises:
            SchemaMismatchError: the column has no index for this metric.
        """


class VectorIndexes(ABC):
    """The part of a writer that builds vector indexes. Index changes are not part of a transaction."""

    @abstractmethod
    def create_vector_index(self, spec: VectorIndexSpec) -> VectorIndex:
        """Create or rebuild an index, and return its actual definition.

        Raises:
            VectorIndexUnsuitableError: there are too few rows, or some vectors are invalid.
            BusyError: other processes wrote during all attempts.
        """

    @abstractmethod
    def drop_vector_index(self, table: str, name: str) -> None:
        """Drop an index; searches read all rows from then on."""
