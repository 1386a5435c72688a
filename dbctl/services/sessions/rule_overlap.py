"""The number of rows for each cleanup rule, after the changes and deletions of the previous rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Condition, Not, Readable, ShiftedTime, Where
from dbctl.model import Struct
from dbctl.profiles.codecs import read_time


class _Rows(Struct, frozen=True):
    """Rows that the previous rules changed in the same way."""

    where: Sequence[Where]  #: conditions on their current values
    changed: Mapping[str, object]  #: the new values of columns


class RuleOverlap:
    """Conditions of the rows of each table, after the previous rules."""

    def __init__(self) -> None:
        self._rows: dict[str, list[_Rows]] = defaultdict(lambda: [_Rows((), {})])

    def count_and_apply(
        self,
        db: Readable,
        table: str,
        due: Sequence[Condition],
        values: Mapping[str, object] | None,
    ) -> int:
        """Count the rows that a rule selects, and apply the rule to them.

        Args:
            db: the database of the table.
            table: the table of the rule.
            due: the conditions of a row that is due.
            values: the new values of columns; None: the rule deletes the rows.
        """
        count, remaining = 0, list[_Rows]()
        for rows in self._rows[db.target + "/" + table]:
            conditions = _before(due, rows.changed)
            if conditions is None:
                remaining.append(rows)
                continue
            count += db.count(table, [*rows.where, *conditions])
            remaining.append(_Rows([*rows.where, Not(AllOf(conditions))], rows.changed))
            if values is not None:
                remaining.append(_Rows([*rows.where, *conditions], {**rows.changed, **values}))
        self._rows[db.target + "/" + table] = remaining
        return count


def _before(due: Sequence[Condition], changed: Mapping[str, object]) -> list[Condition] | None:
    """Return the conditions on current values of rows that will meet ``due`` after a change; None: no row will."""
    conditions = []
    for condition in due:
        if condition.column not in changed:
            conditions.append(condition)
            continue
        value = changed[condition.column]
        if isinstance(value, ShiftedTime) and isinstance(condition.value, datetime):
            conditions.append(
                structs.replace(condition, column=value.column, value=condition.value - value.offset)
            )
        elif isinstance(value, ShiftedTime) or not _meets(value, condition):
            return None
    return conditions


def _meets(value: object, condition: Condition) -> bool:
    """Whether a value meets a condition of a rule."""
    expected = condition.value
    if isinstance(expected, datetime):
        time = read_time(value)
        return time is not None and time < expected
    return value in expected if isinstance(expected, list) else value == expected
