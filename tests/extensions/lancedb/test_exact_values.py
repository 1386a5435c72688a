"""Values of every type survive export and import, as the library itself reads them."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, timedelta
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
# Python has no local time before year 1, so the test itself could not read a zoned time of the first hours
ZONED_TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is separate
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
    "numbers": (pa.list_(pa.float32(), 3), st.lists(st.none() | SINGLES, min_size=3, max_size=3)),
    "precise": (pa.list_(pa.float64()), st.lists(st.none() | FLOATS, min_size=1)),
    "object": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.integers(0, 1 << 62), "b": TEXTS}),
    ),
    "list": (pa.list_(pa.string()), st.lists(st.none() | TEXTS)),
    "zoned": (pa.timestamp("us", tz="America/St_Johns"), ZONED_TIMES),
    "clock": (pa.time64("us"), st.times()),
    "duration": (pa.duration("us"), st.timedeltas(timedelta(-(10**6)), timedelta(10**6))),
    "decimal": (pa.decimal128(30, 10), st.decimals(-(10**19), 10**19, places=10)),
}
#: The library adds no NaN in vectors of a fixed size; dbctl updates such rows by their key.
KEY = pa.field("id", pa.int64(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
SCHEMA = pa.schema([KEY, *((name, kind) for name, (kind, _) in TYPES.items())])
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


@pytest.mark.slow
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


MICROSECONDS = 1_710_054_000_000_000
#: Columns whose values are compared by literals of their own, with one value, its text, and a text that the column cannot have.
COMPARED = {
    "zoned": (pa.timestamp("us", tz="America/St_Johns"), MICROSECONDS, "2024-03-10T07:00:00Z", None),
    "offset": (
        pa.timestamp("ms", tz="+05:30"),
        MICROSECONDS // 1000,
        "2024-03-10T07:00:00Z",
        "2024-03-10T07:00:00.0001Z",
    ),
    "day": (pa.date32(), 19792, "2024-03-10", "2024-03-10T07:00:00Z"),
    "plain": (pa.timestamp("us"), MICROSECONDS, "2024-03-10T07:00:00Z", "2024-03-10T07:00:00.123456789Z"),
    "precise": (pa.timestamp("ns"), MICROSECONDS * 1000 + 789, "2024-03-10T07:00:00.000000789Z", None),
    "decimal": (pa.decimal128(38, 10), Decimal("5.0000000001"), "5.0000000001", "5.00000000001"),
    "long": (
        pa.decimal128(38, 10),
        Decimal(f"{'9' * 28}.{'9' * 10}"),
        f"{'9' * 28}.{'9' * 10}",
        f"{'9' * 28}.{'9' * 11}",
    ),
    "longer": (
        pa.decimal256(76, 10),
        Decimal(f"{'9' * 66}.{'1' * 10}"),
        f"{'9' * 66}.{'1' * 10}",
        f"{'9' * 66}.{'1' * 11}",
    ),
    "clock": (pa.time64("us"), 3_723_000_004, "01:02:03.000004", "25:00"),
    "short_clock": (pa.time32("s"), 3723, "01:02:03", "01:02:03.5"),
    "duration": (pa.duration("us"), 86_400_000_001, "86400.000001", "0.0000001"),
    "bytes": (pa.binary(), b"\x00\xff", "\\x00ff", "00ff"),
    "uuid": (pa.binary(4), b"\x00\xff\x01\x02", "\\x00ff0102", "00ff"),
    "unsigned": (pa.uint64(), (1 << 64) - 1, "18446744073709551615", "18446744073709551616"),
}


@pytest.mark.parametrize("name", COMPARED)
def test_conditions_and_changes_have_exact_values(name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    arrow_type, value, text, invalid = COMPARED[name]
    other = type(value)() if isinstance(value, Decimal | int) else bytes(4)
    kinds = pa.table({"id": [1, 2, 3], "value": pa.array([value, other, None], arrow_type)})
    lancedb.connect("lance").create_table("kinds", kinds)

    def select(condition):
        data = answer("data", "rows", "kinds", "--filter", f"value{condition}")["data"]
        return [row["id"] for row in data["items"]]

    assert select(f"={text}") == [1]
    assert select(f"!={text}") == [2]
    assert select(f"<{text}") == [2]
    for form in ("csv", "jsonl"):
        answer("data", "export", "kinds", f"rows.{form}")
        lancedb.connect("lance").create_table("kinds", schema=kinds.schema, mode="overwrite")
        answer("data", "import", "kinds", f"rows.{form}")
        assert lancedb.connect("lance").open_table("kinds").to_arrow() == kinds
    answer("data", "set", "kinds", "--filter", "id=2", f"value={text}", "--yes")
    stored = lancedb.connect("lance").open_table("kinds").search().where("id = 2").to_arrow()
    assert stored["value"].combine_chunks() == kinds["value"].combine_chunks()[:1]
    if invalid:
        error = answer("data", "set", "kinds", "--filter", "id=2", f"value={invalid}", "--yes", status=2)[
            "error"
        ]
        assert error["code"] == "value-invalid"


INSIDE = pa.struct(
    [
        ("at", pa.timestamp("us", tz="UTC")),
        ("exact", pa.timestamp("ns")),
        ("day", pa.date32()),
        ("raw", pa.binary()),
        ("price", pa.decimal128(9, 2)),
        ("takes", pa.duration("ms")),
        ("parts", pa.list_(pa.struct([("clock", pa.time64("us")), ("tags", pa.list_(pa.string()))]))),
    ]
)
DOCUMENT = {
    "at": MICROSECONDS,
    "exact": MICROSECONDS * 1000 + 1,
    "day": 19792,
    "raw": b"\0\xff",
    "price": Decimal("1.50"),
    "takes": -3,
    "parts": [{"clock": 5, "tags": []}, {"clock": None, "tags": ["ü'", None]}],
}
#: Columns whose values Python or the library converts only in part, with two values.
RARE = {
    "list of bytes": (pa.list_(pa.binary()), [[b"\0\xff", None], [None]]),
    "map of bytes": (pa.map_(pa.string(), pa.binary(2)), [[("a", b"\0\xff"), ("b", None)], []]),
    "map of clocks": (pa.map_(pa.string(), pa.time64("us")), [[("a", 1), ("b", None)], []]),
    "map of durations": (pa.map_(pa.string(), pa.duration("ns")), [[("a", 1), ("b", None)], []]),
    "map of times": (pa.map_(pa.time32("s"), pa.timestamp("ns")), [[(1, 1), (2, None)], []]),
    "numbers of a dictionary": (pa.dictionary(pa.int8(), pa.int64()), [7, -1]),
    "bytes of a dictionary": (pa.dictionary(pa.int32(), pa.binary()), [b"\0\xff", b""]),
    "seconds after Python's years": (pa.timestamp("s", tz="Europe/Berlin"), [253_402_300_800, 0]),
    "microseconds after Python's years": (pa.timestamp("us"), [(1 << 63) - 1, 1 - (1 << 63)]),
    "days before Python's years": (pa.date32(), [-1_000_000, 19792]),
    "milliseconds after Python's years": (pa.date64(), [86_400_000 * 3_000_000, 0]),
}
#: Columns whose values a change removes, with two values.
UNDONE = {
    **RARE,
    "fixed": (pa.list_(pa.float32(), 2), [[math.nan, 0.1], [None, -math.inf]]),
    "half": (pa.list_(pa.float16(), 2), [[math.nan, 1.5], [None, -0.0]]),
    "free": (pa.list_(pa.float64()), [[], [math.nan, None]]),
    "vectors": (pa.list_(pa.list_(pa.float32(), 2)), [[[math.nan, 1.5], None], []]),
    "day": (pa.date32(), [date(2024, 3, 10), date(1, 1, 1)]),
    "single": (pa.float32(), [math.nan, -0.0]),
    "texts": (pa.list_(pa.string()), [[], ["a'\"", None]]),
    "pairs": (pa.map_(pa.string(), pa.int64()), [[("a'", 1 << 62), ("b", None)], []]),
    "inside": (INSIDE, [DOCUMENT, dict.fromkeys(DOCUMENT)]),
}


@pytest.mark.parametrize("name", UNDONE)
def test_undo_restores_the_exact_values_of_changed_and_deleted_rows(name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    arrow_type, values = UNDONE[name]
    schema = pa.schema([KEY, pa.field("value", arrow_type)])
    kinds = pa.table([[1, 2, 3], pa.array([*values, None], arrow_type)], schema=schema)
    lancedb.connect("lance").create_table("kinds", kinds)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    everything = ("data", "set", "kinds", "--filter", "id>0", "--null", "value")
    for command in (everything, ("data", "delete", "kinds", "--filter", "id>0")):
        answer(*command, "--yes")
        operation = answer("audit", "list")["data"]["items"][0]["operation"]
        undone = answer("undo", str(operation), "--yes")["data"]
        stored = lancedb.connect("lance").open_table("kinds").to_arrow().sort_by("id")["value"]
        assert str(stored.drop_null().combine_chunks()) == str(kinds["value"].drop_null().combine_chunks())
        assert stored.is_null().to_pylist() == [False, False, True]
        assert undone["differing"] == {}


@pytest.mark.parametrize("name", RARE)
def test_copies_keep_values_of_rare_types(name, answer, tmp_path, monkeypatch):
    """A backup called a copy with nanoseconds in a map corrupt, and an import refused what the export had written."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text(
        '[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n'
        'backup = { repository = "backups", keep = { last = 1 } }\n'
    )
    arrow_type, values = RARE[name]
    schema = pa.schema([KEY, pa.field("value", arrow_type)])
    kinds = pa.table([[1, 2, 3], pa.array([*values, None], arrow_type)], schema=schema)
    lancedb.connect("lance").create_table("kinds", kinds)
    answer("backup", "create")
    for form in ("csv", "jsonl"):
        answer("data", "export", "kinds", f"rows.{form}")
        lancedb.connect("lance").create_table("kinds", schema=schema, mode="overwrite")
        answer("data", "import", "kinds", f"rows.{form}")
        assert str(lancedb.connect("lance").open_table("kinds").to_arrow()) == str(kinds)
    lancedb.connect("lance").create_table("kinds", schema=schema, mode="overwrite")
    answer("restore", "apply", "latest", "--yes")
    assert str(lancedb.connect("lance").open_table("kinds").to_arrow()) == str(kinds)


