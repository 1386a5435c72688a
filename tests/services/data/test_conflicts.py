"""A filter that rows of other sessions meet: the server refuses the change, and the hint names a filter that it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests import servers
from tests.rewriting_proxy import open_proxy

pytestmark = pytest.mark.mariadb


@contextmanager
def open_busy_table(times: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the URL of a table, to which another session adds a row in each of the first transactions that change it; and their number."""
    added = 0
    with (
        servers.mysql_database() as url,
        closing(servers.mysql_connection(url)) as other,
        other.cursor() as cursor,
    ):
        cursor.execute(
            "create table t (id integer primary key auto_increment, state text, n integer default 0)"
        )
        cursor.execute("insert into t (state) values ('new'), ('new')")

        def add_row(sql: bytes) -> bytes:
            """Add a row after the snapshot of the change has begun."""
            nonlocal added
            if sql.startswith((b"delete", b"update")) and added < times:
                cursor.execute("insert into t (state) values ('new')")
                added += 1
            return sql

        with open_proxy(url, add_row) as (_, own):
            yield own, lambda: added


@pytest.mark.parametrize("words", [["delete", "t"], ["set", "t", "n=1"]])
def test_hint_excludes_rows_that_other_sessions_add(words, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with open_busy_table(10**6) as (url, _):
        command = ["--profile", "plain", "--url", f"main={url}", "data", *words, "--yes"]
        # a fast machine repeats the change more often than the default limit has rows
        command += ["--filter", "state=new", "--limit", "1000000"]
        error = answer(*command, status=11)["error"]
        result = answer(*command, "--filter", "id<=2")
    assert (error["code"], "--filter 'id<=" in error["hint"]) == ("concurrent-change", True)
    assert result["data"]["matched"] == 2


def test_short_transaction_is_repeated_more_than_five_times(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with open_busy_table(8) as (url, count_conflicts):
        command = ["--profile", "plain", "--url", f"main={url}", "data", "set", "t", "n=1", "--yes"]
        result = answer(*command, "--filter", "state=new")
    assert (result["data"]["changed"], count_conflicts()) == (10, 8)
