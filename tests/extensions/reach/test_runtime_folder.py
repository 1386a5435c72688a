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
#: Loads what a user without privileges may be unable to read, also the modules of a command, and then runs one as that user.
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
sys.exit(main(sys.argv[2:]))
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


@pytest.mark.parametrize("place", PLACES)
def test_unusable_folder_is_replaced_by_that_for_temporary_files(ssh_hosts, folder, place):
    for path in (ssh_hosts.folder, *ssh_hosts.folder.rglob("*")):
        os.chown(path, USER, USER)
    temporary = create_folder(folder / "tmp")
    runtime = PLACES[place](folder)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DBCTL_STATE": "off",
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        **({"XDG_RUNTIME_DIR": str(runtime)} if runtime else {}),
    }
    address = reached(servers.postgresql(), "ssh:bastion")
    words = ["data", "query", "select pg_sleep(2), 'reached' as word", "--url", address]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, address.partition("?")[0], *words],
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    used = runtime if place == "own" else temporary
    wait_until(lambda: list(used.glob("dbctl-route-*")) or process.poll() is not None)
    is_used = process.poll() is None
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "reached" in output
    assert is_used
    wait_until(lambda: not list(folder.rglob("dbctl-route-*")))
