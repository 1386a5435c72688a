"""``dbctl wait`` does not wait for a route that time alone cannot repair."""

from __future__ import annotations

import json


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
