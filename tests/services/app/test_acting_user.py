"""Changes on behalf of a user of the app: --acting-as names the user in records and in settings."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests.services import flashpoint_app
from tests.services.flashpoint_app import rows, run


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.settle(tmp_path / "app", request.param)
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def ask(capsys):
    def run_command(*words, status=0):
        capsys.readouterr()
        assert main([*words, "-o", "json"]) == status
        return json.loads(capsys.readouterr().out)

    return run_command


def ids(path):
    return dict(rows(path, "select username, id from users"))


def records(path):
    return rows(path, "select user_id, username, details from activity_logs order by id desc limit 1")


def test_a_record_names_the_user_and_the_operator(path, ask):
    ask("users", "update", "ann", "--email", "ann2@example.org", "--acting-as", "ROOT")
    ((user, name, details),) = records(path)
    assert (user, name) == (ids(path)["root"], "root")
    assert json.loads(details)["by"].startswith("dbctl (")


def test_a_setting_is_stamped_with_the_user(path, ask):
    for item in ask("settings", "list")["data"]["items"]:
        if isinstance(item["value"], bool):
            ask("settings", "set", item["key"], str(not item["value"]).lower(), "--acting-as", "root")
            assert ask("settings", "get", item["key"])["data"]["updated_by"] == "root"
            ask("settings", "set", item["key"], str(item["value"]).lower())
            assert ask("settings", "get", item["key"])["data"]["updated_by"] is None
            return
    pytest.fail("no setting is a boolean")


def test_without_a_user_the_record_names_dbctl(path, ask):
    ask("users", "update", "ann", "--email", "ann2@example.org")
    ((user, name, details),) = records(path)
    assert (user, name.partition(" ")[0], json.loads(details)["by"]) == (None, "dbctl", "dbctl")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("login", "status", "code"), [("nosuch", 5, "user-missing"), ("bob", 6, "acting-user-inactive")]
)
def test_a_user_who_cannot_act_is_refused_and_nothing_changes(path, ask, login, status, code, dry):
    before = rows(path, "select * from users")
    answer = ask(
        "users", "update", "ann", "--email", "x@example.org", "--acting-as", login, *dry, status=status
    )
    assert answer["error"]["code"] == code
    assert rows(path, "select * from users") == before


def test_a_user_who_is_deleted_by_the_change_cannot_act(path, ask):
    run(path, "update users set role_id = 1 where username = 'ann'")
    answer = ask("users", "delete", "ann", "--yes", "--acting-as", "ann", status=5)
    assert answer["error"]["code"] == "user-missing"
    assert "ann" in ids(path)


def test_an_app_that_stores_no_user_with_a_change_refuses(tmp_path, monkeypatch, ask):
    monkeypatch.chdir(tmp_path)
    ask("demo", "yaai", ".")
    assert ask("settings", "list", "--acting-as", "x", status=2)["error"]["code"] == "not-supported"