def test_condition_with_more_digits_than_the_column_selects_no_row(answer, tmp_path, monkeypatch):
    """It was rounded to 28 digits, and then selected the row with the rounded value."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    digits = "1234567890123456789012345678.1234567891"
    kinds = pa.table({"id": [1], "value": pa.array([Decimal(digits)], pa.decimal128(38, 10))})
    lancedb.connect("lance").create_table("kinds", kinds)
    for condition, ids in (
        (f"={digits}", [1]),
        (f"={digits[:-1]}05", []),
        (f">{digits[:-1]}05", [1]),
        (f"<{digits}1", [1]),
    ):
        data = answer("data", "rows", "kinds", "--filter", f"value{condition}")["data"]
        assert [row["id"] for row in data["items"]] == ids


SORTED = {
    "half": (pa.float16(), [1.5, -0.5, math.inf]),
    "category": (pa.dictionary(pa.int8(), pa.int64()), [20, 3, 100]),
    "flag": (pa.dictionary(pa.int8(), pa.bool_()), [True, False, True]),
}


@pytest.mark.parametrize("name", SORTED)
def test_rows_are_sorted_by_rare_types(name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    arrow_type, values = SORTED[name]
    kinds = pa.table({"id": [1, 2, 3, 4], "value": pa.array([*values, None], arrow_type)})
    lancedb.connect("lance").create_table("kinds", kinds)
    rows = answer("data", "rows", "kinds", "--sort", "value")["data"]["items"]
    assert [row["id"] for row in rows] == [2, 1, 3, 4]
    first = json.dumps(rows[0]["value"])
    assert answer("data", "rows", "kinds", "--filter", f"value={first}")["data"]["items"] == rows[:1]


def test_document_of_another_form_is_refused(answer, tmp_path, monkeypatch):
    """A field that the column lacks was dropped."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    kinds = pa.table([[1], pa.array([DOCUMENT], INSIDE)], schema=pa.schema([KEY, ("value", INSIDE)]))
    lancedb.connect("lance").create_table("kinds", kinds)
    for value in ('{"other": 1}', "[1]", '{"parts": {}}', '{"raw": "no"}', '{"at": "soon"}'):
        code = answer("data", "set", "kinds", "1", f"value={value}", "--yes", status=None)["error"]["code"]
        assert code in {"value-invalid", "constraint"}
    assert lancedb.connect("lance").open_table("kinds").to_arrow() == kinds


