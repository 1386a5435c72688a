"""Lists brought into order and cut."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors import UsageError
from dbctl.model import Value, Window
from dbctl.services.app.pagination import page_of

FIELD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers())
    | st.datetimes(timezones=st.just(UTC))
)


class Thing(Value, frozen=True, kw_only=True):
    n: int
    field: object = None


def ordered(values, sort):
    things = [Thing(n=n, field=value) for n, value in enumerate(values)]
    return [one.field for one in page_of(things, Thing, Window(sort=sort)).items]


@given(st.lists(FIELD), st.sampled_from(["field", "-field"]))
def test_values_of_any_kind_have_an_order_with_what_is_missing_last(values, sort):
    found = ordered(values, sort)
    assert len(found) == len(values)
    missing = values.count(None)
    assert found[len(found) - missing :] == [None] * missing


def test_numbers_sort_as_numbers_and_text_without_its_case():
    assert ordered([10, 9, "b", "A", "c", 2.5], "field") == [2.5, 9, 10, "A", "b", "c"]
    old, new = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    assert ordered([old, None, new], "-field") == [new, old, None]


@given(st.integers(0, 30), st.none() | st.integers(1, 30), st.integers(0, 40))
def test_parts_follow_each_other(count, limit, offset):
    page = page_of([Thing(n=n) for n in range(count)], Thing, Window(limit=limit, offset=offset))
    end = count if limit is None else min(count, offset + limit)
    assert [one.n for one in page.items] == list(range(offset, end))
    assert page.total == count
    assert page.has_more is (limit is not None and offset + len(page.items) < count) or not page.items


def test_an_order_by_nothing_that_is_there_is_refused():
    with pytest.raises(UsageError, match="known: n, field"):
        page_of([], Thing, Window(sort="-colour"))
