"""The containers of the tests: what podman and Docker's client reach in them, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests import servers
from tests.reach import containers

pytestmark = pytest.mark.slow


@pytest.fixture
def docker(podman):
    """Provide podman to Docker's client; without it, skip the test, or fail in CI."""
    if not shutil.which("docker"):
        servers.skip_or_fail("no docker (Debian package docker.io)")
    return podman


def run(*words, status=0):
    result = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == status, result.stderr
    return result.stdout


def test_postgresql_has_user_database_and_password_of_variables(podman, postgresql_container):
    query = ["psql", "-XAtU", "shop", "-c", "select current_user, current_database()"]
    assert postgresql_container.execute(*query, "shopdb") == "shop|shopdb\n"
    address = ["exec", postgresql_container.name, *query, "-wh", "127.0.0.1", "shopdb"]
    assert "no password supplied" in podman.run(*address, status=2).stderr
    assert postgresql_container.address == ""
    assert postgresql_container.execute("id", "-un", user="postgres") == "postgres\n"


def test_mariadb_has_users_database_and_passwords_of_variables(mariadb_container):
    variables = mariadb_container.variables
    query = ["mariadb", "-BNe", "select current_user(), database()", variables["MARIADB_DATABASE"]]
    user = ["-u", variables["MARIADB_USER"], f"-p{variables['MARIADB_PASSWORD']}"]
    assert mariadb_container.execute(*query, *user, "-h", "127.0.0.1") == "shop@%\tshopdb\n"
    root = ["-u", "root", f"-p{variables['MARIADB_ROOT_PASSWORD']}"]
    assert mariadb_container.execute(*query, *root) == "root@localhost\tshopdb\n"


def test_servers_on_bridge_are_reached_by_address(podman):
    server, other = podman.postgresql(bridge=True), podman.mariadb(bridge=True)
    variables = server.variables
    parameters = {"dbname": variables["POSTGRES_DB"], "password": variables["POSTGRES_PASSWORD"]}
    with closing(psycopg.connect(host=server.address, user="shop", **parameters)) as connection:
        assert connection.execute("select inet_server_addr()::text").fetchone() == (f"{server.address}/32",)
    with closing(
        pymysql.connect(host=other.address, user="shop", password=other.variables["MARIADB_PASSWORD"])
    ) as connection:
        assert connection.ping() is None


def test_app_shares_folder_of_this_machine(podman, tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("create table visits (n)")
        connection.execute("insert into visits values (7)")
        connection.commit()
    container = podman.app(tmp_path)
    assert container.execute("sqlite3", "/data/app.db", "select n from visits") == "7\n"
    (mount,) = container.inspect()["Mounts"]
    assert (mount["Source"], mount["Destination"]) == (str(tmp_path), "/data")


def test_container_without_shell_has_only_its_server(podman):
    container = podman.postgresql("distroless", bridge=True)
    assert "not found" in podman.run("exec", container.name, "sh", status=127).stderr
    variables = container.variables
    parameters = {"dbname": variables["POSTGRES_DB"], "password": variables["POSTGRES_PASSWORD"]}
    psycopg.connect(host=container.address, user="shop", **parameters).close()


def test_container_without_bash_has_sh(podman):
    container = podman.postgresql("alpine")
    assert container.execute("sh", "-c", "command -v bash || echo none") == "none\n"
    request = r"printf '\0\0\0\010\004\322\026\057' | nc 127.0.0.1 5432"  # asks PostgreSQL for TLS
    assert container.execute("sh", "-c", request) == "N"


def test_container_stops_starts_and_is_replaced(podman):
    container = podman.postgresql()
    first = container.id
    query = ["psql", "-XAtU", "shop", "shopdb", "-c"]
    container.execute(*query, "create table kept ()")
    container.stop()
    assert container.inspect()["State"]["Status"] == "exited"
    container.start()
    container.kill()
    assert container.inspect()["State"]["ExitCode"] == 137
    container.start()
    container.pause()
    assert container.inspect()["State"]["Status"] == "paused"
    podman.run("exec", container.name, "true", status=255)
    container.unpause()
    assert container.id == first
    container.recreate()
    assert container.id != first
    assert container.execute(*query, "select count(*) from kept") == "0\n"
    container.remove()
    podman.run("container", "exists", container.name, status=1)


def test_client_of_docker_uses_the_containers(docker, tmp_path):
    container = docker.app(tmp_path, project="blog", service="web", labels={"a.label": "x y"})
    selection = ["--filter", "label=com.docker.compose.project=blog", "--format", "{{.Names}}"]
    assert run("docker", "ps", *selection) == f"{container.name}\n"
    (description,) = json.loads(run("docker", "inspect", container.name))
    assert description["Id"] == container.id
    assert description["Config"]["Labels"]["com.docker.compose.service"] == "web"
    assert description["Config"]["Labels"]["a.label"] == "x y"
    assert run("docker", "exec", "-i", container.name, "id", "-u") == "0\n"
    exchange = ["docker", "exec", "-i", container.id, "cat"]
    assert subprocess.run(exchange, input=b"\0\xff" * 70_000, capture_output=True, check=True).stdout == (
        b"\0\xff" * 70_000
    )
    run("docker", "exec", container.name, "sh", "-c", "exit 3", status=3)


def test_log_has_output_of_server(docker, postgresql_container):
    result = subprocess.run(["docker", "logs", postgresql_container.name], capture_output=True, check=True)
    assert b"ready to accept connections" in result.stderr


def test_files_are_only_in_folder_of_run(podman):
    paths = json.loads(podman.run("info", "--format", "json").stdout)["store"]
    assert paths["graphRoot"] == str(podman.folder / "storage")
    assert paths["runRoot"] == str(podman.folder / "run")
    assert Path(podman.environment["CONTAINERS_CONF"]).is_relative_to(podman.folder)


def test_end_leaves_no_process_mount_and_file(docker):
    server = containers._start_service()
    other = containers.Podman(server.folder)
    container = other.app(bridge=True)
    environment = os.environ | other.environment
    subprocess.run(["docker", "exec", container.name, "true"], check=True, env=environment)
    server.stop()
    assert not server.folder.exists()
    processes = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert str(server.folder) not in processes
    assert str(server.folder) not in Path("/proc/mounts").read_text()
