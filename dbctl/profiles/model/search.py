"""What a profile can say about searching a table: where words are looked for, the keys, the orders, one row whole.

Only names and data: a key's values stand in columns of the table itself, or at the end of a path of links. A column
that ends in ``?`` may be missing. Where deployments differ in more than that, shapes are tried in order; the first
whose tables and columns the live schema has is the one that counts.
"""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.profiles.model.base import Section

#: From a column to a column of the next table: ``id -> game_tags_tag.gameId``.
Step: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^.+ -> [^.]+\..+$")]
Names: TypeAlias = Annotated[Sequence[str], msgspec.Meta(min_length=1)]


#: What no search can be called.
RESERVED = frozenset({"index", "all", "semantic"})


class Along(Section, frozen=True, kw_only=True):
    """Links to a table, and its columns that have the values."""

    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1)]
    at: Names


class Shape(Section, frozen=True, kw_only=True):
    """Where the values of a key stand; a row meets the key when any of these places does."""

    columns: Sequence[str] = ()  #: of the table itself, one value each
    lists: Sequence[str] = ()  #: of the table itself, values parted by semicolons: each counts on its own
    path: Sequence[Step] = ()  #: links to the table that has the values
    at: Sequence[str] = ()  #: its columns; none: any row there is enough (boolean), or is counted (count)
    also: Sequence[Along] = ()  #: further paths; one that leads over what is missing does not count
    order: str = ""  #: a column of the first link's table that gives rows an order of their own
    contains: str = ""  #: boolean: true where the text contains this


class SearchKey(Shape, frozen=True, kw_only=True):
    """One key of a search. Its places, or its shapes where deployments differ.

    Kinds: ``text``; ``number``; ``duration`` in seconds; ``date``, text that begins as an ISO date does; ``time``, a
    moment in any form; ``boolean``; ``count`` of the rows that a path of one link leads to.
    """

    names: Names  #: the first is its name, the others mean the same
    kind: Literal["text", "number", "duration", "date", "time", "count", "boolean"] = "text"
    shape: Sequence[Shape] = ()
    case: bool = False  #: whether ``=`` regards case, as for ids; an index may then be used
    prefix: Annotated[str, msgspec.Meta(max_length=1)] = ""  #: in queries stands for the key: ``#Puzzle``
    every: bool = False  #: several ``--filter`` with it must all be met; else one of them is enough
    bound: Literal["", "from", "until"] = (
        ""  #: dates and times: its value is the first, or the last, of a span
    )
    hidden: bool = False  #: boolean: rows where it is true are left out unless asked for
    unless: str = ""  #: boolean, in place of columns: true for the rows that this query does not find
    missing: str = ""  #: why a deployment may not have it, and where to look instead


class Sort(Section, frozen=True, kw_only=True):
    """One order."""

    name: str
    columns: Sequence[str] = ()  #: the first that is neither NULL nor empty counts
    kind: Literal["text", "number", "time", "random"] = "text"
    lowercase: bool = False  #: text: the first column holds no capital letters; an index may then be used
    descending: bool = False  #: of the first: whether it goes down where no order is asked for


class DetailShape(Section, frozen=True, kw_only=True):
    """Where the rows of a detail stand."""

    path: Sequence[Step] = ()
    columns: Sequence[str] = ()  #: a single one gives a list of values, several (or ``name?``) a list of rows
    order: Sequence[str] = ()  #: columns; ``-column`` for descending
    lists: Sequence[str] = ()  #: in place of a path: the first that is not empty, parted at its semicolons


class Detail(DetailShape, frozen=True, kw_only=True):
    """What belongs to one row and is shown with it."""

    name: str
    shape: Sequence[DetailShape] = ()


class Linked(Section, frozen=True, kw_only=True):
    """A column of an item that stands in another table."""

    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1, max_length=1)]
    at: str


class Moved(Section, frozen=True, kw_only=True):
    """Rows that took the place of others: a table of old and new ids."""

    table: str
    old: str
    new: str


class Gathered(Section, frozen=True, kw_only=True):
    """Text of other rows that belongs to a row: the names of its tags."""

    path: Annotated[Sequence[Step], msgspec.Meta(min_length=1)]
    at: str


class Mark(Section, frozen=True, kw_only=True):
    """A row by which the app knows that the index is there, so that it does not make its own over it."""

    table: str
    key: str
    value: str
    name: str


class TextShape(Section, frozen=True, kw_only=True):
    """What of an index of words differs between deployments; the first whose columns exist counts."""

    needs: Names  #: columns of the table that is searched
    triggers: str


