"""Values as JSON and as text."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.model import Page, Plan, Secret, Struct
from dbctl.render.envelope import line
from dbctl.render.text import escape, fields_of, format_duration, format_time, format_value, jsonable
from dbctl.units import format_size


class Person(Struct, frozen=True, kw_only=True):
    id: int
    extra: dict


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOON, "2026-05-01T12:00:00.000Z"),
        (
            datetime(2026, 5, 1, 14, 0, 0, 123999, tzinfo=timezone(timedelta(hours=2))),
            "2026-05-01T12:00:00.123999Z",
        ),
        (datetime(2026, 5, 1, 12), "2026-05-01T12:00:00.000Z"),  # noqa: DTZ001 - naive times are UTC
        (timedelta(minutes=1), 60),
        (timedelta(milliseconds=1500), 1.5),
        (b"\xff", {"$b64": "/w=="}),
        ("caf\udce9", {"$b64": "Y2Fm6Q=="}),
        ("\ud800", {"$b64": "7aCA"}),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (-float("inf"), "-Infinity"),
        (Decimal("2.50"), 2.5),
        (Decimal("1e3"), 1000),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("NaN"), "NaN"),
        (2**70, 2**70),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        ({3, 1}, [1, 3]),
        ({1: {"a": (None, True)}}, {"1": {"a": [None, True]}}),
    ],
)
def test_value_as_json(value, expected):
    assert jsonable(value) == expected
    assert json.loads(line(value)) == expected


def test_extra_columns_do_not_replace_fields():
    assert jsonable(Person(id=1, extra={"id": 2, "theme": "dark"})) == {"id": 1, "theme": "dark"}


def test_page_has_has_more_and_plan_has_digest():
    assert fields_of(Page(items=[1], total=2, limit=1))["has_more"] is True
    plan = Plan(title="t", target="a/b", steps=["s"], rows={})
    assert jsonable(plan)["digest"] == plan.digest
    fields = {"title", "target", "steps", "rows", "deleted", "destructive", "retained", "failed", "digest"}
    assert set(jsonable(plan)) == fields


@pytest.mark.parametrize(
    "value",
    [Secret("x"), [Secret("x")], {"a": {"b": Secret("x")}}, Person(id=1, extra={"p": Secret("x")}), object()],
)
def test_secret_and_unsupported_type_raise_type_error(value):
    with pytest.raises(TypeError):
        jsonable(value)
    with pytest.raises(TypeError):
        format_value("p", value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN)
def test_every_value_is_one_line_of_ascii_json(value):
    text = line(value)
    assert text.isascii()
    assert text.count("\n") == 1
    json.loads(text)


@given(PLAIN)
def test_every_value_is_formatted_on_one_escaped_line(value):
    formatted = format_value("x", value)
    assert escape(formatted) == formatted
    assert formatted


@given(st.text(alphabet=st.characters(codec=None)))
def test_escaped_text_has_no_control_characters(text):
    shown = escape(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not {"\n", "\r", "\t", "\x1b", "\x9b", "\u202e", "\u200b", "\u2028", "\u2029"} & set(shown)
    assert escape(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[0m", "a\\x1b[0m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\udcff", "\\udcff"),
        ("日　本", "日　本"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escaped_characters(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=3, minutes=59), "3 h ago"),
        (timedelta(hours=47), "1 d ago"),
    ],
)
def test_recent_time_is_shown_as_age(ago, expected):
    assert format_time(NOON - ago, NOON) == expected


@pytest.mark.parametrize(
    "when",
    [
        NOON - timedelta(days=3),
        NOON + timedelta(hours=1),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_other_times_are_shown_as_date(when):
    assert format_time(when, NOON)[4] == "-"


def test_year_before_1000_has_four_digits():
    assert format_time(datetime(17, 2, 3, 12, 30, tzinfo=UTC), NOON).startswith("0017-02-0")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1258291, "1.2 MiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_format_size(count, expected):
    assert format_size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (59, "59 s"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (90_061, "1 d 1 h"),
        (-60, "-1 min"),
    ],
)
def test_format_duration(seconds, expected):
    assert format_duration(seconds) == expected


def test_field_suffix_selects_size_or_duration_format():
    assert [format_value(name, 2048) for name in ("bytes", "wal_bytes", "play_seconds", "id")] == [
        "2.0 KiB",
        "2.0 KiB",
        "34 min 8 s",
        "2048",
    ]
