"""What a profile can say about rows that have had their day: which they are, what becomes of them, what follows from it."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.model import read_span
from dbctl.profiles.model.base import Section

#: A length of time: ``90s``, ``36h``, ``30d``.
Span: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]
Names: TypeAlias = Annotated[Sequence[str], msgspec.Meta(min_length=1)]
#: What a column holds: one value, or one of several.
Held: TypeAlias = str | int | float | bool | Annotated[list[str | int], msgspec.Meta(min_length=1)]


class Age(Section, frozen=True, kw_only=True):
    """How old a row must be: strictly older, so that one of exactly that age stays."""

    column: str | list[str]
    older_than: Span


class Moved(Section, frozen=True, kw_only=True):
    """A time of the same row, moved on."""

    from_: str = msgspec.field(name="from")
    plus: Span


class Then(Section, frozen=True, kw_only=True):
    """What is brought into another table, in the same transaction."""

    into: str
    key: Names  #: columns that a unique index of the table covers
    #: portable SQL whose columns are those of ``key`` and then of ``merge``; ``:picked`` are the keys of the rows that
    #: were just changed, ``:now`` the present moment
    select: str
    #: what becomes of each column where the row is there already
    merge: Mapping[str, Literal["keep", "add", "replace"]]


class Recounted(Section, frozen=True, kw_only=True):
    """Figures that the app counts anew where ``then`` only adds: what they are off by is put right along the way.

    They are counted before the transaction, because that may take long, and only for the first row of each ``together``.
    """

    table: str  #: one of those that ``then`` brings rows into
    key: Names  #: columns that a unique index of the table covers
    columns: Names  #: whole numbers
    #: portable SQL whose columns are those of ``key`` and then what is counted for each of ``columns``, without the rows
    #: that are due; ``:picked`` are keys of rows that are due
    select: str


class CleanupShape(Section, frozen=True, kw_only=True):
    """Which rows, and what becomes of them, where deployments differ; the first whose columns exist counts."""

    needs: Names  #: columns of the table
    where: Mapping[str, Held] = {}
    set: Mapping[str, str | int | float | bool | Moved]


class Cleanup(Section, frozen=True, kw_only=True):
    """Rows that an admin, or the app itself, closes or deletes once they are old enough."""

    name: str
    database: str = ""
    table: str  #: one that ends in ``?`` may be missing
    key: str  #: its primary key, one column
    where: Mapping[str, Held] = {}
    age: Age
    set: Mapping[str, str | int | float | bool | Moved] = {}
    delete: bool = False
    shape: Sequence[CleanupShape] = ()  #: in place of ``where`` and ``set``
    asked: bool = False  #: whether it runs only where it is asked for by name
    together: str = (
        ""  #: rows with one value of this column are worked on together, so that ``then`` is cheap
    )
    then: Sequence[Then] = ()
    recount: Sequence[Recounted] = ()


def shapes(told: Cleanup) -> Sequence[Cleanup]:
    """Return the rule as each of its shapes has it; the rule itself where it has none."""
    made = [msgspec.structs.replace(told, where=one.where, set=one.set, shape=()) for one in told.shape]
    return made or [told]


def mistakes(told: Cleanup) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield where in a rule something makes no sense, and what."""
    moved = {
        column: value for one in shapes(told) for column, value in one.set.items() if isinstance(value, Moved)
    }
    spans = {("age", "older_than"): told.age.older_than} | {
        ("set", name): one.plus for name, one in moved.items()
    }
    for place, span in spans.items():
        try:
            read_span(span)
        except ValueError:
            yield place, f"{span} is longer than anything is old"
            return
    if (bool(told.set) + told.delete + bool(told.shape)) != 1 or (told.shape and told.where):
        yield (), "it says either what to set, or delete = true, or has shapes that say where and what to set"
    if told.delete and told.then:
        yield ("then",), "the rows are gone by then"
    into = [then.into for then in told.then]
    for at, recount in enumerate(told.recount):
        if recount.table not in into:
            yield ("recount", at, "table"), f"nothing is brought into {recount.table}"
    for column, value in moved.items():
        if read_span(value.plus) > read_span(told.age.older_than):
            yield (
                ("set", column),
                f"{value.plus} may lie ahead of a row that is only {told.age.older_than} old",
            )
