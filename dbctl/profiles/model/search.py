"""Sections about searches of a table: its text columns, filter keys, sort orders, and the details of one row.

The values of a key are in columns of the table itself, or in a table at the end of a path of links. A column with a trailing
``?`` is optional. If deployments differ in more than that, a section has variants; the first whose tables and columns
exist is used.
"""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.profiles.model.base import ColumnName, DatabaseReference, ExpectedValue, Section, TableName

#: A link from a column to a column of the next table: ``id -> game_tags_tag.gameId``.
Step: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^.+ -> [^.]+\..+$")]
Names: TypeAlias = Annotated[Sequence[str], msgspec.Meta(min_length=1)]
Columns: TypeAlias = Annotated[Sequence[ColumnName], msgspec.Meta(min_length=1)]


#: Names that no search may have, because they are commands.
RESERVED_NAMES = frozenset({"index", "all", "semantic"})


class SearchPath(Section, frozen=True, kw_only=True):
    """A path of links to a table, and its columns with the values."""

    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1)]  #: the links, in order
    path_columns: Names  #: columns of the last table with the values


class KeySource(Section, frozen=True, kw_only=True):
    """The columns with the values of a key; a row matches the key if any of them does."""

    columns: Sequence[str] = ()  #: columns of the table itself, with one value each
    lists: Sequence[str] = ()  #: columns of the table itself, with several values separated by semicolons
    path: Sequence[Step] = ()  #: links to the table with the values
    #: its columns; empty: a linked row must exist (boolean), or rows are counted (count)
    path_columns: Sequence[str] = ()
    extra_paths: Sequence[SearchPath] = ()  #: further paths; a path over a missing table or column is ignored
    order: str = ""  #: a column of the first linked table with the order of its rows
    contains: str = ""  #: boolean: true if the text contains this


class SearchKey(KeySource, frozen=True, kw_only=True):
    """One filter key of a search, with its columns or its variants.

    Kinds: ``text``; ``number``; ``duration`` in seconds; ``date``, text that begins with an ISO date; ``time``, a time in
    any format; ``boolean``; ``count``, the number of rows that a path of one link leads to.
    """

    names: Names  #: its name, and aliases
    #: the kind of the values
    kind: Literal["text", "number", "duration", "date", "time", "count", "boolean"] = "text"
    #: the columns in each variant of the schema, instead of those of the key
    variant: Sequence[KeySource] = ()
    #: text: the names that a query uses for stored values; ``:null`` is NULL. A query names one of them exactly
    values: Mapping[str, ExpectedValue] = {}
    case: bool = False  #: whether ``=`` is case-sensitive, as for ids; an index may then be used
    prefix: Annotated[str, msgspec.Meta(max_length=1)] = ""  #: replaces the key in queries: ``#Puzzle``
    every: bool = False  #: whether several ``--filter`` with the key must all match; otherwise any of them
    bound: Literal["", "from", "until"] = ""  #: date and time: the value is the start, or the end, of a range
    hidden: bool = False  #: boolean: rows with a true value are omitted by default
    excluded_by: str = ""  #: boolean, instead of columns: true for the rows that this query does not match
    missing: str = ""  #: why a deployment may lack the key, and what to use instead


class Sort(Section, frozen=True, kw_only=True):
    """One sort order."""

    name: str  #: the name for ``--sort``
    columns: Sequence[str] = ()  #: the first value that is neither NULL nor empty is used
    #: how the values are compared; ``random``: a new order in each run
    kind: Literal["text", "number", "time", "random"] = "text"
    lowercase: bool = False  #: text: the first column has no capital letters; an index may then be used
    #: whether the default order of the search is descending, for its first sort order
    descending: bool = False


class DetailVariant(Section, frozen=True, kw_only=True):
    """The table and columns of a detail."""

    path: Sequence[Step] = ()  #: the links to the table with the values, in order
    #: one column returns a list of values; several (or ``name?``) return a list of rows
    columns: Sequence[str] = ()
    order: Sequence[str] = ()  #: columns; ``-column`` for descending
    #: instead of a path: columns; the first that is not empty is split at semicolons
    lists: Sequence[str] = ()


class Detail(DetailVariant, frozen=True, kw_only=True):
    """Linked rows or values that are shown with one row."""

    name: str  #: the name of the detail
    variant: Sequence[DetailVariant] = ()  #: the table and columns in each variant of the schema


class Linked(Section, frozen=True, kw_only=True):
    """A column of an item that is stored in another table."""

    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1, max_length=1)]  #: the link to the other table
    column: str  #: the column of the other table


class RenamedRows(Section, frozen=True, kw_only=True):
    """A table of old and new ids of rows."""

    table: str  #: the table
    old: str  #: the column with the old id
    new: str  #: the column with the new id


class JoinedColumn(Section, frozen=True, kw_only=True):
    """A text column of linked rows, such as the names of a row's tags."""

    #: the links to the table with the text, in order
    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1)]
    column: str  #: the column with the text


class Mark(Section, frozen=True, kw_only=True):
    """A row that marks the index as existing, so that the app does not create its own."""

    table: str  #: the table of the row
    key: str  #: the column with ``name``
    value: str  #: the column with the value of the mark
    name: str  #: the key of the row


class TextVariant(Section, frozen=True, kw_only=True):
    """Settings of a full-text index in one variant of the schema; the first variant whose columns exist is used."""

    needs: Names  #: columns of the searched table
    triggers: str  #: the names of the triggers, as in ``text.triggers``


