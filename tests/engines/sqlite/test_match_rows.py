"""The condition that columns have the values of one of many rows: the same rows as by one comparison for each value."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.engines.contract.database import AllOf, AnyOf, Condition
from dbctl.engines.sql.query_builder import match_rows
from dbctl.engines.sqlite.database import SQLiteReader

VALUES = [None, 0, 1, 1.0, 2.5, "", "1", "a", "A", b"1", b"a", 2**62]
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module", params=["", "integer", "text", "numeric", "blob"])
def reader(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = ", ".join(f"{name} {request.param}" for name in NAMES)
        connection.execute(f"create table t (id integer primary key, {columns})")
        rows = [(a, b, c) for a in VALUES for b in VALUES for c in VALUES]
        connection.executemany("insert into t (a, b, c) values (?, ?, ?)", rows)
    with closing(SQLiteReader(path, "app/main")) as reader:
        yield reader


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_grouped_terms_select_the_rows_of_single_ones(reader, data):
    stored = reader.select("t", NAMES)
    rows = data.draw(st.lists(st.sampled_from(stored), max_size=30))
    single = [
        AllOf([Condition(name, "=", value) for name, value in zip(NAMES, row, strict=True)]) for row in rows
    ]
    expected = reader.select("t", ["id"], [AnyOf(single)])
    assert reader.select("t", ["id"], [match_rows(NAMES, rows)]) == expected
