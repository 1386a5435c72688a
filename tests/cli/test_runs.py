"""Runs of commands in the journal and in the log: what is recorded, and that neither fails a command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing

import pytest

from dbctl.cli._support import log
from dbctl.cli.main import main
from dbctl.engines.sqlite import files
from tests.crash import forge
from tests.receivers import wait_until
from tools import reference

SECRET = "hunter2-marked"
CONFIGURATION = (
    '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
)
CHANGE = ("data", "set", "posts", "1", f"title={SECRET}")


@pytest.fixture
def blog(tmp_path, monkeypatch):
    """An app with one table, and a journal."""
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text); insert into posts values (1, 'a');"
        )
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def newest(answer):
    """Return the record of the newest run."""
    return lambda: answer("runs", "list", "--limit", "1")["data"]["items"][0]


def read_warnings(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("dbctl: ")]


def title(blog):
    with closing(sqlite3.connect(blog / "blog.db")) as connection:
        return connection.execute("select title from posts").fetchone()[0]


def contains(folder, text):
    """Whether a file has the text; the records of changes have the values of columns that are not secret."""
    with closing(sqlite3.connect(folder / "events.sqlite")) as connection, connection:
        connection.executescript(
            "drop trigger changes_delete; pragma secure_delete = on; delete from changes; vacuum;"
        )
        connection.execute("pragma wal_checkpoint(truncate)")
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_every_command_that_changes_something_is_recorded():
    recorded = {name for name, spec in reference.read_specs().items() if spec.recorded}
    changes = {command for command, text in reference.command_helps() if "--dry-run" in text}
    existing = reference.read_specs().keys()
    # they only write files that are no database
    files = {"support", "schedule systemd", "profiles prove"}
    assert changes - recorded == files & existing
    checks = {
        "doctor",
        "apps check",
        "backup verify",
        "integrity check",
        "integrity cross-check",
        "migrate drift",
        "audit verify",
    }
    checks |= {
        "migrate rehearse",
        "migrate verify",
        "search index check",
        "settings validate",
        "transfer verify",
        "notify check",
        "notify summary",
    }
    assert recorded - changes == checks & existing


def test_change_is_recorded_with_its_figures(blog, answer, newest, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ann")
    created = answer("backup", "create", "--compress", "none")["data"]
    run = newest()
    assert (run["command"], run["app"], run["result"], run["exit_code"]) == ("backup create", "blog", "ok", 0)
    assert (run["bytes"], run["rows"], run["databases"]) == (created["bytes"], 1, ["main"])
    assert (run["arguments"], run["config"]) == (
        ["--compress=none", "--output=json"],
        str(blog / "dbctl.toml"),
    )
    assert (run["host"], run["pid"], run["sudo_user"]) == (os.uname().nodename, os.getpid(), "ann")
    assert run["started_at"] <= run["ended_at"]
    assert run["warnings"] == []
    assert created["id"] in run["closing_line"]


def test_reading_command_and_dry_run_write_nothing(blog, answer):
    answer("data", "rows", "posts")
    answer("status")
    answer(*CHANGE, "--dry-run")
    assert not (blog / "state").exists()
    assert answer("runs", "list")["data"]["total"] == 0


def test_failure_is_recorded_with_its_error_and_app(blog, answer, newest):
    (blog / "blog.db").unlink()
    answer("backup", "create", status=10)
    run = newest()
    assert (run["app"], run["result"], run["error"]["code"]) == ("blog", "unreachable", "database-missing")
    (blog / "dbctl.toml").write_text("nonsense")
    answer("--app", "blog", "backup", "create", status=2)
    run = newest()
    assert (run["app"], run["result"], run["error"]["code"]) == ("blog", "usage", "config-invalid")


def test_findings_of_a_check_are_its_error(blog, answer, newest):
    with closing(sqlite3.connect(blog / "blog.db")) as connection:
        connection.executescript("create table c (p references posts (id)); insert into c values (7);")
    answer("integrity", "check", status=4)
    run = newest()
    assert run["result"] == "check-failed"
    assert run["error"]["code"]


@pytest.mark.parametrize(
    "command",
    [
        "report --since",
        "stats history --since",
        "runs list --since",
        "audit list --since",
        "users delete --inactive",
        "users list --inactive",
        "runs prune --older-than",
        "maintain cancel --older-than",
        "backup prune --keep-within",
        "data query select --within",
        "search all word --within",
    ],
)
def test_period_of_no_time_is_refused(blog, answer, command):
    error = answer(*command.split(), "0d", status=2)["error"]
    assert (error["code"], "not longer than zero" in error["message"]) == ("usage", True)


def test_usage_error_of_the_parser_is_no_run(blog, answer):
    answer("backup", "create", "--nonsense", status=2)
    assert not (blog / "state").exists()


@pytest.mark.parametrize(
    "words",
    [
        CHANGE,
        ("data", "set", "posts", "1", f"missing={SECRET}"),
        ("data", "delete", "posts", "--filter", f"title={SECRET}", "--yes"),
        ("data", "set", SECRET, "1", "title=b"),
        ("users", "create", "ann", "--set", f"token={SECRET}", "--generate"),
        ("settings", "set", "smtp.password", SECRET),
        ("--profile", "plain", "--url", f"postgresql://ann:{SECRET}@localhost:1/x", "maintain", "analyze"),
        (
            "--profile",
            "plain",
            "--url",
            f"mysql://ann:a/{SECRET}@b@localhost:1/x?password={SECRET}",
            "maintain",
            "analyze",
        ),
        pytest.param(
            ("transfer", "run", "--to", f"postgresql://ann:{SECRET}@localhost:1/x?sslpassword={SECRET}"),
            marks=pytest.mark.needs_extension("transfer"),
        ),
        ("backup", "copy", "--to", f"s3://key:{SECRET}@bucket/prefix"),
    ],
    ids=lambda words: " ".join(words).replace(SECRET, "***").replace("/", "_"),
)
def test_no_secret_is_recorded_or_logged(blog, words, capsys):
    # the name of a table is no secret
    marker = SECRET if words[2] != SECRET else "title=b"
    main([*words, "--timeout", "0", "--log-file", "log", "--log-format", "json", "-o", "json"])
    assert (blog / "state/events.sqlite").exists()
    assert not contains(blog / "state", marker)
    assert marker not in (blog / "log").read_text()


def use_file_as_folder(state):
    state.write_text("a file")


def use_newer_version(state):
    assert main(["integrity", "check"]) == 0
    with closing(sqlite3.connect(state / "events.sqlite")) as connection:
        connection.execute("pragma user_version = 99")


def damage(state):
    state.mkdir()
    (state / "events.sqlite").write_bytes(b"damaged" * 1000)


def damage_page(state):
    assert main(["integrity", "check"]) == 0
    with closing(sqlite3.connect(state / "events.sqlite")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    with (state / "events.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)


def use_link_to_nowhere(state):
    state.mkdir()
    (state / "events.sqlite").symlink_to("/nonexistent/events.sqlite")


def use_folder_as_file(state):
    (state / "events.sqlite").mkdir(parents=True)


def use_pipe(state):
    state.mkdir()
    os.mkfifo(state / "events.sqlite")


@pytest.mark.parametrize(
    "spoil",
    [
        use_file_as_folder,
        use_newer_version,
        damage,
        damage_page,
        use_link_to_nowhere,
        use_folder_as_file,
        use_pipe,
    ],
)
def test_unusable_journal_is_one_warning(blog, spoil, capsys):
    spoil(blog / "state")
    capsys.readouterr()
    assert main(["data", "set", "posts", "1", "title=b", "--quiet"]) == 0
    assert read_warnings(capsys) == []
    assert main(["data", "set", "posts", "1", "title=c"]) == 0
    assert len([line for line in read_warnings(capsys) if "audit log" not in line]) == 1
    assert title(blog) == "c"
    assert main(["runs", "list"]) in {4, 10}
    capsys.readouterr()
    assert main(["status", "--check"]) == 3
    assert "journal" in capsys.readouterr().err


def test_locked_journal_delays_a_command_only_shortly(blog, answer, capsys):
    answer(*CHANGE)
    with closing(sqlite3.connect(blog / "state/events.sqlite", isolation_level=None)) as connection:
        connection.execute("begin immediate")
        assert main(["data", "set", "posts", "1", "title=c"]) == 0
        assert len(read_warnings(capsys)) == 2  # the run, and the change
        assert answer("runs", "list")["data"]["total"] == 1  # readers do not wait
    assert title(blog) == "c"


def test_journal_locked_at_the_beginning_gets_the_result(blog, answer, monkeypatch):
    """The record of a run that could not be written at its beginning is written at its end."""
    answer(*CHANGE)
    connection = sqlite3.connect(blog / "state/events.sqlite", isolation_level=None)
    connection.execute("begin immediate")
    from dbctl.cli._support import runs

    original = runs.ObservedRun.receive_output

    def release(self, output):
        connection.close()
        original(self, output)

    monkeypatch.setattr(runs.ObservedRun, "receive_output", release)
    assert main([*CHANGE]) == 0
    assert answer("runs", "list")["data"]["total"] == 2


def test_disabled_journal_is_silent(blog, monkeypatch, capsys, answer):
    monkeypatch.delenv("DBCTL_STATE")
    (blog / "dbctl.toml").write_text(f'{CONFIGURATION}[journal]\nfolder = "off"\n')
    monkeypatch.setenv("HOME", str(blog / "home"))
    assert main(["data", "set", "posts", "1", "title=b"]) == 0
    assert read_warnings(capsys) == []
    assert not (blog / "home").exists()
    answer("runs", "list", status=2)
    (blog / "dbctl.toml").write_text(f'{CONFIGURATION}[journal]\nfolder = "records"\n')
    answer(*CHANGE)
    assert (blog / "records/events.sqlite").exists()
    monkeypatch.setenv("DBCTL_STATE", "off")
    answer("runs", "list", status=2)


@pytest.mark.parametrize(("key", "value"), [("keep", '"soon"'), ("max_runs", "1"), ("folders", '"x"')])
def test_invalid_journal_section_is_refused(blog, answer, key, value):
    (blog / "dbctl.toml").write_text(f"{CONFIGURATION}[journal]\n{key} = {value}\n")
    assert f"journal.{key}" in answer("config", "validate", status=2)["data"]["findings"][0]["message"]


def test_status_reports_failures_in_a_row_until_the_next_success(blog, answer):
    answer("backup", "create")
    assert answer("status", "--check")["warnings"] == []
    (blog / "backups").rename(blog / "saved")
    (blog / "backups").write_text("a file")
    for _ in range(3):
        answer("backup", "create", status=None)
    (blog / "backups").unlink()
    (blog / "saved").rename(blog / "backups")
    (warning,) = answer("status", "--check", status=3)["warnings"]
    code = answer("runs", "list", "--limit", "1")["data"]["items"][0]["error"]["code"]
    assert "backup create failed 3 times in a row since" in warning
    assert code in warning
    assert answer("status")["exit_code"] == 0
    answer("backup", "create")
    assert answer("status", "--check")["warnings"] == []


@pytest.mark.parametrize("section", ["", "[apps.blog.backup.databases.main]\n"])
def test_status_reports_backup_that_has_not_been_started(blog, answer, section):
    answer("backup", "create")
    with closing(sqlite3.connect(blog / "state/events.sqlite")) as connection:
        record = json.loads(connection.execute("select record from runs").fetchone()[0])
        record["started_at"] = "2026-01-01T03:00:00Z"
        connection.execute("update runs set record = ?", (json.dumps(record).encode(),))
        connection.commit()
    assert answer("status", "--check")["warnings"] == []
    (blog / "dbctl.toml").write_text(f'{CONFIGURATION}{section}max_age = "26h"\n')
    (warning,) = answer("status", "--check", status=3)["warnings"]
    assert "has not been started since 2026-01-01 03:00" in warning


def test_status_and_doctor_report_files_of_a_killed_process_with_the_command_that_removes_them(blog, answer):
    answer("backup", "create")
    leftover = files.new_partial_path(blog / "blog.db")
    leftover.write_text("unfinished")
    (warning,) = answer("status", "--check", status=3)["warnings"]
    (finding,) = [
        finding
        for finding in answer("doctor", status=None)["data"]["findings"]
        if finding["code"] == "leftover-files"
    ]
    assert f"({finding['hint']})" in warning
    subprocess.run(shlex.split(finding["hint"]), check=True)
    assert not leftover.exists()
    assert answer("status", "--check")["warnings"] == []


def test_app_of_the_same_name_in_another_configuration_is_another_app(blog, answer):
    (blog / "blog.db").rename(blog / "moved.db")
    answer("backup", "create", status=10)
    (blog / "moved.db").rename(blog / "blog.db")
    (blog / "other.toml").write_text(CONFIGURATION)
    answer("backup", "create", "--repository", "backups")
    answer("status", "--config", "other.toml", "--check")


@pytest.mark.slow
def test_killed_command_is_interrupted_and_reported(blog, answer):
    answer("backup", "create")
    state = {"DBCTL_STATE": str(blog / "state")}
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        connection.execute("begin immediate")
        job = forge.start(blog, *CHANGE, "--timeout", "60", environment=state)
        wait_until(lambda: answer("runs", "list")["data"]["items"][0]["result"] == "running")
        assert answer("status")["warnings"] == []
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    assert answer("runs", "list", "--failed")["data"]["items"][0]["result"] == "interrupted"
    (warning,) = answer("status", "--check", status=3)["warnings"]
    assert "data set was interrupted" in warning
    findings = {finding["code"]: finding for finding in answer("doctor", status=None)["data"]["findings"]}
    assert findings["run-interrupted"]["hint"] in warning
    answer(*CHANGE)
    assert answer("status", "--check")["warnings"] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_is_recorded(blog, answer, number, status):
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        connection.execute("begin immediate")
        job = forge.start(blog, *CHANGE, "--timeout", "60", environment={"DBCTL_STATE": str(blog / "state")})
        wait_until(lambda: answer("runs", "list")["data"]["total"])
        job.send_signal(number)
        assert job.wait() == status
    run = answer("runs", "list")["data"]["items"][0]
    assert (run["result"], run["exit_code"]) == ("stopped", status)


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_has_start_stages_warnings_and_end(blog, answer):
    answer("backup", "create", "--log-file", "log", "--log-format", "json")
    records = read_log(blog / "log")
    events = [record["event"] for record in records]
    assert (events[0], events[-1]) == ("start", "end")
    assert "stage" in events
    assert {(record["command"], record["app"], record["run"]) for record in records} == {
        ("backup create", "blog", 1)
    }
    assert (records[-1]["result"], records[-1]["exit_code"], records[-1]["level"]) == ("ok", 0, "info")
    (blog / "blog.db").unlink()
    answer(
        "data",
        "rows",
        "posts",
        "--log-file",
        "log",
        "--log-format",
        "json",
        "--log-level",
        "error",
        status=10,
    )
    added = read_log(blog / "log")[len(records) :]
    assert [(record["event"], record["level"]) for record in added] == [("error", "error"), ("end", "error")]
    assert added[0]["code"] == "database-missing"
    assert (blog / "log").stat().st_mode & 0o777 == 0o600


def test_text_log_has_one_line_for_each_record(blog, answer):
    answer("data", "rows", "po\nsts\x1b[31m", "--log-file", "log", status=5)
    lines = (blog / "log").read_text().split("\n")
    assert len(lines) == 4  # start, error, end, and the rest after the last line break
    assert "\x1b" not in "".join(lines)


def test_log_is_reopened_after_rotation(blog, answer):
    answer("data", "rows", "posts", "--log-file", "log")
    (blog / "log").rename(blog / "log.1")
    answer("data", "rows", "posts", "--log-file", "log")
    assert (blog / "log").read_text().count("\n") == (blog / "log.1").read_text().count("\n") == 2


@pytest.mark.parametrize("target", ["missing/log", ".", "/dev/full", "pipe", "journald"])
def test_log_that_cannot_be_written_fails_no_command(blog, target, capsys, monkeypatch):
    monkeypatch.setattr(log, "SOCKET", str(blog / "no socket"))
    os.mkfifo(blog / "pipe")
    assert main(["data", "set", "posts", "1", "title=b", "--log-file", target]) == 0
    assert len(read_warnings(capsys)) == 1
    assert title(blog) == "b"
    main(["status", "--quiet"])
    warnings = capsys.readouterr().err
    main(["status", "--quiet", "--log-file", target])
    assert warnings
    assert capsys.readouterr().err == warnings


def test_full_disk_of_the_log_fails_no_command(blog):
    (blog / "log").write_bytes(b"x" * 200_000)
    job = forge.start(blog, "data", "set", "posts", "1", "title=b", "--log-file", "log", limit=200_000)
    assert job.wait() == 0
    assert title(blog) == "b"
    assert (blog / "log").stat().st_size == 200_000


def test_journald_gets_entries_with_fields(blog, answer, monkeypatch):
    monkeypatch.setattr(log, "SOCKET", str(blog / "journald"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(blog / "journald"))
        server.settimeout(10)
        answer("data", "rows", "a\nb", "--log-file", "journald", status=5)
        start, error, end = (server.recv(65_536) for _ in range(3))
    assert b"\nPRIORITY=6\n" in start
    assert b"\nDBCTL_EVENT=start\n" in start
    assert b"SYSLOG_IDENTIFIER=dbctl\n" in start
    assert b"\nDBCTL_COMMAND=data rows\n" in end
    assert b"\nPRIORITY=3\n" in error
    assert b"\nDBCTL_CODE=table-missing\n" in error or b"DBCTL_CODE=" in error


@pytest.mark.parametrize("address", ["rsync:x:y", "user@nas:backups", "webdav://nas/backups", "docker://x"])
def test_repository_of_another_program_is_refused(blog, answer, address):
    before = sorted(path.name for path in blog.iterdir())
    error = answer("backup", "create", "--repository", address, status=2)["error"]
    assert "s3://" in error["hint"]
    (blog / "dbctl.toml").write_text(CONFIGURATION.replace('"backups"', f'"{address}"'))
    for words in (("backup", "create"), ("backup", "list"), ("restore", "apply", "latest", "--yes")):
        assert answer(*words, status=2)["error"]["code"] == "config-invalid"
    assert sorted(path.name for path in blog.iterdir() if path.name != "state") == before
    (blog / "dbctl.toml").write_text(CONFIGURATION.replace('"backups"', '"./a:b"'))
    answer("backup", "create")
    assert (blog / "a:b").is_dir()


@pytest.mark.needs_extension("drafts")
@pytest.mark.parametrize("place", ["own.db", "."])
def test_own_database_is_configured_backed_up_and_drilled(tmp_path, monkeypatch, answer, place):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("own.db")) as connection:
        connection.executescript(
            "create table things (id integer primary key); insert into things values (7);"
        )
    result = answer("init", place)
    assert (result["data"]["profile"], list(result["data"]["databases"])) == ("plain", ["main"])
    assert any("profiles draft" in text for text in result["warnings"])
    answer("backup", "create")
    answer("backup", "drill")
