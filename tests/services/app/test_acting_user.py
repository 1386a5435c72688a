"""Changes on behalf of a user of the app: ``--acting-as`` sets the user in the log of dbctl, in audit rows and in settings."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, run_statements


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.create_app(tmp_path / "app", request.param)
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def run_json(capsys):
    def run_command(*words, status=0):
        capsys.readouterr()
        assert main([*words, "-o", "json"]) == status
        return json.loads(capsys.readouterr().out)

    return run_command


def read_user_ids(path):
    return dict(query_rows(path, "select username, id from users"))


def read_last_audit_row(path):
    return query_rows(path, "select user_id, username, details from activity_logs order by id desc limit 1")


def test_audit_row_has_user_and_operator(path, run_json):
    run_json("users", "update", "ann", "--email", "ann2@example.org", "--acting-as", "ROOT")
    ((user, name, details),) = read_last_audit_row(path)
    assert (user, name) == (read_user_ids(path)["root"], "root")
    assert json.loads(details)["by"].startswith("dbctl (")


def test_changed_setting_has_the_acting_user(path, run_json):
    for item in run_json("settings", "list")["data"]["items"]:
        if isinstance(item["value"], bool):
            run_json("settings", "set", item["key"], str(not item["value"]).lower(), "--acting-as", "root")
            assert run_json("settings", "get", item["key"])["data"]["updated_by"] == "root"
            run_json("settings", "set", item["key"], str(item["value"]).lower())
            assert run_json("settings", "get", item["key"])["data"]["updated_by"] is None
            return
    pytest.fail("no setting is a boolean")


def test_audit_row_without_acting_user_contains_dbctl(path, run_json):
    run_json("users", "update", "ann", "--email", "ann2@example.org")
    ((user, name, details),) = read_last_audit_row(path)
    assert (user, name.partition(" ")[0], json.loads(details)["by"]) == (None, "dbctl", "dbctl")


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("login", "status", "code"), [("nosuch", 5, "user-missing"), ("bob", 6, "acting-user-inactive")]
)
def test_invalid_acting_user_is_refused(path, run_json, login, status, code, options):
    before = query_rows(path, "select * from users")
    answer = run_json(
        "users", "update", "ann", "--email", "x@example.org", "--acting-as", login, *options, status=status
    )
    assert answer["error"]["code"] == code
    assert query_rows(path, "select * from users") == before


def test_deleted_user_cannot_be_acting_user(path, run_json):
    run_statements(path, "update users set role_id = 1 where username = 'ann'")
    answer = run_json("users", "delete", "ann", "--yes", "--acting-as", "ann", status=5)
    assert answer["error"]["code"] == "user-missing"
    assert "ann" in read_user_ids(path)


@pytest.mark.needs_extension("demo")
def test_author_is_in_the_audit_log_of_dbctl_if_the_app_stores_none(tmp_path, monkeypatch, run_json):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    run_json("demo", "promptvault", ".")
    changed, author = (user["login"] for user in run_json("users", "list", "--limit", "2")["data"]["items"])
    run_json("users", "update", changed, "--name", "New", "--acting-as", author)
    assert run_json("audit", "list")["data"]["items"][0]["acting_as"] == author


@pytest.mark.needs_extension("demo")
def test_acting_user_requires_users(tmp_path, monkeypatch, run_json):
    monkeypatch.chdir(tmp_path)
    run_json("demo", "yaai", ".")
    assert run_json("settings", "list", "--acting-as", "x", status=2)["error"]["code"] == "not-supported"
