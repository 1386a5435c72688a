"""A backup of PostgreSQL names roles; a restore on a server that lacks them refuses, creates, skips or replaces them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from pyrage import decrypt, x25519

from dbctl.errors.base import Exit
from tests.sandbox import start_private

#: Three roles that own objects or have grants, a group, and texts that look like statements about roles.
SOURCE = r"""
create role "Shop Owner" login createdb password 'secret' connection limit 7 valid until '2031-01-02 03:04:05+00';
create role readers;
create role clerk login noinherit in role readers;
create role auditor superuser replication login password 'root';
create role trainee login in role readers;
alter database shop owner to "Shop Owner";
grant connect on database shop to clerk;
alter role clerk in database shop set work_mem = '8MB';
create schema goods authorization "Shop Owner";
set role "Shop Owner";
create table goods.orders (id int primary key, note text);
insert into goods.orders values (1, 'one'), (2, E'back\\slash');
grant select on goods.orders to readers with grant option;
grant update (note) on goods.orders to clerk;
grant usage on schema goods to readers, public;
alter default privileges in schema goods grant insert on tables to clerk;
alter table goods.orders enable row level security;
create policy own on goods.orders for select to clerk, readers using (note <> 'x TO nobody;');
create policy audits on goods.orders to auditor using (true);
create function goods.explain() returns text language plpgsql as $$ begin
ALTER TABLE goods.orders OWNER TO nobody;
return 'C:\'; end $$;
comment on table goods.orders is 'ends with a backslash: \';
reset role;
create view goods.audit as select * from goods.orders;
alter view goods.audit owner to auditor;
"""
NAMED = ["Shop Owner", "auditor", "clerk", "readers"]
#: Owners, grants, default privileges and policies of a database.
RIGHTS = """
select 'table', relname, relowner::regrole::text, array(select unnest(relacl)::text order by 1) from pg_class
  where relnamespace = 'goods'::regnamespace and relkind in ('r', 'v')
union all select 'column', attname, '', attacl::text[] from pg_attribute where attrelid = 'goods.orders'::regclass and attacl is not null
union all select 'schema', nspname, nspowner::regrole::text, array(select unnest(nspacl)::text order by 1) from pg_namespace where nspname = 'goods'
union all select 'function', prosrc, proowner::regrole::text, proacl::text[] from pg_proc where pronamespace = 'goods'::regnamespace
union all select 'default', '', defaclrole::regrole::text, defaclacl::text[] from pg_default_acl
union all select 'policy', polname, '', array(select x::regrole::text from unnest(polroles) x order by 1) from pg_policy
union all select 'database', '', datdba::regrole::text, array(select unnest(datacl)::text order by 1) from pg_database where datname = current_database()
union all select 'comment', obj_description('goods.orders'::regclass), '', null
order by 1, 2"""
ROLES = """select rolname, rolsuper, rolinherit, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, rolvaliduntil,
  array(select roleid::regrole::text from pg_auth_members where member = r.oid) as groups
