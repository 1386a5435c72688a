"""``dbctl restore`` as it is typed: which backup is meant, and what the words must not mean together."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.cli._support.backups import moment
from tests.services import flashpoint_app, promptvault_app


@pytest.fixture
def two(tmp_path, monkeypatch):
    """An app with two backups; gives its database, and the ids."""
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    return path, [promptvault_app.create(path, compress="none").id for _ in range(2)]


def at(answer, name):
    """Return the latest moment that a backup holds."""
    members = answer("backup", "show", name)["data"]["members"]
    return max(datetime.fromisoformat(one["taken_at"]) for one in members)


@pytest.mark.parametrize("verb", [("restore", "preview"), ("backup", "show")])
def test_before_means_the_newest_that_holds_nothing_later(two, answer, verb):
    _, (old, new) = two
    word = "backup" if verb[0] == "restore" else "id"
    newest = at(answer, new)
    for before, found in (
        (newest, new),
        (newest - timedelta(milliseconds=1), old),
        (newest.astimezone() - timedelta(milliseconds=1), old),
        (newest.astimezone().replace(tzinfo=None), new),
    ):
        assert answer(*verb, "--before", before.isoformat())["data"][word] == found
    assert answer(*verb, "latest", "--before", "0s")["data"][word] == new
    answer(*verb, "--before", "1y", status=5)


def test_before_and_kind_restore_what_they_find(two, answer):
    path, (old, new) = two
    before = (at(answer, new) - timedelta(milliseconds=1)).isoformat()
    done = answer("restore", "apply", "--before", before, "--yes")["data"]
    assert done["backup"] == old
    safety = answer("backup", "show", "latest", "--kind", "safety")["data"]
    assert safety["id"] == done["safety_backup"]
    assert answer("restore", "apply", "latest", "--kind", "safety", "--yes")["data"]["backup"] == safety["id"]
    assert flashpoint_app.content(path)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--kind safety",
        "20260101_000000 --before 1d",
        "20260101_000000 --kind safety",
        "latest --before yesterday",
        "latest --before 99999999-01-01",
        "latest --before 0001-01-01T00:00+14:00",
        "latest --table users --merge missing --replace",
        "latest --as x",
        "latest --merge missing",
        "latest --merge all --table users",
        "latest --table users",
        "latest --table users --to copy.db --as x",
        "latest --to copy.db --to other.db",
        "latest --to ftp://x/y",
    ],
)
def test_what_makes_no_sense_changes_nothing(two, answer, words):
    path, _ = two
    before = flashpoint_app.content(path)
    answer("restore", "apply", *words.split(), "--yes", status=2)
    assert flashpoint_app.content(path) == before
    assert not path.with_name("copy.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "prune", "--keep-last", "1", "--repository", "", "--yes"),
        ("backup", "create", "--repository="),
        ("backup", "copy", "--to", " "),
        ("backup", "copy", "--to", "other", "--from", ""),
    ],
)
def test_an_address_that_a_script_left_empty_is_not_the_configured_repository(two, answer, words):
    assert "is empty" in answer(*words, status=2)["error"]["message"]
    assert [one["id"] for one in answer("backup", "list")["data"]["items"]] == two[1][::-1]


def test_the_id_of_a_backup_is_a_moment_of_utc_and_a_time_without_zone_one_of_the_local_clock(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert moment("20261119_030000") == datetime(2026, 11, 19, 3, tzinfo=UTC)
        assert moment(" 2026-11-19T03:00 ") == datetime(2026, 11, 18, 18, tzinfo=UTC)
        assert moment("2026-11-19T03:00Z") == datetime(2026, 11, 19, 3, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_copy_tells_how_it_is_used(two, answer):
    _, (_, new) = two
    done = answer("restore", "apply", new, "--to", "copy.db")["data"]
    assert done["use"].startswith("dbctl --profile ")
    listed = answer(*done["use"].split()[1:], "users", "list")["data"]["items"]
    assert [one["id"] for one in listed] == [one["id"] for one in answer("users", "list")["data"]["items"]]
    answer("restore", "apply", new, "--to", "copy.db", status=6)
    answer("restore", "apply", new, "--to", "copy.db", "--replace", status=6)  # nobody there to ask
    answer("restore", "apply", new, "--to", "copy.db", "--replace", "--yes")


def test_what_is_replaced_in_a_protected_app_wants_its_name(two, answer):
    path, _ = two
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace("protected = false", "protected = true"))
    flashpoint_app.run(path, "update users set email = 'x' || id")
    answer("restore", "apply", "latest", "--table", "users", "--merge", "replace", "--yes", status=6)
    answer("restore", "apply", "latest", "--table", "users", "--merge", "missing")  # nothing goes
    done = answer("restore", "apply", "latest", "--table", "users", "--merge", "replace", "--confirm", "fp")
    assert done["data"]["tables"][0]["replaced"]


def test_a_preview_tells_the_settings_and_migrations_that_differ(two, answer):
    path, (_, new) = two
    items = answer("settings", "list")["data"]["items"]
    title = next(one for one in items if one["type"] == "string")
    flashpoint_app.run(path, f"update system_settings set value = 'changed' where key = '{title['key']}'")
    flashpoint_app.run(path, "insert into migrations (id, name) values (999, '999_of_now')")
    (told,) = answer("restore", "preview", new)["data"]["databases"]
    found = told["content"]
    assert found["settings"] == [{"key": title["key"], "now": "changed", "then": title["value"]}]
    assert found["migrations"]["only_now"] == ["999_of_now"]
    assert found["unread"] == []


def test_a_damaged_database_is_recovered_like_one_of_a_backup(two, answer):
    path, (old, _) = two
    damaged = path.with_name("damaged.db")
    damaged.write_bytes(path.read_bytes())
    with damaged.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3900)
    words = ("restore", "recover", "--from", damaged.name)
    answer(*words, "--to", "alone.db", status=4)
    done = answer(*words, "--like", old, "--to", "found.db", status=4)["data"]
    assert {one["table"]: one["saved"] for one in done["tables"]}["users"]
    answer(*words, "--like", "20200101_000000", "--to", "none.db", status=5)
    assert old in " ".join(answer(*words, "--like", old, "--dry-run")["data"]["plan"]["steps"])
