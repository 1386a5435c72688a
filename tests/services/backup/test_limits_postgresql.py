"""Limits of pg_dump: backups that cannot be loaded are not created, and omissions are reported."""

from __future__ import annotations

import subprocess
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines.postgresql.database import PostgreSQLReader
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import BackupUnloadableError
from dbctl.errors.connection import QueryFailedError
from dbctl.services.restore.drill import RunDrills
from tests import servers
from tests.sandbox import start_private
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_every_kind_postgresql import PROFILE
from tests.services.flashpoint_app import catch_error

pytestmark = pytest.mark.product


@pytest.fixture
def pantry(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as app:
        yield app


#: A table, and a function that uses it through the search path.
RATE_FUNCTION = (
    "create table rates (n int primary key)",
    "insert into rates values (1)",
    "create function rate(int) returns int language sql immutable as 'select max(n) + $1 from rates'",
)
#: Since version 17, indexes and materialized views can only call functions with a search_path when they are created.
SET_SEARCH_PATH = "alter function rate(int) set search_path = public"
RESET_SEARCH_PATH = "alter function rate(int) reset search_path"
UNLOADABLE = {
    "a value without an input function": ("create table odd as select adbin as v from pg_attrdef limit 1",),
    "an index named in a row": (
        "create table odd (v regclass)",
        "create index odd_index on odd (v)",
        "insert into odd values ('odd_index')",
    ),
    "an ambiguous function named in a row": (
        "create function twice(int) returns int language sql as 'select 1'",
        "create function twice(text) returns int language sql as 'select 1'",
        "create table odd as select oid::regproc as v from pg_proc where proname = 'twice'",
    ),
    "a function of an index": (
        *RATE_FUNCTION,
        SET_SEARCH_PATH,
        "create table odd (v int)",
        "create index on odd (rate(v))",
        RESET_SEARCH_PATH,
    ),
    "a function of a check": (
        *RATE_FUNCTION,
        "create table odd (v int check (rate(v) > 0))",
        "insert into odd values (1)",
    ),
    "a function of a generated column": (
        *RATE_FUNCTION,
        "create table odd (v int, w int generated always as (rate(v)) stored)",
        "insert into odd values (1)",
    ),
    "a function of a materialized view": (
        *RATE_FUNCTION,
        SET_SEARCH_PATH,
        "create materialized view odd as select rate(1)",
        RESET_SEARCH_PATH,
    ),
    "a function used through a view and an operator": (
        *RATE_FUNCTION,
        SET_SEARCH_PATH,
        "create operator ~~~ (rightarg = int, function = rate)",
        "create view between_them as select ~~~ 1 as v",
        "create materialized view odd as select * from between_them",
        RESET_SEARCH_PATH,
    ),
}


@pytest.mark.parametrize("statements", UNLOADABLE.values(), ids=UNLOADABLE)
def test_unloadable_dump_is_not_created(pantry, statements):
    pantry.run(*statements)
    error = catch_error(BackupUnloadableError, lambda: promptvault_app.create_app_backup(pantry.path))
    assert "odd" in str(error)
    text = dump_database(pantry, "pg_dump", pantry.own)
    with servers.postgresql_database(encoding="UTF8") as url:
        result = subprocess.run(
            [servers.client("psql"), "-Xq1", "-v", "ON_ERROR_STOP=1", "-d", servers.text(url)],
            input=text,
            capture_output=True,
            check=False,
        )
        assert result.returncode


def test_unloadable_dump_is_not_created_although_the_server_does_not_check_functions(pantry):
    pantry.run(
        *RATE_FUNCTION,
        SET_SEARCH_PATH,
        "create table odd (v int)",
        "create index on odd (rate(v))",
        RESET_SEARCH_PATH,
        f"alter database {ident(pantry.own.path)} set check_function_bodies = off",
    )
    error = catch_error(BackupUnloadableError, lambda: promptvault_app.create_app_backup(pantry.path))
    assert "odd" in str(error)


def dump_database(pantry, program, url):
    result = subprocess.run(
        [servers.client(program), "-d", servers.text(url)], capture_output=True, check=True
    )
    return result.stdout


@pytest.mark.slow
def test_functions_with_resolvable_names_are_accepted(pantry):
    pantry.run(
        *RATE_FUNCTION,
        "alter function rate set search_path = public",
        "create table odd (v int check (rate(v) > 0))",
        "create table named (c regclass, p regprocedure, t regtype)",
        "insert into named values ('odd', 'rate(int)', 'text'), (4294967295, null, 0)",
    )
    before = pantry.content()
    assert promptvault_app.create_app_backup(pantry.path).remarks == []
    promptvault_app.apply_restore(pantry.path)
    assert pantry.content() == before


@pytest.mark.slow
def test_omissions_of_dump_are_reported(pantry):
    pantry.run(
        "create foreign data wrapper remote",
        "create server remote_server foreign data wrapper remote",
        "create foreign table remote_table (id int) server remote_server",
        "create table elder (id int, v text)",
        "create table reshaped (v text, id int)",
        "alter table reshaped inherit elder",
        "create table broken (id int)",
        "create index broken_index on broken (id)",
        "update pg_index set indisvalid = false where indexrelid = 'broken_index'::regclass",
        "create function pg_catalog.catalog_function() returns int language sql as 'select 1'",
        "create function not_called(text) returns bool language sql as 'select exists (select from elder)'",
        "create function uncertain() returns int language plpgsql as 'begin return 1; end'",
        "create materialized view counted as select uncertain() as n",
        "create table never_filled (v text check (not_called(v)))",
    )
    (remark,) = promptvault_app.create_app_backup(pantry.path).remarks
    for name in ("remote_table", "reshaped", "broken_index", "catalog_function", "uncertain"):
        assert name in remark
    assert "elder " not in remark
    assert set(promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path))) <= {"schema-differs"}
    promptvault_app.apply_restore(pantry.path)


