"""Values of the report as text for people, with the exact value for programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dbctl.render.human import format_duration
from dbctl.render.values import jsonable
from dbctl.report_page.elements import Html, element
from dbctl.units import format_size

MISSING = "–"
_DAY = timedelta(days=1)


def show_number(value: float | None, *, signed: bool = False) -> Html:
    """Return a number with separators, and its exact value."""
    if value is None:
        return _show_missing()
    is_integer = isinstance(value, int) or value == int(value)
    number = int(value) if is_integer else round(value, 1)
    text = _sign(f"{number:,}", value, signed=signed)
    return element("data", text, value=value, class_=None if value else "zero")


def show_size(value: int | None, *, signed: bool = False) -> Html:
    """Return bytes as ``1.2 MiB``."""
    if value is None:
        return _show_missing()
    return element("data", _sign(format_size(value), value, signed=signed), value=value)


def show_time(value: datetime | None, *, created_at: datetime) -> Html:
    """Return a time as its age up to two days, otherwise as a date, in UTC."""
    if value is None:
        return _show_missing()
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    age = created_at - value
    exact = f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    is_recent = timedelta(0) <= age < 2 * _DAY
    text = f"{format_duration(int(age.total_seconds()), parts=1)} ago" if is_recent else f"{value:%Y-%m-%d}"
    return element("time", text, datetime=jsonable(value), title=exact)


def show_duration(value: timedelta | float | None) -> Html:
    """Return a duration as ``3 min 20 s``."""
    if value is None:
        return _show_missing()
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return element("data", format_duration(seconds), value=seconds)


def _sign(text: str, value: float, *, signed: bool) -> str:
    text = text.replace("-", "\u2212")
    return f"+{text}" if signed and value > 0 else text


def _show_missing() -> Html:
    return element("span", MISSING, class_="missing")
