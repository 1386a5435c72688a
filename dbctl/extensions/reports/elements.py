"""Elements, tables and values of HTML and SVG: every text and every attribute is escaped, because names come from databases."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from dbctl.render.text import escape, format_duration, jsonable
from dbctl.units import format_size

T = TypeVar("T")


class Html(str):
    """Markup that is safe to insert."""

    __slots__ = ()


#: A child of an element: text is escaped, None is omitted.
Node: TypeAlias = "Html | str | None"

_VOID = frozenset({"meta", "path", "line", "rect", "circle", "col"})


def element(name: str, /, *children: Node, **attributes: object) -> Html:
    """Return an element; an underscore in the name of an attribute is a hyphen, one at its end is dropped, None omits it."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{pairs}>" if name == "meta" else f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{join(*children)}</{name}>")


def join(*nodes: Node) -> Html:
    """Return nodes one after the other."""
    return Html(
        "".join(node if isinstance(node, Html) else _escape(node) for node in nodes if node is not None)
    )


def _escape(text: str) -> str:
    """Return text as HTML; control characters and bidi overrides, which change how a page looks, are visible."""
    return html.escape(escape(text))


class Column(NamedTuple, Generic[T]):
    label: str
    show: Callable[[T], Node]
    kind: Literal["number", "wide"] | None = None  #: wide: its texts are long


def create_table(caption: str, columns: Sequence[Column[T]], items: Iterable[T]) -> Html:
    """Return a table with a row for each item; the first cell of each row is its header."""
    # A style that changes the display of a table removes its roles in some browsers, so they are explicit.
    heads = [
        element(
            "th",
            column.label,
            scope="col",
            role="columnheader",
            class_="number" if column.kind == "number" else None,
        )
        for column in columns
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *(_create_row(columns, item) for item in items), role="rowgroup"),
        role="table",
    )


def _create_row(columns: Sequence[Column[T]], item: T) -> Html:
    first, *others = columns
    cells = (
        element("td", column.show(item), role="cell", class_=column.kind, data_label=column.label)
        for column in others
    )
    return element("tr", element("th", first.show(item), scope="row", role="rowheader"), *cells, role="row")


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
