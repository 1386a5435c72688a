"""The numbers of new rows after a transfer, and the ledgers of the runners of migrations."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.extensions.transfer.test_json import run_sql


@pytest.fixture
def plain_file(tmp_path):
    """A file whose key is numbered without AUTOINCREMENT, with the ledger of an app's own runner."""
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "create table item (id integer primary key, name text);"
            "insert into item values (1, 'a'), (7, 'b');"
            "create table django_migrations (id integer primary key autoincrement, app varchar(255) not null,"
            " name varchar(255) not null, applied datetime not null);"
            "insert into django_migrations values (1, 'shop', '0001_initial', '2026-01-02 03:04:05');"
        )
    return path


def test_next_number_follows_the_rows_without_a_counter_in_the_source(
    answer, plain_file, databases, tmp_path
):
    destination = databases("postgresql", tmp_path)
    answer("--url", f"main={plain_file}", "transfer", "run", "--to", destination)
    assert run_sql(destination, "insert into item (name) values ('c') returning id") == [(8,)]
    run_sql(destination, "delete from item where id = 8", "alter table item alter id restart with 2")
    result = answer("--url", f"main={plain_file}", "transfer", "verify", "--to", destination, status=4)
    assert result["data"]["equal"] is True
    assert [
        "returns 2 next" in text and "item.id has reached 7" in text for text in result["data"]["counters"]
    ] == [True]
    assert result["warnings"]


@pytest.mark.slow
def test_sequences_that_no_column_owns_are_set(answer, databases, tmp_path):
    source = databases("postgresql", tmp_path)
    run_sql(
        source,
        "create sequence shared",
        "create table a (id int primary key default nextval('shared'))",
        "create table b (id int primary key default nextval('shared'))",
        "insert into a select nextval('shared') from generate_series(1, 3)",
        "insert into b select nextval('shared') from generate_series(1, 2)",
    )
    file = tmp_path / "copy.db"
    answer("--url", f"main={source}", "transfer", "run", "--to", str(file))
    back = databases("postgresql", tmp_path)
    answer("--url", f"main={file}", "transfer", "run", "--to", back)
    for table in ("a", "b"):
        ((number,),) = run_sql(back, f"insert into {table} default values returning id")
        assert number >= 6  # a number of the other table is not used again


@pytest.mark.slow
def test_derived_schema_has_the_ledger_of_the_app(answer, plain_file, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    main = ("--url", f"main={plain_file}", "transfer")
    assert answer(*main, "plan", "--to", destination)["data"]["excluded"] == []
    answer(*main, "run", "--to", destination)
    assert run_sql(destination, "select id, app, name from django_migrations") == [
        (1, "shop", "0001_initial")
    ]
    answer(*main, "switch", "--to", destination, "--yes")
    assert answer(*main, "verify", "--to", destination)["data"]["equal"] is True


def test_hint_for_inherited_tables_names_a_way_that_works(answer, databases, tmp_path):
    source = databases("postgresql", tmp_path)
    run_sql(source, "create table parent (id int)", "create table child (more int) inherits (parent)")
    words = ("--url", f"main={source}", "transfer", "plan", "--to", str(tmp_path / "copy.db"))
    error = answer(*words, status=4)["error"]
    assert "inheritance" in error["message"]
    assert "--derive" not in error["hint"]
    assert "same engine" in error["hint"]


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_large_objects_are_refused_for_another_engine(answer, databases, tmp_path, engine):
    """The rows were copied without the content to which they refer."""
    source = databases("postgresql", tmp_path)
    run_sql(source, "create table t (id int primary key, content oid)")
    run_sql(source, "insert into t values (1, lo_from_bytea(0, 'content'))")
    other = databases("postgresql", tmp_path)  # another schema of the same database
    run_sql(other, "create table t (id int primary key)")
    answer("--url", f"main={other}", "transfer", "plan", "--to", databases(engine, tmp_path))
    destination = databases(engine, tmp_path)
    for command in ("plan", "run"):
        words = ("--url", f"main={source}", "transfer", command, "--to", destination)
        error = answer(*words, status=4)["error"]
        assert (error["code"], "large object" in error["message"]) == ("transfer-schema", True)
        assert "same engine" not in error["hint"]


def test_default_of_a_moment_does_not_depend_on_the_zone_of_the_session(answer, databases, tmp_path):
    path, destination = tmp_path / "times.db", databases("postgresql", tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table t (id integer primary key, at timestamptz default current_timestamp)")
    answer("--url", f"main={path}", "transfer", "run", "--to", destination)
    statements = ["set time zone 'Asia/Tokyo'", "insert into t default values"]
    assert run_sql(destination, *statements, "select abs(extract(epoch from now() - at)) < 60 from t") == [
        (True,)
    ]


@pytest.mark.mariadb
def test_sequences_of_defaults_are_set_in_tables_of_the_app(answer, plain_file, databases, tmp_path):
    destination = databases("mysql", tmp_path)
    run_sql(
        destination,
        "create sequence numbers",
        "create table item (id bigint default nextval(numbers) primary key, name text)",
        "create table django_migrations (id bigint auto_increment primary key, app varchar(255) not null,"
        " name varchar(255) not null, applied datetime(6) not null)",
        "insert into django_migrations values (1, 'shop', '0001_initial', '2026-01-02 03:04:05')",
    )
    answer("--url", f"main={plain_file}", "transfer", "run", "--to", destination)
    verified = answer("--url", f"main={plain_file}", "transfer", "verify", "--to", destination)["data"]
    assert verified["counters"] == []
    run_sql(destination, "insert into item (name) values ('c')")
    assert run_sql(destination, "select id from item where name = 'c'") == [(8,)]
    (tmp_path / "rows.csv").write_text("id,name\n20,d\n")
    answer("--url", f"main={destination}", "data", "import", "item", str(tmp_path / "rows.csv"))
    run_sql(destination, "insert into item (name) values ('e')")
    assert run_sql(destination, "select id from item where name = 'e'") == [(21,)]


COUNTED = (
    "create table used (id int generated by default as identity primary key, note text)",
    "insert into used (note) select 'x' from generate_series(1, 900)",
    "delete from used",
    "create table reserved (id bigint generated by default as identity primary key, note text)",
    "insert into reserved (note) values ('x')",
    "alter table reserved alter id restart with 700",
    "create table downwards (id int generated by default as identity (increment by -1) primary key, note text)",
    "insert into downwards (note) values ('x'), ('y')",
)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("mysql", marks=pytest.mark.slow)])
def test_numbers_are_not_used_again_after_deletions_and_reservations(answer, databases, tmp_path, engine):
    source = databases("postgresql", tmp_path)
    run_sql(source, *COUNTED)
    middle = databases(engine, tmp_path)
    answer("--url", f"main={source}", "transfer", "run", "--to", middle)
    back = databases("postgresql", tmp_path)  # whose sequences are set, and not used, when they are read
    answer("--url", f"main={middle}", "transfer", "run", "--to", back)
    last = tmp_path / "last.db"
    answer("--url", f"main={back}", "transfer", "run", "--to", str(last))
    for address in (middle, back, str(last)):
        for table, least in (("used", 901), ("reserved", 700), ("downwards", 1)):
            add = f"insert into {table} (note) values ('z')"
            ((number,),) = run_sql(address, add, f"select id from {table} where note = 'z'")
            assert number >= least
