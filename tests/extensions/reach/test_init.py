"""``dbctl init`` configures databases of containers that publish no port."""

from __future__ import annotations

import json
import os
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.reach import images

pytestmark = pytest.mark.slow
POSTGRESQL_PASSWORD, MARIADB_PASSWORD = "p@ss'w%rd", "p@ssw%rd"


@pytest.fixture
def init(dbctl, tmp_path, tmp_path_factory):
    """Run ``init``, and return its answer; its output, the journal and new files have no password."""
    state = tmp_path_factory.mktemp("state")

    def run(*words, status=0):
        existing = {path for path in tmp_path.iterdir() if path.is_file()}
        result = dbctl("init", *words, "-o", "json", status=status, environment={"DBCTL_STATE": str(state)})
        new = [path for folder in (tmp_path, state) for path in folder.rglob("*") if path.is_file()]
        texts = [path.read_bytes() for path in new if path not in existing]
        for text in (result.stdout.encode(), result.stderr.encode(), *texts):
            assert not [word for word in (b"p@ss", b"p%40ss", b"s3cret") if word in text]
        assert "\x1b" not in result.stdout + result.stderr
        return json.loads(result.stdout)

    return run


def read_configuration(folder):
    return tomllib.loads((folder / "dbctl.toml").read_text())


def list_tables(dbctl, *words):
    result = json.loads(dbctl("stats", "tables", *words, "-o", "json").stdout)
    return [item["table"] for item in result["data"]["items"]]


def start_app(podman, folder, project="shop", **variables):
    """Start the container of an app with variables, in the project of the shared servers unless another one is existing."""
    return podman.start(
        images.app(),
        volume="/data",
        folder=folder,
        project=project,
        bridge=project != "shop",
        service=f"app{len(podman._created)}",
        variables=variables,
    )


@pytest.fixture
def orders(postgresql_container):
    """Create a table in the database of the shared container."""
    psql = ["psql", "-XqU", "shop", "shopdb", "-c"]
    postgresql_container.execute(*psql, "create table orders (id integer primary key)")
    yield
    postgresql_container.execute(*psql, "drop table orders")


@pytest.mark.parametrize("place", ["podman:{}", "compose:shop/db"])
def test_container_of_a_server_is_configured_without_its_password(
    dbctl, init, postgresql_container, orders, tmp_path, place
):
    place = place.format(postgresql_container.name)
    steps = init(place, "--dry-run")["data"]["plan"]["steps"]
    assert not (tmp_path / "dbctl.toml").exists()
    address = "postgresql://shop:${POSTGRES_PASSWORD}@127.0.0.1:5432/shopdb"
    assert f"main = {address}?via={place}" in steps
    assert init(place)["data"]["databases"] == {"main": f"{address}?via={place}"}
    configuration = read_configuration(tmp_path)
    assert configuration["apps"]["plain"]["databases"] == {"main": {"url": address, "via": place}}
    program = "podman" if place.startswith("podman") else "docker"
    assert configuration["secrets"] == {
        "POSTGRES_PASSWORD": {
            "command": [program, "exec", postgresql_container.name, "printenv", "POSTGRES_PASSWORD"]
        }
    }
    assert list_tables(dbctl) == ["orders"]


def test_service_is_configured_with_its_project(init, mariadb_container, tmp_path):
    init("compose:mysql")  # other tests have services db at the same time
    assert read_configuration(tmp_path)["apps"]["plain"]["databases"]["main"]["via"] == "compose:shop/mysql"


def test_profile_can_be_selected(init, postgresql_container, tmp_path):
    for profile in ("plain", "waqtor"):
        init(profile, f"docker:{postgresql_container.name}")
        app = read_configuration(tmp_path)["apps"][profile]
        assert app["profile"] == profile
        assert app["databases"]["main"]["via"] == f"docker:{postgresql_container.name}"


