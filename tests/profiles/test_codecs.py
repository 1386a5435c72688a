"""Codecs: what they write they read, and they read every form that deployments hold."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors import ValueInvalidError
from dbctl.model import Secret
from dbctl.profiles import codecs
from dbctl.profiles.codecs import BOOLEANS, HASHES, KEYS, TIMES, read_boolean, read_time

#: From when numbers tell milliseconds from seconds, to when they tell seconds from milliseconds.
MOMENTS = st.datetimes(datetime(1973, 3, 4), datetime(5000, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - the zone comes apart
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
EXACT = {
    "iso-ms": timedelta(0),
    "epoch-ms": timedelta(0),
    "sqlite-time": timedelta(seconds=1),
    "epoch-s": timedelta(seconds=1),
}


@pytest.mark.parametrize(
    ("names", "codecs_there_are"),
    [
        (codecs.TimeCodec, TIMES),
        (codecs.BooleanCodec, BOOLEANS),
        (codecs.KeyCodec, KEYS),
        (codecs.HashCodec, HASHES),
    ],
)
def test_the_codecs_that_a_profile_may_name_are_those_there_are(names, codecs_there_are):
    assert set(get_args(names)) == set(codecs_there_are)


@pytest.mark.parametrize("codec", TIMES)
@given(moment=MOMENTS)
def test_a_time_round_trips(codec, moment):
    read = read_time(TIMES[codec](moment))
    assert timedelta(0) <= moment - read
    assert moment - read < EXACT[codec] or moment == read


@pytest.mark.parametrize("codec", TIMES)
@given(moment=MOMENTS, hours=st.integers(-12, 14))
def test_the_zone_of_a_time_does_not_change_what_is_stored(codec, moment, hours):
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert TIMES[codec](elsewhere) == TIMES[codec](moment)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - the zone comes apart
def test_text_forms_hold_any_year(moment):
    assert read_time(TIMES["iso-ms"](moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert read_time(TIMES["sqlite-time"](moment)) == moment.replace(microsecond=0)


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
def test_a_time_is_read_in_every_form(stored):
    assert read_time(stored) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "stored",
    [None, "", "soon", "2026-13-01", 10**30, float("nan"), float("inf"), "0001-01-01T00:00:00+10:00"],
)
def test_what_is_no_time_is_none(stored):
    assert read_time(stored) is None


@given(st.none() | st.text() | st.integers() | st.floats() | st.binary())
def test_anything_stored_is_read_as_a_time_or_none(stored):
    read = read_time(stored)
    assert read is None or read.tzinfo is UTC


@pytest.mark.parametrize("codec", BOOLEANS)
@pytest.mark.parametrize("value", [False, True])
def test_a_boolean_round_trips(codec, value):
    assert read_boolean(BOOLEANS[codec][value]) is value


@pytest.mark.parametrize(
    ("stored", "meant"),
    [(one, True) for one in (1, 2, "1", " TRUE ", "t", "on", True)]
    + [(one, False) for one in (0, "0", "false", "f", "", None, "no")],
)
def test_a_boolean_is_read_in_every_form(stored, meant):
    assert read_boolean(stored) is meant


def test_a_new_uuid_is_one_and_never_the_same():
    made = {KEYS["uuid4"]() for _ in range(100)}
    assert len(made) == 100
    assert all(uuid.UUID(one).version == 4 for one in made)


def test_a_hash_fits_its_password_and_no_other():
    bcrypt = HASHES["bcrypt"]
    stored = bcrypt.make(Secret("pässword"), 4)
    assert bcrypt.recognises(stored)
    assert bcrypt.fits(Secret("pässword"), stored)
    assert not bcrypt.fits(Secret("pässword "), stored)


@pytest.mark.parametrize(("length", "taken"), [(72, True), (73, False)])
def test_a_password_of_more_than_72_bytes_is_refused_instead_of_cut(length, taken):
    secret = Secret("é" + "x" * (length - 2))
    if taken:
        assert HASHES["bcrypt"].fits(secret, HASHES["bcrypt"].make(secret, 4))
    else:
        with pytest.raises(ValueInvalidError, match="72 bytes"):
            HASHES["bcrypt"].make(secret, 4)


def test_a_password_with_a_nul_character_is_refused():
    with pytest.raises(ValueInvalidError, match="NUL") as caught:
        HASHES["bcrypt"].make(Secret("hunter2\0x"), 4)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "stored", ["", "plain", "$2b$04$short", "$2b$99$" + "a" * 53, "$argon2id$v=19$x", "\udcff"]
)
def test_what_is_no_hash_is_not_recognised_and_fits_nothing(stored):
    assert not HASHES["bcrypt"].recognises(stored)
    assert not HASHES["bcrypt"].fits(Secret("x"), stored)


def test_a_made_up_password_has_no_letters_that_look_alike():
    made = codecs.new_password().reveal()
    assert len(made) == 20
    assert not set(made) & set("0O1lIio")
    assert made != codecs.new_password().reveal()
