"""Queries: conditions and orderings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from dbctl.model import Struct

#: ``same`` is equality without regard to case; ``contains`` and ``starts`` ignore case, too, and match text literally.
#: ``element`` is ``same`` for one of the values in a text separated by semicolons, ignoring spaces around the values.
#: ``in`` takes a sequence and is one parameter. ``=`` and ``!=`` with None compare with NULL. With a ``datetime`` as value,
#: the engine compares the column as a time, in whatever form each row stores it.
Op: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "same", "contains", "starts", "element"]


class Condition(Struct, frozen=True):
    """``column op value``."""

    column: str
    op: Op
    value: object


class InSubquery(Struct, frozen=True):
    """Rows whose ``columns`` occur among the ``target_columns`` of the rows of ``table`` that meet all conditions ``where``."""

    columns: Sequence[str]
    table: str
    target_columns: Sequence[str]
    where: Sequence[Where] = ()


class ReferenceCount(Struct, frozen=True):
    """Rows that are referenced by ``op count`` rows of ``table`` (0 is possible: ``ReferenceCount(…, "=", 0)``)."""

    column: str
    table: str
    referring_column: str
    op: Literal["=", "<", "<=", ">", ">="]
    count: int


class AnyOf(Struct, frozen=True):
    """Rows that meet at least one condition; no rows without conditions."""

    conditions: Sequence[Where]


class AllOf(Struct, frozen=True):
    """Rows that meet all conditions; all rows without conditions."""

    conditions: Sequence[Where]


class Not(Struct, frozen=True):
    """Rows that do not meet the condition, including those where a NULL makes the result unknown."""

    condition: Where


class KeysetCursor(Struct, frozen=True):
    """Rows that ``select`` returns after the row with this primary key, in key order; that row may have been deleted since."""

    key: Sequence[str]
    values: Sequence[object]


Where: TypeAlias = Condition | InSubquery | ReferenceCount | AnyOf | AllOf | Not | KeysetCursor


class Order(Struct, frozen=True):
    """One term of an ordering; NULL is last in both directions."""

    columns: Sequence[str]  #: the first one that is neither NULL nor empty is used
    descending: bool = False
    time: bool = False  #: compare as times, in whatever form each row stores them
    nocase: bool = False
    through: InSubquery | None = None  #: ``columns`` belong to this table; the smallest linked value is used
    random: bool = False  #: no columns: a different random order each time
    #: of several columns without regard to case: most rows meet the conditions, and the first column contains no capital
    #: letters, so an engine may read a page through an index of that column
    indexed: bool = False


class Query(Struct, frozen=True):
    """A selection of rows."""

    table: str
    columns: Sequence[str]
    where: Sequence[Where] = ()  #: all of them must be met
    order_by: Sequence[Order] = ()  #: empty: the order of the primary key
    limit: int | None = None
    offset: int = 0
    for_update: bool = False  #: lock the rows until the end of the transaction
