"""A filter that rows of other sessions meet: the server refuses the change, and the hint names a filter that it accepts."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tests import servers

pytestmark = pytest.mark.mariadb


@pytest.mark.parametrize("words", [["delete", "t"], ["set", "t", "n=1"]])
def test_hint_excludes_rows_that_other_sessions_add(words, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    is_done = threading.Event()
    with (
        servers.mysql_database() as url,
        closing(servers.mysql_connection(url)) as own,
        own.cursor() as cursor,
    ):

        def add_rows() -> None:
            while not is_done.is_set():
                cursor.execute("insert into t (state) values ('new')")

        cursor.execute(
            "create table t (id integer primary key auto_increment, state text, n integer default 0)"
        )
        cursor.execute("insert into t (state) values ('new'), ('new')")
        thread = threading.Thread(target=add_rows)
        thread.start()
        command = ["--profile", "plain", "--url", f"main={url}", "data", *words, "--yes"]
        command += ["--filter", "state=new", "--limit", "1000000"]
        try:
            error = answer(*command, status=11)["error"]
            result = answer(*command, "--filter", "id<=2")
        finally:
            is_done.set()
            thread.join()
    assert (error["code"], "--filter 'id<=" in error["hint"]) == ("concurrent-change", True)
    assert result["data"]["matched"] == 2
