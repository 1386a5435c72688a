"""``dbctl settings``, ``roles``, ``apps`` and ``init`` on the command line: pipes, terminals, formats, statuses."""

from __future__ import annotations

import json
import shlex
import sys

import pexpect
import pytest

from tests.cli import closings
from tests.in_process import CLEAN_ENVIRONMENT
from tests.services.flashpoint_app import create_app, query_rows, read_all_rows
from tests.services.flashpoint_app import run_statements as change

SITE = "app.site_name"


@pytest.fixture
def path(tmp_path):
    return create_app(tmp_path / "app", "deployed")


@pytest.fixture
def dbctl(path, start):
    def run(*words, stdin="", **environment):
        content = stdin.encode(errors="surrogateescape")
        return start(*words, environment=CLEAN_ENVIRONMENT | environment, cwd=path.parent, stdin=content)

    return run


def start_on_terminal(path, *words):
    return pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", *words],
        cwd=str(path.parent),
        env=CLEAN_ENVIRONMENT,
        encoding="utf-8",
        dimensions=(50, 120),
    )


def list_visible_files(path):
    """Return the files in the folder of the database, except for hidden lock files."""
    return sorted(file for file in path.parent.iterdir() if not file.name.startswith("."))


def answer(process):
    """Return the JSON object of the output."""
    (line,) = process.stdout.splitlines()
    return json.loads(line)


def test_value_may_begin_with_dash(dbctl):
    assert dbctl("settings", "set", SITE, "--", "-x value").returncode == 0
    assert answer(dbctl("settings", "get", SITE, "-o", "json"))["data"]["value"] == "-x value"


def test_change_writes_nothing_to_pipe_and_cache_note_to_json(dbctl):
    process = dbctl("settings", "set", SITE, "A")
    assert (process.stdout, len(closings.read_closing_lines(process.stderr))) == ("", 1)
    response = answer(dbctl("settings", "set", SITE, "B", "-o", "json"))
    assert response["schema"] == "dbctl.settings.set/1"
    assert response["target"] == "fp/user"
    assert response["warnings"] == ["a running Flashpoint Web may use the old value for up to 60 seconds"]
    assert (response["data"]["before"], response["data"]["setting"]["value"]) == ("A", "B")


def test_cache_note_is_written_on_terminal(path):
    child = start_on_terminal(path, "settings", "set", SITE, "New")
    child.expect("up to 60 seconds")
    child.expect(pexpect.EOF)


def test_dry_run_shows_plan_and_changes_nothing(dbctl, path):
    before = read_all_rows(path)
    plan = answer(dbctl("settings", "set", SITE, "New", "--dry-run", "-o", "json"))["data"]["plan"]
    assert plan["steps"] == [f'change {SITE} from "Flashpoint Web" to "New"']
    assert read_all_rows(path) == before


def test_apply_reads_exported_json_from_standard_input(dbctl, path):
    result = dbctl("settings", "export").stdout
    assert answer(dbctl("settings", "diff", "-", "-o", "json", stdin=result))["data"]["total"] == 0
    before = read_all_rows(path)
    assert dbctl("settings", "apply", "-", "--mode", "exact", stdin=result).returncode == 0
    assert read_all_rows(path) == before


def test_exact_mode_confirms_removal(dbctl, path):
    (path.parent / "f.json").write_text(json.dumps({SITE: "Only"}))
    before = read_all_rows(path)
    process = dbctl("settings", "apply", "f.json", "--mode", "exact")
    assert process.returncode == 6
    assert "--yes" in process.stderr
    child = start_on_terminal(path, "settings", "apply", "f.json", "--mode", "exact")
    child.expect("This destroys data")
    child.expect("yes or no")
    child.sendline("no")
    child.expect("declined")
    child.expect(pexpect.EOF)
    assert read_all_rows(path) == before
    assert dbctl("settings", "apply", "f.json", "--mode", "exact", "--yes").returncode == 0
    assert query_rows(path, "select value from system_settings") == [("Only",)]