def test_second_app_of_one_server_has_a_secret_of_its_own(
    dbctl, init, postgresql_container, mariadb_container, orders, tmp_path
):
    init("compose:shop/db")
    init("compose:shop/mysql", "--app", "second")
    init("docker:shop-db-1", "--app", "third")
    assert sorted(read_configuration(tmp_path)["secrets"]) == [
        "MARIADB_PASSWORD",
        "POSTGRES_PASSWORD",
        "POSTGRES_PASSWORD_2",
    ]
    assert [list_tables(dbctl, "--app", name) for name in ("plain", "second", "third")] == [
        ["orders"],
        [],
        ["orders"],
    ]


def test_password_in_a_file_of_the_container_is_read_from_it(dbctl, init, podman, tmp_path):
    server = podman.postgresql()
    server.variables = {
        "POSTGRES_USER": "shop",
        "POSTGRES_DB_FILE": "/etc/name",
        "POSTGRES_PASSWORD_FILE": "/etc/-- it's",
    }
    server.recreate()
    server.execute("sh", "-c", 'cat > "/etc/-- it\'s"', text=POSTGRESQL_PASSWORD + "\n")
    server.execute("sh", "-c", "cat > /etc/name", text="shopdb\n")
    init(f"docker:{server.name}")
    command = ["docker", "exec", server.name, "cat", "--", "/etc/-- it's"]
    assert read_configuration(tmp_path)["secrets"]["POSTGRES_PASSWORD"]["command"] == command
    assert list_tables(dbctl) == []


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        (
            {"DATABASE_URL": "postgresql+asyncpg://shop:s3cret@db:5432/postgres?sslmode=disable"},
            "postgresql://shop:${POSTGRES_PASSWORD}@127.0.0.1:5432/postgres",
        ),
        (
            {
                "DB_CONNECTION": "pgsql",
                "DB_HOST": "shop-db-1",
                "DB_USERNAME": "shop",
                "DB_PASSWORD": "s3cret",
                "DB_DATABASE": "postgres",
            },
            "postgresql://shop:${POSTGRES_PASSWORD}@127.0.0.1:5432/postgres",
        ),
        ({"WORDPRESS_DB_HOST": "mysql"}, "mysql://shop:${MARIADB_PASSWORD}@127.0.0.1:3306/shopdb"),
        (
            {"DB_HOST": "mysql", "DB_USER": "root", "DB_PASSWORD": "r00t", "DB_NAME": "mysql"},
            "mysql://root:${DB_PASSWORD}@127.0.0.1/mysql",
        ),
    ],
)
def test_variables_of_an_app_name_its_server(
    dbctl, init, podman, postgresql_container, mariadb_container, tmp_path, variables, url
):
    app = start_app(podman, tmp_path, **variables)
    answer = init(f"docker:{app.name}")
    server = mariadb_container if url.startswith("mysql") else postgresql_container
    assert read_configuration(tmp_path)["apps"]["plain"]["databases"]["main"] == {
        "url": url,
        "via": f"docker:{server.name}",
    }
    assert any(f"docker:{server.name}" in text for text in answer["warnings"])
    dbctl("stats", "tables")


def test_app_of_compose_has_a_server_of_compose(dbctl, init, podman, postgresql_container, orders, tmp_path):
    start_app(podman, tmp_path, GITEA__DB__HOST="db:5432")
    init("compose:shop/app0")
    assert read_configuration(tmp_path)["apps"]["plain"]["databases"]["main"]["via"] == "compose:shop/db"
    assert list_tables(dbctl) == ["orders"]


@pytest.mark.parametrize("variables", [{"DB": "db"}, {"DATABASE_URL": "postgresql://shop:s3cret@db/shopdb"}])
def test_server_of_another_project_is_not_that_of_an_app(
    init, podman, postgresql_container, tmp_path, variables
):
    app = start_app(podman, tmp_path, "lone", **variables)
    assert init(f"docker:{app.name}", status=None)["exit_code"] == (2 if "DB" in variables else 10)
    assert not (tmp_path / "dbctl.toml").exists()


