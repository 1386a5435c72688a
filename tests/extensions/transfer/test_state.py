"""The state of a transfer in its destination: whose copy it is, how far it is, and what a killed process leaves."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dbctl.engines import registry
from dbctl.errors.connection import QueryFailedError
from dbctl.extensions.transfer.copy import (
    TransferState,
    create_state,
    empty_destination,
    has_state,
    load_state,
)
from dbctl.url import parse_url
from tests.extensions.transfer.test_json import run_sql


class KilledError(Exception):
    pass


def fail(*_arguments):
    raise KilledError


@pytest.fixture
def start(answer, source):
    """Run a command of the group on the source."""
    return lambda *words, **options: answer("--url", f"main={source}", "transfer", *words, **options)


@pytest.fixture
def destination(databases, tmp_path):
    return databases("sqlite", tmp_path)


def read_state(url):
    """Return the content of the state by name."""
    rows = run_sql(url, "select name, content from dbctl_transfer")
    return {name: json.loads(content) for name, content in rows}


def write_header(url, **values):
    header = read_state(url)["transfer"] | values
    run_sql(url, ("update dbctl_transfer set content = ? where name = 'transfer'", (json.dumps(header),)))


@pytest.mark.parametrize("values", [{"format": 1}, {"format": 3}, {"source": "other"}])
@pytest.mark.parametrize("command", [["run"], ["switch", "--yes"]])
def test_state_of_another_format_or_source_is_refused(start, destination, values, command):
    start("run", "--to", destination)
    assert read_state(destination)["transfer"]["format"] == 2
    write_header(destination, **values)
    before = read_state(destination)
    assert start(*command, "--to", destination, status=6)["error"]["code"] == "transfer-other"
    assert read_state(destination) == before


def test_state_belongs_to_its_source_before_the_first_run(start, answer, monkeypatch, tmp_path, destination):
    monkeypatch.setattr(TransferState, "begin_run", fail)
    start("run", "--to", destination, status=1)
    monkeypatch.undo()
    other = tmp_path / "other.db"
    run_sql(f"sqlite:///{other}", "create table item (id integer primary key)")
    words = ("--url", f"main={other}", "transfer", "run", "--to", destination)
    assert answer(*words, status=6)["error"]["code"] == "transfer-other"
    assert start("run", "--to", destination)["data"]["resumed"] is False


def test_switch_refuses_a_destination_without_tables(start, monkeypatch, source, destination):
    monkeypatch.setattr("dbctl.extensions.transfer.run._prepare_destination", fail)
    start("run", "--to", destination, status=1)
    monkeypatch.undo()
    assert start("switch", "--to", destination, "--yes", status=5)["error"]["code"] == "transfer-missing"
    run_sql(f"sqlite:///{source}", "delete from event")  # it is not locked


def test_state_without_a_header_begins_again(start, destination):
    start("run", "--to", destination)
    run_sql(destination, "delete from dbctl_transfer where name = 'transfer'")
    run_sql(destination, *(f"drop table {name}" for name in ("member", "person", "room", "event")))
    result = start("run", "--to", destination)["data"]
    assert (result["resumed"], result["rows"]) == (False, 101)


def test_killed_creation_of_the_state_drops_no_table_of_the_app(answer, databases, tmp_path):
    """A server without transactions for schemas has then a state without rows."""
    source, destination = tmp_path / "app.db", databases("mysql", tmp_path)
    run_sql(
        f"sqlite:///{source}",
        "create table item (id integer primary key autoincrement, name text)",
        "insert into item values (1, 'a')",
    )
    run_sql(
        destination,
        "create table item (id bigint auto_increment primary key, name varchar(20), index item_name (name))",
        "create table dbctl_transfer (name varchar(250) not null primary key, content text not null)",
    )
    words = ("--url", f"main={source}", "transfer")
    result = answer(*words, "run", "--to", destination)["data"]
    assert (result["schema"], result["resumed"]) == ("destination", False)
    answer(*words, "switch", "--to", destination, "--yes")
    assert run_sql(destination, "select id, name from item") == [(1, "a")]
    assert run_sql(destination, "show index from item where key_name = 'item_name'")


@pytest.mark.slow
def test_state_without_the_mark_of_adoption_is_continued(start, databases, tmp_path):
    """Earlier versions did not write it."""
    destination = databases("postgresql", tmp_path)
    start("run", "--to", destination)
    header = read_state(destination)["transfer"]
    del header["adopted"]
    run_sql(
        destination, ("update dbctl_transfer set content = %s where name = 'transfer'", (json.dumps(header),))
    )
    assert start("run", "--to", destination)["data"]["schema"] == "derived"
    assert start("verify", "--to", destination)["data"]["equal"] is True


@pytest.mark.slow
def test_schema_with_many_objects(answer, databases, tmp_path):
    """The state has several rows for them, because a server limits the size of one."""
    source, destination = tmp_path / "wide.db", databases("postgresql", tmp_path)
    columns = ", ".join(f"c{number} integer" for number in range(450))
    run_sql(f"sqlite:///{source}", f"create table wide (id integer primary key, {columns})")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    parts = [
        content for name, content in sorted(read_state(destination).items()) if name.startswith("schema/")
    ]
    assert [len(part) for part in parts] == [200, 200, 52]
    assert answer(*words, "verify", "--to", destination)["data"]["objects"] == []
    run_sql(destination, "alter table wide drop column c449")
    assert answer(*words, "verify", "--to", destination, status=None)["ok"] is False
    run_sql(destination, "alter table wide add c449 bigint")
    answer(*words, "switch", "--to", destination, "--yes")


@pytest.mark.parametrize("engine_name", ["sqlite", "postgresql", "mysql"])
def test_smaller_schema_replaces_a_larger_one(databases, tmp_path, engine_name):
    """Objects of an earlier schema in the state would be reported as missing."""
    url, engine = databases(engine_name, tmp_path), registry.load_engine(engine_name)
    run_sql(url, "create table own (id int)")
    with closing(engine.open_for_writing(parse_url(url), "x/y", timeout=1)) as db:
        state = create_state(db, "source", {f"table t{number}": "" for number in range(401)}, is_adopted=True)
        with db.transaction():
            state.save_fingerprints({"table t0": "x"})
            state.save_created({"table t0": "y"})
        loaded = load_state(db, "source")
    assert (loaded.fingerprints, loaded.created) == ({"table t0": "x"}, {"table t0": "y"})


def test_state_is_dropped_last(databases, tmp_path):
    """Without it, the remaining tables would be those of another program."""
    url = databases("mysql", tmp_path)
    run_sql(url, "create table dbctl_transfer (name int)", "create table item (id int)")
    engine = registry.load_engine("mysql")
    statements = ["drop table dbctl_transfer", "drop table item", "drop table missing"]
    with (
        closing(engine.open_for_writing(parse_url(url), "x/y", timeout=1)) as db,
        pytest.raises(QueryFailedError),
    ):
        empty_destination(db, statements)
    with closing(engine.open_for_reading(parse_url(url), "x/y", timeout=1)) as db:
        assert has_state(db)
        assert "item" not in db.tables()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_killed_creation_of_tables_begins_again(start, monkeypatch, databases, tmp_path, engine):
    destination = databases(engine, tmp_path)
    monkeypatch.setattr(TransferState, "add_attachments", fail)
    start("run", "--to", destination, status=1)
    monkeypatch.undo()
    assert start("run", "--to", destination)["data"]["resumed"] is False
    assert start("verify", "--to", destination)["data"]["equal"] is True


@pytest.mark.slow
def test_run_after_a_changed_schema_of_the_source_fills_the_tables_of_the_app(answer, databases, tmp_path):
    source, destination = tmp_path / "app.db", databases("postgresql", tmp_path)
    run_sql(f"sqlite:///{source}", "create table item (id integer primary key, name text)")
    run_sql(destination, "create table item (id bigint primary key, name text)")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    run_sql(
        f"sqlite:///{source}", "create index item_name on item (name)", "insert into item values (1, 'a')"
    )
    error = answer(*words, "switch", "--to", destination, "--yes", status=4)["error"]
    assert error["code"] == "transfer-schema-changed"
    answer(*words, "run", "--to", destination)
    answer(*words, "switch", "--to", destination, "--yes")
    assert run_sql(destination, "select * from item") == [(1, "a")]


def test_continued_copy_is_complete(start, source, destination):
    """A run that copies changes leaves nothing that the next run has to copy."""
    start("run", "--to", destination)
    with closing(sqlite3.connect(source)) as db, db:
        db.execute("update person set note = 'new' where id = 'p0003'")
        db.execute("delete from event")
    start("run", "--to", destination)
    tables = {name: content for name, content in read_state(destination).items() if name.startswith("table/")}
    assert {name: (part["rows"], part["complete"]) for name, part in tables.items()} == {
        "table/event": (0, True),
        "table/member": (40, True),
        "table/person": (40, True),
        "table/room": (5, True),
    }


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_run_after_a_killed_preparation_of_tables_of_the_app_is_resumed(
    answer, monkeypatch, databases, tmp_path, engine
):
    source, destination = tmp_path / "app.db", databases(engine, tmp_path)
    run_sql(f"sqlite:///{source}", "create table item (id integer primary key, name text)")
    run_sql(destination, "create table item (id bigint primary key, name varchar(20))")
    words = ("--url", f"main={source}", "transfer", "run", "--to", destination)
    monkeypatch.setattr("dbctl.extensions.transfer.run._prepare_destination", fail)
    answer(*words, status=1)
    monkeypatch.undo()
    result = answer(*words)["data"]
    assert (result["schema"], result["resumed"]) == ("destination", True)
