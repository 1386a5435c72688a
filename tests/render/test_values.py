"""Values in JSON and in words."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.model import Page, Plan, Secret, Value
from dbctl.render.envelope import line
from dbctl.render.escaping import escape
from dbctl.render.human import duration, moment, size, words
from dbctl.render.values import fields_of, jsonable


class Person(Value, frozen=True, kw_only=True):
    id: int
    extra: dict


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (NOON, "2026-05-01T12:00:00.000Z"),
        (
            datetime(2026, 5, 1, 14, 0, 0, 123999, tzinfo=timezone(timedelta(hours=2))),
            "2026-05-01T12:00:00.123Z",
        ),
        (datetime(2026, 5, 1, 12), "2026-05-01T12:00:00.000Z"),  # noqa: DTZ001 - what is naive is UTC
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
def test_json_holds(value, told):
    assert jsonable(value) == told
    assert json.loads(line(value)) == told


def test_columns_of_the_app_stand_beside_the_fields_and_replace_none():
    assert jsonable(Person(id=1, extra={"id": 2, "theme": "dark"})) == {"id": 1, "theme": "dark"}


def test_pages_tell_whether_more_follows_and_plans_their_digest():
    assert fields_of(Page(items=[1], total=2, limit=1))["has_more"] is True
    plan = Plan(title="t", target="a/b", steps=["s"], rows={})
    assert jsonable(plan)["digest"] == plan.digest
    assert set(jsonable(plan)) == {"title", "target", "steps", "rows", "destructive", "digest"}


@pytest.mark.parametrize(
    "value",
    [Secret("x"), [Secret("x")], {"a": {"b": Secret("x")}}, Person(id=1, extra={"p": Secret("x")}), object()],
)
def test_a_secret_and_what_has_no_form_are_refused(value):
    with pytest.raises(TypeError):
        jsonable(value)
    with pytest.raises(TypeError):
        words("p", value)


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
def test_every_value_has_words_on_one_harmless_line(value):
    told = words("x", value)
    assert escape(told) == told
    assert told


@given(st.text(alphabet=st.characters(codec=None)))
def test_nothing_that_was_escaped_can_steer_or_hide(text):
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
def test_escape_shows(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("ago", "told"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=3, minutes=59), "3 h ago"),
        (timedelta(hours=47), "1 d ago"),
    ],
)
def test_a_recent_time_is_told_by_its_age(ago, told):
    assert moment(NOON - ago, NOON) == told


@pytest.mark.parametrize(
    "when",
    [
        NOON - timedelta(days=3),
        NOON + timedelta(hours=1),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_any_other_time_is_a_date(when):
    assert moment(when, NOON)[4] == "-"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1258291, "1.2 MiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_sizes(count, told):
    assert size(count) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
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
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_the_name_of_a_field_tells_sizes_and_durations():
    assert [words(name, 2048) for name in ("bytes", "wal_bytes", "play_seconds", "id")] == [
        "2.0 KiB",
        "2.0 KiB",
        "34 min 8 s",
        "2048",
    ]
