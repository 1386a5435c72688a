"""Triggers of the app's database that revert changes of users, roles and settings: the command is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.services.flashpoint_app import copy_configured_deployment, read_all_rows, run_statements

REVERT = "create trigger odd after update of {0} on {1} begin update {1} set {0} = old.{0} where id = old.id and {0} <> old.{0}; end"
REMOVE = "create trigger odd after insert on {0} begin delete from {0} where id = new.id; end"
SKIP = "create trigger odd before insert on {0} begin select raise(ignore); end"
PROMOTE = "create trigger odd after insert on users begin update users set role_id = 1 where id = new.id; end"
ADD_USER = ("users", "create", "zoe", "--email", "zoe@example.org", "--role", "user", "--generate")


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (REVERT.format("email", "users"), ("users", "update", "demo", "--email", "new@example.org")),
        (REVERT.format("is_active", "users"), ("users", "deactivate", "demo")),
        (REVERT.format("role_id", "users"), ("users", "set-role", "demo", "moderator")),
        (PROMOTE, ADD_USER),
        (REMOVE.format("users"), ADD_USER),
        (REMOVE.format("users"), ("users", "import", "users.csv", "--generate")),
        (REVERT.format("value", "system_settings"), ("settings", "set", "auth.maxLoginAttempts", "9")),
        (REMOVE.format("user_settings"), ("settings", "set", "theme", "dark", "--user", "morgan")),
        (REMOVE.format("role_permissions"), ("roles", "grant", "editor", "users.delete")),
        (SKIP.format("role_permissions"), ("roles", "grant", "editor", "users.delete")),
        (REMOVE.format("role_permissions"), ("roles", "create", "writer", "--permission", "users.delete")),
    ],
)
def test_reverted_change_is_refused(
    trigger: str, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_configured_deployment(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("users.csv").write_text("username,email,role\nzoe,zoe@example.org,user\n")
    path = tmp_path / "backend/user.db"
    assert main(["roles", "create", "editor", "--permission", "games.read"]) == 0
    run_statements(path, trigger)
    before = read_all_rows(path)
    assert main([*words, "--yes"]) == 6
    assert read_all_rows(path) == before
    run_statements(path, "drop trigger odd")
    assert main([*words, "--yes"]) == 0
    assert read_all_rows(path) != before
