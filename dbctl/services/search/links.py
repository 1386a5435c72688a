"""Columns of a search's items that stand in other tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.engines.contract import Condition, Readable
from dbctl.model import Row
from dbctl.profiles.model import Search
from dbctl.services.search.compiler import lacking, links


class Links:
    """Those of one search that the live schema has."""

    def __init__(self, search: Search, db: Readable) -> None:
        self._db, tables = db, db.tables()
        found = {name: (links(column.path)[0], column.at) for name, column in search.linked.items()}
        self._found = {
            name: (link, at)
            for name, (link, at) in found.items()
            if not [
                *lacking(tables, search.table, [], [link]),
                *lacking(tables, link.table, [at], []),
            ]
        }

    @property
    def names(self) -> list[str]:
        """What they are called."""
        return list(self._found)

    def starts(self, names: Collection[str]) -> list[str]:
        """Return the columns of the table itself that are needed to find those in ``names``."""
        return [link.column for name, (link, _) in self._found.items() if name in names]

    def added(self, rows: Sequence[Row], names: Collection[str]) -> list[Row]:
        """Return rows with the columns in ``names``; NULL where a link leads nowhere."""
        added = [dict(row) for row in rows]
        for name, (link, at) in self._found.items():
            if name not in names:
                continue
            keys = list({row[link.column] for row in added if row[link.column] is not None})
            found = (
                self._db.select(link.table, [link.to, at], [Condition(link.to, "in", keys)]) if keys else []
            )
            values = {row[0]: row[1] for row in found}
            for item in added:
                item[name] = values.get(item[link.column])
        return list[Row](added)
