"""``dbctl settings``, ``roles``, ``apps`` and ``init`` as they are typed: pipes, terminals, forms, statuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pexpect
import pytest

from tests.services.flashpoint_app import SHAPES, content, rows, settle
from tests.services.flashpoint_app import run as change

ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
SITE = {"document": "app.siteName", "deployed": "app.site_name"}


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def path(tmp_path, shape):
    return settle(tmp_path / "app", shape)


@pytest.fixture
def dbctl(path, start):
    def run(*words, stdin="", **environment):
        typed = stdin.encode(errors="surrogateescape")
        return start(*words, environment=CLEAN | environment, cwd=path.parent, stdin=typed)

    return run


def typed(path, *words):
    return pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", *words],
        cwd=str(path.parent),
        env=CLEAN,
        encoding="utf-8",
        dimensions=(50, 120),
    )


def visible(path):
    """Return the files beside the database, but for the one that stands for dbctl's lock."""
    return sorted(file for file in path.parent.iterdir() if not file.name.startswith("."))


def answer(done):
    """Return the one JSON object of an answer."""
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_value_may_begin_with_a_dash(dbctl, shape):
    assert dbctl("settings", "set", SITE[shape], "--", "-x value").returncode == 0
    assert answer(dbctl("settings", "get", SITE[shape], "-o", "json"))["data"]["value"] == "-x value"


def test_a_change_is_silent_into_a_pipe_and_notes_the_cache_in_json(dbctl, shape):
    done = dbctl("settings", "set", SITE[shape], "A")
    assert (done.stdout, done.stderr) == ("", "")
    told = answer(dbctl("settings", "set", SITE[shape], "B", "-o", "json"))
    assert told["schema"] == "dbctl.settings.set/1"
    assert told["target"] == "fp/user"
    assert told["warnings"] == ["a running Flashpoint Web may use the old value for up to 60 seconds"]
    assert (told["data"]["before"], told["data"]["setting"]["value"]) == ("A", "B")


def test_a_terminal_is_told_of_the_cache(path, shape):
    child = typed(path, "settings", "set", SITE[shape], "New")
    child.expect("up to 60 seconds")
    child.expect(pexpect.EOF)


def test_a_dry_run_shows_the_plan_and_changes_nothing(dbctl, path, shape):
    before = content(path)
    plan = answer(dbctl("settings", "set", SITE[shape], "New", "--dry-run", "-o", "json"))["data"]["plan"]
    assert plan["steps"] == [f'change {SITE[shape]} from "Flashpoint Web" to "New"']
    assert content(path) == before


def test_export_is_json_and_apply_takes_it_also_from_standard_input(dbctl, path):
    told = dbctl("settings", "export").stdout
    assert answer(dbctl("settings", "diff", "-", "-o", "json", stdin=told))["data"]["total"] == 0
    before = content(path)
    assert dbctl("settings", "apply", "-", "--mode", "exact", stdin=told).returncode == 0
    assert content(path) == before


def test_exact_asks_before_it_removes(dbctl, path, shape):
    (path.parent / "f.json").write_text(json.dumps({SITE[shape]: "Only"}))
    before = content(path)
    done = dbctl("settings", "apply", "f.json", "--mode", "exact")
    assert done.returncode == 6
    assert "--yes answers it" in done.stderr
    child = typed(path, "settings", "apply", "f.json", "--mode", "exact")
    child.expect("This destroys data")
    child.expect("yes or no")
    child.sendline("no")
    child.expect("not done")
    child.expect(pexpect.EOF)
    assert content(path) == before
    assert dbctl("settings", "apply", "f.json", "--mode", "exact", "--yes").returncode == 0
    assert rows(path, "select value from system_settings") == [("Only",)]


