"""Users of MySQL and MariaDB who may not read every table or column: nothing is left out without a word."""

from __future__ import annotations

from contextlib import closing

import pytest
from msgspec import structs

from tests import servers

GRANTS = {
    "one table": ["select on {}.item"],
    "some columns": ["select on {}.item", "select (id) on {}.secret"],
}


def run_as_admin(url, *statements):
    with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


@pytest.fixture
def source():
    """Return a database with two tables, and a function that creates a user with grants on it and returns its address."""
    with servers.mysql_database() as url:
        name = f"r_{url.path}"[:30]
        run_as_admin(
            url,
            "create table item (id int primary key)",
            "insert into item values (1)",
            "create table secret (id int primary key, content text)",
            "insert into secret values (1, 'x')",
        )

        def create(grants):
            run_as_admin(
                url,
                f"create user {name} identified by 'word'",
                *(f"grant {grant.format(url.path)} to {name}" for grant in grants),
            )
            return servers.text(structs.replace(url, user=name)).replace(f"{name}@", f"{name}:word@")

        yield create
        run_as_admin(url, f"drop user {name}")


@pytest.mark.parametrize("kind", GRANTS)
@pytest.mark.parametrize("command", ["plan", "run", "verify", "switch"])
def test_transfer_refuses_a_user_who_may_not_read_everything(answer, source, tmp_path, kind, command):
    words = ("--url", f"main={source(GRANTS[kind])}", "transfer", command)
    with servers.mysql_database() as other:
        destinations = [servers.text(other)]
        if command in ("plan", "run"):
            destinations.append(f"sqlite:///{tmp_path / 'copy.db'}")
        for destination in destinations:
            yes = ("--yes",) if command == "switch" else ()
            error = answer(*words, "--to", destination, *yes, status=None)
            expected = "transfer-missing" if command == "switch" else "privilege-missing"
            assert error["error"]["code"] == expected


def test_switch_refuses_a_user_who_lost_rights_since_the_copy(answer, source):
    address = source(["select, show view, trigger, event, execute on {}.*"])
    with servers.mysql_database() as other:
        words = ("--url", f"main={address}", "transfer")
        answer(*words, "run", "--to", servers.text(other))
        name = address.split("://")[1].split(":")[0]
        database = address.rpartition("/")[2]
        run_as_admin(
            other,
            f"revoke select, show view, trigger, event, execute on {database}.* from {name}",
            f"grant select on {database}.item to {name}",
        )
        error = answer(*words, "switch", "--to", servers.text(other), "--yes", status=6)["error"]
        assert error["code"] == "privilege-missing"


def test_export_refuses_a_user_who_may_read_some_columns(answer, source, tmp_path):
    address = source(GRANTS["some columns"])
    words = ("--url", f"main={address}", "data", "export")
    answer(*words, "item", str(tmp_path / "item.csv"))
    error = answer(*words, "secret", str(tmp_path / "secret.csv"), status=6)["error"]
    assert error["code"] == "privilege-missing"
    assert not (tmp_path / "secret.csv").exists()


def test_rights_of_roles_and_patterns_count(answer, source, tmp_path):
    address = source(())
    name, database = address.split("://")[1].split(":")[0], address.rpartition("/")[2]
    role = f"role_{name[-20:]}"  # MySQL allows 32 characters
    pattern = database.replace("_", "\\_")[:-3] + "%"
    run_as_admin(
        servers.mysql(),
        f"create role {role}",
        f"grant select on `{pattern}`.* to {role}",
        f"grant {role} to {name}",
        f"set default role {role} for {name}"
        if servers.mysql_server().is_mariadb
        else f"set default role {role} to {name}",
    )
    try:
        answer("--url", f"main={address}", "transfer", "run", "--to", f"sqlite:///{tmp_path / 'copy.db'}")
    finally:
        run_as_admin(servers.mysql(), f"drop role {role}")
