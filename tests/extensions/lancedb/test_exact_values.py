"""Values of every type survive export and import, as the library itself reads them."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FLOATS = st.floats(width=64) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2])
SINGLES = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -0.0, 2.0**-149])
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "\0", 'a,"b"\n', "NaN", "\\x00", "'=1"]
)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1))  # noqa: DTZ001 - of a column without a zone
TYPES = {
    "tiny": (pa.int8(), st.integers(-128, 127)),
    "big": (pa.int64(), st.integers(-(1 << 63), (1 << 63) - 1)),
    "unsigned": (pa.uint64(), st.integers(0, (1 << 64) - 1) | st.just((1 << 64) - 1)),
    "single": (pa.float32(), SINGLES),
    "double": (pa.float64(), FLOATS),
    "flag": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXTS),
    "bytes": (pa.binary(), st.binary()),
    "time": (pa.timestamp("us"), TIMES),
    "instant": (pa.timestamp("us", tz="UTC"), TIMES.map(lambda time: time.replace(tzinfo=UTC))),
    "day": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    # the library refuses NaN in vectors of a fixed size
    "numbers": (
        pa.list_(pa.float32(), 3),
        st.lists(SINGLES.filter(lambda n: not math.isnan(n)), min_size=3, max_size=3),
    ),
    "precise": (pa.list_(pa.float64()), st.lists(FLOATS, min_size=1)),
    "object": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.integers(0, 1 << 62), "b": TEXTS}),
    ),
    "list": (pa.list_(pa.string()), st.lists(st.none() | TEXTS)),
    "decimal": (pa.decimal128(30, 10), st.decimals(-(10**19), 10**19, places=10)),
}
SCHEMA = pa.schema([("id", pa.int64()), *((name, kind) for name, (kind, _) in TYPES.items())])
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | draw for name, (_, draw) in TYPES.items()}),
    min_size=1,
    max_size=9,
)


def describe(value: object) -> object:
    """Return a value with the bits of its floats, so that NaN equals itself and zeros with different signs differ."""
    if isinstance(value, float):
        return struct.pack("d", math.nan if math.isnan(value) else value)
    if isinstance(value, list):
        return [describe(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value


def read(table):
    rows = lancedb.connect("lance").open_table(table).to_arrow().to_pylist()
    return [
        {name: describe(value) for name, value in row.items()}
        for row in sorted(rows, key=lambda row: row["id"])
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_export_and_import_keep_every_value(form, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')

    def check(rows):
        table = pa.Table.from_pylist([{"id": n, **row} for n, row in enumerate(rows)], schema=SCHEMA)
        lancedb.connect("lance").create_table("kinds", table, mode="overwrite")
        before = read("kinds")
        Path(f"rows.{form}").unlink(missing_ok=True)
        answer("data", "export", "kinds", f"rows.{form}")
        lancedb.connect("lance").create_table("kinds", schema=SCHEMA, mode="overwrite")
        answer("data", "import", "kinds", f"rows.{form}")
        assert read("kinds") == before

    limited = settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    limited(given(ROWS)(check))()
