"""Users and roles are selected by id if their names are ambiguous or contain unprintable characters."""

from __future__ import annotations

import pytest

from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, run_statements


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.create_app(tmp_path, request.param)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run_command(answer):
    def run(*words, status=0):
        response = answer(*words, status=status)
        return response["error"] or response["data"]

    return run


@pytest.fixture
def ambiguous_users(path):
    """Create users whose logins differ only in case: ann (2) and ANN (4)."""
    flashpoint_app.drop_nocase(path)
    run_statements(
        path,
        "insert into users (username, email, password_hash, role_id, is_active) values ('ANN', 'x@y.example', 'x', 3, 1)",
        "insert into user_settings (user_id, setting_key, setting_value) values (4, 'theme_mode', 'dark')",
    )
    return path


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["settings", "list"], "--user"),
        (["settings", "get", "theme_mode"], "--user"),
        (["settings", "set", "theme_mode", "light"], "--user"),
        (["settings", "reset", "theme_mode"], "--user"),
        (["settings", "validate"], "--user"),
        (["settings", "export"], "--user"),
        (["settings", "diff", "f.json"], "--user"),
        (["settings", "apply", "f.json"], "--user"),
    ],
)
def test_ambiguous_login_is_resolved_by_id(ambiguous_users, run_command, words, key):
    ambiguous_users.with_name("f.json").write_text('{"theme_mode": "system"}')
    refused = run_command(*words, "--user", "ann", status=6)
    assert (refused["code"], "--id" in refused["hint"]) == ("login-ambiguous", True)
    run_command(*words, "--id", "4")
    assert query_rows(ambiguous_users, "select setting_value from user_settings where user_id = 2") == [
        ("light",)
    ]
    assert run_command(*words, "--id", "77", status=5)["code"] == "user-missing"
    assert run_command(*words, "--id", "4", "--user", "ann", status=2)["code"] == "usage"


@pytest.mark.parametrize(
    "words",
    [
        ["settings", "set", "app.siteName", "Other", "--user", ""],
        ["settings", "set", "app.siteName", "Other", "--id", ""],
        ["users", "delete", "ann", "--transfer-to", "", "--yes"],
        ["users", "update", "ann", "--set", "active=false", "--email", " "],
        ["users", "update", "ann", "--set", "active=false", "--acting-as", ""],
    ],
)
def test_empty_value_of_an_option_is_not_its_absence(path, run_command, words):
    before = flashpoint_app.read_all_rows(path)
    assert "it is empty" in run_command(*words, status=2)["message"]
    assert flashpoint_app.read_all_rows(path) == before


def test_setting_is_changed_by_user_id(ambiguous_users, run_command):
    run_command("settings", "set", "theme_mode", "light", "--id", "4")
    assert query_rows(ambiguous_users, "select setting_value from user_settings where user_id = 4") == [
        ("light",)
    ]
    assert run_command("settings", "export", "--id", "4") == {"theme_mode": "light"}


def test_permission_check_by_user_id(ambiguous_users, run_command):
    assert run_command("roles", "can", "ann", "playlists.create", status=6)["code"] == "login-ambiguous"
    assert run_command("roles", "can", "--id", "2", "playlists.create")["allowed"]
    assert not run_command("roles", "can", "playlists.create", "--id", "4", status=1)["allowed"]
    for words in ([], ["playlists.create"], ["ann", "playlists.create", "more"]):
        assert run_command("roles", "can", *words, status=2)["code"] == "usage"
    assert run_command("roles", "can", "ann", "playlists.create", "--id", "2", status=2)["code"] == "usage"


def test_role_with_unprintable_name_is_selected_by_id(path, run_command):
    run_statements(path, "insert into roles (id, name, description) values (9, 'bell\x07', 'x')")
    assert run_command("roles", "show", "bell\x07")["id"] == 9
    assert run_command("roles", "show", "--id", "9")["name"] == "bell\x07"
    assert run_command("roles", "grant", "--id", "9", "games.read", "games.play")["changed"] == [
        "games.read",
        "games.play",
    ]
    assert run_command("roles", "revoke", "games.play", "--id", "9")["role"]["permissions"] == ["games.read"]
    assert run_command("roles", "update", "--id", "9", "--description", "y")["role"]["description"] == "y"
    assert run_command("roles", "update", "--id", "9", "--name", "bell")["role"]["name"] == "bell"
    run_command("roles", "delete", "--id", "9", "--yes")
    assert query_rows(path, "select name from roles where id = 9") == []


def test_role_must_exist_and_be_selected_once(path, run_command):
    for words in (["show"], ["delete"], ["update", "--name", "x"], ["grant"], ["revoke", "user"]):
        assert run_command("roles", *words, status=2)["code"] == "usage"
    assert run_command("roles", "show", "user", "--id", "2", status=2)["code"] == "usage"
    assert run_command("roles", "show", "--id", "77", status=5)["code"] == "role-missing"
    assert run_command("roles", "delete", "--id", "2", "--yes", status=6)["code"] == "role-built-in"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["users", "list", "--app", "a", "--app=b"], "--app"),
        (["backup", "create", "--db", "main", "--db", "main"], "--db"),
        (["--db", "main", "users", "update", "ann", "name=x", "--app", "a", "--app", "a"], "--app"),
    ],
)
def test_common_option_with_one_value_is_not_passed_twice(ambiguous_users, run_command, words, option):
    before = ambiguous_users.read_bytes()
    error = run_command(*words, status=2)
    assert (error["code"], option in error["message"]) == ("usage", True)
    assert ambiguous_users.read_bytes() == before


def test_flags_and_lists_are_passed_several_times(ambiguous_users, run_command):
    words = ["--filter", "id>0", "--filter", "id<9", "-q", "-q", "--limit", "1", "--limit", "2"]
    run_command("data", "rows", "users", *words)
