"""Codecs: values round-trip, and every format of deployments can be read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.model import TimeForm
from dbctl.profiles import codecs
from dbctl.profiles.codecs import BOOLEANS, KEYS, TIMES, read_boolean, read_time

#: The range of times in which milliseconds and seconds can be distinguished.
TIMESTAMPS = st.datetimes(datetime(1973, 3, 4), datetime(5000, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - the time zone is a separate argument
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
EXACT = {
    "iso-ms": timedelta(0),
    "epoch-ms": timedelta(0),
    "sqlite-time": timedelta(seconds=1),
    "epoch-s": timedelta(seconds=1),
}


@pytest.mark.parametrize(
    ("names", "implemented"), [(TimeForm, TIMES), (codecs.BooleanCodec, BOOLEANS), (codecs.KeyCodec, KEYS)]
)
def test_codec_names_match_implemented_codecs(names, implemented):
    assert set(get_args(names)) == set(implemented)


@pytest.mark.parametrize("codec", TIMES)
@given(time=TIMESTAMPS)
def test_time_round_trips(codec, time):
    read = read_time(TIMES[codec](time))
    assert timedelta(0) <= time - read
    assert time - read < EXACT[codec] or time == read


@pytest.mark.parametrize("codec", TIMES)
@given(time=TIMESTAMPS, hours=st.integers(-12, 14))
def test_time_zone_does_not_change_stored_value(codec, time, hours):
    other_zone = time.astimezone(timezone(timedelta(hours=hours)))
    assert TIMES[codec](other_zone) == TIMES[codec](time)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - the time zone is a separate argument
def test_text_formats_support_any_year(time):
    assert read_time(TIMES["iso-ms"](time)) == time.replace(microsecond=time.microsecond // 1000 * 1000)
    assert read_time(TIMES["sqlite-time"](time)) == time.replace(microsecond=0)


@pytest.mark.parametrize(
    "stored",
    [
        "2026-01-02T03:04:05.000Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05.000",
        " 2026-01-02T03:04:05+00:00 ",
        "2026-01-02T04:04:05+01:00",
        1_767_323_045_000,
        1_767_323_045,
        1_767_323_045.0,
        datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - as drivers give columns without a zone
        datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_time_is_read_in_every_format(stored):
    assert read_time(stored) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "stored",
    [None, "", "soon", "2026-13-01", 10**30, float("nan"), float("inf"), "0001-01-01T00:00:00+10:00"],
)
def test_invalid_time_is_none(stored):
    assert read_time(stored) is None


@given(st.none() | st.text() | st.integers() | st.floats() | st.binary())
def test_any_stored_value_is_time_or_none(stored):
    read = read_time(stored)
    assert read is None or read.tzinfo is UTC


@pytest.mark.parametrize("codec", BOOLEANS)
@pytest.mark.parametrize("value", [False, True])
def test_boolean_round_trips(codec, value):
    assert read_boolean(BOOLEANS[codec][value]) is value


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(value, True) for value in (1, 2, "1", " TRUE ", "t", "on", True)]
    + [(value, False) for value in (0, "0", "false", "f", "", None, "no")],
)
def test_boolean_is_read_in_every_format(stored, expected):
    assert read_boolean(stored) is expected


def test_new_uuids_are_valid_and_unique():
    keys = {KEYS["uuid4"]() for _ in range(100)}
    assert len(keys) == 100
    assert all(uuid.UUID(key).version == 4 for key in keys)
