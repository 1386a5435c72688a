"""Which rows a query selects, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from dbctl.model import Value

#: ``same`` is equality without regard to case; ``contains`` and ``starts`` disregard case too and take text literally.
#: ``element`` is ``same`` for one of the values that a text parts with semicolons, blanks around them left out.
#: ``in`` takes a sequence and is one parameter. ``=`` and ``!=`` with None ask for NULL. A ``datetime`` beside any
#: comparison makes the engine read the column as a time, whatever form each row stores.
Op: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "same", "contains", "starts", "element"]


class Condition(Value, frozen=True):
    """``column op value``."""

    column: str
    op: Op
    value: object


class Within(Value, frozen=True):
    """Rows whose ``columns`` are among ``to`` of the rows of ``table`` that meet every one of ``where``."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    where: Sequence[Where] = ()


class Linked(Value, frozen=True):
    """Rows to which ``op number`` rows of ``table`` point with ``to`` (0 counts: ``Linked(…, "=", 0)``)."""

    column: str
    table: str
    to: str
    op: Literal["=", "<", "<=", ">", ">="]
    number: int


class AnyOf(Value, frozen=True):
    """Rows that meet at least one; no row when there is none."""

    among: Sequence[Where]


class AllOf(Value, frozen=True):
    """Rows that meet every one; every row when there is none."""

    among: Sequence[Where]


class Not(Value, frozen=True):
    """Rows that do not meet it: also those where the answer is unknown because of a NULL."""

    where: Where


class Behind(Value, frozen=True):
    """Rows that ``select`` gives after the one with this primary key, by which it goes; that one may be gone."""

    key: Sequence[str]
    values: Sequence[object]


Where: TypeAlias = Condition | Within | Linked | AnyOf | AllOf | Not | Behind


class Order(Value, frozen=True):
    """One term of an ordering; NULL comes last whichever the direction."""

    columns: Sequence[str]  #: the first one that is neither NULL nor empty counts
    descending: bool = False
    time: bool = False  #: compare as times, whatever form each row stores
    nocase: bool = False
    through: Within | None = (
        None  #: ``columns`` belong to this link's table; its smallest linked value counts
    )
    random: bool = False  #: no column at all: any order, another one each time
    #: of several columns without regard to case: most rows meet the conditions, and the first column holds no capital letters,
    #: so that an engine may read a page through an index of that column
    indexed: bool = False
