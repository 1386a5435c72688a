"""What a profile can say about finding rows by what they mean: where their vectors are, and what is shown beside them."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import TimeCodec
from dbctl.profiles.model.base import Section

#: A column; ``name?`` may be missing, and of several the first that exists counts.
Column = str | list[str]


class Place(Section, frozen=True, kw_only=True):
    """Where else one would be known whom a filter names."""

    database: str
    table: str
    key: str


class Filter(Section, frozen=True, kw_only=True):
    """A column by which rows are chosen before they are compared."""

    column: Column
    known: Place | None = None


class Beside(Section, frozen=True, kw_only=True):
    """Rows of another database that belong to what is found; a deployment may lack any of them."""

    name: str  #: of the column of an answer that says whether the row is there
    database: str
    table: str
    key: str
    by: str  #: the field of the answer that names the row; ``id`` itself may be one
    fields: Mapping[str, Column] = {}  #: what it knows better than the row of the vector


class Source(Section, frozen=True, kw_only=True):
    """Rows of another database each of which should have a vector, and what a new row of the vectors gets."""

    beside: str  #: the name of the ``beside`` whose rows these are; its fields, too, go into a new row
    fields: Mapping[str, Column] = {}  #: further fields, and the columns that hold them there
    time: TimeCodec = "epoch-ms"  #: how a new row stores times
    constants: Mapping[str, str] = {}  #: further columns of a new row, and what the app writes there


class Semantic(Section, frozen=True, kw_only=True):
    """``dbctl search semantic``."""

    database: str
    table: str
    id: Column  #: what names a row; several rows may have the same
    vector: Column
    metric: Literal["cosine", "dot"] = "cosine"
    model: str = ""  #: what made the vectors
    what: str = "row"  #: what a person calls one: message
    fields: Mapping[str, Column]  #: of an answer, in their order
    text: str = ""  #: the field that is long
    times: Sequence[str] = ()  #: fields that are times, in whichever form they are stored
    placeholders: Sequence[str] = ()  #: ids of rows that the app makes for itself
    filters: Mapping[Annotated[str, msgspec.Meta(pattern="^(user|chat)$")], Filter] = {}
    beside: Sequence[Beside] = ()
    source: Source | None = None
    #: fields, and names of what is beside, that suit a table on a terminal; none: all
    brief: Sequence[str] = ()


#: What stands before the fields in every answer.
OWN = ("id", "similarity")


def mistakes(told: Semantic, databases: Sequence[str]) -> Iterator[tuple[Sequence[str | int], str]]:
    """Return what types cannot tell: where in the section, and why."""
    for name in told.fields:
        if name in OWN:
            yield ("fields", name), f"{name} is there in every answer"
    fields = {("text",): [told.text] if told.text else [], ("times",): told.times}
    for key, names in fields.items():
        yield from _unknown(key, names, told.fields)
    yield from _unknown(("brief",), told.brief, [*told.fields, *(one.name for one in told.beside)])
    places: dict[Sequence[str | int], str] = {("database",): told.database}
    places |= {
        ("filters", name, "known"): one.known.database for name, one in told.filters.items() if one.known
    }
    for at, one in enumerate(told.beside):
        places["beside", at, "database"] = one.database
        yield from _unknown(("beside", at, "by"), [one.by], ["id", *told.fields])
        yield from _unknown(("beside", at, "fields"), one.fields, told.fields)
        if one.name in (*OWN, *told.fields):
            yield ("beside", at, "name"), f"{one.name} is a field already"
    if told.source:
        rows = {one.name for one in told.beside if one.by == "id"}
        if told.source.beside not in rows:
            yield ("source", "beside"), f"{told.source.beside} is no beside whose rows are named by id"
        yield from _unknown(("source", "fields"), told.source.fields, told.fields)
    for place, database in places.items():
        if database not in databases:
            yield place, f"there is no database {database!r}"


def _unknown(
    key: Sequence[str | int], names: Iterable[str], fields: Iterable[str]
) -> Iterator[tuple[Sequence[str | int], str]]:
    for name in names:
        if name not in fields:
            yield key, f"{name} is no field"
