"""Writes of the app after the copy, interrupted transfers, and the comparison of both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.extensions.transfer.copy import TransferState
from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.conftest import digests

ENGINES = ["sqlite", "postgresql", "mysql"]
CHANGES = """
insert into room values (101, 'new room', 1, null);
insert into person (id, mail, created_at, chief) values ('new', 'new@example.org', 1, 'p0003');
update person set mail = 'old@example.org' where id = 'p0001';
update person set mail = 'p1@example.org' where id = 'p0002';
update person set mail = 'p2@example.org' where id = 'p0001';
update person set photo = x'00' where id = 'p0009';
delete from member where person = 'p0005';
update person set chief = null where chief = 'p0005';
delete from person where id = 'p0005';
insert into event values ('2026-03-03 00:00:00', 'a second');
update event set message = 'changed' where message = 'plain';
"""


def run(path, *statements):
    with closing(sqlite3.connect(path)) as db:
        for sql in statements:
            db.executescript(sql)


def execute(url_text, *statements):
    """Run statements in a file, or with the client of a PostgreSQL server."""
    if url_text.startswith("sqlite"):
        run(url_text.removeprefix("sqlite:///"), *statements)
        return
    with closing(servers.connection(parse_url(url_text))) as connection:
        for sql in statements:
            connection.execute(sql)


@pytest.fixture
def start(answer, source):
    """Run a command of the group on the source."""
    return lambda *words, **options: answer("--url", f"main={source}", "transfer", *words, **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_switch_copies_all_changes_since_the_copy(start, answer, tmp_path, databases, source, engine):
    destination = databases(engine, tmp_path)
    start("run", "--to", destination)
    run(source, CHANGES)
    differences = start("verify", "--to", destination, status=4)["data"]
    counts = {
        table["table"]: (table["missing"], table["changed"], table["extra"])
        for table in differences["tables"]
    }
    events = (
        (1, 2, 0) if engine == "sqlite" else (3, 0, 2)
    )  # the rowid identifies the rows of a table without a key
    assert counts == {"room": (1, 0, 0), "person": (1, 4, 1), "member": (0, 0, 1), "event": events}
    changes = start("switch", "--to", destination, "--yes")["data"]["changes"]
    assert {change["table"] for change in changes} == {"room", "person", "member", "event"}
    assert start("verify", "--to", destination)["data"]["equal"] is True


@pytest.mark.slow
def test_second_run_copies_changes(start, tmp_path, databases, source):
    destination = databases("postgresql", tmp_path)
    first = start("run", "--to", destination)["data"]
    run(source, CHANGES)
    second = start("run", "--to", destination)["data"]
    assert (first["resumed"], second["resumed"]) == (False, True)
    assert digests({"data": first}) != digests({"data": second})
    assert start("verify", "--to", destination)["data"]["equal"] is True


def test_more_changes_than_fit_in_memory_replace_the_table(start, monkeypatch, tmp_path, databases, source):
    monkeypatch.setattr("dbctl.extensions.transfer.copy.MAX_DIFFERENCES", 3)
    monkeypatch.setattr("dbctl.extensions.transfer.compare.MAX_ROWS", 1)
    destination = databases("sqlite", tmp_path)
    start("run", "--to", destination)
    run(source, "update person set note = 'x' || id")
    (change,) = start("switch", "--to", destination, "--yes")["data"]["changes"]
    assert (change["table"], change["added"], change["deleted"]) == ("person", 40, 40)


def test_verify_reports_keys_of_rows_changed_in_the_destination(start, tmp_path, databases):
    destination = databases("sqlite", tmp_path)
    start("run", "--to", destination)
    run(
        tmp_path / "destination.db",
        "update person set height = 1.5 where id = 'p0007'; delete from member where person = 'p0008'",
    )
    tables = {
        table["table"]: table for table in start("verify", "--to", destination, status=4)["data"]["tables"]
    }
    assert (tables["person"]["changed"], tables["person"]["keys"]) == (1, [{"id": "p0007"}])
    assert (tables["member"]["missing"], tables["member"]["keys"]) == (1, [{"person": "p0008", "room": "28"}])
    assert tables["room"]["equal"] is True


def test_switch_without_copy_is_refused(start, tmp_path, databases):
    destination = databases("postgresql", tmp_path)
    assert start("switch", "--to", destination, "--yes", status=5)["error"]["code"] == "transfer-missing"


def test_switch_is_not_repeated(start, tmp_path, databases):
    destination = databases("sqlite", tmp_path)
    start("run", "--to", destination)
    start("switch", "--to", destination, "--yes")
    start("switch", "--to", destination, "--yes", status=5)
    assert start("run", "--to", destination, status=6)["error"]["code"] == "transfer-destination"


def test_switch_waits_for_no_writer(start, tmp_path, databases, source):
    destination = databases("sqlite", tmp_path)
    start("run", "--to", destination)
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("begin immediate")
        error = start("switch", "--to", destination, "--yes", "--timeout", "0", status=11)["error"]
    assert error["code"] == "busy"
    start("switch", "--to", destination, "--yes")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stop", ["copy", "attach", "finish"])
def test_interrupted_transfer_continues(start, monkeypatch, tmp_path, databases, source, engine, stop):
    """An error ends the first run: after some parts of 10 rows, after the first index or foreign key, or at the end."""
    monkeypatch.setattr("dbctl.extensions.transfer.copy.CHUNK_ROWS", 10)
    modules = (
        "dbctl.extensions.transfer.engines.sqlite.rows",
        "dbctl.extensions.transfer.engines.postgresql.rows",
        "dbctl.engines.mysql.queries",
    )
    for module in modules:
        monkeypatch.setattr(f"{module}.BATCH_ROWS", 5)
    destination = databases(engine, tmp_path)

    class KilledError(Exception):
        pass

    def fail(*_arguments):
        raise KilledError

    if stop == "finish":
        monkeypatch.setattr("dbctl.extensions.transfer.run.finish_copy", fail)
    elif stop == "attach":
        monkeypatch.setattr(TransferState, "remove_attachment", fail)
    else:
        save, calls = TransferState.save_table, []

        def save_some(self, *arguments):
            save(self, *arguments)
            calls.append(arguments)
            if len(calls) == 4:
                fail()

        monkeypatch.setattr(TransferState, "save_table", save_some)
    start("run", "--to", destination, status=1)
    monkeypatch.undo()
    run(source, CHANGES)  # also in rows that were copied already
    result = start("run", "--to", destination)["data"]
    assert result["resumed"] is True
    assert start("verify", "--to", destination)["data"]["equal"] is True
    start("switch", "--to", destination, "--yes")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_verify_reports_columns_that_only_one_side_has(answer, tmp_path, databases, engine):
    """Both databases have the same engine."""
    (tmp_path / "other").mkdir()
    first, second = databases(engine, tmp_path), databases(engine, tmp_path / "other")
    execute(first, "create table item (id integer primary key, name text, size integer)")
    execute(first, "create table other (id integer primary key)")
    answer("--url", f"main={first}", "transfer", "run", "--to", second)
    execute(second, "alter table item drop column size", "alter table other add column more text")
    result = answer("--url", f"main={first}", "transfer", "verify", "--to", second, status=4)["data"]
    differences = [(part["kind"], part["name"], part["difference"]) for part in result["objects"]]
    assert ("column", "item.size", "missing") in differences
    assert sorted(
        name.removeprefix("public.").rpartition(".")[2] for kind, name, _ in differences if kind == "table"
    ) == ["item", "other"]
    assert [table["table"] for table in result["tables"]] == ["other"]
