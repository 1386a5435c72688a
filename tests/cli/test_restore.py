"""``dbctl restore`` on the command line: selection of backups, and invalid combinations of options."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from dbctl.cli._support.backups import parse_time
from dbctl.cli.main import main
from tests.services import flashpoint_app, promptvault_app


@pytest.fixture
def app_with_backups(tmp_path, monkeypatch):
    """Create an app with two backups; return its database and the ids of the backups."""
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    return path, [promptvault_app.create_app_backup(path, compress="none").id for _ in range(2)]


def read_snapshot_time(answer, name):
    """Return the time of the latest snapshot in a backup."""
    members = answer("backup", "show", name)["data"]["members"]
    return max(datetime.fromisoformat(item["taken_at"]) for item in members)


@pytest.mark.parametrize("verb", [("restore", "preview"), ("backup", "show")])
def test_before_selects_newest_backup_without_later_data(app_with_backups, answer, verb):
    _, (old, new) = app_with_backups
    word = "backup" if verb[0] == "restore" else "id"
    newest = read_snapshot_time(answer, new)
    for before, expected in (
        (newest, new),
        (newest - timedelta(milliseconds=1), old),
        (newest.astimezone() - timedelta(milliseconds=1), old),
        (newest.astimezone().replace(tzinfo=None), new),
    ):
        assert answer(*verb, "--before", before.isoformat())["data"][word] == expected
    assert answer(*verb, "latest", "--before", "0s")["data"][word] == new
    answer(*verb, "--before", "1y", status=5)


def test_before_and_kind_select_backup_to_restore(app_with_backups, answer):
    path, (old, new) = app_with_backups
    before = (read_snapshot_time(answer, new) - timedelta(milliseconds=1)).isoformat()
    result = answer("restore", "apply", "--before", before, "--yes")["data"]
    assert result["backup"] == old
    safety = answer("backup", "show", "latest", "--kind", "safety")["data"]
    assert safety["id"] == result["safety_backup"]
    assert answer("restore", "apply", "latest", "--kind", "safety", "--yes")["data"]["backup"] == safety["id"]
    assert flashpoint_app.read_all_rows(path)


@pytest.mark.parametrize("verb", [("restore", "apply", "--yes"), ("restore", "preview"), ("backup", "show")])
def test_path_in_place_of_an_id_names_the_option_for_files(app_with_backups, answer, verb):
    error = answer(*verb, "./my dump.sql", status=5)["error"]
    assert error["code"] == "backup-id-invalid"
    assert "dbctl restore apply --file './my dump.sql' --app" in error["hint"]


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
        "latest --into x",
        "latest --merge missing",
        "latest --merge all --table users",
        "latest --table users",
        "latest --table users --to copy.db --into x",
        "latest --to copy.db --to other.db",
        "latest --to ftp://x/y",
    ],
)
def test_invalid_option_combination_changes_nothing(app_with_backups, answer, words):
    path, _ = app_with_backups
    before = flashpoint_app.read_all_rows(path)
    answer("restore", "apply", *words.split(), "--yes", status=2)
    assert flashpoint_app.read_all_rows(path) == before
    assert not path.with_name("copy.db").exists()


@pytest.mark.parametrize(
    "words", ["backup show", "backup delete --yes", "restore apply --yes", "restore preview"]
)
def test_hint_lists_the_backups_of_the_repository_that_was_passed(app_with_backups, answer, words):
    answer("backup", "copy", "--to", "other copies")
    hint = answer(*words.split(), "nope", "--repository", "other copies", status=5)["error"]["hint"]
    command = shlex.split(hint)
    listing = command[command.index("backup") :]
    assert listing[:4] == ["backup", "list", "--repository", "other copies"]
    listed = answer(*listing)["data"]["items"]
    assert {Path(backup["path"]).parent.parent.name for backup in listed} == {"other copies"}


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "prune", "--keep-last", "1", "--repository", "", "--yes"),
        ("backup", "create", "--repository="),
        ("backup", "copy", "--to", " "),
        ("backup", "copy", "--to", "other", "--from", ""),
        ("restore", "apply", "latest", "--db", "", "--yes"),
        ("--app", "", "restore", "apply", "latest", "--yes"),
    ],
)
def test_empty_value_of_an_option_is_refused(app_with_backups, answer, words):
    assert "is empty" in answer(*words, status=2)["error"]["message"]
    assert [item["id"] for item in answer("backup", "list")["data"]["items"]] == app_with_backups[1][::-1]


def test_backup_id_is_utc_and_time_without_zone_is_local(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_time("20261119_030000") == datetime(2026, 11, 19, 3, tzinfo=UTC)
        assert parse_time(" 2026-11-19T03:00 ") == datetime(2026, 11, 18, 18, tzinfo=UTC)
        assert parse_time("2026-11-19T03:00Z") == datetime(2026, 11, 19, 3, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "second"), [("2026-10-25T02:30", "T01:30:00Z"), ("2026-03-29T02:30", "T01:30:00Z")]
)
def test_local_time_that_occurs_twice_or_never_is_refused(monkeypatch, text, second):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        with pytest.raises(typer.BadParameter, match=f"T00:30:00Z or .*{second}"):
            parse_time(text)
        assert parse_time(f"{text}+01:00") == datetime.fromisoformat(f"{text}+01:00")
        assert parse_time("20261025_023000") == datetime(2026, 10, 25, 2, 30, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_copy_result_contains_command_to_use_it(app_with_backups, answer):
    _, (_, new) = app_with_backups
    result = answer("restore", "apply", new, "--to", "copy.db")["data"]
    assert result["command"].startswith("dbctl --profile ")
    listed = answer(*result["command"].split()[1:], "users", "list")["data"]["items"]
    assert [item["id"] for item in listed] == [
        item["id"] for item in answer("users", "list")["data"]["items"]
    ]
    answer("restore", "apply", new, "--to", "copy.db", status=6)
    # confirmation requires a terminal
    answer("restore", "apply", new, "--to", "copy.db", "--replace", status=6)
    answer("restore", "apply", new, "--to", "copy.db", "--replace", "--yes")


def test_replacing_rows_of_protected_app_requires_its_name(app_with_backups, answer):
    path, _ = app_with_backups
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace("protected = false", "protected = true"))
    flashpoint_app.run_statements(path, "update users set email = 'x' || id")
    answer("restore", "apply", "latest", "--table", "users", "--merge", "replace", "--yes", status=6)
    answer("restore", "apply", "latest", "--table", "users", "--merge", "missing")  # no row is replaced
    result = answer("restore", "apply", "latest", "--table", "users", "--merge", "replace", "--confirm", "fp")
    assert result["data"]["tables"][0]["replaced"]


def test_remark_on_restored_rows_is_printed_once(app_with_backups, capfd):
    path, _ = app_with_backups
    flashpoint_app.run_statements(path, "update users set email = 'x' || id")
    words = [
        "restore",
        "apply",
        "latest",
        "--table",
        "users",
        "--merge",
        "replace",
        "--confirm",
        "fp",
        "--yes",
    ]
    assert main(words) == 0
    assert capfd.readouterr().err.count("dbctl sessions revoke LOGIN") == 1


def test_preview_lists_different_settings_and_migrations(app_with_backups, answer):
    path, (_, new) = app_with_backups
    items = answer("settings", "list")["data"]["items"]
    title = next(item for item in items if item["type"] == "string")
    flashpoint_app.run_statements(
        path, f"update system_settings set value = 'changed' where key = '{title['key']}'"
    )
    flashpoint_app.run_statements(path, "insert into migrations (id, name) values (999, '999_of_now')")
    (response,) = answer("restore", "preview", new)["data"]["databases"]
    differences = response["content"]
    assert differences["settings"] == [
        {"key": title["key"], "current": "changed", "in_backup": title["value"]}
    ]
    assert differences["migrations"]["only_current"] == ["999_of_now"]
    assert differences["not_compared"] == []


@pytest.mark.needs_extension("salvage")
def test_damaged_database_is_salvaged_with_backup_as_reference(app_with_backups, answer):
    path, (old, _) = app_with_backups
    damaged = path.with_name("damaged.db")
    damaged.write_bytes(path.read_bytes())
    with damaged.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3900)
    words = ("restore", "recover", "--from", damaged.name)
    answer(*words, "--to", "alone.db", status=4)
    result = answer(*words, "--reference", old, "--to", "found.db", status=4)["data"]
    assert {item["table"]: item["saved"] for item in result["tables"]}["users"]
    answer(*words, "--reference", "20200101_000000", "--to", "none.db", status=5)
    assert old in " ".join(answer(*words, "--reference", old, "--dry-run")["data"]["plan"]["steps"])
