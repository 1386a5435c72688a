"""``stats history``: the points of a table; it stores none."""

from __future__ import annotations

import pytest

from dbctl.errors.operations import TableNotSampledError
from dbctl.extensions.reports.history import list_table_points
from dbctl.model import PageRequest, now
from tests.services.test_history import blog, create_sample

__all__ = ["blog"]


def test_history_without_samples_stores_none(blog, answer):
    answer("stats", "history")
    assert not (blog / "state").exists()


def test_unknown_table_is_not_found():
    series = {("blog", "main"): [create_sample(now())]}
    with pytest.raises(TableNotSampledError):
        list_table_points(series, "post", PageRequest())
    page = list_table_points(series, "posts", PageRequest(limit=1))
    assert [(point.rows, point.rows_change) for point in page.items] == [(10, None)]
