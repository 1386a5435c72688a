"""``dbctl wait`` waits for a container that starts later, and does not wait for a route that time alone cannot repair."""

from __future__ import annotations

import json
import threading
from urllib.parse import quote


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