def test_validate_ends_with_4_when_something_stored_does_not_fit(dbctl, path, shape):
    assert dbctl("settings", "validate").returncode == 0
    dbctl("settings", "set", SITE[shape], "fine")
    change(path, "update system_settings set value = '' where value = 'fine'")
    done = dbctl("settings", "validate", "-o", "json")
    assert (done.returncode, answer(done)["data"]["findings"][0]["code"]) == (4, "setting-invalid")


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["settings", "get", "nix"], 5, "setting-missing"),
        (["settings", "set", "nix", "x"], 5, "setting-missing"),
        (["settings", "get", "x", "--user", "nobody"], 5, "user-missing"),
        (["settings", "apply", "nix.json"], 5, "file-missing"),
        (["settings", "apply", "."], 1, "file-failed"),
        (["settings", "list", "--db", "flashpoint"], 2, "usage"),
        (["settings", "list", "--limit", "0"], 2, "usage"),
        (["settings", "apply", "nix.json", "--mode", "all"], 2, "usage"),
        (["roles", "show", "nix"], 5, "role-missing"),
        (["roles", "grant", "user", "users.read"], 6, "role-built-in"),
        (["roles", "delete", "admin", "--yes"], 6, "role-built-in"),
        (["roles", "create", "USER"], 6, "already-exists"),
        (["roles", "create", "abc", "--permission", "nix"], 5, "permission-missing"),
        (["roles", "create", "abc", "--priority", "high"], 2, "usage"),
        (["roles", "update", "user"], 2, "usage"),
        (["roles", "can", "ann", "nix"], 5, "permission-missing"),
        (["roles", "can", "nobody", "games.read"], 5, "user-missing"),
        (["apps", "show", "nix"], 5, "profile-missing"),
        (["apps", "check", "nix.toml"], 5, "file-missing"),
        (["init", "flashpoint-web", "nix"], 5, "file-missing"),
        (["init", "nix"], 5, "profile-missing"),
        (["init", "flashpoint-web", ".", "--app", "fp"], 6, "already-exists"),
    ],
)
def test_what_goes_wrong_is_one_line_a_hint_and_a_status(dbctl, path, words, status, code):
    before, files = content(path), visible(path)
    done = dbctl(*words, "-o", "json")
    assert (done.returncode, answer(done)["error"]["code"]) == (status, code)
    assert done.stderr.startswith("dbctl: ")
    assert done.stderr.count("\n") == 2
    assert (content(path), visible(path)) == (before, files)


def test_roles_show_their_permissions_and_lists_count_them(dbctl):
    assert "games.read, games.play" in dbctl("roles", "show", "user").stdout
    assert (
        dbctl("roles", "list", "--columns", "name,users", "-o", "csv").stdout
        == "name,users\nadmin,1\nuser,2\nguest,0\n"
    )
    matrix = dbctl("roles", "matrix").stdout.splitlines()
    assert (matrix[0].split(), len(matrix)) == (["permission", "admin", "user", "guest"], 19)


def test_can_answers_by_its_status_and_explains_when_asked(dbctl):
    assert dbctl("roles", "can", "ann", "games.play").returncode == 0
    done = dbctl("roles", "can", "ann", "users.delete", "--explain")
    assert done.returncode == 1
    assert "role user lacks users.delete" in done.stdout
    assert "because" not in dbctl("roles", "can", "ann", "games.play").stdout


def test_a_role_is_deleted_when_asked_twice(path):
    make = typed(path, "roles", "create", "editor", "--permission", "games.*")
    make.expect(pexpect.EOF)
    child = typed(path, "roles", "delete", "EDITOR")
    child.expect("delete 3 rows of role_permissions")
    child.expect("yes or no")
    child.sendline("yes")
    child.expect(pexpect.EOF)
    assert rows(path, "select count(*) from roles") == [(3,)]


def test_check_tells_files_from_live_databases_by_its_status(dbctl, path):
    assert dbctl("apps", "check").returncode == 0
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text() + 'nix = "x"\n')
    done = dbctl("apps", "check", "-o", "json")
    assert (done.returncode, answer(done)["data"]["findings"][0]["message"]) == (
        2,
        "line 6, apps.fp.databases.nix: flashpoint-web has no such database; known: user, flashpoint",
    )
    config.write_text(config.read_text().replace('nix = "x"', 'flashpoint = "nix.sqlite"'))
    assert dbctl("apps", "check").returncode == 4
    assert dbctl("apps", "check", "--db", "user").returncode == 0


def test_a_broken_configuration_is_explained_by_every_command(dbctl, path):
    path.with_name("dbctl.toml").write_text("[apps.fp]\nprofil = 'x'\n")
    done = dbctl("users", "list")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "dbctl: dbctl.toml, line 1, apps.fp.profile: it is missing",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "postgresql://u:hunter2/x@h/d"],
        ["--url", "postgres:hunter2@h"],
        ["--url", "mysql://u:hunter2@h:x/d"],
    ],
)
def test_a_password_typed_by_mistake_is_not_repeated(dbctl, words):
    done = dbctl("--profile", "flashpoint-web", *words, "users", "list", "-o", "json")
    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr


def test_init_writes_what_every_command_then_finds(dbctl, path):
    path.with_name("dbctl.toml").unlink()
    plan = dbctl("init", "flashpoint-web", "--dry-run")
    assert "user = user.db" in plan.stdout
    assert not path.with_name("dbctl.toml").exists()
    assert dbctl("init", "flashpoint-web").returncode == 0
    assert answer(dbctl("users", "list", "-o", "json"))["target"] == "flashpoint-web/user"
