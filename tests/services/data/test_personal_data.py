"""``users export-data`` writes the rows of one user in every database to a file, without secrets."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.databases import empty_database
from tests.services.flashpoint_app import SHAPES, TOKEN, create_app, query_rows, run_statements
from tests.shapes import chat_lancedb, promptvault, waqtor


@pytest.fixture
def export(tmp_path, monkeypatch, answer):
    """Return a function that exports the data of a user and returns the content of the file, or the error."""
    monkeypatch.chdir(tmp_path)

    def export_user(login, *words, status=0):
        exported = answer(*words, "users", "export-data", login, "user.json", status=status)
        if status:
            return exported["error"]
        content = json.loads(Path("user.json").read_text(encoding="utf-8"))
        rows_in_file = {
            f"{name}/{table}": len(table_rows)
            for name, tables in content["databases"].items()
            for table, table_rows in tables.items()
        }
        assert exported["data"]["rows"] == rows_in_file
        return content

    return export_user


@pytest.mark.parametrize("shape", SHAPES)
def test_export_contains_all_rows_of_the_user_and_no_secrets(tmp_path, export, shape):
    path = create_app(tmp_path / "app", shape)
    run_statements(path, "insert into activity_logs (user_id, username, action) values (1, 'root', 'x')")
    exported = export("ann", "--config", str(path.parent / "dbctl.toml"))
    assert stat.S_IMODE(Path("user.json").stat().st_mode) == 0o600
    user_rows = exported["databases"]["user"]
    assert exported["user"]["login"] == "ann"
    assert [row["username"] for row in user_rows["users"]] == ["ann"]
    for table in ("refresh_tokens", "user_game_plays", "user_settings", "user_stats", "activity_logs"):
        count = query_rows(path, f"select count(*) from {table} where user_id = 2")[0][0]
        assert len(user_rows[table]) == count > 0, table
        assert {row["user_id"] for row in user_rows[table]} == {2}
    assert {row["username"].lower() for row in user_rows["login_attempts"]} == {"ann", "ann@example.org"}
    assert not {"roles", "system_settings"} & user_rows.keys()
    text = Path("user.json").read_text(encoding="utf-8")
    assert TOKEN not in text
    assert "$2" not in text
    assert set(exported["left_out"]) == {"user/users.password_hash", "user/refresh_tokens.token"}


def test_secrets_are_exported_only_with_the_option(tmp_path, answer, monkeypatch):
    path = create_app(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    answer("users", "export-data", "ann", "with.json", "--secrets")
    assert TOKEN in Path("with.json").read_text(encoding="utf-8")


def test_existing_file_and_unknown_user_are_refused(tmp_path, export):
    path = create_app(tmp_path / "app", "document")
    config = ("--config", str(path.parent / "dbctl.toml"))
    assert export("nobody", *config, status=5)["code"] == "user-missing"
    assert not Path("user.json").exists()
    Path("user.json").write_text("mine")
    assert export("ann", *config, status=6)["code"] == "file-exists"
    assert Path("user.json").read_text() == "mine"


@pytest.mark.needs_extension("lancedb")
def test_export_contains_related_rows_of_other_databases(tmp_path, export):
    chat_lancedb.deployed(tmp_path / "chat.db")
    chat_lancedb.create_vectors(tmp_path / "lancedb")
    exported = export(
        chat_lancedb.ANON,
        *("--profile", "chat-lancedb", "--url", f"chat={tmp_path}/chat.db"),
        *("--url", f"vectors=lancedb:{tmp_path}/lancedb"),
    )["databases"]
    assert {row["id"] for row in exported["chat"]["chats"]} == {chat_lancedb.PYTHON, chat_lancedb.GARDEN}
    assert {row["id"] for row in exported["chat"]["attachments"]} == {"att-1", "att-2"}, (
        "attachments of the user's messages"
    )
    assert chat_lancedb.THEIR not in {row["id"] for row in exported["chat"]["messages"]}
    (vectors,) = exported["vectors"].values()
    assert {row["user_id"] for row in vectors} <= {chat_lancedb.ANON}
    assert vectors


def test_export_excludes_rows_of_other_users_that_refer_to_the_user(tmp_path, export):
    promptvault.deployed(tmp_path / "vault.db")
    with closing(sqlite3.connect(tmp_path / "vault.db")) as connection:
        (email, ident) = connection.execute(
            'select u.email, u.id from "User" u join "Prompt" p on p."userId" = u.id join "Rating" r on r."promptId" = p.id'
            ' where r."userId" <> u.id limit 1'
        ).fetchone()
    exported = export(email, "--profile", "promptvault", "--url", f"main={tmp_path}/vault.db")["databases"][
        "main"
    ]
    assert {row["userId"] for row in exported["Prompt"]} == {ident}
    assert {row["userId"] for row in exported.get("Rating", [])} <= {ident}


@pytest.mark.parametrize("shape", ["deployed", "document"])
def test_export_follows_the_foreign_keys_of_postgresql(export, shape):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        getattr(waqtor, shape)(connection)
        exported = export("ana@waqtor.example", "--profile", "waqtor", "--url", f"main={servers.text(url)}")
        user_rows = exported["databases"]["main"]
        for table in ("messages", "campaigns", "recipients", "groups", "whatsapp_sessions"):
            assert {row["user_id"] for row in user_rows[table]} == {waqtor.ANA}, table
        assert user_rows["recipient_groups"], "rows of a join table"
        assert not any("session_data" in row or "qr_code" in row for row in user_rows["whatsapp_sessions"])


def test_other_secrets_in_a_table_of_settings_are_left_out(tmp_path, export):
    Path("club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[databases.main]\nengines = ["sqlite"]\n'
        'secret = ["choices.api_token"]\n[users]\ntable = "people"\nid = { column = "id" }\nlogin = ["login"]\n'
        'admin = false\nfields = { login = "login" }\n[[settings]]\nscope = "user"\ntable = "choices"\n'
        'user = "person"\nkey = "name"\nfields = { value = "val" }\nsecret = ["key*"]\n'
    )
    with closing(sqlite3.connect("club.db")) as connection, connection:
        connection.execute("create table people (id integer primary key, login text)")
        connection.execute("create table choices (person integer, name text, val text, api_token text)")
        connection.execute("insert into people values (1, 'ann')")
        connection.execute("insert into choices values (1, 'color', 'red', 'hush'), (1, 'key', 'hush', null)")
    exported = export("ann", "--profile", "club.toml", "--url", "club.db")
    rows = exported["databases"]["main"]["choices"]
    assert [(row["name"], row["val"]) for row in rows] == [("color", "red"), ("key", "***")]
    assert exported["left_out"] == ["main/choices.api_token"]
    assert "hush" not in Path("user.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_rows_that_refer_to_the_login_or_to_several_columns_of_the_user_are_exported(
    tmp_path, export, engine
):
    Path("club.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "club"\ntitle = "Club"\n[databases.main]\n'
        'engines = ["sqlite", "postgresql", "mysql"]\n[users]\ntable = "people"\nid = { column = "id" }\n'
        'login = ["login"]\nadmin = false\nfields = { login = "login" }\n'
    )
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, team integer, login varchar(9) unique, unique (team, id))",
            "create table posts (id integer primary key, author varchar(9),"
            " foreign key (author) references people (login))",
            "create table tasks (id integer primary key, team integer, person integer,"
            " foreign key (team, person) references people (team, id))",
            "insert into people values (1, 7, 'ann'), (2, 7, 'bo'), (3, null, 'cy')",
            "insert into posts values (1, 'ann'), (2, 'bo'), (3, null)",
            "insert into tasks values (1, 7, 1), (2, 7, 2), (3, null, 1)",
        )
        rows = export("ann", "--profile", "club.toml", "--url", f"main={database.url}")["databases"]["main"]
        assert {name: [row["id"] for row in rows[name]] for name in rows} == {
            "people": [1],
            "posts": [1],
            "tasks": [1],
        }
