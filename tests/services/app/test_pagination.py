"""Sorting and pagination of lists."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.usage import UsageError
from dbctl.model import PageRequest, Struct
from dbctl.services.app.results import paginate

FIELD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers())
    | st.datetimes(timezones=st.just(UTC))
)


class Item(Struct, frozen=True, kw_only=True):
    n: int
    field: object = None


def sort_values(values, sort):
    items = [Item(n=n, field=value) for n, value in enumerate(values)]
    return [item.field for item in paginate(items, Item, PageRequest(sort=sort)).items]


@given(st.lists(FIELD), st.sampled_from(["field", "-field"]))
def test_values_of_any_type_sort_with_missing_last(values, sort):
    sorted_values = sort_values(values, sort)
    assert len(sorted_values) == len(values)
    missing = values.count(None)
    assert sorted_values[len(sorted_values) - missing :] == [None] * missing


def test_numbers_sort_as_numbers_and_text_without_case():
    assert sort_values([10, 9, "b", "A", "c", 2.5], "field") == [2.5, 9, 10, "A", "b", "c"]
    old, new = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    assert sort_values([old, None, new], "-field") == [new, old, None]


@given(st.integers(0, 30), st.none() | st.integers(1, 30), st.integers(0, 40))
def test_pages_are_consecutive(count, limit, offset):
    page = paginate([Item(n=n) for n in range(count)], Item, PageRequest(limit=limit, offset=offset))
    end = count if limit is None else min(count, offset + limit)
    assert [item.n for item in page.items] == list(range(offset, end))
    assert page.total == count
    assert page.has_more is (limit is not None and offset + len(page.items) < count) or not page.items


def test_unknown_sort_field_is_refused():
    with pytest.raises(UsageError, match="known: n, field"):
        paginate([], Item, PageRequest(sort="-colour"))
