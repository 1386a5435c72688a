"""Columns that are true in at most one row, such as the open chat of a user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Where, Writable
from dbctl.errors.connection import ConstraintError
from dbctl.model import format_count
from dbctl.profiles.codecs import read_boolean
from dbctl.profiles.model.integrity import Exclusive
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable, find_column


class SingleTrueUpdate:
    """Rows whose column becomes false because it becomes true in another row."""

    def __init__(
        self,
        app: App,
        database: str,
        live: LiveTable,
        row_conditions: Sequence[Where],
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        """Find the rows for a change of the row with these conditions; ``after`` has its changed columns."""
        self.columns = set[str]()  #: columns of the row that a rule covers
        self._live, self._updates = live, dict[str, tuple[list[Where], int]]()
        row = {**before, **after}
        for rule in _find_rules(app, database, live):
            column, within = _columns(live, rule)
            if column is None or not ({column, within} & set(after)):
                continue
            self.columns.add(column)
            where: list[Where] = [_is_set(live, column), Not(AllOf(row_conditions))]
            where += [Condition(within, "=", row[within])] if within else []
            if read_boolean(row[column]) and (number := live.db.count(live.name, where)):
                self._updates[column] = (where, number)

    def plan_steps(self) -> list[str]:
        """Return the steps of the plan."""
        unset = {column: self._live.encode(column, False) for column in self._updates}  # noqa: FBT003 - the value itself
        return [
            f"change {column} of {format_count(number, 'other row')} to {unset[column]}"
            for column, (_, number) in self._updates.items()
        ]

    @property
    def row_count(self) -> int:
        """The number of changed rows."""
        return sum(number for _, number in self._updates.values())

    @property
    def changed_columns(self) -> list[str]:
        """The names of the changed columns."""
        return list(self._updates)

    def apply(self, db: Writable) -> None:
        """Set the columns to false."""
        for column, (where, number) in self._updates.items():
            unset = {column: self._live.encode(column, False)}  # noqa: FBT003 - the value itself
            require_row_count(db.update(self._live.name, unset, where), number, db)


@contextmanager
def guard_single_true(app: App, database: str, live: LiveTable, columns: Collection[str]) -> Iterator[None]:
    """Refuse added rows that make a column true in several rows.

    Raises:
        ConstraintError: the number of such rows has grown; existing violations are ignored.
    """
    rules = [rule for rule in _find_rules(app, database, live) if _columns(live, rule)[0] in columns]
    before = [_count_true(live, rule) for rule in rules]
    yield
    for rule, count_before in zip(rules, before, strict=True):
        conflicts = [
            owner for owner, count in _count_true(live, rule).items() if count > max(1, count_before[owner])
        ]
        if conflicts:
            scope = f" of one {rule.within}" if rule.within else ""
            others = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
            owner_text = f": {conflicts[0]}{others}" if rule.within else ""
            reason = f"{rule.column} of {live.name} may be true in a single row{scope}, but would be in several{owner_text}"
            raise ConstraintError(target=live.db.target, reason=reason)


def _find_rules(app: App, database: str, live: LiveTable) -> list[Exclusive]:
    rules = app.profile.exclusive
    return [rule for rule in rules if rule.table == live.name and app.resolve_database(rule) == database]


def _count_true(live: LiveTable, rule: Exclusive) -> Counter[object]:
    """Return the number of rows in which the column is true, by the value of ``within``."""
    where, within = [_is_set(live, live.column(rule.column))], find_column(live.table, rule.within)
    if within is None:
        return Counter({None: live.db.count(live.name, where)})
    return Counter(owner for (owner,) in live.db.select(live.name, [within], where))


def _columns(live: LiveTable, rule: Exclusive) -> tuple[str | None, str | None]:
    return find_column(live.table, rule.column), find_column(live.table, rule.within)


def _is_set(live: LiveTable, column: str) -> Where:
    unset = [Condition(column, "=", None), Condition(column, "=", live.encode(column, False))]  # noqa: FBT003 - the value itself
    return Not(AnyOf(unset))
