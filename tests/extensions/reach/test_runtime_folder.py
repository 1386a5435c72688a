"""The folder for the sockets of a route, for a user without privileges."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.reach.processes import wait_until
from tests.extensions.reach.test_ssh import reached

pytestmark = pytest.mark.slow
USER = 65534
#: Loads what a user without privileges may be unable to read, also the modules of a command, and then, as that user, runs one for each
#: folder for sockets in the input, in a process of its own.
RUN = f"""
import contextlib, importlib, io, os, pkgutil, sys
import dbctl
from dbctl.cli.main import main
for module in pkgutil.walk_packages(dbctl.__path__, "dbctl."):
    if not any(part in module.name for part in ("lancedb", "demo", "__main__")):
        importlib.import_module(module.name)
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["data", "query", "select 1", "--url", sys.argv[1]])
os.setgroups([]), os.setgid({USER}), os.setuid({USER})
for line in sys.stdin:
    if not (process := os.fork()):
        if runtime := line.rstrip("\\n"):
            os.environ["XDG_RUNTIME_DIR"] = runtime
        sys.exit(main(sys.argv[2:]))
    print("exit", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture
def folder():
    """Provide a folder of the user without privileges."""
    if os.geteuid():
        pytest.skip("not root: no other user")
    with tempfile.TemporaryDirectory(prefix="dbctl-user-", dir="/tmp") as name:
        os.chown(name, USER, USER)
        yield Path(name)


def create_folder(path, *, owner=USER, mode=0o700):
    path.mkdir(parents=True)
    for part in (path, *path.parents):
        if part.name.startswith("dbctl-user-"):
            return path
        os.chown(part, owner, owner)
        part.chmod(mode)
    return path


PLACES = {
    "own": lambda folder: create_folder(folder / "run"),
    "unset": lambda _: "",
    "missing": lambda folder: folder / "run",
    "unwritable": lambda folder: create_folder(folder / "run", owner=0, mode=0o755),
    "of another user": lambda folder: create_folder(folder / "run", owner=0, mode=0o777),
    "too long": lambda folder: create_folder(folder / ("r" * 60)),
    "relative": lambda _: "run",
}


def test_unusable_folder_is_replaced_by_that_for_temporary_files(ssh_hosts, folder):
    for path in (ssh_hosts.folder, *ssh_hosts.folder.rglob("*")):
        os.chown(path, USER, USER)
    temporary = create_folder(folder / "tmp")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DBCTL_STATE": "off",
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    address = reached(servers.postgresql(), "ssh:bastion")
    words = ["data", "query", "select pg_sleep(0.5), 'reached' as word", "--url", address]
    with subprocess.Popen(
        [sys.executable, "-c", RUN, address.partition("?")[0], *words],
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for number, (place, create) in enumerate(PLACES.items()):
            runtime = create(create_folder(folder / str(number)))
            process.stdin.write(f"{runtime}\n")
            process.stdin.flush()
            used = runtime if place == "own" else temporary
            wait_until(lambda used=used: list(used.glob("dbctl-route-*")))
            *output, end = read_output(process)
            assert end == "exit 0\n", (place, output)
            assert "reached" in "".join(output)
            wait_until(lambda: not has_route(folder))


def has_route(folder):
    """Return whether a folder has one of a route; unlike ``rglob``, ``walk`` ignores folders that are being deleted."""
    return any(name.startswith("dbctl-route-") for _, names, _ in os.walk(folder) for name in names)


def read_output(process):
    """Return the lines of a command, and the one with its exit code."""
    lines = []
    while not (lines and lines[-1].startswith("exit ")):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return lines
