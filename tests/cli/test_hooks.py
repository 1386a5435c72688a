"""Hooks of actions, and the maintenance mode: order, variables, limits, failures, signals, records."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dbctl import signals
from dbctl.cli.main import main
from dbctl.services.hooks import program
from dbctl.services.hooks.program import HookContext, Program, run_program
from tests.crash import forge
from tests.receivers import wait_until
from tests.services.fleet_app import NAMES, create_fleet
from tools import reference

ACTIONS = ("backup", "restore", "migrate")
HOOKS = ("before", "after", "failed", "finally")
SCRIPT = """#!/bin/sh
printf '%s\\n' "$DBCTL_HOOK_NAME" >> order
env | grep '^DBCTL_HOOK_' > "variables.$DBCTL_HOOK_NAME"
echo "output of $DBCTL_HOOK_NAME"
[ ! -e "do.$DBCTL_HOOK_NAME" ] || . "./do.$DBCTL_HOOK_NAME"
"""
NAME = "bl$(touch pwned)og; `touch pwned`"


def configuration(name="blog", *, timeout="10s", extra=""):
    key = json.dumps(name)
    lines = [
        f"[apps.{key}]",
        'profile = "plain"',
        'databases = "blog.db"',
        f'migrations = {{ main = "migrations" }}\n[apps.{key}.backup]\nrepository = "backups"',
        f"[apps.{key}.maintenance_mode]",
        'on = ["./hook"]\noff = ["./hook"]\ntimeout = "10s"',
    ]
    for action in ACTIONS:
        lines.append(f'[apps.{key}.hooks.{action}]\ntimeout = "{timeout}"')
        lines += [f'{hook} = ["./hook"]' for hook in HOOKS]
    return "\n".join(lines) + "\n" + extra


@pytest.fixture
def blog(tmp_path, monkeypatch):
    """An app whose hooks write their order; a hook runs the commands of the file ``do.NAME``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/000_posts.sql").write_text("create table posts (id integer primary key);")
    (tmp_path / "dbctl.toml").write_text(configuration().partition('[apps."blog".maintenance')[0])
    monkeypatch.setenv("DBCTL_STATE", "off")
    assert main(["migrate", "up", "--quiet"]) == 0
    (tmp_path / "migrations/001_note.sql").write_text("create table note (id integer primary key);")
    (tmp_path / "hook").write_text(SCRIPT)
    (tmp_path / "hook").chmod(0o755)
    (tmp_path / "dbctl.toml").write_text(configuration())
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def newest(answer):
    """Return the record of the newest run."""
    return lambda: answer("runs", "list", "--limit", "1")["data"]["items"][0]


def order(folder):
    path = folder / "order"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def variables(folder, name):
    lines = (folder / f"variables.{name}").read_text().splitlines()
    return dict(line.removeprefix("DBCTL_HOOK_").split("=", 1) for line in lines if "=" in line)


def tables(folder):
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_order_and_variables_of_a_backup(blog, answer):
    backup = answer("backup", "create")["data"]
    assert order(blog) == ["before", "after", "finally"]
    known = variables(blog, "after")
    assert (known["APP"], known["ACTION"], known["COMMAND"]) == ("blog", "backup", "backup create")
    assert (known["BACKUP_ID"], known["BACKUP_PATH"]) == (backup["id"], backup["path"])
    assert (known["RESULT"], known["EXIT_CODE"], known["ERROR_CODE"]) == ("ok", "0", "")
    assert (known["RUN_ID"], known["CONFIG"]) == ("1", str(blog / "dbctl.toml"))
    assert "RESULT" not in variables(blog, "before")


def test_restore_and_migration_stop_the_app(blog, answer):
    backup = answer("backup", "create")["data"]["id"]
    order(blog)
    answer("restore", "apply", "latest", "--yes")
    assert order(blog) == ["before", "on", "off", "after", "finally"]
    assert variables(blog, "before")["BACKUP_ID"] == backup
    safety = variables(blog, "after")["SAFETY_BACKUP_ID"]
    assert safety not in ("", backup)
    answer("restore", "undo", "--yes")
    assert order(blog) == ["before", "on", "off", "after", "finally"]
    answer("migrate", "up", "--yes")
    assert order(blog) == ["before", "on", "off", "after", "finally"]
    answer("migrate", "up")  # nothing is pending, so the app is not stopped
    assert order(blog) == ["before", "after", "finally"]
    answer("migrate", "down", "--yes", status=None)
    assert "before" in order(blog)
    assert not list((blog / "state/maintenance").glob("*.json"))


