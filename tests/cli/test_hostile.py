"""Databases with hostile or broken content: no internal error, and no failed change that is reported as success."""

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
from tests.cli.test_reference import KEYS, app_folder, create_deployment  # noqa: F401 - fixtures

KEY = KEYS["document"]
IGNORE_WRITES = "create trigger {name} before {event} begin select raise(ignore); end"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_deployment(tmp_path_factory.mktemp("deployment") / "document")


def run_statements(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "backend" / "user.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def run_command(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    main([*words, "-o", "json"])
    response: dict[str, object] = json.loads(capsys.readouterr().out)
    return response


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("update on users", ["users", "deactivate", "eve"]),
        ("update on users", ["users", "set-password", "eve", "--generate"]),
        ("update on refresh_tokens", ["users", "set-role", "eve", "guest"]),
        ("delete on users", ["users", "delete", "eve", "--yes"]),
        ("insert on users", ["users", "create", "mia", "--email", "m@example.org", "--generate"]),
        ("insert on users", ["users", "import", "users.csv"]),
        ("update on system_settings", ["settings", "set", "{key}", "New"]),
        ("delete on roles", ["roles", "delete", "helper", "--yes"]),
    ],
)
def test_write_ignored_by_trigger_is_reported_as_failure(app_folder, capsys, event, words):  # noqa: F811
    token = "insert into refresh_tokens (user_id, token, expires_at) select id, 'x' || id, '2999-01-01' from users"
    run_statements(app_folder, token, IGNORE_WRITES.format(name="swallow", event=event))
    result = run_command(capsys, *[word.format(key=KEY) for word in words])
    assert (result["exit_code"], result["ok"]) == (6, False), result
    code = "row-skipped" if event.startswith("insert") else "constraint"
    assert result["error"]["code"] == code  # type: ignore[index]


def test_trigger_may_store_the_record_of_the_app_in_a_partition(app_folder, capsys):  # noqa: F811
    trigger = (
        "before insert on activity_logs begin insert into part values (new.action); select raise(ignore); end"
    )
    run_statements(app_folder, "create table part (action)", f"create trigger divides {trigger}")
    result = run_command(capsys, "users", "deactivate", "eve")
    assert (result["exit_code"], result["ok"]) == (0, True), result
    with closing(sqlite3.connect(app_folder / "backend" / "user.db")) as connection:
        assert connection.execute("select count(*) from part").fetchall() == [(1,)]


@pytest.mark.parametrize("form", ["json", "table", "csv"])
@pytest.mark.parametrize("options", [["--columns", "nosuch"], ["--excel-safe", "--columns", "nosuch"]])
def test_invalid_output_option_after_change_is_only_a_warning(app_folder, capsys, form, options):  # noqa: F811
    assert main(["users", "deactivate", "eve", "-o", form, *options]) == 0
    output = capsys.readouterr()
    option = "--columns" if form == "csv" else options[0]  # --excel-safe is valid for csv
    assert option in (output.out if form == "json" else output.err)
    assert run_command(capsys, "users", "show", "eve")["data"]["active"] is False  # type: ignore[index]
    assert main(["users", "show", "eve", "-o", form, *options]) == 2


def test_columns_select_columns_of_result_table(app_folder, capsys):  # noqa: F811
    result = run_command(capsys, "sessions", "cleanup", "--columns", "rule,changed")["data"]
    assert [*result[0]] == ["rule", "changed"]  # type: ignore[index]
    assert len(result) > 1  # type: ignore[arg-type]
    assert main(["sessions", "cleanup", "--columns", "changed,rule", "-o", "csv"]) == 0
    assert capsys.readouterr().out.startswith("changed,rule\n0,abandoned-plays\n")


def test_view_does_not_block_deletion(app_folder, capsys):  # noqa: F811
    run_statements(app_folder, "create view everybody as select id, username from users")
    assert run_command(capsys, "users", "delete", "eve", "--yes")["ok"]


def test_non_text_value_is_reported_and_can_be_replaced(app_folder, capsys):  # noqa: F811
    run_statements(app_folder, "update system_settings set value = x'80ff' where key = 'siteName'")
    assert run_command(capsys, "settings", "validate")["exit_code"] == 4
    assert run_command(capsys, "settings", "set", KEY, "Arcade")["ok"]
    assert run_command(capsys, "settings", "validate")["exit_code"] == 0


def test_endless_pattern_is_aborted(app_folder, capsys):  # noqa: F811
    endless = json.dumps({"type": "string", "pattern": "^(a+)+$"})
    run_statements(
        app_folder, f"update system_settings set validation_schema = '{endless}' where key = 'siteName'"
    )
    start_time = time.monotonic()
    result = run_command(capsys, "settings", "set", KEY, "a" * 40 + "!")
    assert result["exit_code"] == 2
    assert "too long" in str(result["error"])
    assert time.monotonic() - start_time < 60


def test_infinite_number_is_shown(app_folder, capsys):  # noqa: F811
    run_statements(
        app_folder,
        "insert or replace into user_stats (user_id, total_playtime_seconds) select id, 9e999 from users",
    )
    capsys.readouterr()
    assert main(["users", "show", "eve"]) == 0
    assert "inf" in capsys.readouterr().out


def test_user_with_non_text_name_can_be_unlocked(app_folder, capsys):  # noqa: F811
    run_statements(app_folder, "update users set username = cast(x'fffe80' as text) where username = 'eve'")
    assert run_command(capsys, "users", "unlock", "--id", "7")["ok"]


def test_one_byte_file_is_not_overwritten(app_folder, capsys):  # noqa: F811
    path = app_folder / "new.db"
    path.write_text("x")
    result = run_command(capsys, "migrate", "up", "--profile", "flashpoint-web", "--url", f"user={path}")
    assert result["exit_code"] == 4
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
def test_impossible_path_is_expected_failure(app_folder, capsys, words):  # noqa: F811
    answer = run_command(capsys, *[word.format(long="n" * 300) for word in words])
    assert answer["exit_code"] in {1, 2, 5, 10}
    assert '"internal"' not in json.dumps(answer)


#: Runs a program as root without the capability to ignore file modes; another user may be unable to import dbctl.
BOUND_BY_MODES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def test_unsearchable_directory_is_reported(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "dbctl.toml").write_text("[apps]")
    words = ["--config", str(closed / "dbctl.toml"), "users", "list"]
    closed.chmod(0o000)
    try:
        process = subprocess.run(
            [*BOUND_BY_MODES, sys.executable, "-m", "dbctl", *words],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        closed.chmod(0o700)
    assert "internal error" not in process.stderr
    assert process.returncode in {1, 5}
    assert "Permission denied" in process.stderr
