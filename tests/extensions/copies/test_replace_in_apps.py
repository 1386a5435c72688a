"""``data replace`` in apps: secrets and rules of the profile, several databases, full-text indexes, LanceDB."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.profiles.php import dump_php
from tests.databases import File, Folder, empty_database
from tests.services.mysql_samples import WORDPRESS_TABLES
from tests.shapes import chat_lancedb

OLD, NEW = "https://blog.example.org", "https://staging.example.org/wp"
WORDPRESS = f"""
{WORDPRESS_TABLES}insert into wp_users values (1, 'admin', '$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0', 'admin', 'a@example.org', '{OLD}', now(), '', 0, 'Admin');
insert into wp_usermeta values (1, 1, 'wp_capabilities', 'a:1:{{s:13:"administrator";b:1;}}'), (2, 1, 'home', '{dump_php([OLD])}'),
  (3, 1, 'session_tokens', '{dump_php({"a": {"ua": OLD}})}');
insert into wp_options values (1, 'siteurl', '{OLD}', 'yes'), (2, 'admin_email', 'a@example.org', 'yes'),
  (3, 'widget', '{dump_php({"é": [OLD, {"n": 1.5}], "t": True})}', 'yes'), (4, 'my_api_key', '{OLD}/key', 'yes');
insert into wp_posts values (1, 1, 'Hello', 'See {OLD}/?p=1', 'publish', '{OLD}', '{OLD}/?p=1')
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))


@pytest.fixture
def wordpress(tmp_path):
    with empty_database("mysql", tmp_path / "none") as database:
        database.run(*WORDPRESS.strip().split(";\n"))
        configure(tmp_path, "wordpress", main=database.url)
        yield database


def configure(folder, profile, **databases):
    lines = [f'{name} = "{url}"' for name, url in databases.items()]
    text = "\n".join([f'[apps.a]\nprofile = "{profile}"\n[apps.a.databases]', *lines, ""])
    (folder / "dbctl.toml").write_text(text)


def undo_last(answer):
    answer("undo", str(answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]), "--yes")


def test_wordpress_is_moved_and_undone(wordpress, answer):
    before = wordpress.content()
    result = answer("data", "replace", OLD, NEW, "--yes")["data"]
    assert result["rows"] == {"wp_users": 1, "wp_usermeta": 1, "wp_options": 2, "wp_posts": 1}
    assert {(item["table"], item["column"]): item["reason"] for item in result["remaining"]} == {
        ("wp_usermeta", "meta_value"): "secret",
        ("wp_options", "option_value"): "secret",
        ("wp_posts", "post_password"): "secret",
    }
    assert wordpress.rows("select option_value from wp_options where option_id <> 2 order by option_id") == [
        (NEW,),
        (dump_php({"é": [NEW, {"n": 1.5}], "t": True}),),
        (f"{OLD}/key",),
    ]
    assert wordpress.rows("select meta_value from wp_usermeta where umeta_id > 1") == [
        (dump_php([NEW]),),
        (dump_php({"a": {"ua": OLD}}),),
    ]
    undo_last(answer)
    assert wordpress.content() == before


def test_secrets_are_changed_on_request(wordpress, answer):
    planned = answer("data", "replace", OLD, NEW, "--secrets", "--dry-run")["data"]["plan"]
    assert "undo will not restore 3 secrets" in planned["steps"]
    assert answer("data", "replace", OLD, NEW, "--secrets", "--yes")["data"]["remaining"] == []
    assert wordpress.rows("select post_password from wp_posts") == [(NEW,)]
    assert wordpress.rows("select count(*) from wp_usermeta where meta_value like '%blog.example%'") == [(0,)]


def test_rules_of_settings_and_roles_hold(wordpress, answer):
    before = wordpress.content()
    assert answer("data", "replace", OLD, "no address", "--yes", status=2)["error"]["code"] == "value-invalid"
    assert (
        answer("data", "replace", "a@example.org", "nobody", "--yes", status=2)["error"]["code"]
        == "value-invalid"
    )
    (remaining,) = answer("data", "replace", "administrator", "editor", "--yes")["data"]["remaining"]
    assert remaining["reason"] == "names"
    assert wordpress.content() == before


