"""Vectors beside rows: what every engine answers that keeps them, and what their writers do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.engines.contract.conditions import Where
from dbctl.model import Value

if TYPE_CHECKING:
    from array import array

Row: TypeAlias = tuple[object, ...]
#: How far two vectors are from each other: ``cosine`` 0 to 2 (1 less the cosine of the angle between them), ``l2`` the
#: square of the distance, ``dot`` 1 less their product.
Metric: TypeAlias = Literal["cosine", "l2", "dot"]

#: How an index keeps vectors beside the parts that it puts them into: as they are, in a byte for each number, in products.
Kind: TypeAlias = Literal["ivf-flat", "ivf-sq", "ivf-pq"]


class VectorColumn(Value, frozen=True, kw_only=True):
    """A column that holds a vector in each row."""

    table: str
    column: str
    dimension: int | None  #: numbers in each; None: the column takes vectors of any length
    type: str  #: as ``Column.type`` tells it


class VectorFault(Value, frozen=True, kw_only=True):
    """Rows whose vector nothing finds, or what it finds means nothing."""

    #: ``empty``: it has none; ``zeros``: it has no direction, so that cosine never finds it; ``endless``: not every number
    #: of it is finite; ``length``: it is of another length than most
    kind: Literal["empty", "zeros", "endless", "length"]
    number: int
    examples: Sequence[Row]  #: keys of the first of them


class VectorIndex(Value, frozen=True, kw_only=True):
    """An index that finds near vectors without looking at all of them, and may miss some."""

    name: str
    column: str
    kind: str  #: in the engine's words: IVF_PQ and the like
    metric: str  #: what it was made for; empty where the engine does not tell
    rows: int  #: that it knows
    beside: int  #: rows that came since, through which a question looks one by one
    partitions: int | None  #: None where the engine does not tell
    bytes: int | None


class VectorIndexWanted(Value, frozen=True, kw_only=True):
    """What is asked for when an index is made."""

    table: str
    column: str
    metric: Metric = "cosine"
    kind: Kind = "ivf-flat"
    partitions: int | None = None  #: None: as many as suit the rows


class Recall(Value, frozen=True, kw_only=True):
    """How much of what is nearest an index finds."""

    asked: int  #: questions: vectors of rows, asked for their neighbours
    top: int  #: neighbours of each
    found: float  #: the share of the true ones that the index found too, from 0 to 1
    exact_ms: float  #: milliseconds of a question that looks at every row; the median
    index_ms: float  #: and through the index


@runtime_checkable
class Vectors(Protocol):
    """Capability.VECTORS.

    A table, a column or a dimension that is none is refused before anything is asked. All of it is of the one moment of
    which the reader tells.
    """

    def vector_columns(self, table: str) -> Sequence[VectorColumn]:
        """Return the columns that hold vectors, in the order of the table.

        Raises:
            SchemaLacksError: no such table.
        """
        ...

    def nearest(
        self,
        table: str,
        vector: Sequence[float],
        columns: Sequence[str],
        *,
        column: str,
        top: int,
        where: Sequence[Where] = (),
        metric: Metric = "cosine",
        exact: bool = True,
    ) -> list[Row]:
        """Return rows as ``select`` does, the nearest first, each with its distance behind; equal ones by key.

        ``where`` is looked at first, so that ``top`` rows come wherever so many meet it.

        Args:
            table: where to look.
            vector: what to look for.
            columns: what to tell of each row.
            column: the one that holds the vectors.
            top: how many rows, at most.
            where: what they have to meet besides.
            metric: how distances are measured; an index that was made for another one is passed by.
            exact: whether to look at every row, or through an index where there is one.

        Raises:
            SchemaLacksError: no such table or column, or it holds no vectors.
            ValueInvalidError: ``vector`` is of another length, not finite, or without a direction where that counts.
        """
        ...

    def vector_of(self, table: str, key: Mapping[str, object], column: str) -> array[float] | None:
        """Return the vector of the first row with this key; None where it has none.

        Raises:
            RowAbsentError: no row has the key.
        """
        ...

    def vector_stream(
        self, table: str, columns: Sequence[str], *, where: Sequence[Where] = (), batch: int = 1000
    ) -> Iterator[list[Row]]:
        """Yield rows in the order in which they are stored, in memory for one batch; a column of vectors gives ``array``s.

        No statement on the same database need wait for its end.
        """
        ...

    def vector_faults(self, table: str, column: str, key: Sequence[str]) -> Sequence[VectorFault]:
        """Look at every vector; ``key`` names the columns of the examples."""
        ...

    def vector_indexes(self, table: str) -> Sequence[VectorIndex]:
        """Return the indexes of the vectors of a table; empty: every question looks at every row."""
        ...

    def vector_recall(
        self, table: str, column: str, *, asked: int = 100, top: int = 10, metric: Metric = "cosine"
    ) -> Recall:
        """Ask the same with and without the index, for vectors of rows from all over the table.

        Raises:
            SchemaLacksError: there is no index on the column for this metric.
        """
        ...


@runtime_checkable
class MakesVectors(Protocol):
    """Capability.VECTORS of a writer. An index is a change of its own, outside any transaction."""

    def make_vector_index(self, wanted: VectorIndexWanted) -> VectorIndex:
        """Make an index, or make it anew, and return what was really made.

        Raises:
            VectorIndexUnfitError: there are too few rows for it, or not every vector is sound.
            BusyError: somebody else wrote all the time.
        """
        ...

    def drop_vector_index(self, table: str, name: str) -> None:
        """Take an index away; questions look at every row from then on."""
        ...
