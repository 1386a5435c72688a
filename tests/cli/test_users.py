"""``dbctl users``: every command on a terminal and in a pipe, on both variants of the database."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout

import pexpect
import pyte
import pytest

from dbctl.cli.main import main
from dbctl.profiles import passwords
from dbctl.profiles.passwords import new_password
from tests import in_process
from tests.in_process import CLEAN_ENVIRONMENT
from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, read_all_rows, run_statements
from tests.shapes.flashpoint_web import add_user

ENVIRONMENT = CLEAN_ENVIRONMENT | {"TZ": "UTC"}
COMMAND = [sys.executable, "-m", "dbctl"]


@pytest.fixture
def path(tmp_path):
    return flashpoint_app.create_app(tmp_path, "deployed")


def dbctl(path, *words, stdin=b""):
    return in_process.run_command(
        ["--config", path.with_name("dbctl.toml"), "users", *words],
        environment=ENVIRONMENT,
        cwd=path.parent,
        stdin=stdin if isinstance(stdin, bytes) else stdin.encode(),
    )


def answer(path, *words, status=0, **more):
    process = dbctl(path, *words, "-o", "json", **more)
    response = json.loads(process.stdout)
    assert (process.returncode, response["exit_code"]) == (status, status), process
    assert response["schema"] == f"dbctl.users.{words[0]}/1"
    assert response["ok"] is (status == 0)
    if status == 0:
        assert (response["error"], process.stderr.count(b"\n") <= 1) == (None, True), process.stderr
    return response


def data(path, *words, **more):
    return answer(path, *words, **more)["data"]


def error(path, *words, status, **more):
    before = read_all_rows(path)
    response = answer(path, *words, status=status, **more)
    assert read_all_rows(path) == before
    return response["error"]


def terminal(path, *words, answers=(), columns=100, lines=60):
    """Run a command on a terminal; return its screen, everything it sent, and its exit code."""
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "--config", str(path.with_name("dbctl.toml")), "users", *words],
        env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)},
        dimensions=(lines, columns),
        timeout=30,
    )
    sent = b""
    for prompt, typed in answers:
        child.expect(prompt)
        sent += child.before + child.after
        child.sendline(typed)
    child.expect(pexpect.EOF)
    sent += child.before
    child.close()
    screen = pyte.Screen(columns, lines)
    pyte.ByteStream(screen).feed(sent)
    return "\n".join(line.rstrip() for line in screen.display).strip(), sent, child.exitstatus


# Reading -------------------------------------------------------------------------------------------------------


def test_list_is_plain_table_in_pipe_and_complete_in_json(path):
    process = dbctl(path, "list")
    assert process.stderr == b""
    header, *lines = process.stdout.decode().splitlines()
    assert header.split() == ["id", "login", "email", "role", "active", "last_login_at"]
    assert [line.split()[1] for line in lines] == ["root", "ann", "bob"]
    page = data(path, "list")
    assert {key: page[key] for key in ("total", "limit", "offset", "has_more")} == {
        "total": 3, "limit": 100, "offset": 0, "has_more": False,
    }  # fmt: skip
    assert page["items"][1] == {
        "id": 2, "login": "ann", "username": "ann", "email": "ann@example.org", "name": None, "role": "user", "roles": None, "active": True,
        "created_at": "2024-01-05T08:00:00.000Z", "updated_at": "2024-01-05T08:00:00.000Z", "last_login_at": "2025-02-03T04:05:06.000Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--role", "user"], ["ann", "bob"]),
        (["--active"], ["root", "ann"]),
        (["--no-active"], ["bob"]),
        (["--never-signed-in"], ["bob"]),
        (["--inactive", "90d"], ["ann", "bob"]),
        (["--filter", "email=ann@example.org", "--filter", "role=user"], ["ann"]),
        (["--sort", "-username", "--limit", "2"], ["root", "bob"]),
        (["--sort", "username:desc", "--limit", "1", "--offset", "1"], ["bob"]),
    ],
)
def test_list_is_filtered_sorted_and_paginated(path, words, expected):
    assert [user["login"] for user in data(path, "list", *words)["items"]] == expected


def test_columns_apply_to_every_format(path):
    assert (
        dbctl(path, "list", "--columns", "login,role", "-o", "csv").stdout
        == b"login,role\nroot,admin\nann,user\nbob,user\n"
    )
    assert dbctl(path, "list", "--columns", "role,id", "-o", "tsv").stdout.splitlines()[1] == b"admin\t1"
    assert json.loads(dbctl(path, "list", "--columns", "id", "-o", "jsonl").stdout.splitlines()[2]) == {
        "id": 3
    }
    assert "| root" in dbctl(path, "list", "-o", "markdown").stdout.decode()
    assert dbctl(path, "list", "--columns", "password_hash").returncode == 2


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["list", "--role", "king"], 5, "role-missing"),
        (["list", "--filter", "colour=blue"], 2, "usage"),
        (["list", "--filter", "colour"], 2, "usage"),
        (["list", "--filter", "active=maybe"], 2, "value-invalid"),
        (["list", "--sort", "colour"], 2, "usage"),
        (["list", "--inactive", "soon"], 2, "usage"),
        (["list", "--limit", "0"], 2, "usage"),
        (["list", "--limit", "-1"], 2, "usage"),
        (["list", "--limit", str(10**20)], 2, "usage"),
        (["list", "surplus"], 2, "usage"),
        (["show"], 2, "usage"),
        (["show", "nobody"], 5, "user-missing"),
        (["show", "--id=--5"], 5, "user-missing"),
        (["show", "--id", "9" * 40], 5, "user-missing"),
        (["create", "carl", "--generate"], 2, "usage"),
        (["create", "carl", "--email", "c@example.org"], 2, "usage"),
        (["create", "carl", "--email", "c@example.org", "--generate", "--password-stdin"], 2, "usage"),
        (
            ["create", "carl", "--email", "c@example.org", "--generate", "--set", "email=d@example.org"],
            2,
            "usage",
        ),
        (["create", "carl", "--email", "c@example.org", "--generate", "--set", "username=x"], 2, "usage"),
        (["create", "carl", "--email", "c@example.org", "--generate", "--name", "C"], 2, "usage"),
        (["create", "carl", "--email", "c@example.org", "--password-file", "nowhere"], 5, "file-missing"),
        (["create", "ANN", "--email", "c@example.org", "--generate"], 6, "already-exists"),
        (["create", "carl", "--email", "c@example.org", "--generate", "--role", "king"], 5, "role-missing"),
        (["update", "ann"], 2, "usage"),
        (["update", "ann", "--set", "password_hash=x"], 2, "usage"),
        (["update", "root", "--set", "active=false"], 6, "last-admin"),
        (["update", "ann", "--email", "root@example.org"], 6, "already-exists"),
        (["delete", "root", "--yes"], 6, "last-admin"),
        (["delete", "ann"], 6, "confirmation-missing"),
        (["delete", "--yes"], 2, "usage"),
        (["set-role", "root", "user"], 6, "last-admin"),
        (["set-role", "user"], 2, "usage"),
        (["deactivate", "ann", "root"], 6, "last-admin"),
        (["set-password", "nobody"], 5, "user-missing"),
        (["set-password", "ann", "bob", "--generate"], 2, "usage"),
        (["set-password", "ann"], 2, "usage"),
        (["unlock"], 2, "usage"),
        (["check-password", "nobody"], 5, "user-missing"),
        (["check-password", "ann"], 2, "usage"),
        (["ensure", "root", "--no-active"], 6, "last-admin"),
        (["import", "nowhere.csv"], 5, "file-missing"),
        (["import", "."], 1, "file-failed"),
        (["import", "-"], 2, "usage"),
    ],
)
def test_refused_command_reports_reason_and_changes_nothing(path, words, status, code):
    failure = error(path, *words, status=status)
    assert failure["code"] == code
    assert failure["message"].isprintable()


def test_show_has_everything_but_secrets(path):
    ann = data(path, "show", "ann")
    assert ann["tokens"] == {"valid": 1, "expired": 1, "revoked": 1}
    assert (ann["settings"], ann["statistics"]["total_sessions"]) == ({"theme_mode": "light"}, 7)
    assert ann["last_activity"] == {"action": "play.start", "at": "2025-01-01T11:00:00.000Z"}
    table = dbctl(path, "show", "ann", "bob").stdout.decode()
    assert "ann@example.org" in table
    assert "bob@example.org" in table
    screen = terminal(path, "show", "ann", "bob", columns=80)[0]
    assert "bob (id 3):" in screen
    assert "ann@example.org" in screen
    for word in ("valid", "theme_mode", "play.start", "games.play"):
        assert word in dbctl(path, "show", "ann").stdout.decode()


# Creating and ensuring -----------------------------------------------------------------------------------------


def test_create_and_ensure_for_scripts(path):
    created = answer(
        path, "create", "carl", "--email", "c@example.org", "--password-stdin", stdin="a password\n"
    )
    assert "--with-settings" in created["warnings"][0]
    assert (created["data"]["created"], created["data"]["user"]["role"], created["data"]["password"]) == (
        True,
        "user",
        None,
    )
    before = read_all_rows(path)
    for _ in range(2):  # no password is required
        again = data(path, "ensure", "CARL", "--email", "c@example.org", "--role", "user", "--active")
        assert (again["created"], again["changed"]) == (False, False)
    assert dbctl(path, "ensure", "carl").stdout == b""
    assert read_all_rows(path) == before
    assert data(path, "ensure", "dora", "--email", "d@example.org", "--password-stdin", stdin="a password")[
        "created"
    ]
    assert data(path, "check-password", "dora", "--password-stdin", stdin="a password")["matches"]


def test_ensure_retains_fields_that_are_not_passed(path):
    changed = data(path, "ensure", "bob", "--role", "guest")
    assert (changed["changed"], changed["user"]["active"], changed["user"]["role"]) == (True, False, "guest")
    assert data(path, "ensure", "bob", "--email", "b@new.example")["user"]["role"] == "guest"


def test_generated_password_is_shown_once_and_works(path):
    created = data(path, "create", "carl", "--email", "c@example.org", "--generate", "--with-settings")
    assert created["default_settings"] == ["theme_mode", "primary_color"]
    assert len(created["password"]) == 20
    assert data(path, "check-password", "carl", "--password-stdin", stdin=created["password"])["matches"]
    for words in (
        ["create", "dora", "--email", "d@example.org"],
        ["ensure", "emil", "--email", "e@example.org"],
    ):
        output = dbctl(path, *words, "--generate").stdout.decode()
        (line,) = [line for line in output.splitlines() if line.startswith("password")]
        password = f"{line.split()[1]}\n"
        assert data(path, "check-password", words[1], "--password-stdin", stdin=password)["matches"]
    # a pipe gets only what is shown once
    quiet = dbctl(path, "create", "finn", "--email", "f@example.org", "--password-stdin", stdin=password)
    assert (quiet.returncode, quiet.stdout) == (0, b"")
    shown = dbctl(path, "set-password", "carl", "--generate").stdout.decode()
    (line,) = [line for line in shown.splitlines() if line.startswith("password")]
    assert data(path, "check-password", "carl", "--password-stdin", stdin=line.split()[1] + "\n")["matches"]


def test_check_password_is_an_exit_status(path):
    assert (
        dbctl(path, "check-password", "ann", "--password-stdin", stdin=flashpoint_app.PASSWORD).returncode
        == 0
    )
    assert (
        error(path, "check-password", "ann", "--password-stdin", stdin="no", status=1)["code"]
        == "password-wrong"
    )
    assert data(path, "check-password", "--id", "2", "--password-stdin", stdin=flashpoint_app.PASSWORD)[
        "matches"
    ]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (b"short", "6 to 128"),
        (b"x" * 73, "72 bytes"),
        (b"\xff" * 8, "not UTF-8"),
        (b"", "empty"),
        (b"abc\0defgh", "NUL"),
        (b"y" * 5000, "longer"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_invalid_password_is_refused_before_write_and_in_dry_run(path, password, reason, dry):
    failure = error(
        path, "create", "carl", "--email", "c@example.org", "--password-stdin", *dry, stdin=password, status=2
    )
    assert (failure["code"], reason in failure["message"]) == ("value-invalid", True)
    error(path, "set-password", "ann", "--password-stdin", *dry, stdin=password, status=2)


ODD_BYTES = [
    "\udcff\udcfe\udcfd",
    "car\x1b[31ml",
    "car\tl",
    "car\u202el",
    "a" * 10_000,
    "ab\u0007c",
    "\u200b\u200b\u200b",
]


@pytest.mark.parametrize("name", ODD_BYTES)
def test_names_with_control_characters_are_refused_in_one_line(path, name):
    process = dbctl(path, "create", name, "--email", "c@example.org", "--generate")
    assert (process.returncode, process.stdout) == (2, b"")
    line, hint = process.stderr.decode().splitlines()
    assert line.isprintable()
    assert len(line) < 300
    assert "Nothing was changed" in hint
    for words in (
        ["show", name],
        ["delete", name, "--yes"],
        ["ensure", name, "--email", "c@example.org", "--generate"],
    ):
        process = dbctl(path, *words)
        assert process.returncode in {2, 5}
        assert process.stderr.decode().splitlines()[0].isprintable()
        assert len(process.stderr) < 500


# Changing ------------------------------------------------------------------------------------------------------


def test_changes_write_nothing_to_pipe_and_result_to_json(path):
    for words in (
        ["update", "ann", "--email", "x@example.org"],
        ["deactivate", "ann"],
        ["activate", "ann", "bob"],
        ["set-role", "ann", "bob", "guest"],
        ["unlock", "ann"],
    ):
        process = dbctl(path, *words)
        assert (process.returncode, process.stdout, process.stderr.count(b"\n")) == (0, b"", 1), words
    result = data(path, "set-role", "ann", "bob", "user")
    assert (result["changed"], [user["role"] for user in result["users"]]) == (2, ["user", "user"])
    assert data(path, "unlock", "bob")["cleared"] == 1
    result = data(path, "set-password", "ann", "--password-stdin", stdin="another one\n")
    assert (result["changed"], result["password"]) == (1, None)


def test_logins_are_read_from_standard_input(path):
    result = data(path, "deactivate", "-", "--id", "3", stdin=b"ann\nANN\n\n  ann@example.org \n")
    assert ([user["login"] for user in result["users"]], result["changed"]) == (["ann", "bob"], 1)


@pytest.mark.parametrize(
    "words",
    [
        ["create", "carl", "--email", "c@example.org"],
        ["ensure", "carl", "--email", "c@example.org"],
        ["ensure", "ann", "--email", "c@example.org"],
        ["update", "ann", "--email", "c@example.org"],
        ["delete", "ann"],
        ["set-password", "ann"],
        ["set-password", "ann", "--generate"],
        ["set-role", "ann", "admin"],
        ["activate", "bob"],
        ["deactivate", "ann"],
        ["unlock", "ann"],
        ["import", "new.csv"],
    ],
)
def test_dry_run_prints_plan_without_prompt_or_change(path, words):
    path.with_name("new.csv").write_text("username,email,password\nzoe,zoe@example.org,123456\n")
    before, files = read_all_rows(path), sorted(path.parent.iterdir())
    raw = path.read_bytes()
    plan = data(path, *words, "--dry-run")["plan"]
    assert set(plan) == {
        "title",
        "target",
        "steps",
        "rows",
        "deleted",
        "destructive",
        "retained",
        "failed",
        "digest",
    }
    assert plan["target"] == "fp/user"
    assert plan["steps"]
    assert plan["destructive"] is (words[0] == "delete")
    assert plan["title"] in dbctl(path, *words, "-n").stdout.decode()
    assert (read_all_rows(path), path.read_bytes(), sorted(path.parent.iterdir())) == (before, raw, files)


def test_deletion_from_protected_app_requires_its_name(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed", protected=True)
    assert error(path, "delete", "ann", "--yes", status=6)["code"] == "confirmation-missing"
    assert error(path, "delete", "ann", "--confirm", "other", status=6)["code"] == "confirmation-wrong"
    result = data(path, "delete", "ann", "bob", "--confirm", "fp")
    assert [user["login"] for user in result["users"]] == ["ann", "bob"]
    assert result["rows"]["refresh_tokens"] == 3
    assert query_rows(path, "select username from users") == [("root",)]


def test_deletion_of_no_user_needs_no_confirmation(path):
    run_statements(path, "update users set last_login_at = '2031-01-01T00:00:00.000Z'")
    assert dbctl(path, "delete", "--inactive", "365d").returncode == 0


def test_ambiguous_login_lists_ids(path):
    add_user(path, "ANN@example.org", email="other@example.org")
    for words in (
        ["show"],
        ["delete", "--yes"],
        ["deactivate"],
        ["unlock"],
        ["set-password", "--generate"],
        ["check-password"],
    ):
        failure = error(path, words[0], "ann@example.org", *words[1:], status=6)
        assert (failure["code"], "2, 4" in failure["message"], "--id" in failure["hint"]) == (
            "login-ambiguous",
            True,
            True,
        )
    assert data(path, "deactivate", "--id", "4")["users"][0]["email"] == "other@example.org"


# Import, export ------------------------------------------------------------------------------------------------


def test_export_is_csv_by_default_and_can_be_imported(path, tmp_path):
    other = flashpoint_app.create_app(tmp_path / "there", "deployed")
    run_statements(other, "delete from users")
    out = dbctl(path, "export", "--secrets").stdout
    assert list(csv.DictReader(io.StringIO(out.decode())))[1]["username"] == "ann"
    process = dbctl(other, "import", "-", "-o", "json", stdin=out)
    data = json.loads(process.stdout)["data"]
    assert (data["added"], data["skipped"], data["generated"]) == (3, 0, [])
    for form in ("csv", "json", "jsonl"):
        run_statements(other, "delete from users", "delete from sqlite_sequence")
        exported = dbctl(path, "export", "--secrets", "-o", form).stdout
        assert dbctl(other, "import", "-", stdin=exported).returncode == 0
        assert dbctl(other, "export", "--secrets", "-o", form).stdout == exported


def test_user_import_reports_each_invalid_line(path):
    path.with_name("bad.csv").write_text(
        "username,email,password\nok1,ok@example.org,123456\nab,x,1\nann,a@b.example,123456\n"
    )
    failure = error(path, "import", "bad.csv", status=2)
    assert failure["code"] == "import-invalid"
    assert "2 of 3" in failure["message"]
    assert "line 3" in failure["message"]
    assert "line 4" in failure["message"]


def test_import_generates_passwords_and_skips_existing_users(path):
    path.with_name("new.jsonl").write_text(
        '{"username":"zoe","email":"z@example.org"}\n{"username":"ANN","email":"q@example.org"}\n'
    )
    result = data(path, "import", "new.jsonl", "--generate", "--existing", "skip")
    assert (result["added"], result["skipped"], [item["login"] for item in result["generated"]]) == (
        1,
        1,
        ["zoe"],
    )
    assert data(path, "check-password", "zoe", "--password-stdin", stdin=result["generated"][0]["password"])[
        "matches"
    ]
    assert dbctl(path, "import", "new.jsonl", "--generate", "--existing", "skip").stdout == b""


# On a terminal -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_password_prompt_follows_all_other_checks(path):
    screen, sent, status = terminal(
        path, "create", "carl", "--email", "c@example.org",
        answers=[("Password: ", "marked pass"), ("Repeat password: ", "marked pass")],
    )  # fmt: skip
    assert status == 0
    assert b"marked pass" not in sent
    assert "no user settings were added" in " ".join(screen.split())
    assert "carl" in screen
    for words in (
        ["create", "ann", "--email", "x@example.org"],
        ["create", "ab", "--email", "x@example.org"],
        ["set-password", "nobody"],
        ["check-password", "nobody"],
    ):
        screen, _sent, status = terminal(path, *words)
        assert status in {2, 5, 6}
        assert "Password" not in screen
    assert "Password" not in terminal(path, "ensure", "carl", "--email", "c@example.org")[0]


def test_deletion_shows_plan_and_prompts(path):
    before = read_all_rows(path)
    screen, _sent, status = terminal(path, "delete", "ann", answers=[("yes or no: ", "no")])
    assert status == 6
    assert "keep 2 rows of activity_logs" in screen
    assert read_all_rows(path) == before
    assert terminal(path, "delete", "ann", answers=[("yes or no: ", "yes")])[2] == 0
    assert query_rows(path, "select count(*) from users") == [(2,)]


HOSTILE = [
    "[bold]x[/bold]",
    "[/foo]",
    "\x1b]0;title\x07\x1b[2J\x1b[31m",
    "a\u202eb\u2066c",
    "line\nbreak\tx",
    "zero\u200bwidth",
    "日本語🎮",
    "x" * 5000,
    "[link=http://e]y[/link]",
    "\x9b31m",
]


@pytest.mark.slow
def test_control_characters_in_names_are_escaped_on_terminal(path):
    for index, name in enumerate(HOSTILE):
        add_user(path, name, email=f"h{index}@example.org")
    run_statements(
        path,
        "insert into users (username, email, password_hash, role_id) values (cast(x'fffe41' as text), 'raw@example.org', 'x', 2)",
    )
    for words in (
        ["list"],
        ["show", "h2@example.org", "h3@example.org"],
        ["deactivate", "h2@example.org"],
        ["delete", "h2@example.org", "-n"],
        ["list", "-o", "csv"],
        ["list", "-o", "tsv"],
        ["list", "-o", "markdown"],
    ):
        screen, sent, status = terminal(path, *words, columns=120, lines=200)
        assert status == 0, screen
        for bad in (b"\x1b]0", b"\x1b[2J", b"\x1b]8", b"\x9b", "\u202e".encode(), "\u200b".encode(), b"\x07"):
            assert bad not in sent, (words, bad)
    screen = terminal(path, "list", columns=200, lines=400)[0]
    for shown in ("[bold]x[/bold]", "[/foo]", "\\x1b]0;title\\x07", "a\\u202eb", "日", "[link=http://e]"):
        assert shown in screen
    for form in ("json", "csv", "jsonl", "tsv"):
        process = dbctl(path, "list", "-o", form)
        assert (process.returncode, process.stderr) == (0, b"")
    assert json.loads(dbctl(path, "list", "-o", "json").stdout)["data"]["items"][3]["username"] == HOSTILE[0]


# Secrets -------------------------------------------------------------------------------------------------------


def test_no_command_shows_password_hash_or_token(path, monkeypatch, capfd):
    monkeypatch.chdir(path.parent)
    mark = "Marked-Pa55word"
    secret = path.with_name("secret.txt")
    secret.write_text(mark + "\n")
    secret.chmod(0o600)
    path.with_name("new.csv").write_text(f"username,email,password\nzoe,zoe@example.org,{mark}\n")
    path.with_name("bad.csv").write_text(
        f"username,email,password\nzo,zoe@example.org,{mark}\nyan,y@example.org,{mark}{'x' * 80}\n"
    )
    path.with_name("odd.csv").write_text(f"username,email,colour\nzo,zoe@example.org,{mark}\n")
    path.with_name("bad.json").write_text(
        json.dumps([{"username": "zoe", "email": "z@example.org", "password": [mark], "password_hash": mark}])
    )
    password_options = ["--password-file", str(secret)]
    for words in (
        ["list"],
        ["show", "ann"],
        ["create", "carl", "--email", "c@example.org", *password_options],
        ["create", "carl", "--email", "c@example.org", *password_options],
        ["create", "ca", "--email", "c@example.org", *password_options],
        ["ensure", "dora", "--email", "d@example.org", *password_options],
        ["ensure", "dora", "--email", "d@example.org", *password_options],
        ["update", "ann", "--email", "x@example.org"],
        ["set-password", "ann", *password_options],
        ["set-password", "ann", *password_options, "--dry-run"],
        ["check-password", "ann", *password_options],
        ["check-password", "bob", *password_options],
        ["set-role", "ann", "guest"],
        ["deactivate", "ann"],
        ["activate", "ann"],
        ["unlock", "ann"],
        ["import", "bad.csv"],
        ["import", "odd.csv"],
        ["import", "bad.json"],
        ["import", "new.csv"],
        ["import", "new.csv"],
        ["export"],
        ["delete", "ann", "--yes"],
    ):
        for form in ("json", "table"):
            status = main(["--config", "dbctl.toml", "users", "--verbose", *words, "-o", form])
            both = "".join(capfd.readouterr())
            assert status in {0, 1, 2, 5, 6}, both
            assert both or form == "table"
            for secret_text in (mark, "$2b$", flashpoint_app.TOKEN):
                assert secret_text not in both, words
    log_rows = repr(query_rows(path, "select * from activity_logs"))
    assert mark not in log_rows
    assert "$2b$" not in log_rows
    for name in path.parent.glob("user.db*"):
        assert mark.encode() not in name.read_bytes()


def test_missing_field_of_new_user_is_reported_as_option(path, answer, monkeypatch):
    monkeypatch.chdir(path.parent)
    error = answer("users", "create", "foo", "--generate", status=2)["error"]
    assert "--email" in error["message"] + error["hint"]


@pytest.mark.parametrize("command", ["create", "ensure"])
def test_other_value_of_the_login_is_refused(path, command):
    profile = path.with_name("quick.toml")
    profile.write_text(
        profile.read_text().replace('login = ["username", "email"]', 'login = ["email", "username"]')
    )
    words = (command, "ann@example.org", "--set", "username=ann", "--dry-run")
    before = read_all_rows(path)
    assert error(path, *words, "--email", "new@example.org", status=2)["code"] == "usage"
    assert read_all_rows(path) == before
    if command == "ensure":
        assert data(path, *words, "--email", "ann@example.org")["plan"]["rows"] == {}


# Generated passwords without a reader ----------------------------------------------------------------------------

GENERATING = (
    ("create", "eve", "--email", "eve@example.org", "--generate"),
    ("ensure", "eve", "--email", "eve@example.org", "--generate"),
    ("set-password", "ann", "--generate"),
    ("import", "users.csv", "--generate"),
)
#: What they write to standard error.
FULL = ("Created user eve: role user", "Created user eve: role user", "Changed user ann", "Imported 1 user")


def run_into(path, stream, words, *options):
    """Run a command whose standard output is a file; return its status, and what it wrote to standard error."""
    path.with_name("users.csv").write_text("username,email\neve,eve@example.org\n")
    errors = io.StringIO()
    with open(stream, "w") as out, chdir(path.parent), redirect_stdout(out), redirect_stderr(errors):  # noqa: PTH123 - a descriptor
        status = main(["users", *words, *options])
    return status, errors.getvalue()


@pytest.mark.parametrize("words", GENERATING)
def test_password_is_not_generated_for_a_closed_pipe(path, words):
    before = read_all_rows(path)
    reading, writing = os.pipe()
    os.close(reading)
    status, errors = run_into(path, writing, words)
    assert (status, errors.count("nothing was changed")) == (141, 1)
    assert read_all_rows(path) == before


def test_password_is_not_generated_for_a_closed_standard_output(path):
    before = read_all_rows(path)
    arguments = [sys.executable, "-m", "dbctl", "users", *GENERATING[0]]
    process = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *arguments],
        cwd=path.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stderr.count("nothing was changed")) == (141, 1)
    assert read_all_rows(path) == before


@pytest.mark.parametrize("options", [(), ("-o", "json"), ("--quiet",)])
@pytest.mark.parametrize("words", GENERATING[:3])
def test_lost_password_is_reported_if_the_pipe_is_closed_later(path, monkeypatch, words, options):
    before = read_all_rows(path)
    reading, writing = os.pipe()

    def close_and_create():
        os.close(reading)
        return new_password()

    monkeypatch.setattr(passwords, "new_password", close_and_create)
    status, errors = run_into(path, writing, words, *options)
    assert status == 141
    assert "Its password is lost. Set another one with: " in errors
    assert f"users set-password {words[1]} --generate" in errors
    assert read_all_rows(path) != before


def test_generated_passwords_of_an_import_are_printed_once(path, tmp_path):
    status, errors = run_into(path, tmp_path / "out", GENERATING[3])
    assert status == 0, errors
    login, password = (tmp_path / "out").read_text().splitlines()[1].split()
    assert login == "eve"
    assert dbctl(path, "check-password", "eve", "--password-stdin", stdin=password).returncode == 0


@pytest.mark.parametrize(("words", "change"), list(zip(GENERATING, FULL, strict=True)))
def test_lost_password_is_reported_on_a_full_disk(path, words, change):
    status, errors = run_into(path, "/dev/full", words)
    assert status == 1, errors
    assert f"dbctl: {change}" in errors
    assert "Its password is lost." in errors
