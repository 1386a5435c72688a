"""Sort lists in memory and cut them to the requested page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from dbctl.errors import UsageError
from dbctl.model import Page, PageRequest, Struct

V = TypeVar("V", bound=Struct)


def paginate(items: Sequence[V], item_type: type[V], page_request: PageRequest) -> Page[V]:
    """Return the page of ``items`` that ``page_request`` requests; items without a value of the sort field come last.

    Raises:
        UsageError: ``item_type`` does not have the sort field.
    """
    field = page_request.sort.removeprefix("-")
    if field and field not in item_type.__struct_fields__:
        known = ", ".join(item_type.__struct_fields__)
        raise UsageError(detail=f"--sort: no field {field!r}; known: {known}")
    if field:
        with_value = [item for item in items if getattr(item, field) is not None]
        with_value.sort(
            key=lambda item: _sort_key(getattr(item, field)), reverse=page_request.sort.startswith("-")
        )
        items = with_value + [item for item in items if getattr(item, field) is None]
    end = None if page_request.limit is None else page_request.offset + page_request.limit
    return Page(
        items=items[page_request.offset : end],
        total=len(items),
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=item_type.__struct_fields__,
    )


def _sort_key(value: object) -> tuple[int, float, str]:
    """Return a sort key for values of any type: numbers, then times, then text without regard to case."""
    if isinstance(value, int | float):
        return 0, value, ""
    if isinstance(value, datetime):
        return 1, value.timestamp(), ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return 0, len(value), ""
    return 2, 0, str(value).casefold()
