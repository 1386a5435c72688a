"""``dbctl wait`` does not wait for a route that time alone cannot repair."""

from __future__ import annotations

import json


def test_missing_program_ends_the_wait_at_once(dbctl, tmp_path):
    url = "main=postgresql://postgres@127.0.0.1/postgres?via=ssh:bastion"
    result = dbctl("wait", "--url", url, "-o", "json", status=10, environment={"PATH": str(tmp_path)})
    (row,) = json.loads(result.stdout)["data"]["items"]
    assert row["state"] == "route-program-missing"
    assert row["waited"] < 5