def test_validate_exits_4_on_invalid_stored_value(dbctl, path):
    assert dbctl("settings", "validate").returncode == 0
    dbctl("settings", "set", SITE, "fine")
    change(path, "update system_settings set value = '' where value = 'fine'")
    process = dbctl("settings", "validate", "-o", "json")
    assert (process.returncode, answer(process)["data"]["findings"][0]["code"]) == (4, "setting-invalid")


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
def test_failure_has_message_hint_and_exit_status(dbctl, path, words, status, code):
    before, files = read_all_rows(path), list_visible_files(path)
    process = dbctl(*words, "-o", "json")
    assert (process.returncode, answer(process)["error"]["code"]) == (status, code)
    assert process.stderr.startswith("dbctl: ")
    assert process.stderr.count("\n") == 2
    assert (read_all_rows(path), list_visible_files(path)) == (before, files)


@pytest.mark.parametrize("owner", [("--user", "ann"), ("--id", "1")], ids=" ".join)
def test_commands_of_a_hint_change_the_setting_of_the_user(dbctl, path, owner):
    assert dbctl("settings", "set", "theme_mode", "dark", *owner).returncode == 0
    change(path, "update user_settings set setting_value = 'purple' where setting_key = 'theme_mode'")
    (finding,) = answer(dbctl("settings", "validate", *owner, "-o", "json"))["data"]["findings"]
    commands = [shlex.split(command) for command in finding["hint"].split("; or: ")]
    for words in commands:
        process = dbctl(*words[words.index("settings") :])
        assert (process.returncode, " ".join(owner) in " ".join(words)) == (
            2 if "VALUE" in words else 0,
            True,
        )
    assert answer(dbctl("settings", "validate", *owner, "-o", "json"))["data"]["findings"] == []


def test_roles_show_permissions_and_user_counts(dbctl):
    assert "games.read, games.play" in dbctl("roles", "show", "user").stdout
    assert (
        dbctl("roles", "list", "--columns", "name,users", "-o", "csv").stdout
        == "name,users\nadmin,1\nuser,2\nguest,0\n"
    )
    matrix = dbctl("roles", "matrix").stdout.splitlines()
    assert (matrix[0].split(), len(matrix)) == (["permission", "admin", "user", "guest"], 19)


def test_can_returns_exit_status_and_explains(dbctl):
    assert dbctl("roles", "can", "ann", "games.play").returncode == 0
    process = dbctl("roles", "can", "ann", "users.delete", "--explain")
    assert process.returncode == 1
    assert "role user lacks users.delete" in process.stdout
    assert "because" not in dbctl("roles", "can", "ann", "games.play").stdout


def test_role_is_deleted_after_confirmation(path):
    make = start_on_terminal(path, "roles", "create", "editor", "--permission", "games.*")
    make.expect(pexpect.EOF)
    child = start_on_terminal(path, "roles", "delete", "EDITOR")
    child.expect("delete 3 rows of role_permissions")
    child.expect("yes or no")
    child.sendline("yes")
    child.expect(pexpect.EOF)
    assert query_rows(path, "select count(*) from roles") == [(3,)]


def test_check_exits_2_for_files_and_4_for_databases(dbctl, path):
    assert dbctl("apps", "check").returncode == 0
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text() + 'nix = "x"\n')
    process = dbctl("apps", "check", "-o", "json")
    assert (process.returncode, answer(process)["data"]["findings"][0]["message"]) == (
        2,
        "line 6, apps.fp.databases.nix: flashpoint-web has no such database; known: user, flashpoint",
    )
    config.write_text(config.read_text().replace('nix = "x"', 'flashpoint = "nix.sqlite"'))
    assert dbctl("apps", "check").returncode == 4
    assert dbctl("apps", "check", "--db", "user").returncode == 0


def test_broken_configuration_is_reported_by_every_command(dbctl, path):
    path.with_name("dbctl.toml").write_text("[apps.fp]\nprofil = 'x'\n")
    process = dbctl("users", "list")
    assert (process.returncode, process.stderr.splitlines()[0]) == (
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
def test_password_in_invalid_url_is_not_printed(dbctl, words):
    process = dbctl("--profile", "flashpoint-web", *words, "users", "list", "-o", "json")
    assert process.returncode == 2
    assert "hunter2" not in process.stdout + process.stderr


def test_init_writes_configuration_for_other_commands(dbctl, path):
    path.with_name("dbctl.toml").unlink()
    plan = dbctl("init", "flashpoint-web", "--dry-run")
    assert "user = user.db" in plan.stdout
    assert not path.with_name("dbctl.toml").exists()
    assert dbctl("init", "flashpoint-web").returncode == 0
    assert answer(dbctl("users", "list", "-o", "json"))["target"] == "flashpoint-web/user"
