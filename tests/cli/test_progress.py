"""Progress: JSON lines, reports on a signal, and none where nothing may be drawn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.cli.test_contract import command, dbctl, read_terminal_output
from tests.in_process import CLEAN_ENVIRONMENT


def read_reports(stderr):
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def test_json_lines_have_figures_and_at_most_two_per_second():
    begin = time.monotonic()
    process = dbctl("sample", "work", "1.6", "--progress", "json")
    seconds = time.monotonic() - begin
    reports = read_reports(process.stderr)
    assert 2 <= len(reports) <= 2 * seconds + 2
    assert {report["schema"] for report in reports} == {"dbctl.progress/1"}
    first, last = reports[0], reports[-1]
    assert (last["command"], last["stage"], last["done"], last["total"], last["unit"]) == (
        "sample work", "Working [bold]", 100, 100, "files",
    )  # fmt: skip
    assert first["done"] < 100
    assert first["elapsed"] < last["elapsed"] <= seconds
    assert 100 / seconds <= last["rate"] < 200
    assert last["eta"] == 0


@pytest.mark.parametrize(
    ("words", "database", "code"),
    [
        (["sessions", "cleanup", "--rule", "nope"], "user", "rule-missing"),
        (["maintain", "vacuum", "--db", "flashpoint"], "flashpoint", "read-only"),
        pytest.param(
            ["search", "vectors", "make"],
            "user",
            "feature-missing",
            marks=pytest.mark.needs_extension("semantic"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_work_that_is_refused_before_it_begins_has_reports_and_its_error_alone(
    tmp_path, words, database, code
):
    options = ["--profile", "flashpoint-web", "--url", f"{database}={tmp_path / 'missing.db'}"]
    process = dbctl(*words, *options, "--progress", "json", "-o", "json")
    assert json.loads(process.stdout)["error"]["code"] == code
    lines = [line for line in process.stderr.splitlines() if not line.startswith(("dbctl: ", "  hint: "))]
    assert {json.loads(line)["done"] for line in lines} == {0}


@pytest.mark.parametrize("options", [["--progress", "none"], ["--quiet"], []])
def test_no_progress_is_written_without_terminal_or_if_disabled(tmp_path, options):
    words = ("sample", "work", "0.8", *options)
    assert "Working" not in dbctl(*words).stderr
    assert ("Working" in read_terminal_output(*words, cwd=tmp_path)) == (not options)


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_signal_prints_one_line_with_the_state_and_does_not_end_the_command(options):
    process = subprocess.Popen(
        command("sample", "work", "2", "--announce", *options),
        env=CLEAN_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGUSR1)
        stderr = process.stderr.read()
    lines = [line for line in stderr.decode().splitlines() if line.startswith("dbctl sample work: ")]
    assert (process.returncode, len(lines)) == (0, 1), stderr
    assert " of 100 files" in lines[0]


def test_forked_process_reports_nothing():
    from dbctl import progress

    work = progress.Work("test")
    with progress.track(work, None):
        assert progress.current == [work]
        pid = os.fork()
        if not pid:
            progress.detach()
            os._exit(bool(progress.current))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert progress.current == []


def test_parts_and_stages_are_reported():
    from dbctl import progress

    work, stages = progress.Work("test"), []
    work.on_stage = lambda: stages.append(work.report().stage)
    with progress.track(work, None):
        for _ in progress.list_parts("ab", "database"):
            progress.start_stage("copying")
    assert stages == [
        "1 of 2 databases", "1 of 2 databases, copying", "2 of 2 databases", "2 of 2 databases, copying",
    ]  # fmt: skip
    progress.start_stage("nothing runs")
