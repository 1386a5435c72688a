"""``dbctl wait`` waits for a container that starts later, and does not wait for a route that time alone cannot repair."""

from __future__ import annotations

import json
import threading
import time
from urllib.parse import quote

import pytest


@pytest.mark.slow
def test_server_in_a_container_that_starts_later_is_awaited(dbctl, podman):
    container = podman.postgresql()
    user, password, name = (container.variables[f"POSTGRES_{key}"] for key in ("USER", "PASSWORD", "DB"))
    url = f"main=postgresql://{user}:{quote(password, safe='')}@127.0.0.1/{name}?via=docker:{container.name}"
    container.stop()
    (row,) = json.loads(dbctl("status", "--url", url, "-o", "json", status=10).stdout)["data"]["items"]
    assert row["state"] == "container-stopped"
    timer = threading.Timer(2, container.start)
    timer.start()
    (row,) = json.loads(dbctl("wait", "--url", url, "--timeout", "60", "-o", "json").stdout)["data"]["items"]
    timer.join()
    assert (row["state"], row["waited"] > 1) == ("ok", True)


@pytest.mark.usefixtures("ssh_hosts")
def test_attempts_to_copy_a_file_that_is_missing_leave_no_folders(start_dbctl, tmp_path):
    temporary, counts = tmp_path / "temporary", set[int]()
    temporary.mkdir()
    url = f"main=sqlite:{tmp_path}/later.db?via=ssh:bastion"
    process = start_dbctl("wait", "--url", url, "--timeout", "6", environment={"TMPDIR": str(temporary)})
    while process.poll() is None:
        counts.add(len(list(temporary.iterdir())))
        time.sleep(0.01)
    assert (process.returncode, max(counts)) == (10, 1)


def test_missing_program_ends_the_wait_at_once(dbctl, tmp_path):
    url = "main=postgresql://postgres@127.0.0.1/postgres?via=ssh:bastion"
    result = dbctl("wait", "--url", url, "-o", "json", status=10, environment={"PATH": str(tmp_path)})
    (row,) = json.loads(result.stdout)["data"]["items"]
    assert row["state"] == "route-program-missing"
    assert row["waited"] < 5


def test_file_that_no_route_reaches_ends_the_wait_at_once(dbctl):
    url = "main=sqlite:/data/app.db?via=kubernetes:shop/web"
    result = dbctl("wait", "--url", url, "-o", "json", status=10)
    (row,) = json.loads(result.stdout)["data"]["items"]
    assert row["state"] == "pod-file"
    assert row["waited"] < 5
