"""Indexes that find words: what every engine answers that has them, and what their writers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.engines.contract.conditions import Order, Where
from dbctl.engines.contract.reader import Explanation
from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract.text_query import TextQuery

#: ``find``: it finds every row that a query means, and perhaps others. ``rank``: it only tells how well a row fits.
IndexUse: TypeAlias = Literal["find", "rank", "none"]


class Link(Value, frozen=True):
    """One step of a path: rows of ``table`` whose ``to`` is the ``column`` of the row before."""

    column: str
    table: str
    to: str


class Gathered(Value, frozen=True, kw_only=True):
    """Text of other rows that belongs to a row: all values of ``column`` at the end of ``path``."""

    name: str
    path: Sequence[Link]
    column: str


class Marked(Value, frozen=True, kw_only=True):
    """A row that says that the index is there; its table is made where it is missing."""

    table: str
    key: str
    value: str
    name: str


class TextIndex(Value, frozen=True, kw_only=True):
    """An index of words as it should be. Some engines keep one as a table of its own, others as an index."""

    table: str  #: the one that is searched
    id: str
    columns: Sequence[str]
    index: str  #: what an index is called
    own_table: str  #: what a table of its own is called
    key: str  #: the column of such a table that holds the id
    gathered: Sequence[Gathered]  #: further columns of such a table
    beside: Sequence[
        str
    ] = ()  #: columns of ``table`` that such a table holds, too, where no word is looked for
    order: Sequence[
        str
    ] = ()  #: the columns of such a table, in the order that the app counts on; none: the key first
    tokenize: str = ""  #: how such a table cuts text into words, in the engine's own terms
    blocks: Sequence[
        str
    ] = ()  #: those of ``columns`` that may hold a JSON array of blocks, of which the texts count alone
    triggers: (
        str  #: pattern of the names of triggers that keep such a table: ``{index}``, ``{table}``, ``{event}``
    )
    language: str
    mark: Marked | None


class IndexState(Value, frozen=True, kw_only=True):
    """Whether words can be looked for in an index."""

    name: str
    state: Literal["sound", "missing", "broken"]
    reason: str = ""  #: what is wrong with one that is broken, or could be better with one that is sound
    usable: bool = (
        False  #: of one that is broken: whether it finds every row all the same, as far as numbers tell
    )
    foreign: bool = (
        False  #: of one that is broken: it is no index of words, so that nothing may take its place
    )


class IndexFault(Value, frozen=True, kw_only=True):
    """Entries of an index that do not agree with their rows."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    number: int
    example: str


@runtime_checkable
class FullText(Protocol):
    """Capability.FULL_TEXT. An index narrows rows down and ranks them; whoever asks compares each row with the query."""

    def text_index(self, told: TextIndex) -> IndexState:
        """Return how the index stands, by its definition alone."""
        ...

    def text_index_faults(self, told: TextIndex) -> Sequence[IndexFault]:
        """Compare every entry of a sound index with its row; empty where the server itself keeps them together."""
        ...

    def text_index_use(self, told: TextIndex, query: TextQuery) -> IndexUse:
        """Return what a sound index is good for, as far as this query goes."""
        ...

    def ranked(
        self,
        told: TextIndex,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> list[tuple[object, ...]]:
        """Return rows as ``select`` does, each with its score behind, the best first unless ``order_by`` says otherwise.

        Where the index finds, these are rows that may meet the query; where it only ranks, all that meet ``where``.
        """
        ...

    def explain_ranked(
        self,
        told: TextIndex,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> Explanation:
        """Return how ``ranked`` with the same arguments would be answered, without answering it."""
        ...


@runtime_checkable
class MakesFullText(Protocol):
    """Capability.FULL_TEXT of a writer; what it does is part of ``schema_transaction``."""

    def text_index_drops(self, told: TextIndex) -> Mapping[str, str]:
        """Return what stands where the index is to stand, and what keeps it: in words, and the statement that drops it."""
        ...

    def text_index_makes(self, told: TextIndex) -> Mapping[str, str]:
        """Return what makes the index and fills it: in words, and the statement."""
        ...

    def mark_text_index(self, told: TextIndex) -> None:
        """Let the app know that the index is there, where it wants to."""
        ...

    def probe_text_index(self, told: TextIndex) -> None:
        """Change, delete and add rows of the table that is searched, find them through the index, and take all back.

        Raises:
            QueryFailedError, ConstraintError: the index, or a trigger of it, does not let that happen.
        """
        ...