def test_app_with_a_login_of_its_own_is_reached_through_its_container(dbctl, init, podman, tmp_path):
    """Its login is part of one variable with the host, which only its container resolves."""
    server = podman.postgresql(bridge=True)
    server.execute("psql", "-XqU", "shop", "shopdb", "-c", "create role clerk login password 's3cret'")
    project = server.inspect()["Config"]["Labels"]["com.docker.compose.project"]
    app = start_app(
        podman, tmp_path, project, DATABASE_URL=f"postgresql://clerk:s3cret@{server.address}/shopdb"
    )
    via = f"docker:{app.name}"
    init(via)
    assert read_configuration(tmp_path)["apps"]["plain"]["databases"]["main"] == {
        "url": "${DATABASE_URL}",
        "via": via,
    }
    assert list_tables(dbctl) == []
    # The variables of this one name another host: nothing that can be opened is configured instead.
    other = start_app(podman, tmp_path, project, DATABASE_URL="postgresql://clerk:s3cret@db:1/shopdb")
    init(f"docker:{other.name}", "--app", "other", status=10)


def test_file_of_an_app_in_a_volume_is_reached_by_its_container(dbctl, init, podman, tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("create table visits (id integer primary key)")
    app = start_app(podman, tmp_path, DATABASE_URL="sqlite+aiosqlite:////data/app.db")
    init(f"docker:{app.name}")
    database = read_configuration(tmp_path)["apps"]["plain"]["databases"]["main"]
    assert database == {"url": "sqlite:/data/app.db", "via": f"docker:{app.name}"}
    init(f"sqlite:/data/app.db?via=docker:{app.name}", "--app", "second")
    assert [list_tables(dbctl, "--app", name) for name in ("plain", "second")] == [["visits"]] * 2


def test_app_without_an_unambiguous_server_is_refused_with_candidates(
    init, podman, postgresql_container, mariadb_container, tmp_path
):
    none = init(f"docker:{start_app(podman, tmp_path, COLOR='blue').name}", status=2)["error"]
    both = init(f"docker:{start_app(podman, tmp_path, A='db', B='mysql').name}", status=2)["error"]
    for error in (none, both):
        assert error["hint"].count("dbctl init docker:") == 2
    assert "docker:shop-db-1" in none["hint"]
    assert both["code"] == "databases-ambiguous"
    assert not (tmp_path / "dbctl.toml").exists()


def test_host_of_several_containers_is_refused_with_candidates(init, podman, tmp_path):
    first = podman.postgresql()
    project = first.inspect()["Config"]["Labels"]["com.docker.compose.project"]
    second = podman.postgresql(project=project, service="other", labels={"com.docker.compose.service": "db"})
    app = start_app(podman, tmp_path, project, DATABASE_URL="postgresql://shop:s3cret@db/shopdb")
    answers = [init(f"docker:{app.name}", status=2), init(f"compose:{project}/db", status=10)]
    for hint in (answer["error"]["hint"] for answer in answers):
        assert (f"docker:{first.name}" in hint, f"docker:{second.name}" in hint) == (True, True)


def test_image_of_another_name_is_that_of_the_port_and_its_variables(dbctl, init, podman, tmp_path):
    image = images.postgresql()
    server = podman.postgresql(bridge=True)
    podman.run("tag", image.name, "localhost/own:1")
    server.image, server.options = "localhost/own:1", [*server.options, "--expose", "5432"]
    server.recreate()
    init(f"docker:{server.name}")
    init(f"podman:{server.name}", "--app", "second")
    assert list_tables(dbctl, "--app", "second") == []


@pytest.mark.parametrize(("variant", "status"), [("alpine", 0), ("distroless", 2)])
def test_image_with_few_programs(dbctl, init, podman, tmp_path, variant, status):
    server = podman.postgresql(variant=variant, bridge=True)
    answer = init(f"docker:{server.name}", status=status)
    assert (tmp_path / "dbctl.toml").exists() == answer["ok"]
    if answer["ok"]:
        assert list_tables(dbctl) == []


def test_container_behind_ssh_has_a_secret_behind_ssh(
    dbctl, init, postgresql_container, podman, ssh_hosts, orders, tmp_path
):
    ssh_hosts.bastion.set_environment(dict(podman.environment) | {"PATH": os.environ["PATH"]})
    via = f"ssh:bastion docker:{postgresql_container.name}"
    init(via)
    configuration = read_configuration(tmp_path)
    assert configuration["apps"]["plain"]["databases"]["main"]["via"] == via
    command = configuration["secrets"]["POSTGRES_PASSWORD"]["command"]
    assert command[:4] == ["ssh", "-o", "BatchMode=yes", "bastion"]
    assert list_tables(dbctl) == ["orders"]


HOSTILE = {
    "POSTGRES_DB": "x?via=ssh:evil&host=/tmp\n[secrets.X]\ncommand=['touch','/tmp/x']",
    "POSTGRES_USER": 'u"}\n[apps.evil]\nprofile="plain"\n@evil/\x1b[31m${HOME}',
    "POSTGRES_PASSWORD": "x",
    "DATABASE_URL": "postgresql://u:s3cret@h/d\n[apps.evil]",
    "mysql://x@y/z": "mysql://x@y/z",
}


def test_hostile_variables_are_only_values(init, podman, tmp_path):
    app = start_app(podman, tmp_path, **HOSTILE)
    assert init(f"docker:{app.name}", status=None)["error"]["code"] != "internal"
    server = podman.postgresql()
    server.variables = HOSTILE
    server.recreate()
    init(f"docker:{server.name}", status=10)
    assert not (tmp_path / "dbctl.toml").exists()


@pytest.mark.parametrize(
    ("place", "status"), [("ssh:bastion", 2), ("docker:a b", 2), ("docker:none", 10), ("compose:none/db", 10)]
)
def test_route_without_a_container_is_refused(init, podman, ssh_hosts, tmp_path, place, status):
    assert init(place, status=status)["error"]["code"] in ("usage", "route-invalid", "container-missing")
    assert not (tmp_path / "dbctl.toml").exists()


def test_root_writes_no_program_to_a_file_of_others(init, postgresql_container, tmp_path):
    tmp_path.chmod(0o777)
    assert init("compose:shop/db", status=6)["error"]["code"] == "config-untrusted"
    assert not (tmp_path / "dbctl.toml").exists()


def test_pod_is_configured_without_its_password(dbctl, init, podman, kubernetes, tmp_path):
    podman.postgresql(labels=kubernetes.labels("db-0", namespace="shop", container="main", app="db"))
    for place in ("kubernetes:shop/db-0", "kubernetes:shop/app=db/main"):
        init(place)
        configuration = read_configuration(tmp_path)
        assert configuration["apps"]["plain"]["databases"]["main"]["via"] == place
        command = configuration["secrets"]["POSTGRES_PASSWORD"]["command"]
        assert command[:5] == ["kubectl", "exec", "--namespace", "shop", "db-0"]
        assert command[-3:] == ["--", "printenv", "POSTGRES_PASSWORD"]
        assert list_tables(dbctl) == []
        (tmp_path / "dbctl.toml").unlink()


# Compose ---------------------------------------------------------------------------------------------------------

COMPOSE = """services:
  db:
    image: postgres:15
    environment: {POSTGRES_USER: shop, POSTGRES_DB: shopdb, POSTGRES_PASSWORD: "%s"}
"""


def write_compose(folder, password, head=""):
    (folder / "compose.yaml").write_text(head + COMPOSE % password)


@pytest.mark.parametrize("project", ["name", "variable", "setting"])
def test_service_of_a_running_project_is_reached_by_its_route(
    dbctl, init, postgresql_container, orders, tmp_path, monkeypatch, project
):
    write_compose(tmp_path, "${DB_PASSWORD}", "name: shop\n" if project == "name" else "name: other\n")
    settings = f'DB_PASSWORD="{POSTGRESQL_PASSWORD}"\n'
    if project == "variable":
        monkeypatch.setenv("COMPOSE_PROJECT_NAME", "shop")
    (tmp_path / ".env").write_text(settings + ("COMPOSE_PROJECT_NAME=shop\n" if project == "setting" else ""))
    answer = init("compose.yaml")
    assert any("compose:shop/db" in text and "publishes no port" in text for text in answer["warnings"])
    app = read_configuration(tmp_path)["apps"]["plain"]
    address = "postgresql://shop:${DB_PASSWORD}@127.0.0.1:5432/shopdb"
    assert app["env_file"] == ".env"
    assert app["databases"]["main"] == {"url": address, "via": "compose:shop/db"}
    assert "secrets" not in read_configuration(tmp_path)
    assert list_tables(dbctl) == ["orders"]


@pytest.mark.parametrize("written", [POSTGRESQL_PASSWORD, "${ONLY_IN_THE_SHELL}"])
def test_password_that_no_file_of_its_own_has_is_that_of_the_container(
    dbctl, init, postgresql_container, orders, tmp_path, written
):
    write_compose(tmp_path, written, "name: shop\n")
    init(".")
    command = ["docker", "exec", postgresql_container.name, "printenv", "POSTGRES_PASSWORD"]
    assert read_configuration(tmp_path)["secrets"]["POSTGRES_PASSWORD"]["command"] == command
    assert list_tables(dbctl) == ["orders"]


def test_service_that_does_not_run_is_refused_with_what_to_start(init, podman, tmp_path, monkeypatch):
    write_compose(tmp_path, "x", "name: nothing\n")
    error = init("compose.yaml", status=10)["error"]
    assert "docker compose up --detach db" in error["hint"]
    monkeypatch.setenv("PATH", str(tmp_path))  # without docker and podman
    assert "docker is not installed" in init("compose.yaml", status=10)["error"]["message"]
    assert not (tmp_path / "dbctl.toml").exists()


def test_whole_life_of_an_app_without_a_published_port(dbctl, podman, tmp_path):
    """A machine has a container of PostgreSQL, and its Compose file."""
    folder = tmp_path / "_My Shop.1"
    folder.mkdir()
    server = podman.postgresql(project="myshop1")
    shapes = Path(__file__).parents[2] / "shapes"
    psql = ["psql", "-XqU", "shop", "-v", "ON_ERROR_STOP=1", "shopdb"]
    for name in ("waqtor-deployed.sql", "waqtor-deployed-rows.sql"):
        server.execute(*psql, text=(shapes / name).read_text())
    write_compose(folder, "${DB_PASSWORD:?}")
    (folder / ".env").write_text(f'DB_PASSWORD="{POSTGRESQL_PASSWORD}"\n')

    def run(*words):
        return json.loads(dbctl(*words, "-o", "json", folder=folder).stdout)["data"]

    assert run("init", "compose.yaml")["profile"] == "waqtor"
    users = run("users", "list")["items"]
    assert "boss@waqtor.example" in [user["login"] for user in users]
    assert run("migrate", "status")["items"]
    backup = run("backup", "create")
    assert [item["passed"] for item in run("backup", "drill")["databases"]] == [True]
    server.execute(*psql, text="update users set name = 'lost'")
    assert run("users", "list")["items"] != users
    run("restore", "apply", backup["id"], "--yes")
    assert run("users", "list")["items"] == users
    podman.run("exec", "--detach", server.name, *psql, "-c", "select pg_sleep(60)")
    assert [item["user"] for item in run("stats", "connections")["items"]] == ["shop"]
