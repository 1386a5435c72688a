"""A process that is killed before any of its statements, and before any call that changes a folder; the open files of a process."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from dbctl.services.events.store import FILE_NAME

#: Of the steps of a write to the event store, every fourth is a kill for each commit.
STRIDE = 4
#: Calls of the operating system that are steps, too.
_CALLS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock", "sqlite3.connect"}


def list_open_files() -> set[str]:
    """Return the files of event stores that this process has open; empty where that is unknown."""
    links = [link.readlink() for link in Path("/proc/self/fd").glob("*") if link.is_symlink()]
    return {target.name for target in links if FILE_NAME in target.name}


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a child process; return its id."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> int:
    """Return the exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_killed(step: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that is killed before its step of this number, from 1; return whether it had so many."""

    def run_until_step() -> None:
        steps, connect = 0, sqlite3.connect

        def count(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def connect_traced(*arguments: object, **options: object) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(count)
            return connection

        sqlite3.connect = connect_traced
        sys.addaudithook(lambda event, _: count() if event in _CALLS else None)
        work()

    code = wait(fork(run_until_step))
    assert code in (0, -signal.SIGKILL), f"the process failed before step {step}"
    return code != 0