PROFILE = """schema = "dbctl.profile/1"
name = "pair"
title = "Pair"
[databases.main]
engines = ["sqlite"]
[databases.log]
engines = ["sqlite"]
[databases.archive]
engines = ["sqlite"]
mode = "read-only"
owner = "the archive"
"""


@pytest.fixture
def pair(tmp_path):
    files = {name: File(tmp_path / f"{name}.db") for name in ("main", "log", "archive")}
    for name, database in files.items():
        database.run(
            f"create table {name}_rows (id integer primary key, x text unique)",
            f"insert into {name}_rows values (1, 'old')",
        )
    (tmp_path / "pair.toml").write_text(PROFILE)
    configure(tmp_path, "pair.toml", **{name: database.url for name, database in files.items()})
    return files


def test_all_writable_databases_change_together(pair, answer):
    before = {name: database.content() for name, database in pair.items()}
    result = answer("data", "replace", "old", "new", "--yes")["data"]
    assert result["rows"] == {"main_rows": 1, "log/log_rows": 1}
    assert {name: database.rows(f"select x from {name}_rows") for name, database in pair.items()} == {
        "main": [("new",)],
        "log": [("new",)],
        "archive": [("old",)],
    }
    undo_last(answer)
    assert {name: database.content() for name, database in pair.items()} == before


def test_failure_in_one_database_changes_none(pair, answer):
    pair["log"].run("insert into log_rows values (2, 'new')")
    answer("data", "replace", "old", "new", "--yes", status=6)
    assert pair["main"].rows("select x from main_rows") == [("old",)]


def test_selected_database_and_read_only_one(pair, answer):
    assert answer("data", "replace", "old", "new", "--db", "log", "--yes")["data"]["rows"] == {"log_rows": 1}
    assert pair["main"].rows("select x from main_rows") == [("old",)]
    for words in (("--dry-run",), ("--yes",)):
        error = answer("data", "replace", "old", "new", "--db", "archive", *words, status=6)["error"]
        assert error["code"] == "read-only"


def test_full_text_triggers_follow(tmp_path, answer):
    with closing(sqlite3.connect("app.db")) as db, db:
        db.executescript("""create table notes (id integer primary key, body text);
            create virtual table notes_fts using fts5(body, content='notes', content_rowid='id');
            create trigger notes_ai after insert on notes begin insert into notes_fts (rowid, body) values (new.id, new.body); end;
            create trigger notes_au after update on notes begin
              insert into notes_fts (notes_fts, rowid, body) values ('delete', old.id, old.body);
              insert into notes_fts (rowid, body) values (new.id, new.body); end;
            insert into notes values (1, 'an oldword here');""")
    configure(tmp_path, "plain", main="app.db")
    answer("data", "replace", "oldword", "newword", "--yes")
    with closing(sqlite3.connect("app.db")) as db:
        assert db.execute("select body from notes_fts where notes_fts match 'newword'").fetchall()
        db.execute("insert into notes_fts (notes_fts, rank) values ('integrity-check', 1)")


@pytest.mark.needs_extension("lancedb")
def test_lancedb_table_is_changed(tmp_path, answer):
    chat_lancedb.deployed(tmp_path / "chat.db")
    chat_lancedb.create_vectors(tmp_path / "lancedb")
    configure(tmp_path, "chat-lancedb", chat="chat.db", vectors=f"lancedb:{tmp_path}/lancedb")
    before = Folder(tmp_path / "lancedb").content()
    result = answer("data", "replace", "Python", "Cobol", "--yes", status=None)
    assert result["exit_code"] == 0, result
    assert "Python" not in str(Folder(tmp_path / "lancedb").content()), result
    undo_last(answer)
    assert Folder(tmp_path / "lancedb").content() == before