class TextSearch(Section, frozen=True, kw_only=True):
    """An index of words, in whichever way an engine has one: a table of its own, or an index of the table."""

    index: str  #: what an index is called
    table: str  #: what such a table is called
    key: str  #: the column of such a table that holds the id
    columns: Names  #: of the table that is searched
    gather: Mapping[str, Gathered] = {}  #: further columns that only such a table has
    beside: Sequence[
        str
    ] = ()  #: columns of the table that is searched which such a table has, too, and no word is looked for in
    order: Sequence[str] = ()  #: columns of such a table as the app counts them; none: the key first
    tokenize: str = ""  #: how such a table cuts text into words, as its engine says it
    #: columns whose text may be a JSON array of blocks: their texts count alone where the index is a table of its own
    blocks: Sequence[str] = ()
    #: names of the triggers that keep such a table; event: ai, au, ad; verb: insert, update, delete
    triggers: str = "{index}_{table}_{event}"
    shape: Sequence[TextShape] = ()
    language: str = "english"  #: by whose rules words are cut to their stems, where an engine does that
    mark: Mark | None = None


class Search(Section, frozen=True, kw_only=True):
    """One search: ``dbctl search NAME``. Optional searches may share a name: the first whose table exists counts."""

    name: str
    database: str
    table: str
    optional: bool = False  #: whether a deployment may do without the table
    id: str
    language: Literal["words", "fpa"] = (
        "words"  #: of ``--query``: words, ``-`` and quotes only, or keys as well
    )
    words: Names  #: columns that a word is looked for in
    show: Names  #: columns of an item
    #: further columns of an item, by name: a value of the row that a link leads to
    linked: Mapping[str, Linked] = {}
    brief: Sequence[str] = ()  #: those of them that suit a table on a terminal; none: all
    times: Sequence[str] = ()  #: columns, of details too, that are times, in whichever form they are stored
    flags: Sequence[
        str
    ] = ()  #: columns, of details too, that are true or false, in whichever form they are stored
    text: TextSearch | None = None  #: an index that finds words, and tells how well a row fits
    key: Sequence[SearchKey] = ()
    sort: Annotated[
        Sequence[Sort], msgspec.Meta(min_length=1)
    ]  #: the first is the order when none is asked for
    detail: Sequence[Detail] = ()
    #: Facts about one row made of others: the first alternative whose first field is not empty, its fields joined by
    #: spaces. A field is a column, or ``detail.column`` of the detail's first row.
    made: Mapping[str, Sequence[str]] = {}
    moved: Moved | None = None


def mistakes(search: Search) -> Iterator[tuple[Sequence[str | int], str]]:
    """Return what types cannot tell: where in the search, and why."""
    if search.name in RESERVED:
        yield ("name",), f"{search.name!r} is a command: dbctl search {search.name}"
    yield from _wrong_keys(search.key)
    for fact, alternatives in search.made.items():
        for field in " ".join(alternatives).split():
            detail = field.rpartition(".")[0]
            if detail and detail not in {known.name for known in search.detail}:
                yield ("made", fact), f"there is no detail {detail!r}"
    yield from _wrong_text(search.text, search.words)
    for name in ("sort", "detail"):
        given = [part.name for part in getattr(search, name)]
        for number, one in enumerate(given):
            if one in given[:number]:
                yield (name, number, "name"), f"{one!r} is there twice"


def _wrong_text(text: TextSearch | None, words: Sequence[str]) -> Iterator[tuple[Sequence[str | int], str]]:
    if text is None:
        return
    for name in words:
        if name not in text.columns:
            yield ("words",), f"{name} is none of text.columns, so that the index would not find its words"
    own = [text.key, *text.columns, *text.beside, *text.gather]
    if text.order and sorted(text.order) != sorted(own):
        yield ("text", "order"), f"it names other columns than the index has: {', '.join(own)}"
    for name in text.blocks:
        if name not in text.columns:
            yield ("text", "blocks"), f"{name} is none of text.columns"


def _wrong_keys(keys: Sequence[SearchKey]) -> Iterator[tuple[Sequence[str | int], str]]:
    seen: dict[str, str] = {}
    for number, key in enumerate(keys):
        for spelling in [*key.names, *([key.prefix] if key.prefix else [])]:
            if spelling.lower() in seen:
                yield ("key", number, "names"), f"{spelling!r} also means {seen[spelling.lower()]}"
            seen[spelling.lower()] = key.names[0]
        for reason in _wrong(key):
            yield ("key", number), reason


def _wrong(key: SearchKey) -> Iterator[str]:
    shapes = key.shape or [key]
    if key.kind != "boolean" and (key.hidden or key.unless or any(shape.contains for shape in shapes)):
        yield "only a boolean key takes hidden, unless and contains"
    if key.kind not in {"date", "time"} and key.bound:
        yield "only a date or a time takes bound"
    if key.unless:
        return
    for shape in shapes:
        if not (shape.columns or shape.lists or shape.path):
            yield "it says neither columns, lists nor a path"
        if shape.at and not shape.path:
            yield "at belongs to a path"
        if shape.path and not shape.at and key.kind not in {"boolean", "count"}:
            yield "its path leads to no column (at)"
        if key.kind == "count" and len(shape.path) != 1:
            yield "a count wants a path of one link"
