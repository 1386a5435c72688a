"""Numbers of new rows that count: one more than the largest of the table, or of the rows with the same value of a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from dbctl.engines.contract.database import Condition, Order
from dbctl.profiles.templates import COUNTER
from dbctl.services.app.live_table import LiveTable


def count_up(
    live: LiveTable, constants: Mapping[str, object], row: Mapping[str, object]
) -> dict[str, object]:
    """Return columns and the next numbers for the counters (``:next(role_id)``) among constants of a profile.

    ``row`` has the stored values of the new row, among them those of the columns that counters name.
    """
    numbers = dict[str, object]()
    for name, constant in constants.items():
        counter = COUNTER.fullmatch(constant) if isinstance(constant, str) else None
        column = live.optional_column(name) if counter else None
        if counter is None or column is None:
            continue
        group = live.optional_column(counter[1])
        where = [Condition(group, "=", row.get(group))] if group else []
        order = [Order([column], descending=True)]
        largest = live.db.select(live.name, [column], where, order_by=order, limit=1)
        numbers[column] = cast("int", largest[0][0] or 0) + 1 if largest else 1
    return numbers
