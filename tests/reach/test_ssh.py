"""The SSH servers of the tests: what a client reaches through them, and how they fail."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import closing

import psycopg
import pytest

from tests import servers

#: The exit code of ssh for its own failures.
FAILED = 255


def run(host, *words, status=0):
    """Run a command on a host and return its output, or the messages of ssh."""
    result = subprocess.run(
        ["ssh", "-o", "BatchMode=yes", host, *words], check=False, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == status, result.stderr
    return result.stderr if status else result.stdout


def test_commands_run_on_both_hosts(ssh_hosts):
    assert run("bastion", "echo $SSH_CONNECTION").split()[-1] == str(ssh_hosts.bastion.port)
    assert run("inner", "echo $SSH_CONNECTION").split()[-1] == str(ssh_hosts.inner.port)
    # without its alias, a host is known by its address
    assert run(f"ssh://{ssh_hosts.user}@127.0.0.1:{ssh_hosts.bastion.port}", "echo $USER").strip() == (
        ssh_hosts.user
    )


def test_inner_host_is_reached_through_bastion(ssh_hosts):
    ssh_hosts.bastion.stop()
    run("inner", "true", status=FAILED)
    ssh_hosts.bastion.start()
    run("inner", "true")


@pytest.mark.parametrize("host", ["bastion", "inner"])
def test_port_and_socket_are_forwarded(ssh_hosts, host, tmp_path):
    server = servers.postgresql()
    port, file = servers.free_port(), tmp_path / "s"
    # a socket at one end, a port at the other
    to_port = ["-L", f"{port}:{server.host}:{server.port or 5432}"]
    to_socket = ["-L", f"{file}:{server.host}:{server.port or 5432}"]
    process = subprocess.Popen(["ssh", "-N", "-o", "ExitOnForwardFailure=yes", *to_port, *to_socket, host])
    try:
        deadline = time.monotonic() + 30
        while not file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        url = f"postgresql://{server.user}@127.0.0.1:{port}/{server.path}"
        with closing(psycopg.connect(url)) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file))
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # asks PostgreSQL for TLS
            assert client.recv(1) in b"SN"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_files_are_copied(ssh_hosts, tmp_path):
    (tmp_path / "from").write_text("copied")
    subprocess.run(["scp", "-q", f"inner:{tmp_path}/from", tmp_path / "to"], check=True)
    assert (tmp_path / "to").read_text() == "copied"


def test_other_host_key_and_absent_host_key_are_refused(ssh_hosts):
    ssh_hosts.inner.change_host_key()
    assert "IDENTIFICATION HAS CHANGED" in run("inner", "true", status=FAILED)
    ssh_hosts.learn_host_keys()
    run("inner", "true")
    ssh_hosts.forget_host_keys()
    assert "host key is known" in run("bastion", "true", status=FAILED)


def test_key_is_refused_and_limited(ssh_hosts):
    ssh_hosts.bastion.refuse_key()
    assert "Permission denied (publickey)" in run("bastion", "true", status=FAILED)
    ssh_hosts.bastion.accept_key('command="echo forced"')
    assert run("bastion", "echo other") == "forced\n"


def test_killed_connections_end_and_new_ones_work(ssh_hosts):
    process = subprocess.Popen(["ssh", "inner", "echo started; exec sleep 600"], stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"started\n"
        ssh_hosts.bastion.kill_connections()
        assert process.wait(timeout=30) == FAILED
    run("inner", "true")


def test_variables_reach_commands(ssh_hosts):
    ssh_hosts.inner.set_environment({"PATH": "/usr/bin:/some where", "DOCKER_HOST": "unix:///a"})
    assert run("inner", 'echo "$PATH $DOCKER_HOST"') == "/usr/bin:/some where unix:///a\n"
    assert run("inner", "echo $HOME").startswith(str(ssh_hosts.folder))


def test_nothing_of_user_is_read(ssh_hosts):
    settings = subprocess.run(["ssh", "-G", "inner"], check=True, capture_output=True, text=True).stdout
    files = [line.split()[1:] for line in settings.splitlines() if "file" in line.split()[0]]
    assert [str(ssh_hosts.identity)] in files
    assert [str(ssh_hosts.known_hosts)] in files
    assert shutil.which("ssh") == str(ssh_hosts.programs / "ssh")
