"""Servers in containers without a published port, through the clients of Docker and Podman, and behind SSH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from urllib.parse import quote

import pytest

from tests import servers

pytestmark = pytest.mark.slow

#: The programs of a machine that reaches containers, and has no database.
PROGRAMS = ("bash", "cat", "docker", "env", "podman", "rm", "sh", "ssh", "runc", "conmon", "nsenter")


def address_of(container, via, *, database="shopdb"):
    """Return the address of a server that only the inside of its container has."""
    engine, prefix = (
        ("mysql", "MARIADB") if "MARIADB_USER" in container.variables else ("postgresql", "POSTGRES")
    )
    user, password = (container.variables[f"{prefix}_{name}"] for name in ("USER", "PASSWORD"))
    return f"{engine}://{user}:{quote(password, safe='')}@127.0.0.1/{database}?via={quote(via, safe=':/')}"


@pytest.fixture(params=["postgresql", "mariadb"])
def container(request):
    return request.getfixturevalue(f"{request.param}_container")


def configure(folder, address):
    (folder / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "{address}"\nbackup.repository = "backups"\n'
    )


@pytest.fixture
def table(dbctl, container):
    """Provide a table of two rows with a unique name."""
    name = f"t_{os.urandom(4).hex()}"
    if "MARIADB_USER" in container.variables:
        words = ("mariadb", "-uroot", f"-p{container.variables['MARIADB_ROOT_PASSWORD']}", "shopdb")
    else:
        words = ("psql", "-q", "-U", "shop", "shopdb")
    container.execute(
        *words,
        text=f"create table {name} (id integer primary key, name varchar(20)); insert into {name} values (1, 'one'), (2, 'two');",
    )
    yield name
    container.execute(*words, text=f"drop table if exists {name};")


@pytest.mark.parametrize("part", ["docker:{name}", "podman:{id}", "compose:shop/{service}"])
def test_rows_are_read_and_written(dbctl, podman, container, table, part):
    service = "mysql" if "MARIADB_USER" in container.variables else "db"
    via = part.format(name=container.name, id=container.id, service=service)
    address = address_of(container, via)
    dbctl("data", "set", table, "1", "name=uno", "--url", address, "--yes")
    rows = json.loads(dbctl("data", "rows", table, "--url", address, "-o", "json").stdout)
    assert [row["name"] for row in rows["data"]["items"]] == ["uno", "two"]


@pytest.mark.parametrize(
    "container", ["mariadb"], indirect=True
)  # other tests have services db at the same time
def test_service_is_found_without_its_project(dbctl, podman, container, table):
    assert "two" in dbctl("data", "rows", table, "--url", address_of(container, "compose:mysql")).stdout


def test_container_on_another_machine(dbctl, ssh_hosts, podman, container, table):
    ssh_hosts.inner.set_environment({"PATH": os.environ["PATH"], **podman.environment})
    address = address_of(container, f"ssh:bastion ssh:inner docker:{container.name}")
    assert "two" in dbctl("data", "rows", table, "--url", address).stdout


def test_backup_drill_and_restore(dbctl, podman, container, table, tmp_path):
    configure(tmp_path, address_of(container, f"docker:{container.name}"))
    dbctl("backup", "create")
    dbctl("data", "delete", table, "1", "--yes")
    if "MARIADB_USER" in container.variables:
        # The user of the official image may create no other database, which a drill and a restore need.
        assert "GRANT ALL ON" in dbctl("restore", "apply", "latest", "--yes", status=6).stderr
        return
    dbctl("backup", "drill")
    dbctl("restore", "apply", "latest", "--yes")
    assert "one" in dbctl("data", "rows", table).stdout


#: The program of the relay by the variant of the image.
RELAYS = {"": "bash", "alpine": "nc", "socat": "socat"}


@pytest.mark.parametrize("variant", RELAYS)
def test_relay_is_a_program_of_the_container(dbctl, podman, tmp_path, variant):
    container = podman.postgresql(variant)
    container.execute("psql", "-q", "-U", "shop", "shopdb", text="create table t (id int primary key)")
    text = "x" * 1_000_000
    for host in ("127.0.0.1", "[::1]", "localhost"):
        address = address_of(container, f"docker:{container.name}").replace("127.0.0.1", host)
        query = f"select repeat('x', {len(text)}) as word"
        assert text in dbctl("data", "query", query, "--url", address, "-o", "json").stdout
    configure(tmp_path, address.replace("localhost", "[::1]"))
    findings = json.loads(dbctl("doctor", "-o", "json", status=None).stdout)["data"]["findings"]
    program = f"{RELAYS[variant]} in it opens connections"
    assert any(program in finding["message"] for finding in findings)
    dbctl("backup", "create")
    wait_until(lambda: not find_processes(podman, container, "127.0.0.1"))
    container.stop()
    assert "container is" in dbctl("data", "query", "select 1", "--url", address, status=10).stderr


@pytest.fixture(params=["postgresql", "mariadb", "mariadb with socat"])
def any_container(request, podman):
    if request.param == "mariadb with socat":
        return podman.mariadb("socat")
    return request.getfixturevalue(f"{request.param}_container")


#: The second and third value need expressions of dbctl: the dump program of MariaDB writes a FLOAT with six digits.
VALUES = "0, 16777215, 0.1234567890123"


def test_programs_of_the_container_run_if_this_machine_has_none(
    dbctl, podman, any_container, tmp_path, monkeypatch, read_arguments
):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        if path := shutil.which(name):
            (programs / name).symlink_to(path)
    container, database, forms = any_container, "shopdb", ("custom", "plain")
    words = ("psql", "-qAt", "-U", "shop", "shopdb")
    password = container.variables.get("POSTGRES_PASSWORD") or container.variables["MARIADB_ROOT_PASSWORD"]
    address = address_of(container, f"docker:{container.name}")
    if is_mariadb := "MARIADB_USER" in container.variables:
        # The user of the official image may create no other database, which a drill and a restore need.
        address = address.replace("shop:p%40ssw%25rd@", f"root:{password}@")
        words, forms = ("mariadb", "-N", "-uroot", f"-p{password}", database), ("plain",)
    read = f"select count(*), sum(number * 1.0) from inside where number in ({VALUES})"
    real = "float" if is_mariadb else "real"
    series = "seq as id from seq_1_to_1000" if is_mariadb else "i as id from generate_series(1, 1000) i"
    create = f"create table inside (number {real}); insert into inside values {', '.join(f'({value})' for value in VALUES.split(', '))};"
    container.execute(*words, text=f"{create} create table many as select {series};")
    before = container.execute(*words, text=f"select number * 1.0 from inside; {read};")
    try:
        configure(tmp_path, address)
        monkeypatch.setenv("PATH", str(programs))
        dbctl.extension = "tests.extensions.reach.without_clients"
        for form in forms:
            dbctl("backup", "create", "--format", form)
            container.execute(*words, text="delete from inside; delete from many where id <= 900;")
            dbctl("backup", "verify", "--deep")
            dbctl("restore", "apply", "latest", "--yes")
            assert container.execute(*words, text="select count(*) from many;").strip() == "1000"
            assert container.execute(*words, text=f"select number * 1.0 from inside; {read};") == before
        arguments = read_arguments()
        assert any(b"PGPASSWORD" in text or b"MYSQL_PWD" in text for text in arguments)
        # The client of the test itself has one of the passwords as an argument, and other tests create containers.
        allowed = (b"-p" + password.encode(), b"podman\0run\0")
        assert not [
            text
            for text in arguments
            if password.encode() in text and not any(part in text for part in allowed)
        ]
        wait_until(lambda: not container.execute("find", "/tmp", "-name", "dbctl-*"))  # noqa: S108 - of the container
        wait_until(lambda: not find_processes(podman, container, "dbctl-secret"))
    finally:
        container.execute(*words, text="drop table inside; drop table many;")


def test_container_without_a_shell_is_reached_by_its_address(dbctl, podman):
    container = podman.postgresql("distroless", bridge=True)
    assert dbctl(
        "data", "query", "select 1 as one", "--url", address_of(container, f"docker:{container.name}")
    )


def test_killed_command_leaves_no_session_and_does_not_disturb_the_server(
    dbctl, podman, postgresql_container
):
    """The server is process 1 of its container, and takes a relay that a signal ended for a crashed session."""
    container, sleep = postgresql_container, f"select pg_sleep(60) as a_{os.urandom(4).hex()}"
    address = address_of(container, f"docker:{container.name}")
    words = ("psql", "-U", "shop", "shopdb", "-At", "-c", f"select count(*) from pg_stat_activity where query like '%{sleep[-8:]}%' and pid <> pg_backend_pid()")  # fmt: skip
    process = subprocess.Popen([*dbctl.program, "data", "query", sleep, "--url", address], env={**os.environ, "DBCTL_STATE": "off"})  # fmt: skip
    wait_until(lambda: container.execute(*words).strip() == "1")
    process.kill()
    process.wait()
    # The server notices a lost client of a running statement when it writes.
    container.execute("psql", "-U", "shop", "shopdb", "-c", "select pg_cancel_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()")  # fmt: skip
    wait_until(lambda: container.execute(*words).strip() == "0")
    assert "terminated by signal" not in container.log


def find_processes(podman, container, text):
    """Return the arguments of processes in a container that contain a text."""
    lines = podman.run("top", container.name, "args").stdout.splitlines()
    return [line for line in lines if text in line]


def wait_until(is_true):
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.needs_extension("transfer")
def test_server_is_upgraded_to_a_container(dbctl, container, tmp_path):
    create = (
        servers.mysql_database()
        if "MARIADB_USER" in container.variables
        else servers.postgresql_database(encoding="UTF8")
    )
    with create as source:
        text = servers.text(source)
        configure(tmp_path, text)
        dbctl("data", "query", "select 1 as one")
        table = "create table notes (id integer primary key, text varchar(20)); insert into notes values (1, 'one'), (2, null);"
        (tmp_path / "migrations").mkdir()
        (tmp_path / "migrations/001_notes.sql").write_text(table)
        dbctl("migrate", "up", "--migrations", "migrations", "--yes")
        plan = dbctl(
            "transfer", "upgrade", "--to", f"docker:{container.name}", "--dry-run", "-o", "json", status=None
        )
        assert plan.returncode == 0, plan.stderr + plan.stdout
        result = dbctl("transfer", "upgrade", "--to", f"docker:{container.name}", "-o", "json", status=None)
        assert result.returncode == 0, result.stderr + result.stdout
    (database,) = json.loads(result.stdout)["data"]["databases"]
    assert (database["equal"], database["rows"]) == (True, 3)
