"""A signal at the start of a program leaves no program running."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Sends a signal to this process at one event of the start, and prints how the block and the program ended.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from dbctl import signals
from dbctl.files import limited_program, subprocesses

kind, event_name, name = sys.argv[1:]
signals.install_handlers()

def interrupt(frame, event, argument):
    called = argument.__name__ if event.startswith("c_") else frame.f_code.co_qualname
    if (event, called) == (event_name, name):
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

def run():
    if kind == "client":
        watch = subprocesses.ProgramWatch("app", hint="")
        with subprocesses.run_program(["/bin/sleep", "60"], {}, watch=watch) as client:
            client.finish()
        return
    with signals.block_signals():  # a hook after a signal
        ended = limited_program.run_logged(
            ["/bin/sleep", "60"], seconds=50, max_bytes=100, environment={}, folder=Path("/")
        )
    print(ended.reason, end=" ")
    signals.raise_if_interrupted()

sys.setprofile(interrupt)
try:
    run()
except signals.Interrupted:
    print("interrupted", end=" ")
try:
    print("running" if os.waitpid(-1, os.WNOHANG) == (0, 0) else "ended")
except ChildProcessError:
    print("ended")
"""
#: In the order of the start.
EVENTS = [("c_return", "fork_exec"), ("return", "Popen._execute_child"), ("return", "Popen.__init__")]


@pytest.mark.parametrize(("event", "name"), EVENTS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("client", "interrupted ended\n"), ("configured", "it was ended by SIGTERM interrupted ended\n")],
)
def test_program_ends_with_a_signal_at_its_start(kind, expected, event, name):
    words = [sys.executable, "-c", SCRIPT, kind, event, name]
    assert subprocess.run(words, capture_output=True, text=True, timeout=100, check=False).stdout == expected
