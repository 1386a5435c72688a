"""Columns that are true in one row at most, such as the one chat that somebody has open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.base import AllOf, AnyOf, Condition, Not, Where, Writable
from dbctl.model import counted
from dbctl.profiles.codecs import read_boolean
from dbctl.profiles.model import Exclusive
from dbctl.services.apps import App
from dbctl.services.change import exactly
from dbctl.services.live import Live, find_column


class Others:
    """Rows that lose what one row of their table is about to get."""

    def __init__(
        self,
        app: App,
        database: str,
        live: Live,
        at: Sequence[Where],
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        """Look for them.

        Args:
            app: the app.
            database: the one in which the table is.
            live: the table.
            at: the conditions that find the row.
            before: the row as it is.
            after: the columns that change.
        """
        self.columns = set[str]()  #: those of the row that are about nothing else
        self._live, self._losing = live, dict[str, tuple[list[Where], int]]()
        for told in app.profile.exclusive:
            if (told.database or app.main()) == database and told.table == live.name:
                self._look(told, at, before, after)

    def _look(
        self,
        told: Exclusive,
        at: Sequence[Where],
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        column, within = (find_column(self._live.table, name) for name in (told.column, told.within))
        if column is None or not ({column, within} & set(after)):
            return
        self.columns.add(column)
        row = {**before, **after}
        if not read_boolean(row[column]):
            return
        unset = [Condition(column, "=", None), Condition(column, "=", self._live.encode(column, False))]  # noqa: FBT003 - the value itself
        where: list[Where] = [Not(AnyOf(unset)), Not(AllOf(at))]
        where += [Condition(within, "=", row[within])] if within else []
        if number := self._live.db.count(self._live.name, where):
            self._losing[column] = (where, number)

    def steps(self) -> list[str]:
        """Return what happens to them, for the plan."""
        unset = {column: self._live.encode(column, False) for column in self._losing}  # noqa: FBT003 - as above
        return [
            f"change {column} of {counted(number, 'other row')} to {unset[column]}"
            for column, (_, number) in self._losing.items()
        ]

    @property
    def rows(self) -> int:
        """How many they are."""
        return sum(number for _, number in self._losing.values())

    @property
    def taken(self) -> list[str]:
        """The columns that they lose."""
        return list(self._losing)

    def take(self, db: Writable) -> None:
        """Take it from them."""
        for column, (where, number) in self._losing.items():
            unset = {column: self._live.encode(column, False)}  # noqa: FBT003 - as above
            exactly(db.update(self._live.name, unset, where), number, db)
