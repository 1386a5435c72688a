"""Secrets of tables that no profile describes are guessed by names, forms and random values; other keys and digests are shown."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing

import pytest

from tests import servers
from tests.databases import empty_database, from_url, read_event_store

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


@pytest.mark.parametrize(
    ("table", "column", "is_secret"),
    [
        ("tokens", "value", True),
        ("sessions", "data", True),
        ("users", "twofa_totp_key", True),
        ("monitor", "tls_key", True),
        ("directus_settings", "license_key", True),
        ("mfa_authenticator", "data", True),
        ("ab_api_key", "key_hash", True),
        ("documents_sharelink", "slug", True),
        ("shared_links", "key", True),
        ("invites", "code", True),
        ("settings", "value", False),
        ("articles", "slug", False),
        ("shares", "code", False),
        ("token_types", "value", False),
        ("monitor", "hot_key", False),
    ],
)
def test_names_of_secret_columns(tmp_path, monkeypatch, answer, table, column, is_secret):
    """Columns of Redmine, Uptime Kuma, Directus, Paperless-ngx, Superset, Immich and Mastodon, and similar ones."""
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        f"create table {table} (id integer primary key, {column} text)",
        f"insert into {table} values (1, 'word')",
    )
    (tmp_path / "dbctl.toml").write_text('[apps.notes]\nprofile = "plain"\ndatabases = "app.db"\n')
    (row,) = answer("data", "rows", table)["data"]["items"]
    assert row[column] == ("***" if is_secret else "word")


def test_audit_log_has_digests_of_guessed_secrets(answer, keys):
    answer("data", "delete", "api_keys", "1", "--yes")
    text = read_event_store(keys / "state")
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


def test_locked_table_whose_values_are_sampled_is_busy(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "own"\ntitle = "Own"\n[databases.main]\nengines = ["postgresql"]\nguess_secrets = true\n'
    )
    with empty_database("postgresql", tmp_path / "unused") as database:
        database.run(
            "create table notes (id int primary key, text text)", "insert into notes values (1, 'a')"
        )
        options = ("--profile", str(tmp_path / "own.toml"), "--url", f"main={database.url}", "--timeout", "0")
        with closing(servers.connection(database.own)) as holder, holder.transaction():
            holder.execute("lock table notes in access exclusive mode")
            for words in (["set", "notes", "1", "text=b"], ["delete", "notes", "1", "--yes"]):
                assert answer("data", *words, *options, status=11)["error"]["code"] == "busy"


#: Values that are secret in any column, with the application that stores such ones.
SECRET_TEXTS = {
    "Uptime Kuma, e-mail": '{"type": "smtp", "smtpHost": "mail.example.org", "smtpPassword": "s3cret"}',
    "Uptime Kuma, chat": '{"type": "slack", "slackwebhookURL": "https://hooks.example.org/T000/B000/XXX"}',
    "Uptime Kuma, database": "mysql://kuma:dbpw@db.example.org/kuma",
    "Superset, request": '{"path": "/api", "uri": "postgresql://reader:pw@db.example.org:5432/dw"}',
    "Miniflux, session": '{"csrf": "XHBERLERZGLAT6JBWSCAZLRCJ6", "theme": "light"}',
    "Paperless-ngx, link": "zDrvVI4r4mx24bI3LLr3Os9vcOXxmV1YHk718bt4rWEmIhBTMS",
    "nested": '[{"headers": {"X-Api-Key": "k3y"}}]',
    "of a list": '{"password": ["None", "new one"]}',
    "service key": '{"value": "sk-0123456789abcdef0123"}',
}
#: Values that are shown: documents about secrets, masks, words, addresses without a password, words with hyphens.
SHOWN_TEXTS = {
    "n8n": '{"nodes": [{"credentials": {"httpBasicAuth": {"id": "7Q1xRX", "name": "Orders"}}}]}',
    "Superset, theme": '{"token": {"brandAppName": "Superset"}}',
    "Directus, masked": '{"password": "**********", "tokens_used": "12"}',
    "Vaultwarden": '{"email": "bob@example.org", "last_token": null, "token_sent": 1755681302}',
    "schema": '{"properties": {"password": {"type": "string"}, "token": "string"}}',
    "translation": '{"password": "Password", "api_key": "API key"}',
    "words": '{"tokens": ["to", "be"], "next_page_token": "abc", "token_type": "bearer"}',
    "reference": '{"apiKey": "${API_KEY}", "token": "{{ secrets.token }}"}',
    "cut off": '{"note": "the password: is',
    "masked address": "postgresql://reader:***@db.example.org/dw",
    "address": "https://ann@example.org:8443/a?b=c:d@e",
    "article": "how-to-write-2026-and-other-long-words",
}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def texts(request, tmp_path, monkeypatch):
    """Create a database with a column of each value; yield the names of those with secrets, and of the others.

    Documents have the type JSON, except in SQLite.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    values = [*SECRET_TEXTS.values(), *SHOWN_TEXTS.values()]
    slugs = {"Paperless-ngx, link", "article"}
    labels = enumerate([*SECRET_TEXTS, *SHOWN_TEXTS])
    names = [f"part{number}_{'slug' if label in slugs else 'extra'}" for number, label in labels]
    json_type = {"sqlite": "text", "postgresql": "jsonb", "mysql": "json"}[request.param]
    types = [json_type if value[0] in "{[" and value[-1] in "}]" else "text" for value in values]
    with empty_database(request.param, tmp_path / "app.db") as database:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
        literals = ", ".join(f"'{value}'" for value in values)
        database.run(
            f"create table records (id integer primary key, {columns})",
            f"insert into records values (1, {literals})",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.notes]\nprofile = "plain"\ndatabases = "{database.url}"\n'
        )
        yield names[: len(SECRET_TEXTS)], names[len(SECRET_TEXTS) :]


def test_documents_and_addresses_with_secrets_are_masked(texts, tmp_path, answer):
    secret, shown = texts
    (row,) = answer("data", "rows", "records")["data"]["items"]
    assert [name for name, value in row.items() if value == "***"] == secret
    answer("data", "export", "records", "out.jsonl")
    exported = json.loads((tmp_path / "out.jsonl").read_text())
    assert [name for name in secret if exported.get(name, "***") != "***"] == []
    assert [name for name in shown if exported[name] == "***"] == []
    for name in secret:
        error = answer("data", "query", f"select {name} from records", status=6)["error"]
        assert error["code"] == "secret-column"
    answer("data", "query", f"select {', '.join(shown)} from records")


def test_audit_log_has_no_secrets_of_documents(texts, tmp_path, answer):
    answer("data", "delete", "records", "1", "--yes")
    text = read_event_store(tmp_path / "state")
    secrets = ["s3cret", "B000", "dbpw", "reader:pw", "XHBERL", "zDrvVI", "k3y", "new one", "sk-0123"]
    assert [secret for secret in secrets if secret in text] == []
    assert "brandAppName" in text
