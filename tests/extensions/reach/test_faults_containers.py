"""Faults of routes to containers, also behind SSH: each is named with its remedy, and nothing remains of the route."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.extensions.reach.processes import wait_until, wait_until_empty
from tests.extensions.reach.test_faults_lost import MANY

pytestmark = pytest.mark.slow
ADDRESS = "postgresql://shop:p%40ss%27w%25rd@127.0.0.1/shopdb"


@pytest.fixture
def fail(dbctl):
    """Run a command that the route prevents, and return its error."""

    def run(via, **options):
        words = "data", "query", "select 1", "--url", f"{ADDRESS}?via={via}", "-o", "json"
        result = dbctl(*words, status=10, **options)
        error = json.loads(result.stdout)["error"]
        print(error)
        assert error["message"].isprintable()
        assert "dbctl-route" not in error["message"] + error["hint"]
        wait_until_empty(dbctl.runtime)
        return error

    return run


#: The beginning of a route, and the program at its end: each of both once, as neither depends on the other.
PLACES = [("", "docker"), ("ssh:bastion+", "podman")]


@pytest.fixture
def host(request, podman):
    """Provide the beginning of a route to the machine of the containers."""
    if request.param:
        request.getfixturevalue("ssh_hosts").bastion.set_environment(
            dict(podman.environment) | {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        )
    return request.param


@pytest.mark.parametrize(("host", "program"), PLACES, indirect=["host"])
def test_missing_container_is_named(fail, host, program):
    error = fail(f"{host}{program}:nothing")
    assert error["code"] == "container-missing"


@pytest.mark.parametrize(("host", "program"), PLACES, indirect=["host"])
def test_stopped_and_paused_containers_are_named(fail, podman, host, program):
    container = podman.postgresql()
    via = f"{host}{program}:{container.name}"
    container.pause()
    for action in ("unpause", "start"):
        error = fail(via)
        assert error["code"] == "container-stopped"
        command = error["hint"].partition("with: ")[2]
        assert f"{program} {action} {container.name}" in command
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        container.stop()


@pytest.mark.parametrize("host", ["", "ssh:bastion+"], indirect=True)
def test_several_services_are_named(fail, podman, host):
    # Other tests have services db at the same time.
    podman.app(project="one", service="twin"), podman.app(project="two", service="twin")
    error = fail(f"{host}compose:twin")
    assert error["code"] == "container-ambiguous"
    assert "compose:one/twin" in error["hint"]
    assert fail(f"{host}compose:three/twin")["code"] == "container-missing"


def test_container_of_compose_run_is_none_of_the_service(fail, podman):
    podman.app(project="once", service="task", labels={"com.docker.compose.oneoff": "True"})
    assert fail("compose:once/task")["code"] == "container-missing"


@pytest.mark.parametrize(("host", "program"), PLACES, indirect=["host"])
def test_container_without_a_shell_is_named(fail, podman, host, program):
    container = podman.postgresql("distroless")
    assert fail(f"{host}{program}:{container.name}")["code"] == "container-shell"


def test_absent_service_of_docker_is_named(fail, podman):
    environment = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    error = fail("docker:shop", environment=environment)
    assert error["code"] == "container-access"


#: Environment variables that name the socket of each program; podman uses one as a client of its service only.
SOCKETS = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


@pytest.mark.parametrize(("is_remote", "program"), [(False, "podman"), (True, "docker")])
def test_denied_socket_is_named(fail, podman, ssh_hosts, program, is_remote, tmp_path):
    """The client runs as a user without privileges, and the service of podman has a socket that only root may use."""
    programs = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        programs.chmod(0o755)
        socket = podman.environment["DOCKER_HOST"].removeprefix("unix://")
        (programs / "socket").symlink_to(socket)
        client, remote = programs / program, "--remote" if program == "podman" else ""
        variables = f"HOME={programs} PATH={os.environ['PATH']} {SOCKETS[program]}=unix://{programs}/socket"
        client.write_text(
            "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups"
            f' env -i {variables} {shutil.which(program)} {remote} "$@"\n'
        )
        client.chmod(0o755)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        via = f"{program}:shop"
        if is_remote:
            ssh_hosts.bastion.set_environment(environment)
            via, environment = f"ssh:bastion+{via}", {}
        error = fail(via, environment=environment)
        assert error["code"] == "container-denied", error
        place = "bastion" if is_remote else "this machine"
        assert f"The user on {place} may not use the socket of {program}" in error["hint"]
    finally:
        shutil.rmtree(programs)


def test_missing_program_is_named(fail, ssh_hosts, tmp_path):
    ssh_hosts.bastion.set_environment({"PATH": "/nowhere"})
    for via in ("ssh:bastion+docker:shop", "ssh:bastion+kubernetes:shop/db"):
        error = fail(via)
        assert error["code"] == "route-program-missing", error
        assert "bastion" in error["hint"]
    assert fail("docker:shop", environment={"PATH": str(tmp_path)})["code"] == "route-program-missing"


@pytest.mark.parametrize(("host", "program"), PLACES, indirect=["host"])
def test_server_that_is_down_in_a_container_is_named(fail, podman, host, program):
    container = podman.app()
    error = fail(f"{host}{program}:{container.name}")
    assert error["code"] == "routed-server-refused"
    assert "Connection refused" in error["message"]
    command = shlex.split(error["hint"].partition("must connect: ")[2])
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert result.returncode
    assert "Connection refused" in result.stderr


def remove(container):
    container.remove()


def recreate(container):
    container.recreate()


def kill(container):
    container.kill()


#: A container is stopped before it is removed.
LOST_CODES = {"container-stopped", "container-missing"}


@pytest.mark.parametrize(
    ("host", "program", "lose", "codes"),
    [
        ("", "docker", remove, LOST_CODES),
        ("ssh:bastion+", "podman", recreate, LOST_CODES),
        ("", "podman", kill, {"container-stopped"}),
        ("ssh:bastion+", "docker", kill, {"container-stopped"}),
    ],
    indirect=["host"],
)
def test_container_that_is_lost_during_a_read_is_named(start, podman, host, program, lose, codes):
    container = podman.postgresql()
    wait = start(
        "data", "query", "select pg_sleep(30)", "--url", f"{ADDRESS}?via={host}{program}:{container.name}"
    )
    wait_until(lambda: "pg_sleep" in read_activity(container))
    lose(container)
    status, error, _ = wait()
    assert (status, error["code"] in codes) == (10, True), error


@pytest.mark.parametrize(("host", "program"), PLACES, indirect=["host"])
def test_container_that_is_recreated_during_a_dump_leaves_no_backup(start, podman, host, program, tmp_path):
    container = podman.postgresql()
    container.execute("psql", "-q", "-U", "shop", "shopdb", text=MANY["postgresql"])
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\nvia = "{host.replace("+", " ")}{program}:{container.name}"\n'
        f'databases = "{ADDRESS}"\nbackup.repository = "backups"\n'
    )
    wait = start("backup", "create", "--limit-rate", "1M")
    wait_until(lambda: "COPY" in read_activity(container))
    container.recreate()
    status, error, _ = wait()
    assert (status, error["code"] in LOST_CODES) == (10, True), error
    assert not list((tmp_path / "backups").rglob("*.json"))


def read_activity(container):
    sql = "select query from pg_stat_activity where pid <> pg_backend_pid()"
    return container.execute("psql", "-qAt", "-U", "shop", "shopdb", text=sql)


def test_several_pods_are_named(fail, podman, kubernetes):
    for name in ("db-0", "db-1"):
        podman.app(labels=kubernetes.labels(name, namespace="shop", container="main", app="db"))
    error = fail("kubernetes:shop/app%3Ddb")
    assert error["code"] == "container-ambiguous"
    assert "kubernetes:shop/db-0" in error["hint"]
    assert fail("kubernetes:shop/web-0")["code"] == "container-missing"
    kubernetes.refuse(
        'Error from server (Forbidden): pods is forbidden: User "tests" cannot list resource "pods"'
    )
    assert fail("kubernetes:shop/db-0")["code"] == "cluster-access"
