"""What ``transfer plan`` reports about values and parts of the schema that change."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from dbctl.extensions.transfer import plan as plan_module
from tests.extensions.transfer.test_json import run_sql

NANOSECONDS = "2026-07-21 09:15:02.674995283"


def create_file(path, *statements):
    with closing(sqlite3.connect(path)) as db:
        for sql in statements:
            db.execute(sql)
        db.commit()
    return path


@pytest.fixture
def start(answer, tmp_path):
    """Return a function that runs a command of ``transfer`` on a new file with some statements."""

    def run(*statements):
        path = create_file(tmp_path / "changed.db", *statements)
        return lambda *words, **options: answer("--url", f"main={path}", "transfer", *words, **options)

    return run


def list_changes(result):
    return {
        (change["table"], change["column"]): (change["rows"], change["change"])
        for change in result["data"]["changes"]
    }


@pytest.mark.parametrize("engine", [pytest.param("postgresql", marks=pytest.mark.slow), "mysql"])
def test_digits_after_the_microsecond_are_reported(answer, start, tmp_path, databases, engine):
    run = start(
        "create table device (id integer primary key, seen datetime, day text)",
        f"insert into device values (1, '{NANOSECONDS}', '{NANOSECONDS}'), (2, '2026-07-21T09:15:02,6749952831Z', null),"
        " (3, '2026-07-21 09:15:02.674995000', null), (4, '2026-07-21 09:15:02.674995', null), (5, null, null), (6, 1784625302, null)",
    )
    destination = databases(engine, tmp_path)
    plan = run("plan", "--to", destination)
    assert list_changes(plan) == {("device", "seen"): (2, "digits after the microsecond are removed")}
    dry_run = run("run", "--to", destination, "--dry-run")
    assert sum("device.seen" in step for step in dry_run["data"]["plan"]["steps"]) == 1
    run("run", "--to", destination)
    assert run("verify", "--to", destination)["data"]["tables"][0]["equal"]
    back = tmp_path / "back.db"
    answer("--url", f"main={destination}", "transfer", "run", "--to", str(back))
    with closing(sqlite3.connect(back)) as db:
        (seen,) = db.execute("select seen from device where id = 1").fetchone()
    assert seen == "2026-07-21T09:15:02.674995Z"


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_values_that_change_their_type_are_reported(start, tmp_path, databases, engine):
    run = start(
        "create table item (id integer primary key, title text, data blob, uid uuid, note)",
        "insert into item values (1, x'61', 'text', x'00000000000040008000000000000000', 5), (2, 'b', x'62', null, 'x'),"
        " (3, null, 7, '00000000-0000-4000-8000-000000000001', x'63'), (4, 'c', null, null, null)",
    )
    destination = databases(engine, tmp_path)
    expected = {
        ("item", "title"): (1, "bytes become text"),
        ("item", "data"): (2, "text and numbers become bytes"),
        ("item", "note"): (1, "bytes become text"),
    }
    plan = run("plan", "--to", destination)
    assert list_changes(plan) == expected
    run("run", "--to", destination)
    assert run("verify", "--to", destination)["data"]["tables"][0]["equal"]


@pytest.mark.parametrize("engine", [pytest.param("postgresql", marks=pytest.mark.slow), "mysql"])
def test_all_digits_of_real_numbers_become_text(answer, start, tmp_path, databases, engine):
    run = start(
        "create table item (id integer primary key, note, amount numeric, data blob)",
        "insert into item values (1, 0.1 + 0.2, 1234567890.1234567, 0.1 + 0.2), (2, 0.3, 'a\tb', 0.3), (3, 'x', 7, null)",
        "create table place (spot not null unique, name text)",
        "insert into place values (0.1 + 0.2, 'a'), (0.3, 'b'), ('a\\\tb', 'c'), (2, 'd')",
    )
    destination = databases(engine, tmp_path)
    run("run", "--to", destination)
    assert [table["equal"] for table in run("verify", "--to", destination)["data"]["tables"]] == [True, True]
    with closing(sqlite3.connect(tmp_path / "changed.db")) as db, db:
        db.execute("update place set name = upper(name)")
    run("run", "--to", destination)  # it finds rows by their keys
    assert [table["equal"] for table in run("verify", "--to", destination)["data"]["tables"]] == [True, True]
    back = tmp_path / "back.db"
    answer("--url", f"main={destination}", "transfer", "run", "--to", str(back))
    with closing(sqlite3.connect(back)) as db:
        items = db.execute("select note, amount, data from item order by id").fetchall()
        places = db.execute("select spot, name from place order by name").fetchall()
    assert items == [
        ("0.30000000000000004", "1234567890.1234567", b"0.30000000000000004"),
        ("0.3", "a\tb", b"0.3"),
        ("x", "7", None),
    ]
    assert places == [("0.30000000000000004", "A"), ("0.3", "B"), ("a\\\tb", "C"), ("2", "D")]


def test_unchanged_values_are_not_reported(answer, source, tmp_path, databases):
    plan = answer("--url", f"main={source}", "transfer", "plan", "--to", databases("postgresql", tmp_path))
    assert plan["data"]["changes"] == []


def test_table_contains_statements_and_everything_that_is_lost(capsys, tmp_path, databases):
    path = create_file(
        tmp_path / "app.db",
        "create table device (id integer primary key, seen datetime, kind text)",
        f"insert into device values (1, '{NANOSECONDS}', 'x'), (2, 'never', 'y')",
        "create trigger touch after update on device begin select 1; end",
    )
    words = ["--url", f"main={path}", "transfer", "plan", "--to", databases("postgresql", tmp_path)]
    assert main(words) == 4
    output = capsys.readouterr()
    lines = [line.split() for line in output.out.splitlines()]
    titles = [line for line in lines if len(line) == 1 and line[0].endswith(":")]
    assert titles == [["statements:"], ["changes:"], ["omissions:"], ["problems:"]]
    assert ["create", "table", '"device"', "("] in lines
    assert ["device", "seen", "1"] in [line[:3] for line in lines]
    assert ["trigger", "touch", "device"] in [line[:3] for line in lines]
    assert lines[-1][:3] == ["device", "seen", "1"]
    assert lines[-1][-1] == "id=2"
    assert len(output.err.splitlines()) == 1  # the closing line
    for option in (["--columns", "table,rows"], ["-o", "csv"]):
        assert main([*words, *option]) == 4
        output = capsys.readouterr()
        assert len(output.out.splitlines()) == 2
        assert len(output.err.splitlines()) == 4
    assert main([*words, "-o", "json"]) == 4
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    assert len(json.loads(output.out)["warnings"]) == 3


@pytest.mark.slow
def test_changes_of_a_table_with_many_columns(start, tmp_path, databases):
    run = start(
        f"create table wide (id integer primary key, {', '.join(f'c{number} datetime' for number in range(1200))})",
        f"insert into wide (id, c1, c1199) values (1, '{NANOSECONDS}', '{NANOSECONDS}')",
    )
    assert list_changes(run("plan", "--to", databases("postgresql", tmp_path))) == {
        ("wide", "c1"): (1, "digits after the microsecond are removed"),
        ("wide", "c1199"): (1, "digits after the microsecond are removed"),
    }


def test_plan_of_a_copy_to_the_same_engine(answer, source, tmp_path):
    destination = tmp_path / "new.db"
    words = ("--url", f"main={source}", "transfer")
    plan = answer(*words, "plan", "--to", str(destination))["data"]
    rows = {"event": 16, "member": 40, "person": 40, "room": 5}
    with closing(sqlite3.connect(source)) as db:
        columns = {name: len(db.execute(f"select rowid, * from {name}").description) for name in rows}
        statements = [
            sql for (sql,) in db.execute("select sql from sqlite_master where name not like 'sqlite_%'")
        ]
    # the key of a room is its rowid
    columns["room"] -= 1
    assert plan == {
        "target": "app/main",
        "source": str(source),
        "destination": str(destination),
        "schema": "native",
        "tables": [
            {"table": name, "rows": count, "bytes": plan["tables"][number]["bytes"], "columns": columns[name], "conversions": {}, "replaced": 0}
            for number, (name, count) in enumerate(rows.items())
        ],
        "excluded": [],
        "statements": plan["statements"],
        "omissions": [],
        "changes": [],
        "problems": [],
    }  # fmt: skip
    assert {sql.casefold() for sql in plan["statements"]} == {sql.casefold() for sql in statements}
    assert all(table["bytes"] for table in plan["tables"])
    assert answer(*words, "run", "--to", str(destination), "--dry-run")["data"]["plan"] | {"digest": ""} == {
        "title": f"Copy 101 rows to {destination}",
        "target": "app/main",
        "steps": [
            f"create 4 tables in {destination} with the definitions of its engine",
            *(f"copy {count} rows of {name}" for name, count in rows.items()),
            "create indexes and foreign keys",
            "compare each table with the source",
        ],
        "rows": rows,
        "deleted": {},
        "destructive": False,
        "retained": [],
        "failed": [],
        "digest": "",
    }
    assert not destination.exists()


def test_plan_reads_one_state_of_the_source(answer, monkeypatch, databases, tmp_path):
    """A session writes a row while the plan reads the values."""
    source = databases("postgresql", tmp_path)
    run_sql(source, "create table item (id integer primary key)", "insert into item values (1), (2)")
    find = plan_module.find_changes

    def write(*arguments):
        run_sql(source, "insert into item values (3)")
        return find(*arguments)

    monkeypatch.setattr(plan_module, "find_changes", write)
    words = ("--url", f"main={source}", "transfer", "plan", "--to", str(tmp_path / "new.db"))
    (table,) = answer(*words)["data"]["tables"]
    assert table["rows"] == 2
    assert run_sql(source, "select count(*) from item") == [(3,)]


def test_conversions_are_those_of_other_kinds(start, tmp_path, databases):
    run = start(
        "create table item (id integer primary key, flag boolean, born date, note text, uid uuid)",
        "insert into item values (1, 1, '2026-01-02', 'x', x'00000000000040008000000000000000')",
    )
    (table,) = run("plan", "--to", databases("mysql", tmp_path))["data"]["tables"]
    assert all(table["conversions"].values())
    assert not {"id", "born", "note"} & table["conversions"].keys()


def test_error_names_the_first_tables_of_a_destination(answer, source, tmp_path):
    destination = tmp_path / "used.db"
    create_file(destination, *(f"create table used{number} (id int)" for number in range(5)))
    words = ("--url", f"main={source}", "transfer", "plan", "--to", str(destination))
    error = answer(*words, status=6)["error"]
    assert error["code"] == "transfer-destination"
    assert [f"used{number}" in error["message"] for number in range(5)] == [True, True, True, False, False]


def test_one_of_several_databases_is_copied(answer, source, tmp_path):
    other, destination = tmp_path / "other.db", tmp_path / "new.db"
    create_file(other, "create table item (id integer primary key)", "insert into item values (1)")
    engines = 'engines = ["sqlite"]'
    (tmp_path / "two.toml").write_text(
        f'schema = "dbctl.profile/1"\nname = "two"\ntitle = "Two"\n[databases.first]\n{engines}\n[databases.second]\n{engines}\n'
    )
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.two]\nprofile = "{tmp_path / "two.toml"}"\n[apps.two.databases]\nfirst = "source.db"\nsecond = "other.db"\n'
    )
    words = ("--config", str(tmp_path / "dbctl.toml"), "--db", "second", "transfer")
    result = answer(*words, "run", "--to", str(destination))
    assert (result["data"]["source"], result["data"]["rows"]) == (str(other), 1)
    answer(*words, "switch", "--to", str(destination), "--yes")
    assert answer(*words, "switch", "--unlock", "--yes")["data"]["tables"] == ["item"]
