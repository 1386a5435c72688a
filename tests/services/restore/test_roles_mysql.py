"""A backup of MySQL or MariaDB names accounts; a restore on a server that lacks them refuses, creates, skips or replaces them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.errors.base import Exit
from tests import servers

#: Definers, grants on the database, on a table, on columns and on a routine, a role, and texts that look like definers.
SOURCE = """
create user 'shop owner'@'%' identified by 'secret';
create user clerk@localhost identified by 'secret';
create user trainee@localhost;
create user stranger@localhost;
create role readers;
grant all on {0}.* to 'shop owner'@'%' with grant option;
grant readers to clerk@localhost, trainee@localhost;
create table orders (id int primary key, note text);
insert into orders values (1, 'one'), (2, 'CREATE DEFINER=`nobody`@`%` VIEW'), (3, 'DEFINER=`clerk`@`localhost`');
grant select on {0}.orders to readers;
grant update (note), insert on {0}.orders to clerk@localhost;
create definer = 'shop owner'@'%' view notes as select note from orders;
create definer = clerk@localhost trigger stamp before insert on orders for each row set new.note = 'stamped';
create definer = clerk@localhost procedure explain_it() select 'DEFINER=`nobody`@`%`';
create definer = 'shop owner'@'%' event clean on schedule every 1 year starts '2037-01-01' do delete from orders;
grant execute on procedure {0}.explain_it to clerk@localhost
"""
NAMED = ["shop owner@%", "clerk@localhost", "readers"]
ACCOUNTS = "select user from mysql.user where user in ('shop owner', 'clerk', 'trainee', 'readers', 'stranger') order by 1"


def execute(url, *statements):
    with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


def fetch(url, sql):
    with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
        cursor.execute("set sql_mode = ''")
        cursor.execute(sql)
        return cursor.fetchall()


def list_accounts(url):
    return [name for (name,) in fetch(url, ACCOUNTS)]


def list_definers(url):
    """Return the definer of each object."""
    return dict(
        fetch(
            url,
            "select table_name, definer from information_schema.views where table_schema = database()"
            " union select trigger_name, definer from information_schema.triggers where trigger_schema = database()"
            " union select routine_name, definer from information_schema.routines where routine_schema = database()"
            " union select event_name, definer from information_schema.events where event_schema = database()",
        )
    )


def list_rights(url, account):
    """Return the lines of SHOW GRANTS about the database."""
    lines = [line for (line,) in fetch(url, f"show grants for {account}")]
    return sorted(line.replace(f"`{url.path}`", "`shop`") for line in lines if f"`{url.path}`" in line)


def start(name):
    server = servers.private_mysql(f"--init-connect=set @name='{name}'")
    if not servers.server_at(server).is_mariadb:
        pytest.skip("roles have no host on MariaDB only")
    return server


@pytest.fixture(scope="module")
def source():
    server = start("source")
    with servers.mysql_database(server=server) as url:
        execute(url, *SOURCE.format(url.path).split(";\n"))
        yield url


@pytest.fixture
def empty_server():
    server = start("destination")
    yield structs.replace(server, path="copy")
    execute(server, "drop database if exists copy")
    for account in ("'shop owner'@'%'", "clerk@localhost", "trainee@localhost", "merchant@'%'"):
        execute(server, f"drop user if exists {account}")
    execute(server, "drop role if exists readers", "drop role if exists everyone")


@pytest.fixture
def shop(source, empty_server, tmp_path, answer):
    """An app on the first server with a backup; drills run on the second server."""
    config = tmp_path / "dbctl.toml"
    scratch = servers.text(structs.replace(empty_server, path=""))
    config.write_text(
        f'[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "{servers.text(source)}"\n'
        f'[apps.shop.backup]\nrepository = "backups"\nscratch = "{scratch}"\n'
    )

    def run_command(*words, status=0):
        return answer("--config", str(config), *words, status=status)

    run_command("backup", "create")
    return run_command


def test_backup_contains_accounts_without_passwords(shop):
    (member,) = shop("backup", "show", "latest")["data"]["members"]
    for name in [*NAMED, "trainee@localhost"]:
        assert f'"{name}"' in member["facts"]["roles"]
    assert "stranger" not in member["facts"]["roles"]
    assert "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7" not in member["facts"]["roles"]


def test_restore_refuses_missing_accounts_before_it_changes_anything(shop, empty_server):
    to = servers.text(empty_server)
    server = structs.replace(empty_server, path="mysql")
    databases = fetch(server, "show databases")
    for words in (
        ["restore", "apply", "latest", "--to", to],
        ["restore", "apply", "latest", "--to", to, "--dry-run"],
        ["backup", "drill"],
    ):
        error = shop(*words, status=Exit.REFUSED)["error"]
        assert error["code"] == "roles-missing"
        assert all(name in error["message"] for name in NAMED)
        assert "trainee" not in error["message"]
    assert (list_accounts(server), fetch(server, "show databases")) == ([], databases)


def test_restore_creates_accounts_and_rights(shop, source, empty_server):
    words = ["restore", "apply", "latest", "--to", servers.text(empty_server), "--roles", "create"]
    steps = shop(*words, "--dry-run")["data"]["plan"]["steps"]
    for name in [*NAMED, "trainee@localhost"]:
        assert any(f"create role {name}," in step for step in steps)
    shop(*words)
    assert list_accounts(empty_server) == ["clerk", "readers", "shop owner", "trainee"]
    assert list_definers(empty_server) == list_definers(source)
    for account in ("'shop owner'@'%'", "clerk@localhost", "readers"):
        assert list_rights(empty_server, account) == list_rights(source, account) != []
    assert fetch(empty_server, "select * from orders") == fetch(source, "select * from orders")
    assert fetch(empty_server, "select * from notes") == fetch(source, "select * from notes")
    # no user signs in without a password
    locked = "select count(*) from mysql.global_priv where json_value(priv, '$.account_locked') = 1 and user <> 'mariadb.sys'"
    assert fetch(empty_server, locked) == ((3,),)
    assert any("readers" in line for (line,) in fetch(empty_server, "show grants for trainee@localhost"))


def test_rights_on_a_database_are_not_those_on_databases_with_similar_names(shop, empty_server):
    copy = structs.replace(empty_server, path="copy_1")
    shop("restore", "apply", "latest", "--to", servers.text(copy), "--roles", "create")
    names = fetch(copy, "select db from mysql.db where user = 'shop owner'")
    execute(copy, "drop database copy_1")
    assert names == ((r"copy\_1",),)


def test_drill_creates_accounts_for_its_duration(shop, empty_server):
    (drill,) = shop("backup", "drill", "--roles", "create")["data"]["databases"]
    assert drill["passed"]
    assert list_accounts(structs.replace(empty_server, path="mysql")) == []


def test_restore_skips_missing_accounts(shop, source, empty_server):
    server = structs.replace(empty_server, path="mysql")
    execute(server, "create user clerk@localhost")
    words = ["restore", "apply", "latest", "--to", servers.text(empty_server), "--roles", "skip"]
    steps = shop(*words, "--dry-run")["data"]["plan"]["steps"]
    assert [name for name in NAMED if any(f"of role {name}," in step for step in steps)] == [
        "shop owner@%",
        "readers",
    ]
    shop(*words)
    definers = list_definers(empty_server)
    assert definers["stamp"] == definers["explain_it"] == "clerk@localhost"
    assert definers["notes"] == definers["clean"] == fetch(server, "select current_user()")[0][0]
    assert list_rights(empty_server, "clerk@localhost") == list_rights(source, "clerk@localhost")
    assert fetch(empty_server, "select * from orders") == fetch(source, "select * from orders")
    assert list_accounts(server) == ["clerk"]


def test_restore_replaces_accounts(shop, source, empty_server):
    server = structs.replace(empty_server, path="mysql")
    execute(server, "create user merchant@'%'", "create role everyone")
    options = ["--roles", "shop owner@%=merchant@%", "--roles", "clerk@localhost=merchant@%"]
    shop(
        "restore",
        "apply",
        "latest",
        "--to",
        servers.text(empty_server),
        *options,
        "--roles",
        "readers=everyone",
    )
    assert set(list_definers(empty_server).values()) == {"merchant@%"}
    assert len(list_rights(empty_server, "merchant@'%'")) == 3
    assert list_rights(empty_server, "everyone") == [
        line.replace("readers", "everyone") for line in list_rights(source, "readers")
    ]
    assert list_accounts(server) == []


@pytest.mark.parametrize("replaced", ["nobody@%=root@localhost", "clerk@localhost=nobody@%"])
def test_replacement_of_an_unknown_account_is_refused(shop, empty_server, replaced):
    words = ["restore", "apply", "latest", "--to", servers.text(empty_server), "--roles", replaced]
    error = shop(*words, status=Exit.NOT_FOUND)["error"]
    assert (error["code"], "nobody" in error["message"]) == ("role-replacement-invalid", True)


def test_verification_on_another_server_needs_no_account(shop, empty_server):
    assert shop("backup", "verify", "--deep", "latest")["data"]["findings"] == []
    assert list_accounts(structs.replace(empty_server, path="mysql")) == []


def test_restore_gives_created_accounts_their_passwords(shop, source, empty_server):
    execute(source, "alter user clerk@localhost require ssl with max_user_connections 3")
    created = shop("backup", "create", "--secrets")["data"]
    assert created["effect"]["counts"]["role passwords"] == 2
    backup = shop("backup", "show", "latest")["data"]
    assert "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7" not in json.dumps(backup)
    stored = json.loads((Path(backup["path"]) / backup["members"][1]["file"]).read_text())
    # the account without a password would let any user sign in
    assert sorted(stored) == ["clerk@localhost", "shop owner@%"]
    words = ["restore", "apply", "latest", "--to", servers.text(empty_server), "--roles", "create"]
    steps = shop(*words, "--dry-run")["data"]["plan"]["steps"]
    for name, text in {
        "clerk@localhost": "account, with its password",
        "trainee@localhost": "locked account",
    }.items():
        assert any(f"create role {name}, which the server lacks: {text}" in step for step in steps)
    shop(*words)
    for account in ("'shop owner'@'%'", "clerk@localhost"):
        show = f"show create user {account}"
        assert fetch(empty_server, show) == fetch(source, show)
    ((definition,),) = fetch(empty_server, "show create user trainee@localhost")
    assert definition.endswith("ACCOUNT LOCK")


def test_passwords_are_refused_to_an_account_that_may_not_read_them(shop, source, tmp_path):
    execute(source, "create user reader@'%' identified by 'x'", f"grant all on {source.path}.* to reader@'%'")
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text().replace("root@", "reader:x@", 1))
    try:
        error = shop("backup", "create", "--secrets", "--dry-run", status=Exit.REFUSED)["error"]
    finally:
        execute(source, "drop user reader@'%'")
    assert error["code"] == "privilege-missing"
    assert "--secrets" in error["hint"]
