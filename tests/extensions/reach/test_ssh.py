"""Servers behind one and two hosts, which no port of this machine reaches but that of ssh."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
from contextlib import ExitStack, closing

import pytest
from msgspec import structs

from dbctl.url import DEFAULT_PORTS
from tests import servers
from tests.extensions.reach.processes import wait_until_empty
from tests.relay import Relay


def reached(url, via):
    """Return the address of a server as a command gets it, with its password."""
    return str(structs.replace(url, via=via)).replace(
        ":***@", f":{url.password.reveal() if url.password else ''}@"
    )


@pytest.fixture(params=["postgresql", "mysql"])
def database(request):
    """Provide a database with one table, ``t``, of two rows."""
    create = (
        servers.postgresql_database(encoding="UTF8")
        if request.param == "postgresql"
        else servers.mysql_database()
    )
    connect = servers.connection if request.param == "postgresql" else servers.mysql_connection
    with create as url:
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("create table t (id integer primary key, name varchar(20))")
            cursor.execute("insert into t values (1, 'one'), (2, 'two')")
            connection.commit()
        yield url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "via"),
    [("postgresql", "ssh:bastion"), ("mysql", "ssh:bastion ssh:inner")],
    indirect=["database"],
)
def test_rows_are_read_and_written(dbctl, ssh_hosts, database, via):
    address = reached(database, via)
    dbctl("data", "set", "t", "1", "name=uno", "--url", address, "--yes")
    rows = json.loads(dbctl("data", "rows", "t", "--url", address, "-o", "json").stdout)
    assert [row["name"] for row in rows["data"]["items"]] == ["uno", "two"]
    wait_until_empty(dbctl.runtime)
    ssh_hosts.bastion.stop()
    assert "Connection refused" in dbctl("data", "rows", "t", "--url", address, status=10).stderr


@pytest.fixture
def address_6(database):
    """Provide the address of the server of a database at an IPv6 address of this machine."""
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(("::1", 0))
        listening.listen()
        server = Relay(listening, "127.0.0.1", database.port or DEFAULT_PORTS[database.engine])
        threading.Thread(target=server.accept, daemon=True).start()
        yield structs.replace(database, host="[::1]", port=server.port)
        server.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "via"),
    [
        ("mysql", "ssh:[::1]"),
        ("postgresql", "ssh:{user}@[::1]:{port}"),
        ("postgresql", "ssh:[::1]:{port} ssh:inner"),
    ],
    indirect=["database"],
)
def test_hosts_and_server_have_ipv6_addresses(dbctl, ssh_hosts, address_6, via):
    via = via.format(user=ssh_hosts.user, port=ssh_hosts.bastion.port)
    address = reached(address_6, via)
    assert "two" in dbctl("data", "rows", "t", "--url", address).stdout
    closed = reached(structs.replace(address_6, port=servers.free_port()), via)
    error = json.loads(dbctl("data", "rows", "t", "--url", closed, "-o", "json", status=10).stdout)["error"]
    assert error["code"] == "routed-server-refused"
    command = shlex.split(error["hint"].partition("must connect: ")[2])
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, input="")
    assert "Connection refused" in result.stderr


@pytest.mark.slow
def test_backup_and_drill_use_client_programs_through_the_route(dbctl, ssh_hosts, database, tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\nvia = "ssh:bastion"\n'
        f'databases = "{reached(database, "")}"\nbackup.repository = "backups"\n'
    )
    dbctl("backup", "create")
    drill = json.loads(dbctl("backup", "drill", "-o", "json").stdout)
    assert drill["data"]["databases"][0]["rows"] == 2
    wait_until_empty(dbctl.runtime)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_route_of_database_replaces_that_of_app(dbctl, ssh_hosts, database, tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\nvia = "ssh:nowhere"\n'
        f'databases.main = {{ url = "{reached(database, "")}", via = "ssh:bastion" }}\n'
    )
    assert "two" in dbctl("data", "rows", "t").stdout
    (tmp_path / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\nvia = "ssh:nowhere"\n'
        f'databases.main = {{ url = "{reached(database, "")}", via = "" }}\n'
    )
    assert "two" in dbctl("data", "rows", "t").stdout


def test_server_behind_a_host_refuses(dbctl, ssh_hosts, database):
    address = reached(structs.replace(database, port=servers.free_port()), "ssh:bastion")
    message = dbctl("data", "rows", "t", "--url", address, status=10).stderr
    assert "Connection refused" in message


@pytest.mark.slow
@pytest.mark.needs_extension("fleet")
def test_instances_of_a_fleet_share_one_connection(dbctl, ssh_hosts, tmp_path):
    server = servers.postgresql()
    with ExitStack() as stack:
        names = []
        for number in range(3):
            url = stack.enter_context(servers.postgresql_database(encoding="UTF8"))
            with closing(servers.connection(url)) as connection:
                connection.execute(
                    f"create table t (id integer primary key); insert into t values ({number})"
                )
            names.append(url.path)
        address = str(structs.replace(server, path="*"))
        listing = " union all ".join(f"select '{name}' as name" for name in names)
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\nvia = "ssh:bastion"\ndatabases = "{address}"\n'
            f'instances = {{ url = "{server}", query = "{listing}", jobs = 3 }}\n'
        )
        lines = dbctl("data", "query", "select id from t", "-o", "csv").stdout.splitlines()
    assert sorted(line.rpartition(",")[2] for line in lines[1:]) == ["0", "1", "2"]
    assert ssh_hosts.bastion.log.count("Accepted publickey") == 1
