"""The request of a search, its results, and the columns of results that come from other tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.engines.contract.database import Condition, Readable
from dbctl.model import Page, Row, Struct
from dbctl.profiles.model.search import Search
from dbctl.services.search.compiler import list_missing, parse_path

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


class LinkedColumns:
    """The linked columns of a search that the live schema has."""

    def __init__(self, search: Search, db: Readable) -> None:
        self._db, tables = db, db.tables()
        candidates = {
            name: (parse_path(column.path)[0], column.column) for name, column in search.linked.items()
        }
        self._links = {
            name: (link, target_column)
            for name, (link, target_column) in candidates.items()
            if not any(list_missing(tables, search.table, [], [link], [target_column]))
        }

    @property
    def names(self) -> list[str]:
        return list(self._links)

    def list_source_columns(self, names: Collection[str]) -> list[str]:
        """Return the columns of the searched table that link to the columns in ``names``."""
        return [link.column for name, (link, _) in self._links.items() if name in names]

    def add_columns(self, rows: Sequence[Row], names: Collection[str]) -> list[Row]:
        """Return rows with the columns in ``names``; NULL if the linked row does not exist."""
        result = [dict(row) for row in rows]
        for name, (link, target_column) in self._links.items():
            if name not in names:
                continue
            keys = list({row[link.column] for row in result if row[link.column] is not None})
            targets = (
                self._db.select(link.table, [link.to, target_column], [Condition(link.to, "in", keys)])
                if keys
                else []
            )
            values = {row[0]: row[1] for row in targets}
            for item in result:
                item[name] = values.get(item[link.column])
        return list[Row](result)
