"""Lists that fit in memory: brought into the order that was asked for, and cut to the part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from dbctl.errors import UsageError
from dbctl.model import Page, Value, Window

V = TypeVar("V", bound=Value)


def page_of(items: Sequence[V], kind: type[V], window: Window) -> Page[V]:
    """Return the part of ``items`` that ``window`` asks for; what has no value of the field comes last.

    Raises:
        UsageError: it asks for an order by a field that ``kind`` does not have.
    """
    field = window.sort.removeprefix("-")
    if field and field not in kind.__struct_fields__:
        known = ", ".join(kind.__struct_fields__)
        raise UsageError(detail=f"--sort: there is no field {field!r}; known: {known}")
    if field:
        with_value = [item for item in items if getattr(item, field) is not None]
        with_value.sort(key=lambda item: _rank(getattr(item, field)), reverse=window.sort.startswith("-"))
        items = with_value + [item for item in items if getattr(item, field) is None]
    end = None if window.limit is None else window.offset + window.limit
    return Page(
        items=items[window.offset : end],
        total=len(items),
        limit=window.limit,
        offset=window.offset,
        names=kind.__struct_fields__,
    )


def _rank(value: object) -> tuple[int, float, str]:
    """Return what values of different kinds sort by: numbers, then times, then text whose case does not count."""
    if isinstance(value, int | float):
        return 0, value, ""
    if isinstance(value, datetime):
        return 1, value.timestamp(), ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return 0, len(value), ""
    return 2, 0, str(value).casefold()
