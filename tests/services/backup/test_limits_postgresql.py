"""What pg_dump cannot carry: a backup that no restore could load is not made, and what one lacks is named."""

from __future__ import annotations

import subprocess
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.errors import BackupUnloadableError
from tests import caching, servers
from tests.sandbox import private
from tests.services import larder_app, promptvault_app
from tests.services.backup.foreign.test_files import apply
from tests.services.backup.test_every_kind_postgresql import PROFILE
from tests.services.flashpoint_app import caught


@pytest.fixture
def pantry(tmp_path):
    with larder_app.settled("postgresql", tmp_path / "app") as made:
        yield made


#: A table beside, and a function that finds it by its search path.
FINDING = (
    "create table rates (n int primary key)",
    "insert into rates values (1)",
    "create function rate(int) returns int language sql immutable as 'select max(n) + $1 from rates'",
)
#: From version 17 on, only a function with a search_path can be called while an index or a materialized view is made.
FOUND = "alter function rate(int) set search_path = public"
NO_LONGER_FOUND = "alter function rate(int) reset search_path"
UNLOADABLE = {
    "a value without input": ("create table odd as select adbin as v from pg_attrdef limit 1",),
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
        *FINDING,
        FOUND,
        "create table odd (v int)",
        "create index on odd (rate(v))",
        NO_LONGER_FOUND,
    ),
    "a function of a check": (
        *FINDING,
        "create table odd (v int check (rate(v) > 0))",
        "insert into odd values (1)",
    ),
    "a function of a generated column": (
        *FINDING,
        "create table odd (v int, w int generated always as (rate(v)) stored)",
        "insert into odd values (1)",
    ),
    "a function of a materialized view": (
        *FINDING,
        FOUND,
        "create materialized view odd as select rate(1)",
        NO_LONGER_FOUND,
    ),
    "a function behind a view and an operator": (
        *FINDING,
        FOUND,
        "create operator ~~~ (rightarg = int, function = rate)",
        "create view between_them as select ~~~ 1 as v",
        "create materialized view odd as select * from between_them",
        NO_LONGER_FOUND,
    ),
}


@pytest.mark.parametrize("statements", UNLOADABLE.values(), ids=UNLOADABLE)
def test_a_dump_that_no_restore_could_load_is_not_made(pantry, statements):
    pantry.run(*statements)
    error = caught(BackupUnloadableError, lambda: promptvault_app.create(pantry.path))
    assert "odd" in str(error)
    text = _run(pantry, "pg_dump", pantry.own)
    with caching.postgresql_database() as url:
        loaded = subprocess.run(
            [servers.client("psql"), "-Xq1", "-v", "ON_ERROR_STOP=1", "-d", servers.text(url)],
            input=text,
            capture_output=True,
            check=False,
        )
        assert loaded.returncode


def _run(pantry, program, url):
    done = subprocess.run([servers.client(program), "-d", servers.text(url)], capture_output=True, check=True)
    return done.stdout


def test_functions_that_find_what_they_name_are_no_obstacle(pantry):
    pantry.run(
        *FINDING,
        "alter function rate set search_path = public",
        "create table odd (v int check (rate(v) > 0))",
        "create table named (c regclass, p regprocedure, t regtype)",
        "insert into named values ('odd', 'rate(int)', 'text'), (4294967295, null, 0)",
    )
    before = pantry.content()
    assert promptvault_app.create(pantry.path).remarks == []
    promptvault_app.apply(pantry.path)
    assert pantry.content() == before


def test_what_a_dump_lacks_is_named(pantry):
    pantry.run(
        "create foreign data wrapper elsewhere",
        "create server far foreign data wrapper elsewhere",
        "create foreign table far_away (id int) server far",
        "create table elder (id int, v text)",
        "create table reshaped (v text, id int)",
        "alter table reshaped inherit elder",
        "create table broken (id int)",
        "create index broken_index on broken (id)",
        "update pg_index set indisvalid = false where indexrelid = 'broken_index'::regclass",
        "create function pg_catalog.hidden_away() returns int language sql as 'select 1'",
        "create function not_called(text) returns bool language sql as 'select exists (select from elder)'",
        "create function unproven() returns int language plpgsql as 'begin return 1; end'",
        "create materialized view counted as select unproven() as n",
        "create table never_filled (v text check (not_called(v)))",
    )
    (remark,) = promptvault_app.create(pantry.path).remarks
    for name in ("far_away", "reshaped", "broken_index", "hidden_away", "unproven"):
        assert name in remark
    assert "elder " not in remark
    assert set(promptvault_app.codes(promptvault_app.verified(pantry.path))) <= {"schema-differs"}
    promptvault_app.apply(pantry.path)


def test_an_extension_that_would_come_back_in_another_version_is_named(pantry):
    with closing(servers.connection(pantry.own)) as own:
        versions = own.execute(
            "select version from pg_available_extension_versions v join pg_available_extensions e using (name)"
            " where name = 'pg_trgm' and version <> default_version order by version desc"
        ).fetchall()
    for (version,) in versions:
        try:
            pantry.run(f"create extension pg_trgm version '{version}'")
            break
        except servers.psycopg.Error:  # the server has no script for it
            continue
    (remark,) = promptvault_app.create(pantry.path).remarks
    assert f"pg_trgm is of version {version}" in remark


def test_a_dump_without_the_rows_of_a_table_brings_the_table_back_empty(pantry, tmp_path):
    pantry.run("create table log (line text)", "insert into log values ('x')")
    before, file = pantry.content(), tmp_path / "backup.sql"
    words = ["--exclude-table-data=log", "-f", file, "-d", servers.text(pantry.own)]
    subprocess.run([servers.client("pg_dump"), *words], check=True)
    pantry.spoil()
    apply(pantry.path, file)
    assert pantry.content() == {**before, "log": []}


def test_a_subscription_comes_back_disabled_and_is_named(tmp_path):
    url = structs.replace(servers.parse(servers.private_postgresql()), path="subscribed")
    with closing(servers.connection(structs.replace(url, path="postgres"))) as central:
        central.execute("create database subscribed")
    with closing(servers.connection(url)) as own:
        own.execute("create table t (id int primary key)")
        own.execute(
            "create subscription sub connection 'host=/nowhere' publication pub with (connect = false)"
        )
    (tmp_path / "dbctl.toml").write_text(PROFILE.format(url=servers.text(url)))
    (remark,) = promptvault_app.create(tmp_path / "any").remarks
    assert "subscription sub comes back disabled" in remark
    promptvault_app.apply(tmp_path / "any")
    with closing(servers.connection(url)) as own:
        assert own.execute(
            "select subname, subenabled from pg_subscription s join pg_database d on d.oid = subdbid and datname = current_database()"
        ).fetchall() == [("sub", False)]


def test_more_tables_come_back_than_one_transaction_has_locks_for(tmp_path):
    with private("max_locks_per_transaction=10", "max_connections=20") as server:
        url = structs.replace(servers.parse(server.url), path="many")
        with server.connection() as central:
            central.execute("create database many")
        with closing(servers.connection(url)) as own:
            for number in range(200):
                own.execute(f"create table t{number} (id int primary key, v text unique)")
        (tmp_path / "dbctl.toml").write_text(PROFILE.format(url=servers.text(url)))
        promptvault_app.create(tmp_path / "any")
        assert promptvault_app.codes(promptvault_app.verified(tmp_path / "any")) == []
        (database,) = promptvault_app.apply(tmp_path / "any").databases
        assert (database.way, database.tables) == ("swapped", 200)
