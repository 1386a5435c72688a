"""What ``doctor`` reports about the parts of routes."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from tests import servers
from tests.extensions.reach.test_ssh import reached


def examine(dbctl, address, tmp_path, *, status=0):
    (tmp_path / "dbctl.toml").write_text(f'[apps.shop]\nprofile = "plain"\ndatabases = "{address}"\n')
    (tmp_path / "dbctl.toml").chmod(0o600)
    answer = json.loads(dbctl("doctor", "-o", "json", status=status).stdout)
    return {finding["code"]: finding for finding in answer["data"]["findings"]}


@pytest.fixture
def url():
    with servers.postgresql_database(encoding="UTF8") as url:
        yield url


def test_working_parts_are_described(dbctl, ssh_hosts, url, tmp_path):
    findings = examine(dbctl, reached(url, "ssh:bastion ssh:inner").replace(" ", "+"), tmp_path)
    finding = findings["route-open"]
    assert finding["severity"] == "info"
    expected = "ssh:bastion ssh:inner: bastion accepts the key, inner accepts the key, the database answers"
    assert finding["message"] == expected


@pytest.mark.parametrize("part", ["host", "key", "server"])
def test_broken_part_is_one_finding_with_its_remedy(dbctl, ssh_hosts, url, tmp_path, part):
    code = {"host": "ssh-unreachable", "key": "ssh-denied", "server": "routed-server-refused"}[part]
    if part == "host":
        ssh_hosts.bastion.stop()
    elif part == "key":
        ssh_hosts.bastion.refuse_key()
    else:
        url = structs.replace(url, port=servers.free_port())
    findings = examine(dbctl, reached(url, "ssh:bastion"), tmp_path, status=10)
    assert "route-open" not in findings
    assert "bastion" in findings[code]["hint"]
