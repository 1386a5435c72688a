"""Columns that are true in one row at most, such as the one chat that somebody has open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl.engines.contract import AllOf, AnyOf, Condition, Not, Where, Writable
from dbctl.errors import ConstraintError
from dbctl.model import counted
from dbctl.profiles import read_boolean
from dbctl.profiles.model import Exclusive
from dbctl.services.app import App, Live, exactly, find_column


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
        column, within = _columns(self._live, told)
        if column is None or not ({column, within} & set(after)):
            return
        self.columns.add(column)
        row = {**before, **after}
        if not read_boolean(row[column]):
            return
        where: list[Where] = [_is_set(self._live, column), Not(AllOf(at))]
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


@contextmanager
def kept(app: App, database: str, live: Live, columns: Collection[str]) -> Iterator[None]:
    """Let rows be added that have these columns, unless more of them than one would be true together.

    Raises:
        ConstraintError: more would be; what was so before is not minded.
    """
    told = [one for one in app.profile.exclusive if (one.database or app.main()) == database]
    told = [one for one in told if one.table == live.name and _columns(live, one)[0] in columns]
    before = [_true(live, one) for one in told]
    yield
    for one, known in zip(told, before, strict=True):
        crowded = [owner for owner, number in _true(live, one).items() if number > max(1, known[owner])]
        if crowded:
            of = f" of one {one.within}" if one.within else ""
            more = f" and {len(crowded) - 1} more" if len(crowded) > 1 else ""
            whose = f": {crowded[0]}{more}" if one.within else ""
            reason = f"{one.column} of {live.name} may be true in one row{of}, and would be in several{whose}"
            raise ConstraintError(target=live.db.target, reason=reason)


def _true(live: Live, told: Exclusive) -> Counter[object]:
    """Return how many rows are true, by what only one of them may be true of."""
    column, within = _columns(live, told)
    if column is None:
        return Counter()
    where = [_is_set(live, column)]
    if within is None:
        return Counter({None: live.db.count(live.name, where)})
    return Counter(owner for (owner,) in live.db.select(live.name, [within], where))


def _columns(live: Live, told: Exclusive) -> tuple[str | None, str | None]:
    return find_column(live.table, told.column), find_column(live.table, told.within)


def _is_set(live: Live, column: str) -> Where:
    unset = [Condition(column, "=", None), Condition(column, "=", live.encode(column, False))]  # noqa: FBT003 - the value itself
    return Not(AnyOf(unset))
