"""The sources of the rows of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import structs

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Query
from dbctl.model import PageRequest


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
