"""Contract: search of words in texts: full-text indexes, and scans of all texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Literal, NamedTuple, TypeAlias

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Query
from dbctl.model import Struct

#: ``word``: whole words. ``prefix``: the last word is a prefix. ``part``: the text occurs anywhere, also inside words.
MatchKind: TypeAlias = Literal["word", "prefix", "part"]


#: Scripts without spaces between words: a term that begins or ends with one of their letters also matches inside longer text.
UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class TextTerm(Struct, frozen=True):
    """A word, a phrase, the beginning of a word, or a part of the text."""

    words: tuple[str, ...]  #: words of a phrase, separated only by spaces and punctuation
    match: MatchKind


class TextNear(Struct, frozen=True):
    """Terms that occur near to each other in one text, in any order."""

    terms: tuple[TextTerm, ...]
    distance: int  #: maximum number of words between the end of any term and the beginning of the last one


class TextAnd(Struct, frozen=True):
    """All of the queries."""

    queries: Sequence[TextQuery]


class TextOr(Struct, frozen=True):
    """At least one of the queries."""

    queries: Sequence[TextQuery]


class TextNot(Struct, frozen=True):
    """Rows that do not match the query."""

    query: TextQuery


TextQuery: TypeAlias = TextTerm | TextNear | TextAnd | TextOr | TextNot


def join_queries(queries: Sequence[TextQuery]) -> TextQuery | None:
    """Return the conjunction of queries; None without any."""
    parts = [part for query in queries for part in conjuncts(query)]
    return TextAnd(parts) if len(parts) > 1 else parts[0] if parts else None


def conjuncts(query: TextQuery) -> Sequence[TextQuery]:
    """Return the queries that must all match."""
    return query.queries if isinstance(query, TextAnd) else [query]


def positive_terms(query: TextQuery) -> Iterator[TextTerm]:
    """Yield the terms that a row may match: all except those below NOT."""
    match query:
        case TextTerm():
            yield query
        case TextNear():
            yield from query.terms
        case TextAnd() | TextOr():
            for part in query.queries:
                yield from positive_terms(part)
        case TextNot():
            pass


#: Characters of an excerpt: before the match, and from its beginning.
CHARACTERS_BEFORE, CHARACTERS_AFTER = 60, 160

#: ``find``: it finds every row that matches a query, and perhaps others. ``rank``: it only ranks rows.
IndexUse: TypeAlias = Literal["find", "rank", "none"]


class Link(Struct, frozen=True):
    """One step of a path: rows of ``table`` whose ``to`` equals ``column`` of the previous row."""

    column: str
    table: str
    to: str


class JoinedText(Struct, frozen=True, kw_only=True):
    """Text of other rows that belongs to a row: all values of ``column`` at the end of ``path``."""

    name: str
    path: Sequence[Link]
    column: str


class IndexMarker(Struct, frozen=True, kw_only=True):
    """A row that records the existence of the index for the app; its table is created if missing."""

    table: str
    key: str
    value: str
    name: str


class TextIndexSpec(Struct, frozen=True, kw_only=True):
    """The definition of a full-text index. Some engines store it as a separate table, others as an index."""

    table: str  #: the indexed table
    id: str
    columns: Sequence[str]
    index_name: str  #: the name as an index
    index_table: str  #: the name as a separate table
    key: str  #: the column of the separate table that contains the id
    joined_texts: Sequence[JoinedText]  #: further columns of the separate table
    #: columns of ``table`` that the separate table stores, too, without indexing them
    extra_columns: Sequence[str] = ()
    #: the columns of the separate table in the order that the app requires; empty: the key first
    column_order: Sequence[str] = ()
    tokenizer: str = ""  #: how the separate table splits text into words, in the engine's syntax
    #: those of ``columns`` that may contain a JSON array of blocks, of which only the texts are indexed
    block_columns: Sequence[str] = ()
    trigger_pattern: str  #: pattern of the names of triggers that update the separate table: ``{index}``, ``{table}``, ``{event}``
    language: str
    marker: IndexMarker | None


class IndexState(Struct, frozen=True, kw_only=True):
    """Whether an index can be searched."""

    name: str
    state: Literal["valid", "missing", "broken"]
    reason: str = ""  #: the problem of a broken index, or a possible improvement of a valid one
    usable: bool = False  #: of a broken index: it finds every row nevertheless, according to its row count
    is_foreign: bool = False  #: of a broken index: it is not a full-text index, so it must not be replaced


class IndexFault(Struct, frozen=True, kw_only=True):
    """Entries of an index that differ from their rows."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    count: int
    example: str


class FullText(ABC):
    """The part that searches words with an index. An index preselects and ranks rows; the caller compares each row with the query.

    The methods that build an index run in a ``schema_transaction`` of a writer.
    """

    @abstractmethod
    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        """Return the state of the index, from its definition alone."""

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:
        """Compare every entry of a valid index with its row; empty if the server itself maintains the index."""
        return ()

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:
        """Return how a valid index can be used for the query."""
        # Servers omit short words and stop words, depending on settings, and treat a_b, l'eau, a/b or -4 as one word, so
        # that the index lacks words of a row.
        return "rank"

    @abstractmethod
    def select_ranked(self, spec: TextIndexSpec, text: TextQuery, query: Query) -> list[tuple[object, ...]]:
        """Return all rows of a query of the indexed table, each followed by its score, the best first unless it has an order.

        If the index finds, these are rows that may match the text; if it only ranks, all rows of the query.
        """

    @abstractmethod
    def explain_ranked(self, spec: TextIndexSpec, text: TextQuery, query: Query) -> Explanation:
        """Return how ``select_ranked`` would run, without running it."""

    @abstractmethod
    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        """Return the objects to drop before the index is created: a description and the statement for each."""

    @abstractmethod
    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        """Return what creates and fills the index: a description and the statement for each step."""

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        """Record the existence of the index for the app, if its definition requires that."""

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        """Change, delete and add rows of the indexed table, search them through the index, and roll back.

        Raises:
            QueryFailedError, ConstraintError: the index or one of its triggers rejects a change.
        """


class TextMatch(NamedTuple):
    """A row that contains the word."""

    key: Sequence[object]  #: its primary key; empty without one
    excerpts: Mapping[str, str]  #: the text around the first match, for each matching column


class TextScanner(ABC):
    """The part that searches a word in every text."""

    @abstractmethod
    def text_columns(self, table: str) -> Sequence[str]:
        """Return the columns of a table that may contain text; empty if another table has the same content."""

    @abstractmethod
    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        """Return rows where one of ``columns`` contains ``word``, in no order; None after ``timeout``.

        The word is matched literally, ignoring the case of ASCII letters.
        """
