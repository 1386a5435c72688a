"""``config`` shows the keys of a configuration, and explains every key."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dbctl.config.storage import parse_address
from dbctl.errors.backup import StorageSettingInvalidError

CONFIGURATION = """\
[apps."my.shop"]
profile = "plain"
[apps."my.shop".databases]
main = "postgresql://admin:hunter2@db/shop"
[apps."my.shop".backup]
repository = "backups"
keep = { last = 3 }

[apps.blog]
profile = "wordpress"
databases.main = "mysql://admin:${PASSWORD}@db/blog"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSWORD", "swordfish")
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    return tmp_path


def test_show_lists_keys_with_values_and_lines_without_passwords(place, answer):
    result = answer("config", "show")
    assert (result["target"], [tuple(item.values()) for item in result["data"]["items"]]) == (
        "dbctl.toml",
        [
            ("apps.my.shop.profile", "plain", 2, "dbctl.toml", None),
            ("apps.my.shop.databases.main", "postgresql://admin:***@db/shop", 4, "dbctl.toml", None),
            ("apps.my.shop.backup.repository", "backups", 6, "dbctl.toml", None),
            ("apps.my.shop.backup.keep.last", 3, 7, "dbctl.toml", None),
            ("apps.blog.profile", "wordpress", 10, "dbctl.toml", None),
            ("apps.blog.databases.main", "mysql://admin:${PASSWORD}@db/blog", 11, "dbctl.toml", None),
        ],
    )
    assert [item["key"] for item in answer("config", "show", "--app", "blog")["data"]["items"]] == [
        "apps.blog.profile",
        "apps.blog.databases.main",
    ]
    assert answer("config", "show", "--app", "nix", status=5)["error"]["code"] == "app-missing"


def test_defaults_of_unconfigured_sections_are_omitted(place, answer):
    items = answer("config", "show", "--defaults")["data"]["items"]
    values = {item["key"]: (item["value"], item["line"]) for item in items}
    assert values["apps.my.shop.backup.keep.daily"] == (0, None)
    assert values["apps.my.shop.backup.keep.last"] == (3, 7)
    assert values["apps.blog.protected"] == (False, None)
    assert not [key for key in values if key.startswith(("apps.blog.backup", "apps.my.shop.embedder"))]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("backup.max_age", ["apps.NAME.backup.max_age"]),
        ("apps.my-shop.backup.max_age", ["apps.NAME.backup.max_age"]),
        ("search", ["apps.NAME.search", "apps.NAME.search.folder"]),
    ],
)
def test_key_is_explained_with_and_without_the_app(answer, key, expected):
    data = answer("config", "explain", key)["data"]
    assert [item["key"] for item in data.get("items", [data])] == expected


@pytest.mark.parametrize("key", ["backup.max_ages", "apps.shop.backup.max_age.x", "backup..", "nix", "…"])
def test_unknown_key_is_reported(answer, key):
    if key == "backup..":
        assert answer("config", "explain", key)["data"]["items"][0]["key"] == "apps.NAME.backup"
        return
    assert answer("config", "explain", key, status=5)["error"]["code"] == "config-key-missing"


def test_schema_accepts_the_configuration_and_every_key_is_explained(place, answer):
    import tomllib

    schema = answer("config", "schema")["data"]
    Draft202012Validator.check_schema(schema)
    assert not list(Draft202012Validator(schema).iter_errors(tomllib.loads(CONFIGURATION)))
    items = answer("config", "explain")["data"]["items"]
    assert len({item["key"] for item in items}) == len(items)
    assert [item["key"] for item in items if not item["meaning"]] == []


def test_validate_reports_errors_and_opens_no_database(place, answer):
    assert answer("config", "validate")["data"]["findings"] == []  # no server has these names
    text = CONFIGURATION.replace('profile = "plain"', 'profile = "plain"\nprotectd = true')
    (place / "dbctl.toml").write_text(text)
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert json.dumps(finding["message"]).count("line 3")


@pytest.mark.parametrize(
    "address",
    [
        "s3://backups/shop", "s3://b/shop", "s3://backups/shop?endpoint=http://localhost:9000", "s3://key:secret@backups/shop",
        "s3://admin@backups/../shop", "s3://minio.example.org:9000/backups", "gs://backups/shop", "gs://admin@backups", "https://backups",
    ],
)  # fmt: skip
def test_validate_refuses_the_addresses_of_storage_that_commands_refuse(place, answer, address):
    try:
        is_valid = parse_address(address).text == address
    except (StorageSettingInvalidError, KeyError):
        is_valid = False
    text = CONFIGURATION.replace('"backups"', f'"{address}"')
    (place / "dbctl.toml").write_text(text)
    findings = answer("config", "validate", status=0 if is_valid else 2)["data"]["findings"]
    assert (findings == []) is is_valid
    assert is_valid or "backup.repository" in findings[0]["message"]
    assert "secret" not in json.dumps(findings)
    if address.startswith("s3:"):  # also the address of vectors
        (place / "dbctl.toml").write_text(
            f'[apps.chat]\nprofile = "chat-lancedb"\ndatabases.chat = "chat.db"\ndatabases.vectors = "{address}"\n'
        )
        assert (answer("config", "validate", status=None)["data"]["findings"] == []) is is_valid


