"""``transfer upgrade``: all of a database on a server of a newer version, and the old one unchanged."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import ExitStack, closing

import psycopg
import pytest
from msgspec import structs

from dbctl.url import parse_url
from tests import servers

pytestmark = pytest.mark.slow

SCHEMA = """
create role shop login password 'old secret';
create role reports;
create role ana login in role reports;
create database shop owner shop;
"""
TABLES = r"""
set role shop;
create collation plain (locale = 'C');
create schema extra;
create type mood as enum ('calm', 'glad');
create table orders (id integer generated always as identity primary key, note text collate plain, mood mood, at timestamptz,
  raw bytea, amount numeric, tags text[]);
create table extra.unkeyed (content text);
create view glad as select id from orders where mood = 'glad';
create function shorten(value text) returns text language sql immutable as $$select left(value, 3)$$;
create index orders_note on orders (shorten(note));
grant select on orders to reports;
alter default privileges in schema extra grant select on tables to reports;
insert into orders (note, mood, at, raw, amount, tags) values (E'tab\t \\N', 'glad', '0044-03-15 BC', '\x00ff', 'NaN', '{a,NULL}'),
  (null, null, 'infinity', '', 1e-300, null);
insert into extra.unkeyed values ('same'), ('same'), (null);
alter sequence orders_id_seq restart 700;
"""


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Start the installed PostgreSQL with the database of an app, and configure the app."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with servers.own_postgresql() as server:
        url = parse_url(server.url)
        execute(url, *SCHEMA.strip().splitlines())
        shop = structs.replace(url, path="shop")
        execute(shop, *filter(None, TABLES.strip().split(";\n")))
        configure(tmp_path, shop)
        yield shop


@pytest.fixture
def new(old, newer_programs, monkeypatch):
    """Start a newer PostgreSQL; its programs are on the path."""
    monkeypatch.setenv("PATH", f"{newer_programs}{os.pathsep}{os.environ['PATH']}")
    with ExitStack() as stack:
        with monkeypatch.context() as patch:  # of this server alone
            patch.setenv("DBCTL_TEST_POSTGRESQL_BINARIES", str(newer_programs))
            server = stack.enter_context(servers.own_postgresql())
        yield parse_url(server.url)


def configure(folder, url):
    (folder / "dbctl.toml").write_text(f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\n')


def execute(url, *statements):
    with closing(psycopg.connect(servers.text(url), autocommit=True)) as db:
        return [cursor.fetchall() for sql in statements if (cursor := db.execute(sql)).description]


def server_of(url):
    return servers.text(structs.replace(url, path=""))


def dump_all(url):
    server = servers.text(structs.replace(url, path="postgres"))
    command = [servers.client("pg_dumpall", server), "--dbname", server]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def upgrade(answer, url, *words, **options):
    return answer("transfer", "upgrade", "--to", server_of(url), *words, **options)


FACTS = (
    "select rolname, rolcanlogin, rolpassword from pg_authid where rolname in ('shop', 'ana', 'reports') order by 1",
    "select pg_get_userbyid(datdba) from pg_database where datname = 'shop'",
    "select relname, relowner::regrole::text, relacl::text from pg_class where relnamespace in ('public'::regnamespace, 'extra'::regnamespace) order by 1",
    "select defaclacl::text from pg_default_acl",
    "select collname, collprovider, collisdeterministic from pg_collation where collname = 'plain'",
    "select id, note, mood, at::text, raw, amount::text, tags from orders order by id",
    "select content from extra.unkeyed order by 1",
    "select last_value, is_called from orders_id_seq",
    "select member::regrole::text from pg_auth_members where roleid = 'reports'::regrole",
)


def test_everything_of_the_database_is_on_the_newer_server(answer, old, new):
    before = dump_all(old)
    result = upgrade(answer, new)
    data = result["data"]
    assert (data["source_version"][:3], data["destination_version"][:3]) == ("15.", "17.")
    (database,) = data["databases"]
    assert (database["rows"], database["tables"], database["equal"]) == (5, 2, True)
    # 17 writes a view without the name of its table, and has a privilege that 15 lacks
    assert database["reworded"] == ["default acl extra.DEFAULT PRIVILEGES FOR TABLES", "view public.glad"]
    shop = structs.replace(new, path="shop")
    facts = [
        sql.replace("relacl::text", "replace(relacl::text, 'm', '')") for sql in FACTS
    ]  # 17 has MAINTAIN
    assert execute(shop, *facts) == execute(old, *FACTS)
    assert any(
        text.endswith(f"set databases.main of shop, and the address in the app, to {shop.command_text}")
        for text in result["warnings"]
    )
    execute(shop, "set role shop", "insert into orders (note) values ('new')")
    assert execute(shop, "select max(id) from orders") == [[(700,)]]
    assert dump_all(old) == before


def test_plan_creates_nothing_and_names_versions_roles_and_sessions(answer, old, new):
    before = dump_all(new)
    with closing(psycopg.connect(servers.text(old))):
        plan = upgrade(answer, new, "--dry-run")["data"]["plan"]
    assert "from version 15." in plan["title"]
    assert " to 17." in plan["title"]
    steps = "\n".join(plan["steps"])
    for text in (
        "1 session of shop/main: stop the app",
        "create role shop",
        "create role ana",
        "5 rows",
        "compare each table",
    ):
        assert text in steps
    assert dump_all(new) == before


def test_rows_written_meanwhile_are_reported(answer, old, new):
    ended = threading.Event()

    def write():
        while not ended.wait(0.01):
            execute(old, "insert into orders (note) values ('late')")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        result = upgrade(answer, new, status=4)
    finally:
        ended.set()
        thread.join()
    (database,) = result["data"]["databases"]
    assert not database["equal"]
    assert any("table orders" in text for text in database["differences"])
    assert not any("set databases.main" in text for text in result["warnings"])


def test_what_cannot_be_upgraded_is_refused(answer, old, new, tmp_path):
    before = dump_all(new)
    assert answer("transfer", "upgrade", "--to", servers.text(structs.replace(new, path="shop")), status=2)
    assert (
        answer("transfer", "upgrade", "--to", "mysql://root@127.0.0.1", status=2)["error"]["code"]
        == "not-supported"
    )
    assert answer("transfer", "upgrade", "--to", "copy.db", status=2)["error"]["code"] == "not-supported"
    assert answer("transfer", "upgrade", "--to", "postgresql://x@127.0.0.1:1", status=10)
    assert upgrade(answer, old, status=6)["error"]["code"] == "target-is-source"
    assert dump_all(new) == before
    execute(new, "create database shop")
    execute(structs.replace(new, path="shop"), "create table other (id integer)")
    assert upgrade(answer, new, status=6)["error"]["code"] == "target-not-empty"
    configure(tmp_path, structs.replace(new, path="shop"))
    error = upgrade(answer, old, status=None)
    assert error["exit_code"] != 0
    (tmp_path / "dbctl.toml").write_text('[apps.shop]\nprofile = "plain"\ndatabases = "file.db"\n')
    (tmp_path / "file.db").touch()
    assert upgrade(answer, new, status=2)["error"]["code"] == "not-supported"


def test_passwords_are_read_only_for_roles_that_are_created(answer, old, new, tmp_path):
    configure(tmp_path, structs.replace(old, user="shop"))
    error = upgrade(answer, new, "--dry-run", status=6)["error"]
    assert error["code"] == "privilege-missing", error
    assert "--roles skip" in error["hint"], error
    (database,) = upgrade(answer, new, "--roles", "skip")["data"]["databases"]
    assert (database["rows"], database["equal"]) == (5, True), database


def test_extension_that_the_new_server_lacks_is_refused_by_the_plan(answer, old, new):
    available = {name for (name,) in execute(new, "select name from pg_available_extensions")[0]}
    lacking = [
        name
        for (name,) in execute(old, "select name from pg_available_extensions order by 1")[0]
        if name not in available
    ]
    if not lacking:
        pytest.skip("the newer server has all extensions")
    execute(old, f'create extension "{lacking[0]}"')
    for words in (["--dry-run"], []):
        error = upgrade(answer, new, *words, status=2)["error"]
        assert (error["code"], lacking[0] in error["message"]) == ("not-supported", True)
    assert execute(new, "select count(*) from pg_database where datname = 'shop'") == [[(0,)]]


def test_failed_load_leaves_neither_database_nor_roles(answer, old, new):
    """The newer server of the tests has no ICU."""
    execute(old, "create collation sorted (provider = icu, locale = 'de')")
    before = dump_all(new)
    error = upgrade(answer, new, status=1)["error"]
    assert (error["code"], "ICU" in error["message"]) == ("client-failed", True)
    assert dump_all(new) == before


def test_databases_of_mariadb_are_upgraded(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with ExitStack() as stack:
        first, second = (servers._start_mysql((), None) for _ in range(2))
        for running in (first, second):
            stack.callback(running.stop)
        source = stack.enter_context(servers.mysql_database(server=parse_url(first.url)))
        with closing(servers.mysql_connection(source)) as db, db.cursor() as cursor:
            cursor.execute(
                "create table notes (id int primary key auto_increment, text varchar(20), ratio float)"
            )
            cursor.execute("insert into notes (text, ratio) values ('ä', 0.1), (null, null)")
            cursor.execute("alter table notes auto_increment 500")
            cursor.execute("create user shop@localhost identified by 'old secret'")
            pattern = source.path.replace("_", r"\_")  # ``_`` would be any character
            cursor.execute(f'grant select on "{pattern}".* to shop@localhost')
        configure(tmp_path, source)
        result = upgrade(answer, parse_url(second.url))
        (database,) = result["data"]["databases"]
        assert (database["rows"], database["equal"]) == (2, True)
        copy = structs.replace(parse_url(second.url), path=source.path)
        for sql in (
            "select * from notes order by id",
            "show create table notes",
            "show grants for shop@localhost",
        ):
            rows = []
            for url in (source, copy):
                with closing(servers.mysql_connection(url)) as db, db.cursor() as cursor:
                    cursor.execute(sql)
                    rows.append(cursor.fetchall())
            assert rows[0] == rows[1]
