"""Settings and fixtures of all tests."""

from __future__ import annotations

import gc
import io
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from dbctl import signals
from dbctl.cli.main import main
from dbctl.extensions import registry
from tests import servers
from tests.reach.containers import kubernetes, mariadb_container, podman, postgresql_container, shared_podman  # noqa: F401 - fixtures
from tests.reach.ssh import ssh_hosts  # noqa: F401 - a fixture
from tests.small_disk import disk  # noqa: F401 - a fixture

EXTENSIONS = {extension.name for extension in registry.BUILT_IN}

# No deadline: the duration of an example depends on the load of the machine.
settings.register_profile(
    "dbctl", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("slow", settings.get_profile("dbctl"), max_examples=50)  # of make slow
settings.load_profile("dbctl")

# Background jobs of a shell without job control ignore SIGINT and SIGQUIT, and programs under nohup ignore SIGHUP. Child
# processes inherit this, but tests send them these signals.
for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers for each core: tests wait for servers, disks and processes about as long as they compute."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config):
    # Tests share no journal: an app of one test would have the failures of another one.
    os.environ["DBCTL_STATE"] = "off"
    if not hasattr(config, "workerinput"):  # not a worker
        # on a disk, every fsync of a test waits
        tempfile.tempdir = os.environ.setdefault("TMPDIR", servers.data_folder())
        if servers.SHARED not in os.environ:  # a run inside a run uses its servers
            servers.begin_sharing()
        if config.getoption("numprocesses", None):
            # this process runs no tests; after SIGTERM, as from timeout(1), it must still stop workers and servers
            signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without garbage collection, and exclude the collected objects from it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 50, 50)  # fewer than by default: hypothesis is called for each
        gc.enable()


def pytest_runtest_setup(item):
    for marker in item.iter_markers("needs_extension"):
        names = marker.args or EXTENSIONS
        assert set(names) <= EXTENSIONS, f"no extensions: {names}"
        if absent := set(names) - {extension.name for extension in registry.list_built_in()}:
            pytest.skip(f"requires the extension {', '.join(sorted(absent))}")
    if item.get_closest_marker("mariadb") and not servers.mysql_server().is_mariadb:
        pytest.skip("requires MariaDB")
    for marker in item.iter_markers("postgresql"):
        if servers.postgresql_version() < marker.args[0]:
            pytest.skip(f"requires PostgreSQL {marker.args[0]} (make postgresql)")


@pytest.fixture(autouse=True)
def signals_enabled():
    """Restore the signal handlers: a command that has printed its result leaves signals ignored in this process."""
    yield
    signals.reset_signals()


@pytest.fixture
def private_temp_dir(tmp_path, monkeypatch):
    """Let this process create temporary files in a folder of the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def without_home(monkeypatch):
    """Let the user have no home directory: neither a variable nor an entry of the system."""

    def refuse(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", refuse)


@pytest.fixture
def answer(capsys):
    """Run a command in this process and return its JSON; assert the exit code ``status``, or none if it is ``None``."""

    def run(*words, status=0):
        capsys.readouterr()
        exit_code = main([*words, "-o", "json"])
        result = json.loads(capsys.readouterr().out)
        assert result["exit_code"] == exit_code
        assert status in (None, exit_code), result.get("error") or result
        return result

    return run


@pytest.fixture
def start(capsys, monkeypatch):
    """Run a command with a working directory, an environment and an input, like a new process.

    It runs in this process, which saves the start of an interpreter. Tests that require a process (bytes, pipes, terminals,
    signals, exit) are in ``test_contract.py`` and ``test_pipes.py``.
    """

    def run(*words, environment, cwd=".", stdin=b""):
        environment = {"DBCTL_STATE": "off", **environment}
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
