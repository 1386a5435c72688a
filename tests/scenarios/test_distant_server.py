"""Each request to a server takes as long as the way there and back, so commands send few of them."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests import servers
from tests.in_process import run_command
from tests.relay import open_relay

PORTS = {"postgresql": 5432, "mysql": 3306}
LOGIN = "zoe@example.org"
#: Commands in their order, and the maximum number of their requests to PostgreSQL and to MySQL or MariaDB.
COMMANDS = [
    (["users", "list"], 7, 10),
    (["users", "show", "demo@promptvault.example"], 8, 11),
    (["users", "create", LOGIN, "--email", LOGIN, "--password-stdin"], 37, 40),
    (["users", "set-password", LOGIN, "--password-stdin"], 31, 35),
    (["users", "delete", LOGIN, "--yes"], 54, 59),
    (["roles", "list"], 6, 9),
    (["migrate", "status"], 6, 9),
    # including the rows that policies hide (PostgreSQL), and those that violate a CHECK (MariaDB)
    (["integrity", "check"], 43, 39),
]


@pytest.fixture(params=["postgresql", "mysql"])
def database(request):
    """Yield the URL of an empty database of each server type, which must be reached over TCP."""
    open_database = {
        "postgresql": lambda: servers.postgresql_database(encoding="UTF8"),
        "mysql": servers.mysql_database,
    }[request.param]
    with open_database() as url:
        if not url.host or url.host.startswith("/"):
            pytest.skip("the server is reached by a socket")
        yield url


@pytest.mark.needs_extension("demo")
def test_commands_send_few_requests(database, tmp_path):
    environment = {"HOME": str(tmp_path)}
    with open_relay(database.host, database.port or PORTS[database.engine]) as relay:
        url = structs.replace(database, host="127.0.0.1", port=relay.port)
        if (
            url.engine == "mysql"
        ):  # a server of MySQL encrypts by default, for which a session needs more requests
            url = structs.replace(url, options="&".join(filter(None, [url.options, "ssl_mode=disabled"])))
        words = ["demo", "promptvault", ".", "--url", f"main={servers.text(url, schema=False)}"]
        created = run_command(words, environment=environment, cwd=tmp_path)
        assert created.returncode == 0, created.stderr
        counts = {}
        for command, *_ in COMMANDS:
            before = relay.round_trips
            result = run_command(
                command, environment=environment, cwd=tmp_path, stdin=b"correct horse battery\n"
            )
            assert result.returncode == 0, (command, result.stderr)
            counts[" ".join(command[:2])] = relay.round_trips - before
    limits = {
        " ".join(command[:2]): postgresql if database.engine == "postgresql" else mysql
        for command, postgresql, mysql in COMMANDS
    }
    if database.engine == "postgresql" and servers.postgresql_version() >= 18:
        limits["integrity check"] += 1
    assert {name: count for name, count in counts.items() if count > limits[name]} == {}, counts
