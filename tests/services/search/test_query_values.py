"""Values of searches: moments and spans of time, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors import ValueInvalidError
from dbctl.services.search.query_values import Key, Span, span, typed

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2024", at(2024, 1, 1), at(2025, 1, 1)),
        ("2024-02", at(2024, 2, 1), at(2024, 3, 1)),
        ("2024-12", at(2024, 12, 1), at(2025, 1, 1)),
        ("2024-02-29", at(2024, 2, 29), at(2024, 3, 1)),
        ("2024-05-01T10:30", at(2024, 5, 1, 10, 30), at(2024, 5, 1, 10, 31)),
        ("2024-05-01 10:30:05", at(2024, 5, 1, 10, 30, 5), at(2024, 5, 1, 10, 30, 6)),
        ("2024-05-01T10:30:05Z", at(2024, 5, 1, 10, 30, 5), at(2024, 5, 1, 10, 30, 6)),
        (
            "2024-05-01T10:30:05.250+02:00",
            at(2024, 5, 1, 8, 30, 5, 250_000),
            at(2024, 5, 1, 8, 30, 5, 251_000),
        ),
        ("7d", at(2026, 1, 24, 12), at(2026, 1, 24, 12)),
        ("1d12h", at(2026, 1, 30, 0), at(2026, 1, 30, 0)),
    ],
)
def test_a_time_is_a_span_as_long_as_it_was_written(text: str, begin: datetime, end: datetime) -> None:
    assert span("when", text, NOW) == Span(begin, end)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "24",
        "2024-13",
        "2024-02-30",
        "0000",
        "2024-5",
        "2024-05-01T25:00",
        "now",
        "9999",
        "99999y",
        "7",
        "-7d",
        "٢٠٢٤",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="a time is written"):
        span("when", text, NOW)


@given(st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - the zone comes apart
def test_a_written_moment_lies_in_its_own_span(moment: datetime) -> None:
    for text in (
        f"{moment:%Y-%m-%dT%H:%M:%S}".zfill(19),
        moment.isoformat(timespec="milliseconds"),
        moment.date().isoformat(),
    ):
        told = span("when", text, NOW)
        assert told.begin <= moment < told.end
        assert told.end - told.begin <= timedelta(days=1)


@given(
    st.text(max_size=120), st.sampled_from(["text", "number", "duration", "date", "time", "count", "boolean"])
)
def test_any_text_is_a_value_or_is_refused(text: str, kind: str) -> None:
    try:
        value = typed(Key("k", kind), text)  # type: ignore[arg-type]
    except ValueInvalidError:
        return
    assert isinstance(value, {"text": str, "date": str, "time": str, "boolean": bool}.get(kind, int | float))