def test_reading_commands_and_dry_runs_start_nothing(blog, answer):
    answer("backup", "create")
    order(blog)
    plan = answer("restore", "apply", "latest", "--dry-run")
    programs = [text for text in plan["warnings"] if "would run" in text]
    assert [text.split(":")[0] for text in programs] == [
        "would run hook before",
        "would run maintenance mode on",
        "would run maintenance mode off",
        "would run hook after",
        "would run hook failed",
        "would run hook finally",
    ]
    for words in (
        ("backup", "list"),
        ("migrate", "status"),
        ("status",),
        ("restore", "preview", "latest"),
        ("restore", "apply", "latest", "--to", "main=copy.db"),  # the live database stays as it is
    ):
        answer(*words)
    answer("restore", "apply", "latest", status=6)  # not confirmed
    answer("restore", "apply", "20200101_000000", "--yes", status=5)
    assert order(blog) == []


def test_failed_before_hook_refuses_the_action(blog, answer, newest):
    (blog / "do.before").write_text("echo disk is missing; exit 255")
    error = answer("migrate", "up", status=6)["error"]
    assert error["code"] == "hook-failed"
    assert "status 255: disk is missing" in error["message"]
    assert order(blog) == ["before", "failed", "finally"]
    assert variables(blog, "failed")["ERROR_CODE"] == "hook-failed"
    assert variables(blog, "finally")["RESULT"] == "refused"
    assert "note" not in tables(blog)
    assert newest()["error"]["code"] == "hook-failed"
    assert error["hint"].endswith(f"runs show {newest()['id']} --app blog")


def test_failed_hook_without_a_journal_names_no_record(blog, answer, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    (blog / "do.before").write_text("exit 1")
    assert answer("backup", "create", status=6)["error"]["hint"] == "Nothing was changed."


def test_database_that_a_hook_moves_is_missing_and_not_its_backups(blog, answer):
    (blog / "do.before").write_text("mv blog.db away.db")
    error = answer("backup", "create", status=10)["error"]
    assert error["code"] == "database-missing"


def test_failed_after_hook_fails_the_command_with_its_result(blog, answer, newest):
    (blog / "do.after").write_text("exit 3")
    backup = answer("backup", "create", status=1)
    assert backup["data"]["complete"]
    assert "status 3" in backup["warnings"][0]
    assert order(blog) == ["before", "after", "failed", "finally"]
    assert variables(blog, "failed")["ERROR_CODE"] == "hook-failed"
    assert (newest()["result"], newest()["error"]["code"]) == ("failed", "hook-failed")


def test_failed_failed_and_finally_hooks_are_warnings(blog, answer):
    (blog / "do.finally").write_text("exit 1")
    assert len(answer("backup", "create")["warnings"]) == 1
    (blog / "do.failed").write_text("exit 1")
    (blog / "migrations/001_note.sql").write_text("select nonsense from nowhere;")
    failed = answer("migrate", "up", status=None)
    assert failed["exit_code"] == 1
    assert failed["error"]["code"] not in ("hook-failed", "")
    assert len(failed["warnings"]) == 2


def test_failed_action_runs_failed_and_finally(blog, answer):
    (blog / "migrations/001_note.sql").write_text("select nonsense from nowhere;")
    error = answer("migrate", "up", status=1)["error"]
    assert order(blog) == ["before", "on", "off", "failed", "finally"]
    assert variables(blog, "failed")["ERROR_CODE"] == error["code"]
    assert variables(blog, "failed")["ERROR"].splitlines()[0] in error["message"]


def test_action_that_cannot_begin_runs_failed_and_finally(blog, answer):
    (blog / "blog.db").unlink()
    answer("backup", "create", status=10)
    assert order(blog) == ["failed", "finally"]
    assert variables(blog, "failed")["EXIT_CODE"] == "10"


@pytest.mark.parametrize("stage", ["on", "off"])
def test_maintenance_mode_that_fails(blog, answer, stage):
    (blog / f"do.{stage}").write_text("exit 4")
    result = answer("migrate", "up", status=6 if stage == "on" else 1)
    assert ("note" in tables(blog)) == (stage == "off")
    after = ["failed", "finally"]
    assert order(blog) == ["before", "on", "off", *after]
    if stage == "on":
        assert result["error"]["code"] == "maintenance-on-failed"
        assert not list((blog / "state/maintenance").glob("*.json"))
        return
    (warning,) = answer("data", "rows", "posts")["warnings"]
    assert "dbctl apps maintenance off --app blog" in warning
    assert any(
        "still be in maintenance" in text for text in answer("status", "--check", status=3)["warnings"]
    )
    codes = [finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]]
    assert "maintenance-mode-left-on" in codes
    answer("apps", "maintenance", "off", status=1)
    (blog / "do.off").unlink()
    answer("apps", "maintenance", "off")
    assert answer("data", "rows", "posts")["warnings"] == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "No such file"),
        ("#!/bin/sh\nkill -SEGV $$\n", "SIGSEGV"),
        ("no program", "Exec format error"),
        ("#!/bin/sh\nexit 255\n", "status 255"),
    ],
)
def test_unusable_hook(blog, answer, script, reason):
    (blog / "hook").rename(blog / "other")
    if script:
        (blog / "hook").write_text(script)
        (blog / "hook").chmod(0o755)
    assert reason in answer("migrate", "up", status=6)["error"]["message"]
    assert "note" not in tables(blog)
    (blog / "other").rename(blog / "hook")
    (blog / "hook").chmod(0o644)
    assert "Permission denied" in answer("migrate", "up", status=6)["error"]["message"]
    if reason == "No such file":  # the key may be one of all apps
        path = blog / "dbctl.toml"
        path.write_text(path.read_text().replace("[apps.blog.hooks", "[defaults.hooks"))
    findings = answer("doctor", status=4)["data"]["findings"]
    missing = [finding for finding in findings if finding["code"] == "hook-program-missing"]
    assert missing
    assert not any("apps." in finding["message"] for finding in missing)
    assert all("config show" in finding["hint"] for finding in missing)


