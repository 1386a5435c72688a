"""Status of jobs: what is installed, what ran, what is missing, and when they run next."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.cli.main import main
from dbctl.config.model import JournalConfig
from dbctl.extensions.schedule import status as schedule_status
from dbctl.extensions.schedule.times import find_next_run
from dbctl.services.events.recorder import RunRecorder
from dbctl.services.events.runs import Run, name_result
from tests.extensions.schedule.test_units import add_app, folder, install  # noqa: F401 - a fixture


@pytest.fixture
def states(folder, monkeypatch, answer):  # noqa: F811 - a fixture
    """Return a function that returns the state of each job, with the crontab of the folder."""
    program = folder / "bin/crontab"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncat "$CRONTAB"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CRONTAB", str(folder / "crontab"))
    monkeypatch.setattr(schedule_status, "SYSTEM_CRONTABS", (folder / "cron.d",))

    def read(*words, status=0):
        response = answer("schedule", "status", "--directory", "units", *words, status=status)
        return {job["name"]: job for job in response["data"]["items"]}

    return read


def write_crontab(folder, capsys, *words):  # noqa: F811
    capsys.readouterr()
    assert main(["schedule", "cron", *words]) == 0
    (folder / "crontab").write_text(capsys.readouterr().out)


def record_backup(folder, *, exit_code=0, age=timedelta()):  # noqa: F811
    started = datetime.now(UTC) - age
    run = Run(command="backup create", app="fp", config=str(folder / "dbctl.toml"), started_at=started)
    recorder = RunRecorder(folder / "state", JournalConfig(), run, ["fp"])
    recorder.begin()
    result = name_result(exit_code)
    recorder.finish(structs.replace(recorder.run, result=result, exit_code=exit_code, ended_at=started))


def test_missing_jobs_are_reported(states):
    assert {job["state"] for job in states().values()} == {"missing"}
    assert states("--check", status=3)["backup"]["next_run"] is None


def test_user_without_home_directory_has_no_timers(folder, answer, monkeypatch, without_home):  # noqa: F811
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert answer("schedule", "status")["data"]["total"] > 0
    assert answer("schedule", "systemd", "--install", "--user", status=2)["error"]["code"] == "usage"


def test_timers_are_recognized(states):
    install("units")
    jobs = states("--check")
    assert {job["state"] for job in jobs.values()} == {"unknown"}
    assert {tuple(job["installed"]) for job in jobs.values()} == {("systemd",)}
    expected = find_next_run(jobs["backup"]["schedule"], datetime.now(UTC))
    assert datetime.fromisoformat(jobs["backup"]["next_run"]) == expected


def test_crontabs_are_recognized(states, folder, capsys):  # noqa: F811
    write_crontab(folder, capsys)
    assert {tuple(job["installed"]) for job in states("--check").values()} == {("cron",)}
    (folder / "cron.d").mkdir()
    (folder / "cron.d/dbctl").write_text((folder / "crontab").read_text())
    (folder / "crontab").write_text(
        "".join(f"#{line}\n" for line in (folder / "crontab").read_text().splitlines())
    )
    assert {job["state"] for job in states("--check").values()} == {"unknown"}
    (folder / "cron.d/dbctl").unlink()
    assert {job["state"] for job in states().values()} == {"missing"}


def test_files_that_cron_ignores_are_no_installation(states, folder, capsys):  # noqa: F811
    write_crontab(folder, capsys)
    (folder / "cron.d").mkdir()
    (folder / "crontab").rename(folder / "cron.d/dbctl.disabled")
    (folder / "crontab").touch()
    assert {job["state"] for job in states("--check", status=3).values()} == {"missing"}


def test_timers_of_removed_jobs_are_reported_with_the_command_that_removes_them(folder, capsys):  # noqa: F811
    config = folder / "dbctl.toml"
    text = config.read_text()
    add_app(folder, "other")
    install("units", "--all-apps")
    others = [path.stem for path in Path("units").glob("*-other.timer")]
    jobs = ("backup", "prune", "verify", "drill", "cleanup", "status")
    config.write_text(f"{text}[apps.fp.schedule]\n" + "".join(f'{name} = "off"\n' for name in jobs))
    assert main(["schedule", "status", "--directory", "units", "--check"]) == 3
    problems = len(jobs) + len(others)
    assert f"Checked 0 jobs: {problems} problems" in capsys.readouterr().err
    assert main(["schedule", "status", "--directory", "units", "--check", "-o", "junit"]) == 3
    hints = re.findall("schedule systemd --install --directory units .*--app fp", capsys.readouterr().out)
    assert len(hints) == problems
    assert install("units", "--app", "fp") == {}
    assert main(["schedule", "status", "--directory", "units", "--check"]) == 0


@pytest.mark.parametrize("words", ["status --check", "systemd --install --directory units", "cron"])
def test_configuration_without_apps_is_no_schedule(folder, answer, words):  # noqa: F811
    (folder / "dbctl.toml").write_text("")
    response = answer("schedule", *words.split(), "--all-apps", status=2)
    assert response["error"]["code"] == "config-missing"


def test_timers_that_are_not_enabled_are_reported(folder, answer, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    units = folder / "config/systemd/user"
    install(units, "--user")
    links = units / "timers.target.wants"
    links.mkdir()
    jobs = answer("schedule", "status", "--check", status=3)["data"]["items"]
    assert {(job["state"], job["next_run"]) for job in jobs} == {("disabled", None)}
    for path in units.glob("*.timer"):
        (links / path.name).symlink_to(path)
    jobs = answer("schedule", "status", "--check")["data"]["items"]
    assert {job["state"] for job in jobs} == {"unknown"}
    assert None not in {job["next_run"] for job in jobs}


def test_schedule_of_a_crontab_has_only_forms_that_each_cron_reads(states, folder, capsys):  # noqa: F811
    config = folder / "dbctl.toml"
    config.write_text(f'{config.read_text()}[apps.fp.schedule]\nbackup = "5/15 1-3 * january mon-fri"\n')
    write_crontab(folder, capsys)
    assert "\n5-59/15 1-3 * 1 1-5 " in (folder / "crontab").read_text()
    assert states("--check")["backup"]["state"] == "unknown"


def test_job_in_crontab_and_timer_is_reported(states, folder, capsys):  # noqa: F811
    install("units")
    write_crontab(folder, capsys)
    assert {job["state"] for job in states("--check", status=3).values()} == {"duplicate"}


def test_changed_schedule_is_reported(states, folder, capsys):  # noqa: F811
    install("units")
    config = folder / "dbctl.toml"
    config.write_text(config.read_text() + '[apps.fp.schedule]\nbackup = "5 5 * * *"\n')
    assert states()["backup"]["state"] == "changed"
    install("units")
    assert states()["backup"]["state"] == "unknown"
    for path in Path("units").iterdir():
        path.unlink()
    write_crontab(folder, capsys)
    config.write_text(config.read_text().replace("5 5 *", "6 6 *"))
    assert states()["backup"]["state"] == "changed"


@pytest.mark.parametrize(
    ("exit_code", "age", "state"),
    [(0, timedelta(minutes=30), "ok"), (10, timedelta(hours=2), "failed"), (0, timedelta(days=3), "late")],
)
def test_last_run_comes_from_the_journal(states, folder, exit_code, age, state):  # noqa: F811
    install("units")
    record_backup(folder, exit_code=exit_code, age=age)
    job = states(status=None)["backup"]
    assert (job["state"], job["last_result"]) == (state, name_result(exit_code))
    assert datetime.now(UTC) - datetime.fromisoformat(job["last_run"]) - age < timedelta(minutes=5)


def test_run_of_notify_is_the_last_run_of_its_job(states, folder, answer):  # noqa: F811
    config = folder / "dbctl.toml"
    config.write_text(config.read_text() + '[notify.ntfy]\nurl = "http://127.0.0.1:1/topic"\n')
    install("units")
    assert states("--check")["notify"]["state"] == "unknown"
    answer("notify", "check", status=None)
    job = states(status=None)["notify"]
    assert (job["state"], job["last_result"]) in [("ok", "ok"), ("failed", "unreachable")]


def test_timer_of_removed_job_is_reported(states, folder, answer):  # noqa: F811
    add_app(folder, "other")
    install("units", "--all-apps")
    config = folder / "dbctl.toml"
    config.write_text(config.read_text() + '[apps.fp.schedule]\ndrill = "off"\n')
    findings = answer("schedule", "status", "--directory", "units", "--app", "fp")["warnings"]
    assert sum("dbctl-drill-fp.timer" in text for text in findings) == 1
    assert states("--check", "--app", "other")["drill"]["state"] == "unknown"
