"""One table that cannot be read does not hide the others."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from tests import servers

COMMANDS = pytest.mark.parametrize("words", [("schema", "show"), ("stats", "tables", "--exact")])


@pytest.mark.needs_extension("salvage")
@COMMANDS
def test_damaged_table_of_sqlite_does_not_hide_others(words, tmp_path, capsys):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "create table a (n); create table b (n); insert into a values (1); insert into b values (2)"
        )
        ((page,),) = database.execute("select rootpage from sqlite_master where name = 'a'")
        ((size,),) = database.execute("pragma page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    assert_others_are_read(words, path, capsys)
    with closing(sqlite3.connect(path)) as database:
        database.executescript("drop table b")
    assert main([*words, "--url", f"main={path}", "-o", "json"]) == 4  # no table can be read
    assert "restore recover" in json.loads(capsys.readouterr().out)["error"]["hint"]


@COMMANDS
def test_table_of_another_role_does_not_hide_others(words, capsys):
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection:
            connection.execute(
                "create table a (n integer); create table b (n integer); insert into b values (2); grant select on b to pg_monitor"
            )
        assert_others_are_read(
            words, f"{servers.text(url, schema=False)}?options=-crole%3Dpg_monitor", capsys
        )


@COMMANDS
def test_table_of_missing_parts_does_not_hide_others(words, capsys):
    with servers.mysql_database() as url:
        with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
            for sql in (
                "create table part (n integer) engine = myisam",
                "create table a (n integer) engine = merge union = (part)",
                "drop table part",
                "create table b (n integer)",
                "insert into b values (2)",
            ):
                cursor.execute(sql)
        assert_others_are_read(words, servers.text(url), capsys)


def assert_others_are_read(words, url, capsys):
    assert main([*words, "--url", f"main={url}", "-o", "json"]) == 12
    response = json.loads(capsys.readouterr().out)
    (warning,) = response["warnings"]
    assert ": a (" in warning
    rows = {item["table"]: item["rows"] for item in response["data"]["items"]}
    assert rows == ({"a": None, "b": 1} if words[0] == "schema" else {"b": 1})