def test_date_is_shown_without_a_time(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    kinds = pa.table({"id": [1, 2], "value": pa.array([date(2024, 3, 10), None])})
    lancedb.connect("lance").create_table("kinds", kinds)
    rows = answer("data", "rows", "kinds")["data"]["items"]
    assert [row["value"] for row in rows] == ["2024-03-10", None]


def test_condition_without_a_literal_is_refused(answer, tmp_path, monkeypatch):
    """It selected no row, and with != every row."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    kinds = pa.table({"id": [1, 2], "value": [["a"], ["b"]]})
    lancedb.connect("lance").create_table("kinds", kinds)
    for condition in ('value=["a"]', 'value!=["a"]'):
        words = ("data", "delete", "kinds", "--filter", condition, "--yes")
        assert answer(*words, status=2)["error"]["code"] == "not-supported"
    assert lancedb.connect("lance").open_table("kinds").to_arrow() == kinds


def test_vector_of_no_numbers_is_refused(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    kinds = pa.table({"id": [1], "value": pa.array([[0.5, 1.5]], pa.list_(pa.float32(), 2))})
    lancedb.connect("lance").create_table("kinds", kinds)
    for value in ('["a", 1]', "[[1], 2]", "{}"):
        error = answer("data", "add", "kinds", "id=2", f"value={value}", "--yes", status=2)["error"]
        assert error["code"] == "value-invalid"
    assert answer("data", "rows", "kinds", "--sort", "value", status=2)["error"]["code"] == "not-supported"
    assert lancedb.connect("lance").open_table("kinds").to_arrow() == kinds


@pytest.mark.parametrize(
    ("arrow_type", "large", "largest"),
    [
        (pa.float64(), "1e309", "1.7e308"),
        (pa.float64(), "-1e309", "-inf"),
        (pa.float32(), "1e39", "3.4e38"),
        (pa.float16(), "65520", "65504"),
        (pa.list_(pa.float32(), 2), "[1e39, 1]", "[3.4e38, 1]"),
        (pa.list_(pa.float16(), 2), "[65520, null]", "[65504, Infinity]"),
        (pa.struct([("x", pa.float32())]), '{"x": 1e39}', '{"x": -Infinity}'),
        (pa.struct([("x", pa.float64())]), '{"x": 1e400}', '{"x": 1e308}'),
        (pa.list_(pa.float64()), "[1e400]", "[1e308, Infinity]"),
    ],
)
def test_number_that_would_become_infinite_is_refused(
    arrow_type, large, largest, answer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    lancedb.connect("lance").create_table("kinds", schema=pa.schema([KEY, ("value", arrow_type)]))
    error = answer("data", "add", "kinds", "id=1", f"value={large}", status=2)["error"]
    assert error["code"] == "value-invalid"
    answer("data", "add", "kinds", "id=1", f"value={largest}")
    assert lancedb.connect("lance").open_table("kinds").count_rows() == 1


def test_document_in_other_words_is_accepted_again(answer, tmp_path, monkeypatch):
    """The second run was refused, as if a trigger had reverted the change."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    document = pa.struct([("x", pa.int32()), ("y", pa.string())])
    kinds = pa.table([[1], pa.array([None], document)], schema=pa.schema([KEY, ("value", document)]))
    lancedb.connect("lance").create_table("kinds", kinds)
    for _ in range(2):
        answer("data", "set", "kinds", "1", 'value={"x":1}')
        (row,) = lancedb.connect("lance").open_table("kinds").to_arrow().to_pylist()
        assert row == {"id": 1, "value": {"x": 1, "y": None}}


def test_undo_restores_deleted_rows_in_one_version(answer, tmp_path, monkeypatch):
    """Each row was a version, and a failure between two of them left some rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    kinds = pa.table([list(range(30)), [None, "a"] * 15], schema=pa.schema([KEY, ("value", pa.string())]))
    lancedb.connect("lance").create_table("kinds", kinds)
    answer("data", "delete", "kinds", "--filter", "id>3", "--yes")
    answer("undo", str(answer("audit", "list")["data"]["items"][0]["operation"]), "--yes")
    table = lancedb.connect("lance").open_table("kinds")
    assert (table.version, table.to_arrow().sort_by("id")) == (3, kinds)


def test_plan_of_undo_requires_columns_that_were_added_since(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    table = lancedb.connect("lance").create_table("kinds", pa.table([[1, 2]], schema=pa.schema([KEY])))
    answer("data", "delete", "kinds", "1", "--yes")
    table.checkout_latest()
    table.add_columns({"required": "1"})
    operation = str(answer("audit", "list")["data"]["items"][0]["operation"])
    assert answer("undo", operation, "--dry-run", status=6)["error"]["code"] == "undo-impossible"
