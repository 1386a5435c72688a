"""Secrets of tables that no profile describes are guessed by names, forms and random values; other keys and digests are shown."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.databases import empty_database, from_url

KEY, COOKIE, RANDOM = "plain words 1", "plain words 2", "q7Zt1LxV0bNs5KdR9wYc3HfA"
SHOWN = {
    "uuid": "40078e32-786f-598a-bb44-8acb81c37339",
    "content_hash": hashlib.sha256(b"x").hexdigest(),
    "etag": "q7Zt1LxV0bNs5KdR9wYc3HfB",
    "file": "2024/IMG_20240102_030405.JPG",
    "word": "ContentTypeCollectionOfVersion2WithWords",
    "document": "k3v9aq7w2m5x8z1c4b6n0d2f",
}
COMMANDS = [["data", "rows", "api_keys"], ["data", "show", "api_keys", "1"]]


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    columns = ", ".join(f'"{name}" text' for name in SHOWN)
    values = ", ".join(f"'{value}'" for value in SHOWN.values())
    database.run(
        f"create table api_keys (id integer primary key, key text, cookie_id text, extra text, {columns})",
        f"insert into api_keys values (1, '{KEY}', '{COOKIE}', '{RANDOM}', {values})",
    )
    (tmp_path / "dbctl.toml").write_text('[apps.notes]\nprofile = "plain"\ndatabases = "app.db"\n')
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[1])
def test_guessed_secrets_are_masked_and_other_values_shown(answer, keys, command):
    text = json.dumps(answer(*command)["data"])
    assert [value for value in (KEY, COOKIE, RANDOM) if value in text] == []
    assert [value for value in SHOWN.values() if value not in text] == []
    text = json.dumps(answer(*command, "--secrets")["data"])
    assert all(value in text for value in (KEY, COOKIE, RANDOM))


def test_audit_log_has_digests_of_guessed_secrets(answer, keys):
    answer("data", "delete", "api_keys", "1", "--yes")
    text = (keys / "state" / "audit.jsonl").read_text()
    assert [value for value in (KEY, COOKIE, RANDOM) if value in text] == []
    assert [value for value in SHOWN.values() if value not in text] == []


def test_query_does_not_show_guessed_secrets(answer, keys):
    result = answer("data", "query", "select * from api_keys", status=None)
    assert [value for value in (KEY, COOKIE, RANDOM) if value in json.dumps(result)] == []


IDS = ("9xOxCcPjjtnRSyBPdDOM1crPrwQGyQc", "BWwf48mLCnOrSpfloMcsYmF2xfqaMfL")
SECRET = "geTyw2rM6WnG3lWPmkxJVJbjfrQiIzN"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def circles(request, tmp_path, monkeypatch):
    """Yield a database whose rows have random keys that other columns repeat, as those of Nextcloud, and one secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(request.param, tmp_path / "app.db") as database:
        database.run(
            "create table circles (code varchar(40) primary key, name varchar(40))",
            "create table members (circle_id varchar(40), single_id varchar(40), first varchar(40), last varchar(40),"
            " invite varchar(40), owner varchar(40), primary key (circle_id, single_id),"
            " foreign key (owner) references circles (code))",
            f"insert into circles values ('{IDS[0]}', 'a'), ('{IDS[1]}', 'b')",
            f"insert into members values ('{IDS[0]}', '{IDS[1]}', '{IDS[0]}', '{IDS[1]}', '{SECRET}', '{IDS[0]}')",
        )
        (tmp_path / "dbctl.toml").write_text(f'[apps.nc]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield database


@pytest.mark.parametrize(
    "words",
    [
        ["data", "rows", "members"],
        ["data", "show", "members", IDS[0], IDS[1]],
        ["data", "export", "members", "out.csv"],
        ["data", "export", "members", "out.jsonl"],
        ["data", "query", "select circle_id, single_id, first, last, owner from members"],
        ["data", "export", "--query", "select first, owner, single_id from members", "out.csv"],
    ],
    ids=lambda words: " ".join(words[:4]),
)
def test_random_keys_are_shown_and_other_random_values_masked(circles, tmp_path, answer, words):
    text = json.dumps(answer(*words)) + "".join(path.read_text() for path in tmp_path.glob("out.*"))
    assert all(value in text for value in IDS)
    assert SECRET not in text
    assert answer("data", "query", "select invite from members", status=6)["error"]["code"] == "secret-column"


def test_deleted_row_with_random_keys_is_restored(circles, answer):
    circles.run("delete from members")
    before = circles.content()
    answer("data", "delete", "circles", IDS[1], "--yes")
    operation = answer("audit", "list")["data"]["items"][0]["operation"]
    answer("undo", str(operation), "--yes")
    assert circles.content() == before


def test_plan_announces_secrets_that_undo_will_not_restore(keys, answer):
    steps = answer("data", "delete", "api_keys", "1", "--dry-run")["data"]["plan"]["steps"]
    assert "undo will not restore the secrets of api_keys: key, cookie_id" in steps


def test_personal_data_has_no_guessed_secrets(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    database = from_url("app.db")
    database.run(
        "create table users (id integer primary key, login text unique, password_hash text)",
        "create table devices (id integer primary key, user_id integer references users (id), label text, misc text)",
        "create table api_keys (id integer primary key, user_id integer references users (id), key text)",
        f"insert into users values (1, 'ann', '$2b$12${'a' * 53}')",
        f"insert into devices values (1, 1, 'phone', '{RANDOM}')",
        f"insert into api_keys values (1, 1, '{KEY}')",
    )
    (tmp_path / "own.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "own"\ntitle = "Own"\n[databases.main]\nengines = ["sqlite"]\n'
        'guess_secrets = true\n[users]\ntable = "users"\nid = { column = "id" }\nlogin = ["username"]\nadmin = false\nfields = { username = "login" }\n'
    )
    (tmp_path / "dbctl.toml").write_text('[apps.own]\nprofile = "own.toml"\ndatabases = "app.db"\n')
    answer("users", "export-data", "ann", "ann.json")
    text = (tmp_path / "ann.json").read_text()
    assert "phone" in text
    assert [value for value in (KEY, RANDOM, "$2b$12$") if value in text] == []
