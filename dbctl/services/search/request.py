"""The request of a search, and its results: a page of rows, a number of rows, or the plan of the query."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.model import Page, Row, Struct

#: Value of ``show_hidden`` that includes all hidden rows.
ALL = "all"


class SearchRequest(Struct, frozen=True, kw_only=True):
    """A request for rows; all conditions must be met."""

    words: Sequence[str] = ()  #: terms in the language of ``text_query_parser``
    filters: Sequence[str] = ()  #: ``key=value``, ``key<value`` …; alternatives if they have the same key
    query: str = ""  #: in the language of the search
    show_hidden: Sequence[str] = ()  #: hidden keys whose rows are included; ``ALL`` for all of them


class SearchCount(Struct, frozen=True, kw_only=True):
    """Result of a search that only counts."""

    total: int


class CountResult(Struct, frozen=True, kw_only=True):
    """Number of rows, with a note about the index that was not used."""

    count: SearchCount
    note: str

    @property
    def total(self) -> int:
        """Number of rows."""
        return self.count.total


class Step(Struct, frozen=True, kw_only=True):
    """One step of a query plan, in the text of the engine, indented by depth."""

    step: str


class SearchPlan(Struct, frozen=True, kw_only=True):
    """The query that a search would execute, and its plan."""

    query: str  #: words, filters and query as one text, in the language of the search
    sql: str
    parameters: Sequence[object]
    plan: Sequence[Step]
    full_scans: Sequence[str]  #: tables whose rows are all read


class SearchResult(Page[Row], frozen=True, kw_only=True):
    """One page of matching rows."""

    note: str = ""  #: the reason why no index was used
