"""The sides of ``data diff`` and ``schema diff``: names, backups, migrations, and bad input."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from tests import servers

CONFIGURATION = """
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "shop.db"
[apps.shop.backup]
repository = "backups"
[apps.shop.migrations]
main = "migrations"
"""
TABLES = [
    "create table users (id integer primary key, name text, password_hash text)",
    "insert into users values (1, 'ann', 'first'), (2, 'bob', 'second'), (3, null, null)",
    "create table words (word text primary key, size real)",
    "insert into words values (null, 1), (null, 1), ('x', 9e999)",
    "create table log (line text, raw blob)",
    "insert into log values ('a', x'00ff'), ('a', x'00ff'), ('b', null)",
    "create view names as select name from users",
]


def run(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Create an app with one database, and a copy of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    for path in ("shop.db", "copy.db"):
        run(path, *TABLES)
    return tmp_path


def diff(answer, *words, status=0):
    response = answer("data", "diff", *words, status=status)
    return response["data"] or response["error"]


def test_backup_is_compared_with_its_database(answer, shop):
    backup = answer("backup", "create")["data"]["id"]
    run("shop.db", "update users set name = 'eve' where id = 2", "delete from users where id = 3")
    for names in (["backup:latest", "shop/main"], [f"backup:{backup}", "shop"], ["backup:latest", "main"]):
        result = diff(answer, *names)
        (users,) = [table for table in result["tables"] if not table["equal"]]
        assert (users["only_a"], users["changed"]) == (1, 1)
        assert users["rows"][0]["a"] == {"name": "bob"}
        assert users["rows"][0]["b"] == {"name": "eve"}
    assert result["a"].startswith(f"backup {backup}")
    assert diff(answer, "backup:20000101_000000", "shop", status=5)["code"] == "backup-missing"
    run("shop.db", "alter table users add column mail text")
    answer("schema", "diff", "backup:latest", "shop", "--check", status=4)


def test_damaged_backup_is_not_reported_as_a_damaged_database(answer, shop):
    answer("backup", "create")
    (file,) = shop.glob("backups/shop/*/*.gz")
    os.truncate(file, file.stat().st_size - 20)
    assert diff(answer, "backup:latest", "shop", status=4)["code"] == "backup-corrupt"


def test_secrets_are_masked(answer, shop):
    run("copy.db", "update users set password_hash = 'third' where id = 1")
    (row,) = diff(answer, "shop.db", "copy.db", "--table", "users")["tables"][0]["rows"]
    assert row["a"] == row["b"] == {"password_hash": "***"}
    (row,) = diff(answer, "shop.db", "copy.db", "--table", "users", "--secrets")["tables"][0]["rows"]
    assert (row["a"], row["b"]) == ({"password_hash": "first"}, {"password_hash": "third"})


def test_rows_without_a_key_are_counted(answer, shop):
    assert diff(answer, "shop.db", "copy.db")["equal"] is True
    run(
        "copy.db",
        "delete from log where rowid = 1",
        "insert into words values (null, 1)",
        "insert into log values ('a', x'00')",
    )
    tables = {table["table"]: table for table in diff(answer, "shop.db", "copy.db")["tables"]}
    assert (tables["log"]["only_a"], tables["log"]["only_b"], tables["log"]["key"]) == (1, 1, [])
    assert tables["log"]["rows"][0]["a"] == {"line": "a", "raw": "\\x00ff"}
    assert (tables["words"]["only_a"], tables["words"]["only_b"]) == (0, 1)


def test_rows_without_a_primary_key_are_matched_by_a_unique_index(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("first.db", "second.db"):
        run(
            path,
            "create table users (name text unique, admin integer)",
            "create table tags (name text, note text)",
            "create unique index tag on tags (name)",
            "create table rare (name text, note text)",
            "create unique index some on rare (name) where note is not null",
            "insert into users values ('ada', 0)",
            "insert into tags values (null, 'a')",
            "insert into rare values ('b', 'a')",
        )
    run("second.db", "update users set admin = 1", "update tags set note = 'c'", "update rare set note = 'c'")
    tables = {table["table"]: table for table in diff(answer, "first.db", "second.db")["tables"]}
    assert (tables["users"]["key"], tables["users"]["changed"]) == (["name"], 1)
    assert tables["users"]["rows"][0]["key"] == {"name": "ada"}
    for name in ("tags", "rare"):  # NULL is no key, nor is a partial index one
        assert (tables[name]["key"], tables[name]["only_a"], tables[name]["only_b"]) == ([], 1, 1)


def test_columns_of_one_side_are_reported_and_others_compared(answer, shop):
    run("copy.db", "alter table users drop column password_hash", "alter table users add column mail text")
    run("copy.db", "update users set name = 'zoe' where id = 1", "create table more (id integer primary key)")
    result = diff(answer, "shop.db", "copy.db")
    (users,) = [table for table in result["tables"] if not table["equal"]]
    assert (users["columns_only_a"], users["columns_only_b"], users["changed"]) == (
        ["password_hash"],
        ["mail"],
        1,
    )
    assert (result["tables_only_a"], result["tables_only_b"]) == ([], ["more"])


def test_empty_databases_are_equal(answer, shop):
    for path in ("first.db", "second.db"):
        run(path, "create table t (id integer)", "drop table t")
    assert diff(answer, "first.db", "second.db", "--check")["equal"] is True
    assert diff(answer, "first.db", "shop.db")["tables_only_b"] == ["log", "users", "words"]


def test_hostile_names_are_compared(answer, shop):
    name = 'a"b`; drop table users; --\\é\n'
    quoted = '"' + name.replace('"', '""') + '"'
    for path in ("shop.db", "copy.db"):
        run(path, f'create table {quoted} ({quoted} text primary key, "select" text)')
    run("copy.db", f"insert into {quoted} values ('k', 'v')")
    (table,) = [table for table in diff(answer, "shop.db", "copy.db")["tables"] if not table["equal"]]
    assert (table["table"], table["rows"][0]["b"]) == (name, {name: "k", "select": "v"})
    answer("schema", "diff", "shop.db", "copy.db", "--check")


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["shop.db", "shop.db"], 2, "sides-same"),
        (["shop.db", "shop"], 2, "sides-same"),
        (["shop", "./shop.db"], 2, "sides-same"),
        (["shop/other", "copy.db"], 5, "database-unknown"),
        (["shp", "copy.db"], 5, "side-missing"),
        (["shop", "missing.db"], 5, "side-missing"),
        (["shop", "sqlite:///nowhere/missing.db"], 10, "database-missing"),
        (["shop", "postgresql://nobody@127.0.0.1:1/none"], 10, "unreachable"),
        (["shop", "copy.db", "--table", "users", "--table", "user"], 5, "table-missing"),
        (["shop", "copy.db", "--table", "names"], 2, "usage"),
        (["shop", "text.db"], 4, "not-a-database"),
        (["shop", "copy.db", "--limit", "0"], 2, "usage"),
        (["shop"], 2, "usage"),
    ],
)
def test_bad_input_is_refused(answer, shop, words, status, code):
    (shop / "text.db").write_text("no database" * 1000)
    assert diff(answer, *words, "--timeout", "1", status=status)["code"] == code


def test_locked_database_is_busy(answer, shop):
    with closing(sqlite3.connect("copy.db", isolation_level=None)) as db:
        db.execute("begin exclusive")
        assert diff(answer, "shop", "copy.db", "--timeout", "0", status=11)["code"] == "busy"


# Schemas ---------------------------------------------------------------------------------------------------------


def schema_differences(answer, *words):
    return {
        (item["object"], item["name"], item["change"])
        for item in answer("schema", "diff", *words)["data"]["differences"]
    }


def test_schema_differences_are_reported(answer, shop):
    run("copy.db", "alter table users add column mail text not null default ''", "drop table log")
    run("copy.db", "create index users_name on users (name)", "drop view names")
    assert schema_differences(answer, "shop.db", "copy.db") == {
        ("table", "table log", "only a"),
        ("view", "view names", "only a"),
        ("column", "users.mail", "only b"),
        ("index", "index users_name of users", "only b"),
    }


def test_migrations_are_a_side(answer, shop):
    (shop / "migrations").mkdir()
    script = ";\n".join(sql for sql in TABLES if sql.startswith("create"))
    (shop / "migrations" / "001_first.sql").write_text(f"{script};\n")
    assert schema_differences(answer, "shop", "migrations") == set()
    run("shop.db", "alter table users add column mail text")
    assert schema_differences(answer, "migrations", "shop") == {("column", "users.mail", "only b")}


def test_objects_of_tables_of_postgresql_are_compared(answer, shop):
    statements = """create table t (id integer generated {identity} as identity ({increment}), a integer, b integer);
        create table p (at date) partition by range (at);
        create table p_old partition of p for values from (minvalue) to ('{year}-01-01');
        create rule keep as on delete to t do {action} nothing;
        create statistics joint ({kind}) on a, b from t;"""
    first = {
        "identity": "always",
        "increment": "increment 1",
        "year": 2024,
        "action": "also",
        "kind": "ndistinct",
    }
    second = {
        "identity": "by default",
        "increment": "increment 5",
        "year": 2025,
        "action": "instead",
        "kind": "mcv",
    }
    with servers.postgresql_schema() as url, servers.postgresql_schema() as other_url:
        with closing(servers.connection(url)) as connection:
            connection.execute(statements.format(**first))
        with closing(servers.connection(other_url)) as connection:
            connection.execute(statements.format(**second))
        assert schema_differences(answer, servers.text(url), servers.text(other_url)) == {
            ("column", "t.id", "differs"),
            ("option", "an option of t", "only b"),
            ("partition", "partition p_old of p", "differs"),
            ("rule", "rule keep of t", "differs"),
            ("statistics", "statistics joint of t", "differs"),
        }


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_schemas_of_different_engines_are_compared(answer, shop, engine):
    run("shop.db", "drop table log", "drop table words")
    run(
        "shop.db",
        "create table posts (id integer primary key, author integer references users (id) on delete cascade)",
    )
    database = servers.postgresql_schema() if engine == "postgresql" else servers.mysql_database()
    with database as url:
        answer("transfer", "run", "--to", servers.text(url), "--derive", "--app", "shop")
        differences = schema_differences(answer, "shop", servers.text(url))
        assert {item for item in differences if "dbctl_" not in item[1]} == set()
        run("shop.db", "alter table posts add column title text")
        assert ("column", "posts.title", "only a") in schema_differences(answer, "shop", servers.text(url))
