"""What ``doctor`` reports about the parts of routes."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest
from msgspec import structs

from tests import servers
from tests.extensions.reach.test_ssh import reached


def examine(dbctl, address, tmp_path, *, status=0):
    (tmp_path / "dbctl.toml").write_text(f'[apps.shop]\nprofile = "plain"\ndatabases = "{address}"\n')
    (tmp_path / "dbctl.toml").chmod(0o600)
    answer = json.loads(dbctl("doctor", "-o", "json", status=status).stdout)
    findings = answer["data"]["findings"]
    parts = [finding["message"] for finding in findings if finding["code"] == "route-open"]
    return parts, {finding["code"]: finding for finding in findings}


@pytest.fixture
def url():
    with servers.postgresql_database(encoding="UTF8") as url:
        yield url


@pytest.mark.slow
def test_working_parts_are_described(dbctl, ssh_hosts, url, tmp_path):
    parts, findings = examine(dbctl, reached(url, "ssh:bastion ssh:inner").replace(" ", "+"), tmp_path)
    assert parts == [
        "ssh:bastion: the host accepts the key",
        "ssh:inner: the host accepts the key",
        f"{url.host or '127.0.0.1'}: the server answers",
    ]
    assert findings["route-open"]["severity"] == "info"


def stop_first_host(hosts, url):
    hosts.bastion.stop()


def stop_second_host(hosts, url):
    hosts.inner.stop()


def refuse_second_key(hosts, url):
    hosts.inner.refuse_key()


def use_other_port(hosts, url):
    return structs.replace(url, port=servers.free_port())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "working"),
    [
        (stop_first_host, "ssh-unreachable", []),
        (stop_second_host, "ssh-unreachable", ["ssh:bastion"]),
        (refuse_second_key, "ssh-denied", ["ssh:bastion"]),
        (use_other_port, "routed-server-refused", ["ssh:bastion", "ssh:inner"]),
    ],
)
def test_parts_before_the_first_broken_one_are_described(
    dbctl, ssh_hosts, url, tmp_path, fault, code, working
):
    url = fault(ssh_hosts, url) or url
    address = reached(url, "ssh:bastion ssh:inner").replace(" ", "+")
    parts, findings = examine(dbctl, address, tmp_path, status=10)
    assert [part.partition(": ")[0] for part in parts] == working
    assert findings[code]["severity"] == "error"
    assert "ssh" in findings[code]["hint"]


@pytest.mark.slow
def test_parts_of_a_container_are_described(dbctl, ssh_hosts, podman, tmp_path):
    container = podman.postgresql()
    ssh_hosts.bastion.set_environment({"PATH": os.environ["PATH"], **podman.environment})
    address = f"postgresql://shop:p%40ss%27w%25rd@127.0.0.1/shopdb?via=ssh:bastion+docker:{container.name}"
    host, name = "ssh:bastion: the host accepts the key", f"docker:{container.name}"
    working = [host, f"{name}: the container runs", f"{name}: bash in it opens connections"]
    parts, findings = examine(dbctl, address, tmp_path, status=None)
    assert parts == [*working, "127.0.0.1: the server answers"]
    parts, findings = examine(dbctl, address.replace("127.0.0.1", "127.0.0.1:1"), tmp_path, status=10)
    assert (parts, "routed-server-refused" in findings) == (working, True)
    container.stop()
    parts, findings = examine(dbctl, address, tmp_path, status=10)
    assert parts == [host]
    assert f"docker start {container.name}" in findings["container-stopped"]["hint"]


@pytest.mark.slow
def test_programs_of_a_file_are_described(dbctl, ssh_hosts, tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table t (id integer primary key)")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "dbctl").write_text("")
    (programs / "dbctl").chmod(0o755)
    ssh_hosts.bastion.set_environment({"PATH": f"/usr/bin:/bin:{programs}"})
    address = f"sqlite:{tmp_path}/shop.db?via=ssh:bastion"
    parts, _ = examine(dbctl, address, tmp_path, status=None)
    assert parts == [
        "ssh:bastion: the host accepts the key",
        "bastion: /usr/bin/sqlite3 can copy a file that is in use",
        f"bastion: dbctl is installed there, {programs}/dbctl",
        f"{tmp_path}/shop.db: the file was copied",
    ]
    (tmp_path / "shop.db").unlink()
    parts, findings = examine(dbctl, address, tmp_path, status=10)
    assert len(parts) == 3
    assert "bastion" in findings["remote-file-missing"]["hint"]


@pytest.mark.slow
def test_path_of_a_volume_is_described(dbctl, podman, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("create table t (id integer primary key)")
    container = podman.app(folder)
    parts, _ = examine(dbctl, f"sqlite:/data/shop.db?via=docker:{container.name}", tmp_path, status=None)
    assert parts == [f"docker:{container.name}: the path is {folder}/shop.db of this machine"]
