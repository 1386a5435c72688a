"""Processes of routes in tests."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

SECONDS = 60


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.15)  # MariaDB shows an earlier list of transactions again within 0.1 s


def find_ssh(runtime):
    """Return the processes of ssh that belong to a route."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"/ssh") and any(bytes(runtime) in word for word in words):
                processes.append(int(process.name))
    return processes


def wait_until_empty(folder):
    wait_until(lambda: not list(folder.iterdir()))
