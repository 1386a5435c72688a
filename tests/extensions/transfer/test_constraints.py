"""Constraints of the destination are tried before anything is copied."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.url import parse_url
from tests.extensions.transfer.test_json import run_sql

KELVIN = "\u212a"
DUPLICATE = "equal to another row in a unique index of the destination"


@pytest.fixture
def plan(answer, tmp_path, databases):
    """Return a function that plans a copy, tries to run it, and returns the problems."""

    def start(source, to):
        folder = tmp_path / "to"
        folder.mkdir()
        destination = databases(to, folder)
        words = ("--url", f"main={source}", "transfer")
        problems = answer(*words, "plan", "--to", destination, status=4)["data"]["problems"]
        error = answer(*words, "run", "--to", destination, status=6)["error"]
        assert error["code"] == "values-unstorable"
        assert answer(*words, "plan", "--to", destination, status=4)["data"]["problems"] == problems
        return problems

    return start


@pytest.fixture
def create(tmp_path, databases):
    """Return a function that creates a database of an engine with some statements."""

    def start(engine, *statements):
        url = databases(engine, tmp_path)
        run_sql(url, *statements)
        return url

    return start


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_letters_that_are_equal_only_in_the_destination(plan, create, engine):
    source = create(
        "sqlite",
        "create table person (id integer primary key, name text unique collate nocase)",
        f"insert into person values (1, 'k'), (2, '{KELVIN}'), (3, 'é'), (4, 'É'), (5, 'e'), (6, 'ß'), (7, 'x')",
    )
    (problem,) = plan(source, engine)
    assert (problem["table"], problem["column"], problem["reason"]) == ("person", "name", DUPLICATE)
    assert [key["id"] for key in problem["keys"]] == ["2", "4"]


def test_texts_with_the_same_lower_case_only_in_the_destination_are_exact(
    answer, create, databases, tmp_path
):
    """Python folds both letters to the same one, and the server does not."""
    source = create(
        "sqlite",
        "create table person (id integer primary key, name text unique collate nocase)",
        "insert into person values (1, 'Maße'), (2, 'Masse'), (3, 'mase')",
    )
    words = ("--url", f"main={source}", "transfer")
    (tmp_path / "to").mkdir()
    destination = databases("postgresql", tmp_path / "to")
    assert answer(*words, "plan", "--to", destination)["data"]["problems"] == []
    answer(*words, "run", "--to", destination)


@pytest.mark.slow
def test_keys_of_which_the_destination_compares_the_first_characters(plan, create):
    source = create(
        "postgresql",
        "create table link (a varchar(800), b varchar(800), note text, primary key (a, b))",
        "insert into link values (repeat('x', 384) || '1', 'b', ''), (repeat('x', 384) || '2', 'b', ''), ('y', 'b', '')",
    )
    (problem,) = plan(source, "mysql")
    assert (problem["column"], problem["rows"], problem["reason"]) == ("a, b", 1, DUPLICATE)


def test_statement_that_the_destination_refuses(plan, create):
    source = create(
        "sqlite",
        "create table item (id integer primary key autoincrement, name text not null)",
        "create unique index item_name on item (name) where id > 10",
        "insert into item values (1, 'a'), (2, 'a')",
    )
    (problem,) = plan(source, "mysql")
    assert problem["column"] == "statement"
    assert "item_name" in problem["table"] or "alter table `item`" in problem["table"]
    assert problem["reason"]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_foreign_keys_to_unique_columns_are_copied_to_sqlite(answer, create, tmp_path, engine):
    source = create(
        engine,
        "create table person (id integer primary key, code integer unique, chief integer, name varchar(20))",
        # MySQL before 9.0 ignores references that are declared with a column
        "create table note (id integer primary key, person integer,"
        " foreign key (person) references person (code) on delete cascade)",
        "insert into person values (1, 10, null, 'a'), (2, 20, 10, 'b')",
        "alter table person add foreign key (chief) references person (code)",
        "insert into note values (1, 20)",
    )
    words, file = ("--url", f"main={source}", "transfer"), tmp_path / "moved.db"
    assert answer(*words, "plan", "--to", f"sqlite://{file}")["data"]["problems"] == []
    answer(*words, "run", "--to", f"sqlite://{file}")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma foreign_keys = 1")
        connection.execute("delete from person where code = 20")
        assert connection.execute("select count(*) from note").fetchone() == (0,)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("insert into person values (3, 30, 31, 'c')")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_number_of_the_next_row_that_the_destination_cannot_store(plan, create, engine):
    source = create(
        "mysql",
        "create table item (id bigint unsigned auto_increment primary key) auto_increment = 9223372036854775900",
    )
    (problem,) = plan(source, engine)
    assert (problem["table"], problem["column"]) == ("item.id", "counter")
    assert "9223372036854775900" in problem["reason"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_value_that_is_no_label_of_an_enum(plan, create, engine):
    source = create(
        "mysql",
        "create table item (id int primary key, state enum('on', 'off') not null)",
        "set session sql_mode = ''",
        "insert into item values (1, 'on'), (2, 'wrong')",
    )
    (problem,) = plan(source, engine)
    assert (problem["column"], problem["keys"]) == ("state", [{"id": "2"}])


@pytest.mark.slow
def test_whole_numbers_that_sqlite_would_round(answer, plan, create, tmp_path):
    source = create(
        "postgresql",
        "create table item (id int primary key, number numeric(30))",
        "insert into item values (1, 9223372036854775807), (2, 9223372036854775808), (3, 123456789012345000000)",
    )
    assert plan(source, "sqlite") == [
        {
            "table": "item",
            "column": "number",
            "keys": [{"id": "2"}],
            "rows": 1,
            "reason": "more than 15 digits",
        }
    ]
    run_sql(source, "delete from item where id = 2")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", str(tmp_path / "copy.db"))
    assert answer(*words, "verify", "--to", str(tmp_path / "copy.db"))["data"]["equal"] is True


@pytest.mark.mariadb
def test_user_who_may_not_create_databases(answer, create, databases, tmp_path):
    """The statements are not tried, the plan contains the reason, and the copy works."""
    source = create(
        "sqlite",
        "create table item (id integer primary key, name text unique)",
        "insert into item values (1, 'a')",
    )
    (tmp_path / "to").mkdir()
    destination = databases("mysql", tmp_path / "to")
    url = parse_url(destination)
    user = f"limited_{url.path.strip('/')}"[:32]
    run_sql(
        destination,
        f"create user {user}@'%' identified by 'pw'",
        f"grant all on `{url.path.strip('/')}`.* to {user}@'%'",
    )
    try:
        own = destination.replace(f"{url.user}@", f"{user}:pw@")
        words = ("--url", f"main={source}", "transfer")
        plan = answer(*words, "plan", "--to", own)["data"]
        assert [part["reason"] for part in plan["omissions"] if part["kind"] == "trial"] == [
            "the user may not create a scratch database, so the statements were not tried"
        ]
        answer(*words, "run", "--to", own)
        assert answer(*words, "verify", "--to", own)["data"]["equal"] is True
    finally:
        run_sql(destination, f"drop user {user}@'%'")


PARTIAL = [
    "",
    "where deleted_at is null",
    "where active",
    "where not active",
    "where active and (deleted_at is null)",
    "where state = 'on' and active = true",
    "where state = 'it''s (or) on'",
    "where deleted_at is not null and state = 'off'",
]


@pytest.mark.slow
def test_unique_index_that_only_the_destination_has(answer, create, databases, tmp_path):
    tables = {f"item_{number}": where for number, where in enumerate(PARTIAL)}
    columns = "(id integer primary key, name text, active boolean not null, state text, deleted_at {})"
    rows = (
        "(1, 'a', 1, 'on', null), (2, 'a', 1, 'on', null), (3, 'a', 0, 'on', null),"
        " (4, 'a', 1, 'off', '2020-01-01 00:00:00'), (5, 'b', 0, 'off', null), (6, null, 1, 'on', null),"
        " (7, 'b', 0, 'on', '2020-01-01 00:00:00'), (8, null, 1, 'on', null), (9, 'b', 1, null, null)"
    )
    source = create(
        "sqlite",
        *(f"create table {table} {columns.format('datetime')}" for table in tables),
        *(f"insert into {table} values {rows}" for table in tables),
    )
    (tmp_path / "to").mkdir()
    destination = databases("postgresql", tmp_path / "to")
    for table, where in tables.items():
        run_sql(
            destination,
            f"create table {table} {columns.format('timestamp')}",
            f"create unique index {table}_name on {table} (name) {where}",
        )
    words = ("--url", f"main={source}", "transfer")
    # what the server itself refuses
    refused = {}
    for table in tables:
        for row in run_sql(source, f"select id, name, active, state, deleted_at from {table} order by id"):
            values = [bool(value) if index == 2 else value for index, value in enumerate(row)]
            sql = f"insert into {table} values (%s, %s, %s, %s, %s) on conflict do nothing returning id"
            if not run_sql(destination, (sql, values)):
                refused.setdefault(table, []).append(str(row[0]))
        run_sql(destination, f"delete from {table}")
    assert refused.keys() < tables.keys()
    problems = answer(*words, "plan", "--to", destination, status=4)["data"]["problems"]
    assert {item["table"]: [key["id"] for key in item["keys"]] for item in problems} == refused
    answer(*words, "run", "--to", destination, status=6)
    for table in refused:
        run_sql(destination, f"drop index {table}_name")
    answer(*words, "run", "--to", destination)


def test_partial_index_that_ignores_more_letters(plan, create):
    source = create(
        "sqlite",
        "create table person (id integer primary key, name text collate nocase, gone boolean not null)",
        "create unique index person_name on person (name) where gone = 0",
        f"insert into person values (1, 'k', 0), (2, '{KELVIN}', 0), (3, 'é', 1), (4, 'É', 0)",
    )
    (problem,) = plan(source, "postgresql")
    assert (problem["column"], problem["keys"], problem["reason"]) == ("name", [{"id": "2"}], DUPLICATE)


def test_keys_of_long_texts_are_compared_as_a_whole_as_far_as_they_fit(answer, databases, tmp_path):
    source, destination = tmp_path / "from.db", databases("mysql", tmp_path)
    run_sql(
        f"sqlite:///{source}",
        "create table page (site int, path text, label text, primary key (site, path), unique (label, site))",
        "create table long (a varchar(800), b varchar(800), c int, primary key (a, b), unique (b, a, c))",
    )
    plan = answer("--url", f"main={source}", "transfer", "plan", "--to", destination)["data"]
    assert [(part["kind"], part["name"], part["table"]) for part in plan["omissions"]] == [
        ("primary key", "a, b", "long"),
        ("unique index", "b, a, c", "long"),
    ]
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    text = "x" * 700
    run_sql(destination, f"insert into page values (1, '{text}a', '{text}a'), (1, '{text}b', '{text}b')")
    assert run_sql(destination, "select count(*) from page") == [(2,)]


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_checks_with_large_numbers_accept_and_refuse_the_same_rows(answer, databases, tmp_path, engine):
    source, destination = databases("postgresql", tmp_path), databases(engine, tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, a numeric(20,2) check (a < 99999999999), b real check (b > 0.5),"
        " c bigint check (c > -5000000000), d numeric(9,2) check (d >= 1 and d < 7.5))",
        "insert into t values (1, 20000000000, 0.75, -4000000000, 7.25)",
    )
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    run_sql(destination, "insert into t values (2, 99999999998, 0.625, -4999999999, 1)")
    for row in (
        "99999999999, 1, 1, 1",
        "1, 0.5, 1, 1",
        "1, 1, -5000000000, 1",
        "1, 1, 1, 0.5",
        "1, 1, 1, 7.5",
    ):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            run_sql(destination, f"insert into t values (3, {row})")