def test_extension_with_another_version_is_reported(pantry):
    with closing(servers.connection(pantry.own)) as connection:
        versions = connection.execute(
            "select version from pg_available_extension_versions v join pg_available_extensions e using (name)"
            " where name = 'pg_trgm' and version <> default_version order by version desc"
        ).fetchall()
    for (version,) in versions:
        try:
            pantry.run(f"create extension pg_trgm version '{version}'")
            break
        except servers.psycopg.Error:  # no installation script exists for this version
            continue
    (remark,) = promptvault_app.create_app_backup(pantry.path).remarks
    assert f"pg_trgm is of version {version}" in remark


@pytest.mark.slow
def test_subscription_is_restored_disabled_and_reported(tmp_path):
    url = structs.replace(servers.parse_url(servers.private_postgresql()), path="subscribed")
    with closing(servers.connection(structs.replace(url, path="postgres"))) as admin:
        admin.execute("create database subscribed")
    with closing(servers.connection(url)) as connection:
        connection.execute("create table t (id int primary key)")
        connection.execute(
            "create subscription sub connection 'host=/nowhere' publication pub with (connect = false)"
        )
    (tmp_path / "dbctl.toml").write_text(PROFILE.format(url=servers.text(url)))
    (remark,) = promptvault_app.create_app_backup(tmp_path / "any").remarks
    is_omitted = "subscription sub is left out" in remark  # an older server than the dump program
    assert is_omitted or "subscription sub is restored disabled" in remark
    promptvault_app.apply_restore(tmp_path / "any")
    with closing(servers.connection(url)) as connection:
        assert connection.execute(
            "select subname, subenabled from pg_subscription s join pg_database d on d.oid = subdbid and datname = current_database()"
        ).fetchall() == ([] if is_omitted else [("sub", False)])


def test_drill_of_a_database_with_a_subscription_leaves_no_database(tmp_path):
    url = structs.replace(servers.parse_url(servers.private_postgresql()), path="subscribed_again")
    with closing(servers.connection(structs.replace(url, path="postgres"))) as admin:
        admin.execute("create database subscribed_again")
        with closing(servers.connection(url)) as connection:
            connection.execute("create table t (id int primary key)")
            connection.execute(
                "create subscription again connection 'host=/nowhere' publication pub with (connect = false)"
            )
        (tmp_path / "dbctl.toml").write_text(PROFILE.format(url=servers.text(url)))
        promptvault_app.create_app_backup(tmp_path / "any")
        with promptvault_app.open_repository(tmp_path / "any") as (app, _):
            result = RunDrills([app], promptvault_app.create_keys).apply()
        assert [finding.code for finding in result.findings] == []
        names = "select datname from pg_database where datname like 'subscribed_again%'"
        assert admin.execute(names).fetchall() == [("subscribed_again",)]


@pytest.mark.slow
def test_more_tables_than_available_locks_are_restored_or_reported(tmp_path):
    with start_private("max_locks_per_transaction=10", "max_connections=20") as server:
        url = structs.replace(servers.parse_url(server.url), path="many")
        with server.connection() as admin:
            admin.execute("create database many")
        with closing(servers.connection(url)) as connection:
            for index in range(200):
                connection.execute(f"create table t{index} (id int primary key, v text unique)")
        (tmp_path / "dbctl.toml").write_text(PROFILE.format(url=servers.text(url)))
        promptvault_app.create_app_backup(tmp_path / "any")
        assert promptvault_app.list_codes(promptvault_app.verify_backups(tmp_path / "any")) == []
        (database,) = promptvault_app.apply_restore(tmp_path / "any").databases
        assert (database.strategy, database.tables) == ("swapped", 200)
        with closing(servers.connection(url)) as connection:
            connection.execute(
                "do $$ begin for i in 1..1300 loop execute format('create table u%s ()', i); commit; end loop; end $$"
            )
        union = " union all ".join(f"select {i} from u{i}" for i in range(1, 1301))
        with closing(PostgreSQLReader(url, "many/main", timeout=5)) as reader:
            error = catch_error(QueryFailedError, lambda: reader.query(union))
        assert "max_locks_per_transaction" in error.hint
