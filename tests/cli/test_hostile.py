"""Databases as hostile or careless hands leave them: never a fault of dbctl's own, never a wrong answer as a right one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.cli.test_reference import KEYS, deployment, here  # noqa: F401 - fixtures

SWALLOW = "create trigger {name} before {what} begin select raise(ignore); end"


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "backend" / "user.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    main([*words, "-o", "json"])
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("update on users", ["users", "deactivate", "eve"]),
        ("update on users", ["users", "set-password", "eve", "--generate"]),
        ("update on refresh_tokens", ["users", "set-role", "eve", "guest"]),
        ("delete on users", ["users", "delete", "eve", "--yes"]),
        ("insert on users", ["users", "create", "mia", "--email", "m@example.org", "--generate"]),
        ("insert on users", ["users", "import", "people.csv"]),
        ("update on system_settings", ["settings", "set", "{key}", "New"]),
        ("delete on roles", ["roles", "delete", "helper", "--yes"]),
    ],
)
def test_a_write_that_a_trigger_swallows_is_not_called_done(here, capsys, what, words):  # noqa: F811
    token = "insert into refresh_tokens (user_id, token, expires_at) select id, 'x' || id, '2999-01-01' from users"
    change(here, token, SWALLOW.format(name="swallow", what=what))
    told = ask(capsys, *[word.format(key=KEYS[here.name]) for word in words])
    assert (told["exit_code"], told["ok"]) == (6, False), told
    assert told["error"]["code"] == "constraint"  # type: ignore[index]


@pytest.mark.parametrize("form", ["json", "table", "csv"])
@pytest.mark.parametrize("late", [["--columns", "nosuch"], ["--excel-safe", "--columns", "nosuch"]])
def test_what_was_done_is_not_called_refused_for_a_wrong_word_about_its_answer(here, capsys, form, late):  # noqa: F811
    assert main(["users", "deactivate", "eve", "-o", form, *late]) == 0
    said = capsys.readouterr()
    wrong = "--columns" if form == "csv" else late[0]  # --excel-safe belongs to csv
    assert wrong in (said.out if form == "json" else said.err)
    assert ask(capsys, "users", "show", "eve")["data"]["active"] is False  # type: ignore[index]
    assert main(["users", "show", "eve", "-o", form, *late]) == 2


def test_columns_of_an_answer_that_is_a_table_are_those_that_are_seen(here, capsys):  # noqa: F811
    told = ask(capsys, "sessions", "cleanup", "--columns", "rule,changed")["data"]
    assert [*told[0]] == ["rule", "changed"]  # type: ignore[index]
    assert len(told) > 1  # type: ignore[arg-type]
    assert main(["sessions", "cleanup", "--columns", "changed,rule", "-o", "csv"]) == 0
    assert capsys.readouterr().out.startswith("changed,rule\n0,abandoned-plays\n")


def test_a_view_is_in_nobodys_way(here, capsys):  # noqa: F811
    change(here, "create view everybody as select id, username from users")
    assert ask(capsys, "users", "delete", "eve", "--yes")["ok"]


def test_a_value_that_is_no_text_is_a_finding_and_can_be_mended(here, capsys):  # noqa: F811
    column = "key = 'siteName'" if here.name == "document" else "key = 'app.site_name'"
    change(here, f"update system_settings set value = x'80ff' where {column}")
    assert ask(capsys, "settings", "validate")["exit_code"] == 4
    assert ask(capsys, "settings", "set", KEYS[here.name], "Arcade")["ok"]
    assert ask(capsys, "settings", "validate")["exit_code"] == 0


def test_a_pattern_that_takes_for_ever_is_given_up(here, capsys):  # noqa: F811
    column = "key = 'siteName'" if here.name == "document" else "key = 'app.site_name'"
    endless = json.dumps({"type": "string", "pattern": "^(a+)+$"})
    change(here, f"update system_settings set validation_schema = '{endless}' where {column}")
    begun = time.monotonic()
    told = ask(capsys, "settings", "set", KEYS[here.name], "a" * 40 + "!")
    assert told["exit_code"] == 2
    assert "too long" in str(told["error"])
    assert time.monotonic() - begun < 60


def test_an_endless_number_is_shown(here, capsys):  # noqa: F811
    change(
        here,
        "insert or replace into user_stats (user_id, total_playtime_seconds) select id, 9e999 from users",
    )
    capsys.readouterr()
    assert main(["users", "show", "eve"]) == 0
    assert "inf" in capsys.readouterr().out


def test_a_name_that_is_no_text_can_be_unlocked(here, capsys):  # noqa: F811
    change(here, "update users set username = cast(x'fffe80' as text) where username = 'eve'")
    assert ask(capsys, "users", "unlock", "--id", "2" if here.name == "deployed" else "7")["ok"]


def test_a_file_of_one_byte_is_not_written_over(here, capsys):  # noqa: F811
    path = here / "new.db"
    path.write_text("x")
    told = ask(capsys, "migrate", "up", "--profile", "flashpoint-web", "--url", f"user={path}")
    assert told["exit_code"] == 4
    assert path.read_text() == "x"


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--config", "{long}"],
        ["migrate", "status", "--migrations", "{long}"],
        ["migrate", "new", "x", "--migrations", "{long}"],
        ["data", "export", "users", "{long}.csv"],
        ["data", "import", "users", "{long}.csv"],
        ["settings", "apply", "{long}"],
        ["restore", "preview", "--file", "{long}"],
        ["backup", "create", "--repository", "{long}"],
        ["backup", "create", "--repository", "~no-user-of-that-name/x"],
        ["status", "--profile", "{long}.toml", "--url", "main=x"],
        ["integrity", "check", "--profile", "plain", "--url", "main={long}"],
        ["integrity", "check", "--profile", "plain", "--url", "main=~no-user-of-that-name/x"],
    ],
)
def test_a_path_that_cannot_exist_is_an_expected_failure(here, capsys, words):  # noqa: F811
    answer = ask(capsys, *[word.format(long="n" * 300) for word in words])
    assert answer["exit_code"] in {1, 2, 5, 10}
    assert '"internal"' not in json.dumps(answer)


#: As root, run a program without the right to pass by the modes of files. Another user might be unable to import dbctl.
BOUND_BY_MODES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def test_what_may_not_be_looked_at_is_said_so(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "dbctl.toml").write_text("[apps]")
    words = ["--config", str(closed / "dbctl.toml"), "users", "list"]
    closed.chmod(0o000)
    try:
        ran = subprocess.run(
            [*BOUND_BY_MODES, sys.executable, "-m", "dbctl", *words],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        closed.chmod(0o700)
    assert "fault of its own" not in ran.stderr
    assert ran.returncode in {1, 5}
    assert "Permission denied" in ran.stderr
