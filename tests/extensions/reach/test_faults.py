"""Faults of routes by SSH: each is named with its remedy, and nothing remains of the route."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from contextlib import closing, contextmanager

import pytest
from msgspec import structs

from dbctl.extensions.reach import relay
from tests import servers
from tests.extensions.reach.processes import wait_until_empty
from tests.extensions.reach.test_ssh import reached

HOPS = {"ssh:bastion": "bastion", "ssh:bastion ssh:inner": "inner"}


@pytest.fixture
def url():
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection, connection.cursor() as cursor:
            cursor.execute("create table t (id integer primary key)")
            connection.commit()
        yield url


@pytest.fixture
def fail(dbctl):
    """Run a command that the route prevents, and return its error."""

    def run(url, via, **options):
        words = "data", "rows", "t", "--url", reached(url, via), "-o", "json"
        result = dbctl(*words, status=10, **options)
        error = json.loads(result.stdout)["error"]
        assert error["message"].isprintable()
        assert "dbctl-route" not in error["message"] + error["hint"]
        wait_until_empty(dbctl.runtime)
        return error

    return run


def change_host_key(hosts, server):
    server.change_host_key()


def forget_host_key(hosts, server):
    others = {hosts.bastion, hosts.inner} - {server}
    hosts.known_hosts.write_text("".join(other.host_key for other in others))


def refuse_key(hosts, server):
    server.refuse_key()


def stop(hosts, server):
    server.stop()


def restrict(hosts, server):
    server.accept_key("restrict")


FAULTS = {
    change_host_key: ("host-key-changed", "has changed"),
    forget_host_key: ("host-key-unknown", "is not in known_hosts"),
    refuse_key: ("ssh-denied", "Permission denied (publickey)"),
    stop: ("ssh-unreachable", "Connection refused"),
    restrict: ("forwarding-denied", "administratively prohibited"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("via", "broken"),
    [("ssh:bastion", "bastion"), ("ssh:bastion ssh:inner", "bastion"), ("ssh:bastion ssh:inner", "inner")],
)
def test_fault_of_a_host_is_named(fail, ssh_hosts, url, via, broken, fault):
    fault(ssh_hosts, getattr(ssh_hosts, broken))
    error = fail(url, via)
    code, reason = FAULTS[fault]
    assert (error["code"], reason in error["message"]) == (code, True), error
    if fault is restrict:
        assert f"administrator of {broken} " in error["hint"]
    if fault is not change_host_key:
        assert HOPS[via] in error["hint"]


def test_unknown_host_is_named(fail, ssh_hosts, url):
    ssh_hosts.config.write_text("")  # which names bastion
    error = fail(url, "ssh:no-host.invalid")
    assert error["code"] == "ssh-host-unknown"
    assert "Could not resolve hostname no-host.invalid" in error["message"]


def test_missing_ssh_is_named(fail, url, tmp_path):
    assert fail(url, "ssh:bastion", environment={"PATH": str(tmp_path)})["code"] == "route-program-missing"


@pytest.mark.slow
@pytest.mark.parametrize("via", HOPS)
def test_refusing_server_is_distinguished_from_its_host(fail, ssh_hosts, url, via):
    port = servers.free_port()
    error = fail(structs.replace(url, port=port), via)
    assert error["code"] == "routed-server-refused"
    assert f"127.0.0.1:{port}, seen from {HOPS[via]}: Connection refused" in error["message"]
    command = shlex.split(error["hint"].partition("must connect: ")[2])
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Connection refused" in result.stderr
    assert result.returncode


@contextmanager
def shared_connection(hosts):
    """Share a connection to the bastion, as a user who has ControlMaster in the configuration does."""
    path = hosts.folder / "shared"
    hosts.config.write_text(f"ControlPath {path}\n{hosts.config.read_text()}")
    subprocess.run(
        ["ssh", "-M", "-N", "-f", "bastion"],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield path
    finally:
        subprocess.run(["ssh", "-O", "exit", "bastion"], check=False, capture_output=True)


@pytest.mark.slow
def test_connection_of_the_user_is_used_and_stays_open(dbctl, fail, ssh_hosts, url):
    with shared_connection(ssh_hosts) as path:
        ssh_hosts.bastion.refuse_key()
        dbctl("data", "rows", "t", "--url", reached(url, "ssh:bastion"))
        assert path.exists()
        error = fail(structs.replace(url, port=servers.free_port()), "ssh:bastion")
        assert error["code"] == "routed-server-refused"
        assert "ssh -S none -W" in error["hint"]


@pytest.mark.slow
def test_configuration_of_the_user_does_not_disturb_the_route(dbctl, ssh_hosts, url):
    port = servers.free_port()
    with closing(servers.socket.create_server(("127.0.0.1", port))):
        ssh_hosts.config.write_text(
            f"LocalForward {port} 127.0.0.1:22\nExitOnForwardFailure yes\nRemoteCommand true\nRequestTTY force\n"
            f"ControlMaster auto\nControlPersist yes\n{ssh_hosts.config.read_text()}"
        )
        dbctl("data", "rows", "t", "--url", reached(url, "ssh:bastion"))
    wait_until_empty(dbctl.runtime)


def test_answer_of_the_server_is_not_a_fault_of_the_route(fail, ssh_hosts, url):
    error = fail(structs.replace(url, user="nobody_here"), "ssh:bastion")
    assert error["code"] == "unreachable"
    assert "nobody_here" in error["message"]


@pytest.fixture
def open_relay(tmp_path):
    def create(script):
        path = tmp_path / "socket"
        opened = relay.Relay(path, ["sh", "-c", script])
        return opened, path

    return create


def connect(path):
    client = servers.socket.socket(servers.socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def test_failure_of_a_connection_is_reported_once(open_relay):
    opened, path = open_relay("read -r line; [ $line = good ] && exec cat; echo $line >&2; exit 3")
    with connect(path) as good, connect(path) as bad:
        good.sendall(b"good\n")
        bad.sendall(b"bad\n")
        assert bad.recv(1) == b""
        assert opened.find_failure() == ["bad"]
        assert not opened.find_failure()


def test_each_failure_is_read_by_one_thread(open_relay):
    opened, path = open_relay("read -r line; echo $line >&2; exit 3")
    reports = []

    def lose_connection(number):
        with connect(path) as client:
            client.sendall(b"%d\n" % number)
            assert client.recv(1) == b""
            reports.extend(opened.find_failure())

    threads = [threading.Thread(target=lose_connection, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(int, reports)) == list(range(20))
