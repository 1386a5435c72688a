"""The sources of the rows of a search, and the indexes that extensions add to searches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Order, Query, Where
from dbctl.model import PageRequest
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App

if TYPE_CHECKING:  # most searches only look up rows
    from dbctl.services.search.compiler import QueryCompiler
    from dbctl.services.search.indexes.base import SearchIndex


class RowSource(Protocol):
    """Rows that the engine selects; ``rows`` returns the values of the columns, then those of ``extra_columns``."""

    extra_columns: Sequence[str]

    def rows(self, columns: Sequence[str], page: PageRequest) -> list[tuple[object, ...]]:
        """Return one page of rows, in the order of the source."""
        ...

    def explain(self, columns: Sequence[str], page: PageRequest) -> Explanation:
        """Return how the engine would run ``rows``, without running it.

        Raises:
            NotSupportedError: the engine cannot explain queries.
        """
        ...


class Strategy(RowSource, Protocol):
    """A source whose rows all match the request."""

    def count(self) -> int:
        """Return the number of all matching rows."""
        ...


def select_page(query: Query, columns: Sequence[str], page: PageRequest) -> Query:
    """Return a query for one page of the rows of ``query``."""
    return structs.replace(query, columns=columns, limit=page.limit, offset=page.offset)


class Lookup(Protocol):
    """A query of an index."""

    @property
    def words(self) -> Sequence[str]:
        """The texts for which the index is queried."""
        ...

    def create_strategy(self, query: Query) -> Strategy:
        """Return the rows that contain the words, and meet the conditions of the query.

        Its methods raise ``ExternalIndexInvalidError`` if the index cannot be used any longer.
        """
        ...


class IndexKind(ABC):
    """A kind of index for searches without a full-text index."""

    @abstractmethod
    def covers(self, search: Search, profile: Profile) -> bool:
        """Whether a search has such an index; it may not be built."""

    @abstractmethod
    def create_index(self, app: App, search: Search) -> SearchIndex:
        """Return the index of a search."""

    @abstractmethod
    def prepare_lookup(
        self,
        app: App,
        compiler: QueryCompiler,
        words: Sequence[str],
        where: Sequence[Where],
        order: Sequence[Order],
    ) -> tuple[Lookup | None, str]:
        """Return the part of a search for which the index is queried, or a note why it is not used.

        A row must contain ``words``; the engine checks ``where``.
        """


def find_kind(search: Search, profile: Profile) -> IndexKind | None:
    """Return the kind of the index that an extension adds to a search; None: none does."""
    from dbctl.extensions import registry

    place = registry.find_place("search_index")
    kind: IndexKind | None = registry.load(place) if place else None
    return kind if kind and kind.covers(search, profile) else None


def list_app_indexes(app: App, name: str) -> Iterator[SearchIndex]:
    """Yield the indexes with a name, or all, that extensions add to an app besides those of its searches.

    Raises:
        FeatureMissingError: the app lacks the feature of the index.
    """
    from dbctl.extensions import registry

    place = registry.find_place("app_indexes")
    yield from registry.load(place)(app, name) if place else ()


def list_added_indexes(app: App, database: str) -> Iterator[tuple[Search, SearchIndex]]:
    """Yield the searches of one database with an index that an extension adds, and that index."""
    for search in app.profile.search:
        kind = find_kind(search, app.profile) if search.database == database else None
        if kind and search.table in app.reader(database).tables():
            yield search, kind.create_index(app, search)