from pg_roles r where rolname !~ '^pg_' and rolname <> 'postgres' order by 1"""


def address(server, database):
    return server.url.replace("/postgres?", f"/{database}?")


def fetch(server, database, sql):
    with closing(psycopg.connect(address(server, database))) as connection:
        return connection.execute(sql).fetchall()


def run(server, *statements):
    with closing(server.connection()) as connection:
        for statement in statements:
            connection.execute(statement)


def run_in(server, database, statement):
    with closing(psycopg.connect(address(server, database), autocommit=True)) as connection:
        connection.execute(statement)


def list_names(server, sql):
    return [name for (name,) in fetch(server, "postgres", sql)]


def list_roles(server):
    return list_names(
        server, "select rolname from pg_roles where rolname !~ '^pg_' and rolname <> 'postgres' order by 1"
    )


def list_databases(server):
    return list_names(server, "select datname from pg_database order by 1")


@pytest.fixture(scope="module")
def source():
    with start_private() as server:
        run(server, "create database shop")
        run_in(server, "shop", SOURCE)
        yield server


@pytest.fixture(scope="module")
def other_server():
    with start_private() as server:
        yield server


@pytest.fixture
def empty_server(other_server):
    """A server without roles and databases; those of the test are dropped."""
    initial = list_databases(other_server)
    assert list_roles(other_server) == []
    yield other_server
    for name in set(list_databases(other_server)) - set(initial):
        run(other_server, f'drop database "{name}" with (force)')
    for name in list_roles(other_server):
        run(other_server, f'drop role "{name}"')


@pytest.fixture
def shop(source, empty_server, tmp_path, answer):
    """An app on the first server with a backup; drills run on the second server."""
    config = tmp_path / "dbctl.toml"
    config.write_text(
        f'[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "{address(source, "shop")}"\n'
        f'[apps.shop.backup]\nrepository = "backups"\nscratch = "{address(empty_server, "")}"\n'
    )

    def run_command(*words, status=0):
        return answer("--config", str(config), *words, status=status)

    run_command("backup", "create")
    return run_command


def test_backup_contains_roles_without_passwords(shop):
    (member,) = shop("backup", "show", "latest")["data"]["members"]
    assert "SCRAM" not in member["facts"]["roles"]
    assert "secret" not in member["facts"]["roles"]
    for name in [*NAMED, "trainee"]:
        assert f'"{name}"' in member["facts"]["roles"]


def test_restore_refuses_missing_roles_before_it_changes_anything(shop, empty_server):
    to = address(empty_server, "copy")
    roles, databases = list_roles(empty_server), list_databases(empty_server)
    for words in (
        ["restore", "apply", "latest", "--to", to],
        ["restore", "apply", "latest", "--to", to, "--dry-run"],
        ["backup", "drill"],
        ["backup", "drill", "--dry-run"],
    ):
        error = shop(*words, status=Exit.REFUSED)["error"]
        assert error["code"] == "roles-missing"
        assert all(name in error["message"] for name in NAMED)
        assert "trainee" not in error["message"]
        assert "--roles" in error["hint"]
    assert list_roles(empty_server) == roles
    assert list_databases(empty_server) == databases


def test_restore_creates_roles_and_rights_on_an_empty_server(shop, source, empty_server):
    to = address(empty_server, "copy")
    plan = shop("restore", "apply", "latest", "--to", to, "--roles", "create", "--dry-run")["data"]["plan"]
    for name in [*NAMED, "trainee"]:
        assert any(f"create role {name}," in step for step in plan["steps"])
    assert any("auditor" in step and "SUPERUSER" in step for step in plan["steps"])
    assert list_roles(empty_server) == []

    shop("restore", "apply", "latest", "--to", to, "--roles", "create")
    assert fetch(empty_server, "copy", RIGHTS) == fetch(source, "shop", RIGHTS)
    orders = "select * from goods.orders order by 1"
    assert fetch(empty_server, "copy", orders) == fetch(source, "shop", orders)
    created, originals = fetch(empty_server, "copy", ROLES), fetch(source, "shop", ROLES)
    # No role becomes a superuser silently, or replicates.
    assert created == [
        (name, False, inherit, creates, login, False, *rest)
        for name, _, inherit, creates, login, _, *rest in originals
    ]
    assert list_names(empty_server, "select usename from pg_shadow where passwd is not null") == []

    (drill,) = shop("backup", "drill")["data"]["databases"]
    assert (drill["passed"], drill["rows"]) == (True, 2)


def test_drill_creates_roles_for_its_duration(shop, empty_server):
    databases = list_databases(empty_server)
    (drill,) = shop("backup", "drill", "--roles", "create")["data"]["databases"]
    assert drill["passed"]
    assert list_roles(empty_server) == []
    assert list_databases(empty_server) == databases


def test_restore_skips_missing_roles(shop, source, empty_server):
    run(empty_server, "create role clerk")
    to = address(empty_server, "copy")
    steps = shop("restore", "apply", "latest", "--to", to, "--roles", "skip", "--dry-run")["data"]["plan"][
        "steps"
    ]
    assert [name for name in NAMED if any(f"of role {name}," in step for step in steps)] == [
        name for name in NAMED if name != "clerk"
    ]
    shop("restore", "apply", "latest", "--to", to, "--roles", "skip")
    rights = {
        (kind, name): (owner, grants) for kind, name, owner, grants in fetch(empty_server, "copy", RIGHTS)
    }
    assert {owner for owner, _ in rights.values()} == {"postgres", ""}
    assert rights["column", "note"] == ("", ["clerk=w/postgres"])
    assert rights["policy", "own"] == ("", ["clerk"])
    assert ("policy", "audits") not in rights
    # Texts that look like statements about roles are data.
    assert fetch(empty_server, "copy", "select prosrc from pg_proc where proname = 'explain'") == fetch(
        source, "shop", "select prosrc from pg_proc where proname = 'explain'"
    )
    assert list_roles(empty_server) == ["clerk"]
    (drill,) = shop("backup", "drill", "--roles", "skip")["data"]["databases"]
    assert drill["passed"]


def test_restore_replaces_roles(shop, empty_server):
    run(empty_server, "create role merchant createdb", "create role everyone")
    to = address(empty_server, "copy")
    options = ["--roles", "Shop Owner=merchant", "--roles", "readers=everyone", "--roles", "auditor=merchant"]
    options += ["--roles", "clerk=everyone"]
    shop("restore", "apply", "latest", "--to", to, *options)
    rights = {
        (kind, name): (owner, grants) for kind, name, owner, grants in fetch(empty_server, "copy", RIGHTS)
    }
    assert {owner for owner, _ in rights.values()} == {"merchant", ""}
    assert "everyone=r*/merchant" in rights["table", "orders"][1]
    assert rights["policy", "own"][1] in (["everyone"], ["everyone", "everyone"])
    assert list_roles(empty_server) == ["everyone", "merchant"]
    (drill,) = shop("backup", "drill", *options)["data"]["databases"]
    assert drill["passed"]


@pytest.mark.parametrize("replaced", ["nobody=postgres", "clerk=nobody"])
def test_replacement_of_an_unknown_role_is_refused(shop, empty_server, replaced):
    to = address(empty_server, "copy")
    error = shop("restore", "apply", "latest", "--to", to, "--roles", replaced, status=Exit.NOT_FOUND)[
        "error"
    ]
    assert error["code"] == "role-replacement-invalid"
    assert "nobody" in error["message"]


def test_words_of_roles_are_checked(shop):
    for values in (["map"], ["create", "skip"], ["clerk="]):
        words = [word for value in values for word in ("--roles", value)]
        assert shop("backup", "drill", *words, status=Exit.USAGE)["error"]["code"] == "usage"


def test_verification_on_another_server_needs_no_role(shop, empty_server):
    """A missing role does not make a backup invalid."""
    assert shop("backup", "verify", "--deep", "latest")["data"]["findings"] == []
    assert shop("restore", "preview", "latest", "--deep")["data"]["databases"][0]["missing_roles"] == []
    assert list_roles(empty_server) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["custom", "plain"])
def test_missing_tablespaces_are_replaced_by_the_default_one(shop, source, empty_server, form):
    run(source, "set allow_in_place_tablespaces = on", 'create tablespace "far ""away" location \'\'')
    text = "SET default_tablespace = nowhere;"
    run_in(source, "shop", 'create table goods.far (x text primary key) tablespace "far ""away"')
    run_in(source, "shop", 'create index far_x on goods.far (lower(x)) tablespace "far ""away"')
    run_in(source, "shop", f"insert into goods.far values ('{text}'), (E'a\n{text}')")
    to, reason = address(empty_server, "copy"), 'the server lacks tablespace far "away'
    try:
        shop("backup", "create", "--format", form)
        assert shop("backup", "verify", "--deep", "latest")["data"]["findings"] == []
        drill = shop("backup", "drill", "--roles", "create")
        assert drill["data"]["databases"][0]["passed"]
        assert reason in str(drill)
        words = ("restore", "apply", "latest", "--to", to, "--roles", "skip")
        assert reason in str(shop(*words, "--dry-run")["data"]["plan"]["steps"])
        assert reason in str(shop(*words))
        rows = "select x from goods.far order by 1"
        assert fetch(empty_server, "copy", rows) == fetch(source, "shop", rows)
        assert fetch(
            empty_server, "copy", "select indexname from pg_indexes where tablename = 'far' order by 1"
        ) == [("far_pkey",), ("far_x",)]
        shop("restore", "apply", "latest", "--yes")  # the server of the app has it
        assert fetch(source, "shop", "select tablespace from pg_tables where tablename = 'far'") == [
            ('far "away',)
        ]
    finally:
        run_in(source, "shop", "drop table goods.far")
        with closing(source.connection()) as connection:
            for (name,) in connection.execute(
                "select datname from pg_database where datname like 'shop\\_%'"
            ).fetchall():
                connection.execute(f'drop database "{name}"')
        run(source, 'drop tablespace "far ""away"')


def test_tablespace_that_is_the_default_one_of_the_new_database(shop, source, empty_server):
    """A server refuses a partitioned table in it if a setting names it."""
    run(source, "set allow_in_place_tablespaces = on", "create tablespace far location ''")
    run(source, "alter database shop set tablespace far")
    run_in(source, "shop", "create table goods.parts (n int) partition by range (n) tablespace pg_default")
    run_in(source, "shop", "create table goods.few partition of goods.parts for values from (0) to (9)")
    run_in(source, "shop", "insert into goods.parts values (1), (2)")
    try:
        shop("backup", "create")
        assert shop("backup", "verify", "--deep", "latest")["data"]["findings"] == []
        shop("restore", "apply", "latest", "--to", address(empty_server, "copy"), "--roles", "skip")
        assert fetch(empty_server, "copy", "select sum(n) from goods.parts") == [(3,)]
    finally:
        run_in(source, "shop", "drop table goods.parts")
        run(source, "alter database shop set tablespace pg_default", "drop tablespace far")


def test_failed_restore_drops_created_roles(shop, source, empty_server):
    run_in(
        source,
        "shop",
        "create function pg_catalog.absent() returns int language sql as 'select 1';"
        "create table goods.broken (x int default pg_catalog.absent())",
    )
    try:
        shop("backup", "create")
        to = address(empty_server, "copy")
        databases = list_databases(empty_server)
        shop("restore", "apply", "latest", "--to", to, "--roles", "create", status=Exit.FAILED)
        assert list_roles(empty_server) == []
        assert list_databases(empty_server) == databases
    finally:
        run_in(source, "shop", "drop table goods.broken; drop function pg_catalog.absent()")


def test_preview_lists_roles_that_were_dropped(shop, source):
    run(source, "create role temporary")
    run_in(source, "shop", "grant select on goods.orders to temporary")
    shop("backup", "create")
    run_in(source, "shop", "revoke all on goods.orders from temporary")
    run(source, "drop role temporary")
    (database,) = shop("restore", "preview", "latest")["data"]["databases"]
    assert [text.partition(" ")[0] for text in database["missing_roles"]] == ["temporary"]
    error = shop("restore", "apply", "latest", "--yes", status=Exit.REFUSED)["error"]
    assert error["code"] == "roles-missing"
    shop("restore", "apply", "latest", "--yes", "--roles", "temporary=trainee")
    assert "trainee=r/" in str(fetch(source, "shop", RIGHTS))


def read_passwords(server):
    return dict(
        fetch(
            server,
            "postgres",
            "select rolname, rolpassword from pg_authid where rolpassword is not null and rolname <> 'postgres'",
        )
    )


@pytest.fixture(params=["plain", "encrypted"])
def protected(shop, request, tmp_path):
    """The app with a backup that contains the password hashes of its roles."""
    if request.param == "encrypted":
        identity = x25519.Identity.generate()
        (tmp_path / "id.txt").touch(mode=0o600)
        (tmp_path / "id.txt").write_text(f"{identity}\n")
        with (tmp_path / "dbctl.toml").open("a") as config:
            config.write(
                f'encrypt = {{ recipients = ["{identity.to_public()}"], identity_file = "id.txt" }}\n'
            )
    created = shop("backup", "create", "--secrets")["data"]
    assert created["effect"]["counts"]["role passwords"] == 1
    return shop


def test_backup_has_passwords_in_a_file_of_their_own(protected, source, request):
    backup = protected("backup", "show", "latest")["data"]
    _, passwords = backup["members"]
    assert (passwords["form"], passwords["database"]) == ("passwords", "")
    assert passwords["facts"] == {"database": "main", "roles": "1"}
    file = Path(backup["path"]) / passwords["file"]
    content = file.read_bytes()
    if passwords["encryption"] == "age":
        content = Path(request.getfixturevalue("tmp_path"), "id.txt").read_text()
        content = decrypt(file.read_bytes(), [x25519.Identity.from_str(content.strip())])
    # The password of a superuser, who does not become one on another server, stays where it is.
    assert json.loads(content) == {"Shop Owner": read_passwords(source)["Shop Owner"]}
    assert file.stat().st_mode & 0o077 == 0
    assert "SCRAM" not in json.dumps(backup)
    assert protected("backup", "verify", "--deep", "latest")["data"]["findings"] == []


def test_restore_gives_created_roles_their_passwords(protected, source, empty_server):
    words = ["restore", "apply", "latest", "--to", address(empty_server, "copy"), "--roles", "create"]
    steps = protected(*words, "--dry-run")["data"]["plan"]["steps"]
    (owner,) = [step for step in steps if "create role Shop Owner," in step]
    (clerk,) = [step for step in steps if "create role clerk," in step]
    assert "with its password" in owner
    assert "without a password" not in owner
    assert "without a password" in clerk
    protected(*words)
    assert read_passwords(empty_server) == {"Shop Owner": read_passwords(source)["Shop Owner"]}
    (drill,) = protected("backup", "drill")["data"]["databases"]
    assert drill["passed"]


def test_damaged_passwords_are_refused_before_a_role_is_created(protected, empty_server):
    backup = protected("backup", "show", "latest")["data"]
    file = Path(backup["path"]) / backup["members"][1]["file"]
    file.write_bytes(file.read_bytes().replace(b"SCRAM", b"SCRAN") + b" ")
    words = ["restore", "apply", "latest", "--to", address(empty_server, "copy"), "--roles", "create"]
    error = protected(*words, status=Exit.CHECK_FAILED)["error"]
    assert file.name in error["message"]
    assert list_roles(empty_server) == []
    (finding,) = protected("backup", "verify", "latest", status=Exit.CHECK_FAILED)["data"]["findings"]
    assert finding["code"] == "file-changed"


def test_passwords_are_refused_to_a_user_who_may_not_read_them(shop, source, tmp_path):
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text().replace("postgres@", "clerk@", 1))
    before = shop("backup", "list")["data"]["total"]
    for words in (["--dry-run"], []):
        error = shop("backup", "create", "--secrets", *words, status=Exit.REFUSED)["error"]
        assert error["code"] == "privilege-missing"
        assert "--secrets" in error["hint"]
    assert shop("backup", "list")["data"]["total"] == before
