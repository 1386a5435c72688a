"""The section about semantic search: the table of vectors, and the fields of a result."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.model import TimeForm
from dbctl.profiles.model.base import (
    Alternatives,
    ColumnName,
    ColumnNames,
    DatabaseReference,
    SchemaName,
    Section,
    TableName,
)
from dbctl.profiles.model.profile import Profile, ProfileSection

#: Fields of every result, before the others.
FIXED_FIELDS = ("id", "similarity")


class LookupTable(Section, frozen=True, kw_only=True):
    """The table that contains the users or chats of a filter."""

    database: str  #: the database of the table
    table: str  #: the table
    key: str  #: the column with the value of the filter


class Filter(Section, frozen=True, kw_only=True):
    """A column that filters rows before their vectors are compared."""

    column: Annotated[Alternatives, SchemaName("column", levels_up=1)]  #: the column of the table of vectors
    #: the table that must contain the value; without it, every value is accepted
    lookup: LookupTable | None = None


class RelatedRows(Section, frozen=True, kw_only=True):
    """Rows of another database that belong to results; each of them may be missing."""

    name: str  #: the result column that shows whether the row exists
    database: DatabaseReference  #: the database of the rows
    table: TableName  #: the table of the rows
    key: ColumnName  #: the column that identifies a row
    by: str  #: the result field with the key of the row; ``id`` is allowed
    fields: Mapping[str, ColumnNames] = {}  #: fields whose values replace those of the vector's row


class Source(Section, frozen=True, kw_only=True):
    """Rows of another database that should each have a vector, and the values of a new row with a vector."""

    related: str  #: the name of the ``related`` section with the rows; its fields are copied into a new row
    fields: Mapping[str, Alternatives] = {}  #: further fields, and their columns in the other database
    time: TimeForm = "epoch-ms"  #: the format of times in a new row
    constants: Mapping[ColumnName, str] = {}  #: further columns of a new row


class Semantic(ProfileSection, frozen=True, kw_only=True):
    """``dbctl search semantic``."""

    database: DatabaseReference  #: the database with the vectors
    table: Annotated[str, SchemaName("table", optional=True)]  #: the table of vectors
    id: ColumnNames  #: not necessarily unique
    vector: ColumnNames  #: the column with the vector
    metric: Literal["cosine", "dot"] = "cosine"  #: how the app compares vectors
    model: str = ""  #: the model that computed the vectors
    row_name: str = "row"  #: a noun for a row, such as ``message``
    fields: Mapping[str, ColumnNames]  #: fields of a result, in their order
    text: str = ""  #: the field with long text
    times: Sequence[str] = ()  #: fields with times, in any stored format
    placeholders: Sequence[str] = ()  #: ids of internal rows of the app
    #: the columns for ``--user`` and ``--chat``
    filters: Mapping[Annotated[str, msgspec.Meta(pattern="^(user|chat)$")], Filter] = {}
    related: Sequence[RelatedRows] = ()  #: rows of other databases that complete the results
    source: Source | None = None  #: rows that should have a vector, for ``search vectors make``
    #: fields, and names of ``related`` rows, in tables on a terminal (default: all)
    summary: Sequence[str] = ()

    def find_problems(self, profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:
        for name in self.fields:
            if name in FIXED_FIELDS:
                yield ("fields", name), f"every result has the field {name}"
        fields = {("text",): [self.text] if self.text else [], ("times",): self.times}
        for list_key, names in fields.items():
            yield from _find_unknown(list_key, names, self.fields)
        yield from _find_unknown(
            ("summary",), self.summary, [*self.fields, *(related.name for related in self.related)]
        )
        for name, row_filter in self.filters.items():
            if row_filter.lookup and row_filter.lookup.database not in profile.databases:
                yield ("filters", name, "lookup"), f"no database {row_filter.lookup.database!r}"
        for index, related in enumerate(self.related):
            yield from _find_unknown(("related", index, "by"), [related.by], ["id", *self.fields])
            yield from _find_unknown(("related", index, "fields"), related.fields, self.fields)
            if related.name in (*FIXED_FIELDS, *self.fields):
                yield ("related", index, "name"), f"duplicate field {related.name}"
        if self.source:
            related_by_id = {related.name for related in self.related if related.by == "id"}
            if self.source.related not in related_by_id:
                yield (
                    ("source", "related"),
                    f"no section `related` with by = 'id' is called {self.source.related}",
                )
            yield from _find_unknown(("source", "fields"), self.source.fields, self.fields)

    def list_columns(self) -> Iterator[tuple[Sequence[str | int], str, str, ColumnNames]]:
        for related in self.related:
            if self.source and self.source.related == related.name:
                for name, column in self.source.fields.items():
                    yield ("source", "fields", name), related.database, related.table, column

    def list_features(self) -> Sequence[str]:
        return ["semantic search"]

    def list_special_features(self) -> Sequence[str]:
        return ["new vectors"] if self.source else []


def find_semantic(profile: Profile) -> Semantic | None:
    """Return the section of a profile; None: it has none."""
    return profile.extension_section("semantic", Semantic)


def _find_unknown(
    key: Sequence[str | int], names: Iterable[str], fields: Iterable[str]
) -> Iterator[tuple[Sequence[str | int], str]]:
    for name in names:
        if name not in fields:
            yield key, f"no field {name}"
