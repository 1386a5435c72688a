"""What every test relies on, wherever it is run."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from dbctl import signals
from dbctl.cli.main import main
from tests import servers

# A machine that is busy is no fault of what is tested.
settings.register_profile("dbctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dbctl")

# A job in the background of a shell without job control has SIGINT ignored, and all that it starts with it; under nohup
# it is SIGHUP. Tests that send these signals to a child must see it obey all the same.
for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run at once: they wait for servers, disks and children as long as they compute."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # the process that starts the workers, if there are any
        servers.begin_sharing()
        if config.getoption(
            "numprocesses", None
        ):  # no test runs here; stopped by timeout(1), it still stops them
            signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without garbage collection, and exclude the collected objects from it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item):
    if item.get_closest_marker("mariadb") and not servers.mysql_server().is_mariadb:
        pytest.skip("only MariaDB has that")


@pytest.fixture(autouse=True)
def signals_enabled():
    """Handle signals again: a command that printed its result in this process ignores them."""
    yield
    signals.reset_signals()


@pytest.fixture
def answer(capsys):
    """Runs a command in this process and returns its JSON, once it has ended as it should: ``None`` for anyhow."""

    def run(*words, status=0):
        capsys.readouterr()
        ended = main([*words, "-o", "json"])
        result = json.loads(capsys.readouterr().out)
        assert result["exit_code"] == ended
        assert status in (None, ended), result
        return result

    return run


@pytest.fixture
def start(capsys, monkeypatch):
    """Runs a command as if it had been started: in a folder, with nothing but that environment and that input.

    It runs in this process, without starting an interpreter. Tests that need a process (bytes, pipes, terminals, signals, its
    end) are in ``test_contract.py`` and ``test_pipes.py``.
    """

    def run(*words, environment, cwd=".", stdin=b""):
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            for name in os.environ.keys() - environment.keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            capsys.readouterr()
            status = main([str(word) for word in words])
            captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, captured.out, captured.err)

    return run
