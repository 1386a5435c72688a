"""Instances of a fleet: paths, links, hostile names, queries on servers."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.connection import UnreachableError
from dbctl.errors.operations import FleetEmptyError, InstanceListingError, InstanceNameInvalidError
from dbctl.errors.usage import AppMissingError, ConfigInvalidError, FleetSelectedError
from dbctl.services.fleet.instances import list_instances
from dbctl.url import parse_url
from tests import servers
from tests.databases import from_url
from tests.services.fleet_app import NAMES, create_fleet, tenant_path


def list_problems(folder, app="shop"):
    """Return the names of the instances, with the codes of their problems."""
    try:
        loader.find_app(Selection(config=str(folder / "dbctl.toml"), app=app))
    except FleetSelectedError as error:
        instances = list_instances(error.context["selections"], timeout=5)
    return {instance.name: instance.problem and instance.problem.code for instance in instances}


def test_each_matching_path_is_an_instance(tmp_path):
    assert list_problems(create_fleet(tmp_path)) == dict.fromkeys(NAMES)


def test_instance_is_an_app_with_its_own_paths(tmp_path):
    create_fleet(tmp_path, extra='directory = "tenants/*"')
    app = loader.find_app(Selection(config=str(tmp_path / "dbctl.toml"), app="shop/ada"))
    assert (app.name, app.fleet, app.is_fleet) == ("shop/ada", "shop", False)
    assert app.databases["main"].path == str(tenant_path(tmp_path, "ada"))
    assert app.directory == tmp_path / "tenants/ada"


def test_only_configured_app_may_be_a_fleet(tmp_path):
    create_fleet(tmp_path)
    with pytest.raises(FleetSelectedError):
        loader.find_app(Selection(config=str(tmp_path / "dbctl.toml")))
    with pytest.raises(AppMissingError):
        loader.find_app(Selection(config=str(tmp_path / "dbctl.toml"), app="other/ada"))


@pytest.mark.parametrize(
    ("pattern", "names"), [("a*", ["ada"]), ("*[ea]", ["ada", "bea", "dora"]), ("?????", [])]
)
def test_pattern_selects_instances(tmp_path, pattern, names):
    create_fleet(tmp_path)
    if names:
        assert list(list_problems(tmp_path, f"shop/{pattern}")) == names
    else:
        with pytest.raises(FleetEmptyError):
            list_problems(tmp_path, f"shop/{pattern}")


@pytest.mark.parametrize(
    "name", ["../ada", "a/b", "-x", "a\nb", "a\x1b", "", ".", "x" * 101, "a'b", "\u202ea"]
)
def test_name_that_leaves_the_pattern_or_hides_text_is_refused(tmp_path, name):
    create_fleet(tmp_path)
    with pytest.raises((InstanceNameInvalidError, FleetSelectedError)) as raised:
        loader.find_app(Selection(config=str(tmp_path / "dbctl.toml"), app=f"shop/{name}"))
    assert isinstance(raised.value, FleetSelectedError) is not bool(name)


def test_hostile_folder_names_are_problems(tmp_path):
    create_fleet(tmp_path, ("ada", "Käse & Co".replace("&", "+"), "b\nc", "d\x1b[2J", "-rf", ".hidden"))
    (tmp_path / "tenants" / os.fsdecode(b"\xff")).mkdir()
    assert list_problems(tmp_path) == {
        "ada": None,
        "Käse + Co": None,
        "b\nc": "instance-name-invalid",
        "d\x1b[2J": "instance-name-invalid",
        "-rf": "instance-name-invalid",
        "\udcff": "instance-name-invalid",
    }


def test_links_to_one_database_are_one_instance_and_problems(tmp_path):
    create_fleet(tmp_path)
    ada = tenant_path(tmp_path, "ada")
    for name in ("hard", "soft", "zfolder"):
        link = tenant_path(tmp_path, name)
        if name == "zfolder":
            link.parent.symlink_to(ada.parent)
            continue
        link.parent.mkdir()
        link.symlink_to(ada) if name == "soft" else link.hardlink_to(ada)
    problems = list_problems(tmp_path)
    assert {name for name, code in problems.items() if code} == {"hard", "soft", "zfolder"}
    assert set(problems.values()) == {None, "instance-duplicate"}


def test_link_that_sorts_first_does_not_take_the_place_of_its_folder(tmp_path):
    create_fleet(tmp_path)
    ada = tenant_path(tmp_path, "ada")
    (tmp_path / "tenants/aa").symlink_to(ada.parent)
    (tmp_path / "tenants/ab").mkdir()
    tenant_path(tmp_path, "ab").symlink_to(ada)
    problems = list_problems(tmp_path)
    assert list(problems) == sorted(problems)
    assert {name for name, code in problems.items() if code} == {"aa", "ab"}


def test_folder_without_its_database_is_an_instance_and_a_file_is_none(tmp_path):
    create_fleet(tmp_path)
    (tmp_path / "tenants/eve").mkdir()
    (tmp_path / "tenants/README").write_text("")
    link = tmp_path / "tenants/loop"
    link.symlink_to(link)
    assert set(list_problems(tmp_path)) == {*NAMES, "eve", "loop"}


def test_excluded_names_are_no_instances(tmp_path):
    create_fleet(tmp_path, extra='instances = { exclude = ["ada", "*o"] }')
    assert list(list_problems(tmp_path)) == ["bea", "dora"]


def test_file_names_are_instances(tmp_path):
    (tmp_path / "dbctl.toml").write_text('[apps.shop]\nprofile = "plain"\ndatabases = "data/db-*.sqlite"\n')
    for name in ("db-a.sqlite", "db-b.sqlite", "db-.sqlite", "xdb-c.sqlite", "db-d.sqlite-wal"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("")
    assert list(list_problems(tmp_path)) == ["a", "b"]


def test_nothing_matches(tmp_path):
    create_fleet(tmp_path, ())
    with pytest.raises(InstanceListingError):
        list_problems(tmp_path)
    (tmp_path / "tenants").mkdir()
    with pytest.raises(FleetEmptyError):
        list_problems(tmp_path)


def test_two_placeholders_are_refused(tmp_path):
    (tmp_path / "dbctl.toml").write_text('[apps.shop]\nprofile = "plain"\ndatabases = "*/*.db"\n')
    with pytest.raises(InstanceListingError):
        list_problems(tmp_path)


def test_replicas_are_those_of_the_instance(tmp_path):
    text = (
        "[apps.shop]\nprofile = 'plain'\ndatabases = 'postgresql://primary/shop_*'\n"
        "[apps.shop.instances]\nurl = 'postgresql://primary/postgres'\nquery = 'select 1'\n"
        "[apps.shop.replicas.main]\nurl = 'postgresql://replica/{name}'\n"
    )
    (tmp_path / "dbctl.toml").write_text(text.format(name="shop_*"))
    selection = Selection(config=str(tmp_path / "dbctl.toml"), app="shop/ada", replica=True)
    url = loader.find_app(selection).databases["main"]
    assert (url.host, url.path) == ("replica", "shop_ada")
    (tmp_path / "dbctl.toml").write_text(text.format(name="shop"))
    with pytest.raises(ConfigInvalidError):
        loader.find_app(selection)


def configure_server(folder, url, query):
    address, _, options = url.partition("?")
    server = address.rpartition("/")[0]
    (folder / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "{server}/*?{options}"\n'
        f"[apps.shop.instances]\nurl = '''{url}'''\nquery = '''{query}'''\n"
    )


QUERY = (
    "select 'x;y' union all select 'ada' union all select null union all select 'ada' union all select 'b c'"
)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_query_lists_instances(tmp_path, engine):
    database = servers.postgresql_schema if engine == "postgresql" else servers.mysql_database
    with database() as url:
        configure_server(tmp_path, servers.text(url, schema=False), QUERY)
        assert list_problems(tmp_path) == {
            "ada": None,
            "b c": None,
            "NULL": "instance-name-invalid",
            "x;y": "instance-name-invalid",
        }
        for query in ("select 1, 2", "select * from no_table", "create table written (a int)", "nonsense"):
            configure_server(tmp_path, servers.text(url, schema=False), query)
            with pytest.raises(InstanceListingError):
                list_problems(tmp_path)
        configure_server(tmp_path, servers.text(url, schema=False), "select 'a' where 1 = 0")
        with pytest.raises(FleetEmptyError):
            list_problems(tmp_path)


@pytest.mark.needs_extension("fleet")
def test_schemas_of_a_server_are_instances(tmp_path, answer, monkeypatch):
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection:
            for name in ("ada", "bea"):
                connection.execute(f"create schema {name}")
                connection.execute(f"create table {name}.items (id int primary key)")
                connection.execute(
                    f"insert into {name}.items select generate_series(1, {len(name) + (name == 'bea')})"
                )
            connection.commit()
        address = servers.text(url, schema=False)
        (tmp_path / "dbctl.toml").write_text(
            f"[apps.shop]\nprofile = 'plain'\ndatabases = '{address}{'&' if '?' in address else '?'}schema=*'\n"
            f"[apps.shop.instances]\nurl = '{address}'\n"
            "query = \"select nspname from pg_namespace where nspname in ('ada', 'bea')\"\n"
        )
        monkeypatch.chdir(tmp_path)
        data = answer("data", "query", "select count(*) as n from items")["data"]
    assert {item["app"]: item["data"]["items"][0]["n"] for item in data["items"]} == {
        "shop/ada": 3,
        "shop/bea": 4,
    }


def create_databases(engine, *names):
    """Create databases on the server of the tests; return the address of its databases with their prefix, and a function that drops them."""
    server = servers.postgresql() if engine == "postgresql" else servers.mysql()
    quote = '"' if engine == "postgresql" else "`"

    def run(*statements):
        if engine == "postgresql":
            with closing(servers.connection(server)) as connection:
                connection.autocommit = True
                for statement in statements:
                    connection.execute(statement)
        else:
            with closing(servers.mysql_connection(server)) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    # a session of another test may be in template1
    template = " template template0" if engine == "postgresql" else ""
    run(*(f"create database {quote}{name}{quote}{template}" for name in names))
    address, _, options = servers.text(server, schema=False).partition("?")
    return address.rpartition("/")[0], options, run, quote


@pytest.fixture(params=["postgresql", "mysql"])
def tenants(request, tmp_path, monkeypatch):
    """Provide a fleet of the databases of a server whose names have a prefix, and a function that creates another one."""
    prefix, names = f"f{os.getpid()}_{os.urandom(3).hex()}_", ["ada", "bea"]
    derived = [f"{prefix}gone_dbctl_20260101_120000", f"{prefix}gone_dbctl_new_0123abcd"]
    server, options, run, quote = create_databases(
        request.param, *(prefix + name for name in names), *derived
    )
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "{server}/{prefix}*?{options}"\n'
        '[apps.shop.backup]\nrepository = "backups"\nmax_age = "26h"\n'
    )
    monkeypatch.chdir(tmp_path)

    def create(name):
        create_databases(request.param, prefix + name)
        names.append(name)

    yield create
    run(*(f"drop database {quote}{name}{quote}" for name in [*derived, *(prefix + name for name in names)]))


def test_databases_of_a_server_are_instances(tmp_path, tenants):
    """Without those of the server, and those that a restore created."""
    assert list_problems(tmp_path) == {"ada": None, "bea": None}
    tenants("new")
    assert list_problems(tmp_path) == {"ada": None, "bea": None, "new": None}
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace("_*?", "_nothing_*?"))
    with pytest.raises(FleetEmptyError):
        list_problems(tmp_path)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_all_databases_of_a_server_are_instances(tmp_path, engine):
    server, options, run, quote = create_databases(engine, name := f"f{os.getpid()}{os.urandom(3).hex()}")
    try:
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "{server}/*?{options}"\n'
        )
        listed = list_problems(tmp_path)
    finally:
        run(f"drop database {quote}{name}{quote}")
    assert name in listed
    assert not listed.keys() & {
        "postgres",
        "template0",
        "template1",
        "information_schema",
        "mysql",
        "performance_schema",
        "sys",
    }


@pytest.mark.slow
@pytest.mark.needs_extension("fleet")
def test_no_database_is_missing_without_a_word(tmp_path, answer, monkeypatch):
    """One whose role may not connect is an instance with an error, and ``postgres`` with tables one as well."""
    monkeypatch.chdir(tmp_path)
    with servers.own_postgresql() as server:
        url = parse_url(server.url)
        with closing(servers.connection(url)) as connection:
            connection.autocommit = True
            for sql in (
                "create database closed",
                "revoke connect on database closed from public",
                "create role reader login",
            ):
                connection.execute(sql)
        fleet = structs.replace(url, user="reader", path="*")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(fleet)}"\n'
        )
        assert list_problems(tmp_path).keys() == {"closed"}
        result = answer("stats", "tables", status=None)
        assert [item["error"]["code"] for item in result["data"]["items"]] == ["unreachable"]
        with closing(servers.connection(structs.replace(url, path="postgres"))) as connection:
            connection.autocommit = True
            connection.execute("create table items (id int primary key)")
        assert list_problems(tmp_path).keys() == {"closed", "postgres"}


@pytest.mark.slow
@pytest.mark.needs_extension("fleet")
def test_new_database_of_a_server_has_no_backup(tmp_path, tenants, answer):
    create_tables(tmp_path, "ada", "bea")
    answer("backup", "create")
    answer("status", "--check")
    tenants("new")
    create_tables(tmp_path, "new")
    boards = answer("status", "--check", status=3)["data"]["items"]
    assert {board["app"]: board["exit_code"] for board in boards} == {
        "shop/ada": 0,
        "shop/bea": 0,
        "shop/new": 3,
    }
    reports = answer("doctor", status=None)["data"]["items"]
    findings = [finding for report in reports for finding in report["data"]["findings"]]
    assert {finding["target"] for finding in findings if finding["code"] == "backup-due"} == {"shop/new/main"}
    answer("backup", "create", "--app", "shop/new")
    answer("status", "--check")


@pytest.mark.needs_extension("fleet")
def test_database_without_tables_is_backed_up_until_it_had_one(tmp_path, tenants, answer):
    create_tables(tmp_path, "ada", "bea")
    tenants("new")
    result = answer("backup", "create")
    (warnings,) = [item["warnings"] for item in result["data"]["items"] if item["app"] == "shop/new"]
    assert warnings == ["shop/new/main: the database has no table"]
    answer("status", "--check")
    for words in (("backup", "verify", "--deep"), ("backup", "drill")):
        assert answer(*words, "--app", "shop/new")["exit_code"] == 0
    create_tables(tmp_path, "new")
    answer("backup", "create", "--app", "shop/new")
    drop_tables(tmp_path, "new")
    error = answer("backup", "create", "--app", "shop/new", status=4)["error"]
    assert error["code"] == "backup-empty"


def drop_tables(folder, *names):
    for name in names:
        app = loader.find_app(Selection(config=str(folder / "dbctl.toml"), app=f"shop/{name}"))
        from_url(servers.text(app.databases["main"])).run("drop table items")


def create_tables(folder, *names):
    for name in names:
        app = loader.find_app(Selection(config=str(folder / "dbctl.toml"), app=f"shop/{name}"))
        from_url(servers.text(app.databases["main"])).run("create table items (id int primary key)")


def test_server_that_does_not_answer_lists_nothing(tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "postgresql://nobody@127.0.0.1:{servers.free_port()}/*"\n'
    )
    with pytest.raises(UnreachableError):
        list_problems(tmp_path)
