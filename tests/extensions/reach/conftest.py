"""Processes of dbctl that reach databases by routes; each ends its routes with itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash import forge
from tests.extensions.reach.processes import SECONDS, find_ssh, wait_until, wait_until_empty


@pytest.fixture
def runtime():
    """Provide a folder for sockets, whose path must be short."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as folder:
        yield Path(folder)
        # The process that ends a route outlives dbctl for a moment.
        wait_until_empty(Path(folder))


@pytest.fixture
def dbctl(tmp_path, runtime):
    """Run a command in a process of its own, with a runtime folder that it must leave empty."""

    def run(*words, status=0, environment=None, folder=tmp_path, text=None):
        variables = {"DBCTL_STATE": "off", "XDG_RUNTIME_DIR": str(runtime), **(environment or {})}
        job = forge.start(
            folder,
            *words,
            stdin=(text or "").encode(),
            environment={**os.environ, **variables},
            extension=run.extension,
        )
        output, errors = (stream.decode() for stream in job.communicate())
        assert status in {None, job.returncode}, errors
        return subprocess.CompletedProcess(words, job.returncode, output, errors)

    run.program = [sys.executable, "-m", "dbctl"]
    run.extension = ""  #: a module that the process imports first
    run.runtime = runtime
    return run


@pytest.fixture
def start_dbctl(tmp_path, runtime):
    """Start a command as ``dbctl``, without waiting for its end; it is killed with the test."""
    started = []

    def start(*words, environment=None):
        process = subprocess.Popen(
            [sys.executable, "-m", "dbctl", *map(str, words)],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "DBCTL_STATE": "off", "XDG_RUNTIME_DIR": str(runtime), **(environment or {})},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def start(tmp_path, runtime):
    """Start a command in the background; return a function that waits for it, and returns status, output and errors.

    It is killed with the test, which may have failed before it waited.
    """
    started = []

    def start_command(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "dbctl", *map(str, words), "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"DBCTL_STATE": "off", "XDG_RUNTIME_DIR": str(runtime)},
        )
        started.append(process)

        def wait():
            output, errors = process.communicate(timeout=2 * SECONDS)
            wait_until_empty(runtime)
            wait_until(lambda: not find_ssh(runtime))
            return process.returncode, json.loads(output)["error"], errors

        return wait

    yield start_command
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def read_arguments():
    """Read the arguments of all processes in the background, until the returned function is called, which returns them."""
    texts, end = set[bytes](), threading.Event()

    def read():
        while not end.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    texts.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()

    def stop():
        end.set()
        reader.join()
        return texts

    yield stop
    stop()