def test_hook_that_hangs_is_killed_with_its_children(blog, answer):
    (blog / "dbctl.toml").write_text(configuration(timeout="1s"))
    (blog / "do.before").write_text("sleep 100 & echo $! > child; sleep 100")
    error = answer("backup", "create", status=6)["error"]
    assert "did not end within 1 s" in error["message"]
    assert not is_alive(int((blog / "child").read_text()))
    assert order(blog) == ["before", "failed", "finally"]


def test_background_processes_end_with_their_hook_but_not_with_the_start_of_the_app(blog, answer):
    for hook in ("before", "off"):
        (blog / f"do.{hook}").write_text(f"sleep 100 & echo $! > child.{hook}")
    answer("migrate", "up")
    assert not is_alive(int((blog / "child.before").read_text()))
    app = int((blog / "child.off").read_text())
    assert is_alive(app)
    os.kill(app, signal.SIGKILL)


def test_output_is_recorded_bounded_and_stdin_is_empty(blog, answer, newest):
    (blog / "do.before").write_text("cat; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last line >&2")
    answer("backup", "create", "--log-file", "log", "--log-format", "json")
    hooks = newest()["hooks"]
    assert [record["hook"] for record in hooks] == ["before", "after", "finally"]
    assert hooks[0]["output"].endswith("last line\n")
    assert len(hooks[0]["output"]) == 8192
    assert hooks[0]["output_bytes"] > 3_000_000
    assert hooks[1]["output"] == "output of after\n"
    assert {record["program"] for record in hooks} == {str(blog / "hook")}
    records = [json.loads(line) for line in (blog / "log").read_text().splitlines()]
    outputs = [record["output"] for record in records if record["event"] == "hook"]
    assert outputs[1:] == ["output of after", "output of finally"]
    assert main(["runs", "show", "1"]) == 0


def test_hostile_names_and_inherited_variables_are_only_values(blog, answer, monkeypatch):
    (blog / "dbctl.toml").write_text(configuration(NAME))
    monkeypatch.setenv("DBCTL_HOOK_BACKUP_ID", "planted")
    monkeypatch.setenv("DBCTL_HOOK_OTHER", "planted")
    answer("backup", "create")
    assert variables(blog, "before")["APP"] == NAME
    assert "planted" not in (blog / "variables.before").read_text()
    assert not (blog / "pwned").exists()


def test_dbctl_in_a_hook_runs_no_hooks(blog, answer):
    command = Path(sys.executable).with_name("dbctl")
    (blog / "do.before").write_text(f"{command} backup create --quiet > nested 2>&1")
    answer("backup", "create")
    assert order(blog) == ["before", "after", "finally"]
    assert answer("backup", "list")["data"]["total"] == 2


def test_user_turns_maintenance_mode_on_and_actions_leave_it_on(blog, answer):
    planned = answer("apps", "maintenance", "on", "--dry-run")
    assert order(blog) == []
    changed = answer("apps", "maintenance", "on")
    schemas = json.loads(reference.SCHEMAS.read_text())
    for result in (planned, changed):
        schema = {**schemas["answers"][result["schema"]], "$defs": schemas["$defs"]}
        Draft202012Validator(schema).validate(result)
    answer("migrate", "up")
    assert order(blog) == ["on", "before", "after", "finally"]
    assert answer("data", "rows", "posts")["warnings"] == []
    answer("apps", "maintenance", "off")
    assert order(blog) == ["off"]


