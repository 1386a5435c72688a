"""Secrets of tables that no profile describes are guessed by names, forms and random values; other keys and digests are shown."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.databases import from_url

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