def test_validate_checks_an_address_of_storage_with_the_value_of_its_variable(place, answer, monkeypatch):
    (place / "dbctl.toml").write_text(CONFIGURATION.replace('"backups"', '"s3://${BUCKET}/shop"'))
    for bucket, status in (("backups", 0), ("No_Bucket", 2)):
        monkeypatch.setenv("BUCKET", bucket)
        assert answer("config", "validate", status=status)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('migrations = { main = "VALUE" }', "migrations.main"),
        ('backup = { repository = "VALUE" }', "backup.repository"),
        (
            'backup = { repository = "b", encrypt = { recipients_file = "${EMPTY}" } }',
            "backup.encrypt.recipients_file",
        ),
        ('search = { folder = "VALUE" }', "search.folder"),
        ('pepper_file = "${EMPTY}"', "pepper_file"),
    ],
)
@pytest.mark.parametrize("value", ["", "${EMPTY}"])
def test_empty_path_is_not_the_folder_of_the_configuration(place, answer, monkeypatch, lines, key, value):
    monkeypatch.setenv("EMPTY", "")
    (place / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "shop.db"\n{lines.replace("VALUE", value)}\n'
    )
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert f"apps.shop.{key}: it is empty" in finding["message"]


def test_app_without_a_name_is_invalid(place, answer):
    (place / "dbctl.toml").write_text('[apps.""]\nprofile = "plain"\ndatabases = "shop.db"\n')
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert finding["line"] == 1


def test_app_with_a_secret_that_cannot_be_read_does_not_hide_the_others(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("good.db")) as db:
        db.execute("create table things (id integer primary key)")
    Path("dbctl.toml").write_text(
        '[apps.good]\nprofile = "plain"\ndatabases = "good.db"\nbackup = { repository = "backups" }\n'
        '[apps.bad]\nprofile = "plain"\ndatabases = "postgresql://shop:${LOST}@127.0.0.1/shop"\n'
        '[secrets]\nLOST = { command = ["false"] }\n'
    )
    answer("backup", "create", "--app", "good")
    rows = answer("status", status=12)["data"]["items"]
    assert [(row["app"], row["state"]) for row in rows] == [("bad", "config-invalid"), ("good", "ok")]
    (backup,) = answer("backup", "status", "--all-apps", status=12)["data"]["databases"]
    assert (backup["database"], backup["backups"]) == ("main", 1)
    findings = answer("doctor", "--all-apps", status=2)["data"]["findings"]
    assert {"config-invalid", "journal-not-wal"} <= {finding["code"] for finding in findings}
    apps = answer("apps", "list", status=12)["data"]["items"]
    assert [(app["name"], app["profile"], bool(app["problem"])) for app in apps] == [
        ("good", "plain", False),
        ("bad", "plain", True),
    ]
    databases = answer("wait", "--all-apps", "--timeout", "1", status=12)["data"]["items"]
    assert [(row["app"], row["state"]) for row in databases] == [("good", "ok"), ("bad", "config-invalid")]
    (warning,) = answer("migrate", "status", "--all-apps", status=12)["warnings"]
    assert "secrets.LOST" in warning
    schedule = answer("schedule", "status", "--all-apps", status=12)
    assert {row["app"] for row in schedule["data"]["items"]} == {"good"}
    assert any("secrets.LOST" in warning for warning in schedule["warnings"])
    # a crontab without the jobs of one app would replace a complete one
    assert answer("schedule", "cron", "--all-apps", status=2)["error"]["code"] == "config-invalid"


def test_migrations_of_the_other_apps_are_shown(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    Path("migrations").mkdir()
    Path("migrations/001_first.sql").write_text(
        "-- UP\ncreate table first (id integer primary key);\n-- DOWN\ndrop table first;\n"
    )
    with closing(sqlite3.connect("good.db")) as db:
        db.execute("create table things (id integer primary key)")
    Path("dbctl.toml").write_text(
        '[apps.good]\nprofile = "plain"\ndatabases = "good.db"\nmigrations = { main = "migrations" }\n'
        '[apps.bad]\nprofile = "plain"\ndatabases = "${LOST}"\n'
    )
    result = answer("migrate", "status", "--all-apps", status=12)
    assert [(row["app"], row["state"]) for row in result["data"]["items"]] == [("good", "pending")]
    assert any("LOST" in warning for warning in result["warnings"])
