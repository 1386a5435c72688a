"""A filter that rows of other sessions meet: the server refuses the change, and the hint names a filter that it accepts."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests import servers
from tests.rewriting_proxy import open_proxy

pytestmark = pytest.mark.mariadb


@pytest.mark.parametrize("words", [["delete", "t"], ["set", "t", "n=1"]])
def test_hint_excludes_rows_that_other_sessions_add(words, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
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
            """Add a row after the snapshot of each change has begun."""
            if sql.startswith((b"delete", b"update")):
                cursor.execute("insert into t (state) values ('new')")
            return sql

        with open_proxy(url, add_row) as (_, own):
            command = ["--profile", "plain", "--url", f"main={own}", "data", *words, "--yes"]
            command += ["--filter", "state=new"]
            error = answer(*command, status=11)["error"]
            result = answer(*command, "--filter", "id<=2")
    assert (error["code"], "--filter 'id<=" in error["hint"]) == ("concurrent-change", True)
    assert result["data"]["matched"] == 2
