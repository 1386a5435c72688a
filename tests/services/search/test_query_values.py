"""Values of searches: times and ranges of time, and values that are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.usage import ValueInvalidError
from dbctl.services.search.query_parser import Key, TimeRange, parse_time_range, parse_value

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def create_time(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2024", create_time(2024, 1, 1), create_time(2025, 1, 1)),
        ("2024-02", create_time(2024, 2, 1), create_time(2024, 3, 1)),
        ("2024-12", create_time(2024, 12, 1), create_time(2025, 1, 1)),
        ("2024-02-29", create_time(2024, 2, 29), create_time(2024, 3, 1)),
        ("2024-05-01T10:30", create_time(2024, 5, 1, 10, 30), create_time(2024, 5, 1, 10, 31)),
        ("2024-05-01 10:30:05", create_time(2024, 5, 1, 10, 30, 5), create_time(2024, 5, 1, 10, 30, 6)),
        ("2024-05-01T10:30:05Z", create_time(2024, 5, 1, 10, 30, 5), create_time(2024, 5, 1, 10, 30, 6)),
        (
            "2024-05-01T10:30:05.250+02:00",
            create_time(2024, 5, 1, 8, 30, 5, 250_000),
            create_time(2024, 5, 1, 8, 30, 5, 251_000),
        ),
        ("7d", create_time(2026, 1, 24, 12), create_time(2026, 1, 24, 12)),
        ("1d12h", create_time(2026, 1, 30, 0), create_time(2026, 1, 30, 0)),
    ],
)
def test_time_range_has_precision_of_the_text(text: str, begin: datetime, end: datetime) -> None:
    assert parse_time_range("when", text, NOW) == TimeRange(begin, end)


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
def test_invalid_times_are_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="a time is written"):
        parse_time_range("when", text, NOW)


@given(st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - the time zone is a separate argument
def test_formatted_time_is_in_its_range(time: datetime) -> None:
    for text in (
        f"{time:%Y-%m-%dT%H:%M:%S}".zfill(19),
        time.isoformat(timespec="milliseconds"),
        time.date().isoformat(),
    ):
        time_range = parse_time_range("when", text, NOW)
        assert time_range.begin <= time < time_range.end
        assert time_range.end - time_range.begin <= timedelta(days=1)


@given(
    st.text(max_size=120), st.sampled_from(["text", "number", "duration", "date", "time", "count", "boolean"])
)
def test_any_text_is_parsed_or_refused(text: str, kind: str) -> None:
    try:
        value = parse_value(Key("k", kind), text)  # type: ignore[arg-type]
    except ValueInvalidError:
        return
    assert isinstance(value, {"text": str, "date": str, "time": str, "boolean": bool}.get(kind, int | float))
