"""What is left for each cleanup rule once the rules before it are done with the same rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines.base import AllOf, Condition, Later, Not, Readable, Where
from dbctl.model import Value
from dbctl.profiles.codecs import read_time


class _Rows(Value, frozen=True):
    """Rows that the rules so far have treated alike."""

    where: Sequence[Where]  #: what they hold now
    changed: Mapping[str, object]  #: what their columns will hold


class Overlap:
    """The rows of each table as the rules so far will have left them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[_Rows]] = defaultdict(lambda: [_Rows((), {})])

    def take(
        self,
        db: Readable,
        table: str,
        due: Sequence[Condition],
        values: Mapping[str, object] | None,
    ) -> int:
        """Return how many rows a rule will find due, and change them.

        Args:
            db: where they are.
            table: the table of the rule.
            due: the conditions of a row that is due.
            values: what the rule puts into the columns of such rows; None: it deletes them.
        """
        count, left = 0, list[_Rows]()
        for rows in self._rows[db.target + "/" + table]:
            conditions = _before(due, rows.changed)
            if conditions is None:
                left.append(rows)
                continue
            count += db.count(table, [*rows.where, *conditions])
            left.append(_Rows([*rows.where, Not(AllOf(conditions))], rows.changed))
            if values is not None:
                left.append(_Rows([*rows.where, *conditions], {**rows.changed, **values}))
        self._rows[db.target + "/" + table] = left
        return count


def _before(due: Sequence[Condition], changed: Mapping[str, object]) -> list[Condition] | None:
    """Return which rows will meet conditions once their columns are changed, by what they hold now; None: no row will."""
    conditions = []
    for condition in due:
        if condition.column not in changed:
            conditions.append(condition)
            continue
        value = changed[condition.column]
        if isinstance(value, Later) and isinstance(condition.value, datetime):
            conditions.append(
                structs.replace(condition, column=value.column, value=condition.value - value.by)
            )
        elif isinstance(value, Later) or not _meets(value, condition):
            return None
    return conditions


def _meets(value: object, condition: Condition) -> bool:
    """Whether a value meets a condition of a rule."""
    wanted = condition.value
    if isinstance(wanted, datetime):
        moment = read_time(value)
        return moment is not None and moment < wanted
    return value in wanted if isinstance(wanted, list) else value == wanted