def test_maintenance_mode_that_a_user_could_not_turn_on_is_turned_on_by_actions(blog, answer):
    (blog / "do.on").write_text("exit 4")
    answer("apps", "maintenance", "on", status=6)
    (warning,) = answer("data", "rows", "posts")["warnings"]
    assert "may still be in maintenance mode" in warning
    (blog / "do.on").unlink()
    assert order(blog) == ["on"]
    answer("migrate", "up")
    assert order(blog) == ["before", "on", "off", "after", "finally"]
    assert answer("data", "rows", "posts")["warnings"] == []


def test_app_without_maintenance_mode(blog, answer):
    (blog / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')
    error = answer("apps", "maintenance", "off", status=2)["error"]
    assert error["code"] == "maintenance-not-configured"


def test_state_that_cannot_be_written_is_a_warning(blog, answer):
    (blog / "state").write_text("not a folder")
    result = answer("migrate", "up")
    assert any("cannot be recorded" in text for text in result["warnings"])
    assert order(blog) == ["before", "on", "off", "after", "finally"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[apps.blog.hooks.backup]\nbefore = "a b"\n', "apps.blog.hooks.backup.before"),
        ('[apps.blog.hooks.backup]\nbefore = [""]\n', "apps.blog.hooks.backup.before"),
        ('[apps.blog.hooks.backup]\nafter = ["a", "\\u0000"]\n', "apps.blog.hooks.backup.after"),
        ('[apps.blog.hooks.backup]\ntimeout = "0s"\n', "apps.blog.hooks.backup.timeout"),
        ('[apps.blog.hooks.vacuum]\nafter = ["a"]\n', "apps.blog.hooks.vacuum"),
        ('[apps.blog.hooks.backup]\nbefor = ["a"]\n', "apps.blog.hooks.backup.befor"),
        ('[apps.blog.maintenance_mode]\non = ["a"]\n', "apps.blog.maintenance_mode"),
        ('[apps.blog.maintenance_mode]\non = []\noff = ["a"]\n', "apps.blog.maintenance_mode.on"),
    ],
)
def test_invalid_configuration_names_its_key(blog, answer, text, key):
    (blog / "dbctl.toml").write_text(f'[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n{text}')
    error = answer("backup", "create", status=2)["error"]
    assert error["code"] == "config-invalid"
    assert key in error["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="requires root")
def test_root_refuses_hooks_that_others_may_write(blog, answer):
    shutil.chown(blog / "dbctl.toml", 65534)
    assert answer("backup", "create", status=6)["error"]["code"] == "config-untrusted"
    shutil.chown(blog / "dbctl.toml", 0)
    (blog / "hook").chmod(0o777)
    assert answer("backup", "create", status=6)["error"]["code"] == "config-untrusted"
    assert order(blog) == []
    assert not (blog / "backups").exists()
    (blog / "hook").rename(blog / "my hook")
    (blog / "dbctl.toml").write_text(configuration().replace("./hook", "./my hook"))
    hint = answer("backup", "create", status=6)["error"]["hint"]
    subprocess.run(["sh", "-c", hint.partition("Run: ")[2]], check=True)
    answer("backup", "create")


WAIT = "touch reached; sleep 60"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", ["before", "on", "action", "off", "after", "failed", "finally"])
def test_maintenance_mode_ends_after_a_signal(blog, answer, stage, number):
    expected = {
        "before": (["before", "failed", "finally"], True),
        "on": (["before", "on", "off", "failed", "finally"], True),
        "action": (["before", "on", "off", "failed", "finally"], True),
        "off": (["before", "on", "off", "after", "finally"], False),
        "after": (["before", "on", "off", "after", "failed", "finally"], False),
        "failed": (["before", "on", "off", "failed", "finally"], True),
        "finally": (["before", "on", "off", "after", "finally"], False),
    }
    names, is_stopped = expected[stage]
    if stage == "failed":
        (blog / "migrations/001_note.sql").write_text("select nonsense from nowhere;")
    if stage == "off":
        (blog / "do.off").write_text("touch reached; sleep 0.5; touch completed")
    elif stage != "action":
        (blog / f"do.{stage}").write_text(WAIT)
    else:
        (blog / "do.on").write_text("touch reached")
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        if stage == "action":
            connection.execute("begin immediate")
        job = forge.start(
            blog, "migrate", "up", "--timeout", "60", environment={"DBCTL_STATE": str(blog / "state")}
        )
        wait_until((blog / "reached").exists)
        time.sleep(0.1 if stage == "action" else 0)
        job.send_signal(number)
        status = job.wait(30)
    if stage == "failed":  # the error of the action remains
        assert status == 1
    else:
        assert status == (128 + number if is_stopped else 1 if stage == "after" else 0)
    assert order(blog) == names
    assert ("note" in tables(blog)) == (not is_stopped)
    assert not list((blog / "state/maintenance").glob("*.json"))
    if stage == "off":
        assert (blog / "completed").exists()
    assert answer("runs", "list")["data"]["items"][0]["exit_code"] == status


@pytest.mark.parametrize("stage", ["on", "action", "off"])
def test_killed_run_is_reported_with_the_command_that_ends_the_mode(blog, answer, stage):
    (blog / f"do.{'on' if stage == 'action' else stage}").write_text(
        "touch reached" if stage == "action" else WAIT
    )
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        connection.execute("begin immediate") if stage == "action" else None
        job = forge.start(
            blog, "migrate", "up", "--timeout", "60", environment={"DBCTL_STATE": str(blog / "state")}
        )
        wait_until((blog / "reached").exists)
        time.sleep(0.1 if stage == "action" else 0)
        assert answer("data", "rows", "posts")["warnings"] == []  # the run is active
        assert answer("apps", "maintenance", "off", "--timeout", "0", status=11)["error"]["code"] == "busy"
        job.kill()
        job.wait()
    (warning,) = answer("data", "rows", "posts")["warnings"]
    assert "migrate up (run 1)" in warning
    (blog / f"do.{'on' if stage == 'action' else stage}").unlink()
    order(blog)
    answer("apps", "maintenance", "off")
    assert order(blog) == ["off"]
    assert answer("data", "rows", "posts")["warnings"] == []


def test_next_migration_ends_the_mode_that_a_killed_run_left(blog, answer):
    (blog / "do.on").write_text(WAIT)
    job = forge.start(blog, "migrate", "up", environment={"DBCTL_STATE": str(blog / "state")})
    wait_until((blog / "reached").exists)
    job.kill()
    job.wait()
    (blog / "do.on").unlink()
    order(blog)
    answer("migrate", "up")
    assert order(blog) == ["before", "on", "off", "after", "finally"]
    assert answer("data", "rows", "posts")["warnings"] == []


@pytest.mark.slow
@pytest.mark.needs_extension("fleet")
def test_hooks_of_a_fleet_run_for_each_instance(tmp_path, monkeypatch, answer, newest):
    folder = create_fleet(tmp_path)
    (folder / "hook").write_text(
        '#!/bin/sh\necho "$DBCTL_HOOK_APP $DBCTL_HOOK_RUN_ID" | tee -a "$DBCTL_HOOK_NAME"\n'
    )
    (folder / "hook").chmod(0o755)
    with (folder / "dbctl.toml").open("a") as file:
        for action in ("backup", "cleanup"):
            file.write(f'[apps.shop.hooks.{action}]\nbefore = ["./hook"]\nafter = ["./hook"]\n')
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    answer("backup", "create", "--jobs", "2")
    for name in ("before", "after"):
        assert sorted((folder / name).read_text().splitlines()) == [
            f"shop/{instance} 1" for instance in NAMES
        ]
        (folder / name).unlink()
    outputs = {record["output"] for record in newest()["hooks"] if record["hook"] == "after"}
    assert outputs == {f"shop/{instance} 1\n" for instance in NAMES}
    answer("sessions", "cleanup")
    assert len((folder / "after").read_text().splitlines()) == len(NAMES)
    (folder / "after").unlink()
    answer("sessions", "cleanup", "--check", status=None)
    assert not (folder / "after").exists()


def test_hooks_after_a_signal_have_less_time(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "SECONDS_AFTER_SIGNAL", 0.1)
    monkeypatch.setattr(signals, "_received", [signal.SIGTERM])
    records = []
    context = HookContext(
        app="\0half \ud800 \udcff" + "x" * 10_000,
        folder=tmp_path,
        directory=tmp_path,
        action="backup",
        command="backup create",
        report=records.append,
    )
    script = 'printf %s "$DBCTL_HOOK_APP" | wc -c; sleep 5'
    with signals.block_signals():
        record = run_program(context, "failed", Program(["sh", "-c", script], "10m"))
    assert "within 0.1 s" in record.reason
    assert int(record.output) <= program.MAX_VALUE
    assert records == [record]