class TextSearch(Section, frozen=True, kw_only=True):
    """A full-text index: an index table (SQLite), or an index of the searched table, depending on the engine."""

    index: str  #: name of the index
    table: str  #: name of the index table
    key: str  #: the column of the index table with the id
    columns: Names  #: columns of the searched table
    gather: Mapping[str, JoinedColumn] = {}  #: further columns of the index table
    unindexed: Sequence[str] = ()  #: columns of the searched table that the index table stores unindexed
    order: Sequence[str] = ()  #: the column order of the index table (default: the key first)
    tokenize: str = ""  #: the tokenizer of the index table, in the syntax of the engine
    #: columns whose text may be a JSON array of blocks: an index table contains only the texts of the blocks
    blocks: Sequence[str] = ()
    #: names of the triggers that update the index table; event: ai, au, ad; verb: insert, update, delete
    triggers: str = "{index}_{table}_{event}"
    variant: Sequence[TextVariant] = ()  #: settings that differ in variants of the schema
    language: str = "english"  #: the language for stemming, if the engine supports it
    mark: Mark | None = None  #: the row that the app reads before it creates its own index


class Search(Section, frozen=True, kw_only=True):
    """One search: ``dbctl search NAME``. Optional searches may share a name; the first whose table exists is used."""

    name: str  #: the name of the search
    database: DatabaseReference  #: the searched database
    table: TableName  #: the searched table
    optional: bool = False  #: whether deployments may lack the table
    id: ColumnName  #: the column that identifies a row
    #: of ``--query``: ``words`` with ``-`` and quotes; ``fpa``: also keys
    language: Literal["words", "fpa"] = "words"
    words: Columns  #: columns that are searched for words
    show: Columns  #: columns of an item
    #: further columns of an item, by name: a value of a linked row
    linked: Mapping[str, Linked] = {}
    summary: Sequence[str] = ()  #: columns of an item in tables on a terminal (default: all)
    times: Sequence[str] = ()  #: columns with times, also of details, in any stored format
    flags: Sequence[str] = ()  #: boolean columns, also of details, in any stored format
    text: TextSearch | None = None  #: a full-text index, for ranked results
    key: Sequence[SearchKey] = ()  #: filter keys, for ``--filter`` and queries
    sort: Annotated[Sequence[Sort], msgspec.Meta(min_length=1)]  #: sort orders; the first is the default
    detail: Sequence[Detail] = ()  #: linked rows and values, for ``--id``
    #: Computed fields of one row, each with alternatives: the first alternative whose first field is not empty is used, its
    #: fields joined by spaces. A field is a column, or ``detail.column`` of the detail's first row.
    computed: Mapping[str, Sequence[str]] = {}
    renamed: RenamedRows | None = None  #: old ids that ``--id`` accepts


def validate_search(search: Search) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield key and reason of each error in a search."""
    if search.name in RESERVED_NAMES:
        yield ("name",), f"{search.name!r} is the name of a command of search"
    yield from _validate_keys(search.key)
    for field_name, alternatives in search.computed.items():
        for field in " ".join(alternatives).split():
            detail = field.rpartition(".")[0]
            if detail and detail not in {known.name for known in search.detail}:
                yield ("computed", field_name), f"no detail {detail!r}"
    yield from _validate_text(search.text, search.words)
    for name in ("sort", "detail"):
        names = [part.name for part in getattr(search, name)]
        for index, entry in enumerate(names):
            if entry in names[:index]:
                yield (name, index, "name"), f"duplicate name {entry!r}"


def _validate_text(
    text: TextSearch | None, words: Sequence[str]
) -> Iterator[tuple[Sequence[str | int], str]]:
    if text is None:
        return
    for name in words:
        if name not in text.columns:
            yield ("words",), f"{name} is not in text.columns, so the index would not contain its words"
    index_columns = [text.key, *text.columns, *text.unindexed, *text.gather]
    if text.order and sorted(text.order) != sorted(index_columns):
        yield (
            ("text", "order"),
            f"it must contain exactly the columns of the index: {', '.join(index_columns)}",
        )
    for name in text.blocks:
        if name not in text.columns:
            yield ("text", "blocks"), f"{name} is not in text.columns"


def _validate_keys(keys: Sequence[SearchKey]) -> Iterator[tuple[Sequence[str | int], str]]:
    seen: dict[str, str] = {}
    for index, key in enumerate(keys):
        for spelling in [*key.names, *([key.prefix] if key.prefix else [])]:
            if spelling.lower() in seen:
                yield ("key", index, "names"), f"{spelling!r} is also a name of {seen[spelling.lower()]}"
            seen[spelling.lower()] = key.names[0]
        for reason in _validate_key(key):
            yield ("key", index), reason


def _validate_key(key: SearchKey) -> Iterator[str]:
    variants = key.variant or [key]
    if key.kind != "boolean" and (
        key.hidden or key.excluded_by or any(variant.contains for variant in variants)
    ):
        yield "hidden, excluded_by and contains require kind boolean"
    if key.kind != "text" and key.values:
        yield "values requires kind text"
    if key.kind not in {"date", "time"} and key.bound:
        yield "bound requires kind date or time"
    if key.excluded_by:
        return
    for variant in variants:
        if not (variant.columns or variant.lists or variant.path):
            yield "columns, lists or path is missing"
        if variant.path_columns and not variant.path:
            yield "path_columns requires path"
        if variant.path and not variant.path_columns and key.kind not in {"boolean", "count"}:
            yield "path requires path_columns"
        if key.kind == "count" and len(variant.path) != 1:
            yield "kind count requires a path of one link"
