"""Programs whose output is recorded: limits of time and output, environment, input, child processes."""

from __future__ import annotations

import signal
import time

import pytest

from dbctl.files import limited_program


def run(folder, script, *, seconds=10.0, **options):
    return limited_program.run_logged(
        ["/bin/sh", "-c", script],
        seconds=seconds,
        max_bytes=100,
        environment={"PATH": "/usr/bin:/bin", **options.pop("environment", {})},
        folder=folder,
        **options,
    )


def test_end_of_both_streams_is_returned(tmp_path):
    ended = run(tmp_path, "echo first; echo second >&2; exit 255")
    assert ended == ("it ended with status 255", 255, b"first\nsecond\n", 13)


@pytest.mark.slow
def test_flood_is_bounded(tmp_path):
    size = 1 << 30
    ended = run(tmp_path, f"head -c {size} /dev/zero; printf end", seconds=60)
    assert (ended.reason, ended.output_bytes, len(ended.output)) == ("", size + 3, 100)
    assert ended.output.endswith(b"\0end")


def test_input_is_empty_and_environment_complete(tmp_path):
    script = "cat; env | sort; pwd -P"
    output = run(tmp_path, script, environment={"VALUE": "$(id)"}).output.decode().splitlines()
    assert "VALUE=$(id)" in output
    assert str(tmp_path.resolve()) in output
    assert {line.partition("=")[0] for line in output if "=" in line} <= {
        "PATH",
        "VALUE",
        "PWD",
        "_",
        "SHLVL",
    }


def test_program_can_clean_up_at_its_time_limit(tmp_path):
    ended = run(tmp_path, "trap 'echo cleaned; exit 1' TERM; sleep 30 & wait", seconds=0.2)
    assert "did not end within 0.2 s" in ended.reason
    assert ended.output == b"cleaned\n"


def test_program_that_ignores_the_signal_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(limited_program, "GRACE_SECONDS", 0.2)
    begin = time.monotonic()
    ended = run(tmp_path, "trap '' TERM; while :; do sleep 0.05; done", seconds=0.1)
    assert (ended.status, time.monotonic() - begin < 5) == (-signal.SIGKILL, True)


def test_child_that_floods_after_the_end_delays_nothing(tmp_path):
    begin = time.monotonic()
    ended = run(tmp_path, "yes & exit 0")
    assert (ended.reason, time.monotonic() - begin < 5) == ("", True)


def test_program_that_cannot_be_started(tmp_path):
    ended = limited_program.run_logged(
        [str(tmp_path / "missing")], seconds=1, max_bytes=1, environment={}, folder=tmp_path
    )
    assert (ended.status, ended.reason) == (None, "No such file or directory")
