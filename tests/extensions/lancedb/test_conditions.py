"""Conditions on columns of numbers and times, whose values may be more precise than a column, or beyond it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines.contract.database import Condition
from tests.extensions.lancedb import opening

NUMBERS = [Decimal("1.00"), Decimal("1.01"), None, Decimal("-99999999.99")]
MOMENTS = [datetime(2026, 1, 1, 0, 0, 1), datetime(2026, 1, 1), None, datetime(1, 1, 1)]  # noqa: DTZ001 - without a zone


@pytest.mark.parametrize(
    ("column", "op", "value", "ids"),
    [
        ("size", ">", "1.5", [2, 3]),
        ("size", "<=", Decimal("2.5"), [1, 2]),
        ("size", "<", 10**12, [1, 2, 3]),
        ("size", ">=", -(10**12), [1, 2, 3]),
        ("size", ">", "1e999999999", []),
        ("price", "=", "1.005", []),
        ("price", "in", ["1.005", "1.01"], [2]),
        ("price", "<=", "1.005", [1, 4]),
        ("price", ">", "1.005", [2]),
        ("price", "<", "99999999999", [1, 2, 4]),
        ("price", "=", "99999999999", []),
        ("at", "=", "2026-01-01T00:00:00.5Z", []),
        ("at", "<", "2026-01-01T00:00:00.5Z", [2, 4]),
        ("at", ">=", "2026-01-01T00:00:00.5Z", [1]),
        ("day", "<", datetime(2026, 1, 1, 12, tzinfo=UTC), [1, 2, 4]),
        ("day", "=", "2026-01-01T12:00:00Z", []),
        ("lasting", ">", "1.2345", [1]),
    ],
)
def test_values_between_two_of_a_column_are_compared_exactly(tmp_path, column, op, value, ids):
    numbers = {"id": pa.array([1, 2, 3, 4]), "size": pa.array([1, 2, 3, None], pa.int32())}
    values = {
        "price": pa.array(NUMBERS, pa.decimal128(10, 2)),
        "at": pa.array(MOMENTS, pa.timestamp("s")),
        "day": pa.array(MOMENTS, pa.timestamp("s")).cast(pa.date32(), safe=False),
        "lasting": pa.array([1500, 1000, None, 0], pa.duration("ms")),
    }
    lancedb.connect(tmp_path).create_table("t", pa.table(numbers | values))
    reader = opening.open_reader(tmp_path, {"t": ["id"]})
    rows = reader.select("t", ["id"], [Condition(column, op, value)])
    assert sorted(number for (number,) in rows) == ids
