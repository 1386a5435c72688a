"""Parts of a copy: the size of its transactions, rows that a trigger skips, and differences that are fetched in parts."""

from __future__ import annotations

import json
import time

import pytest

from dbctl.extensions.transfer import copy as copy_module
from dbctl.extensions.transfer import run as run_module
from dbctl.extensions.transfer import switch as switch_module
from dbctl.extensions.transfer.copy import TransferState
from tests.extensions.transfer.test_json import run_sql

SKIP = (
    "create function skip() returns trigger language plpgsql as $$begin return null; end$$",
    "create trigger skip before {} on item for each row when ({}.id = 7) execute function skip()",
)


@pytest.fixture
def path(tmp_path):
    """A file with 20 rows, whose lines have 8 or 9 bytes."""
    path = tmp_path / "app.db"
    run_sql(
        f"sqlite:///{path}",
        "create table item (id integer primary key, name text)",
        "create table other (id integer primary key)",
        *(f"insert into item values ({number}, 'name {number % 10}')" for number in range(1, 21)),
    )
    return path


@pytest.fixture
def transfer(answer, path):
    return lambda *words, **options: answer("--url", f"main={path}", "transfer", *words, **options)


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (6, 1 << 20, [6, 12, 18, 20]),
        (5, 1 << 20, [6, 12, 18, 20]),
        (7, 1 << 20, [8, 16, 20]),
        (1000, 32, [4, 8, 12, 16, 20]),  # lines of 8 bytes, and later of 9
        (1000, 33, [6, 10, 14, 18, 20]),
        (1000, 1 << 20, [20]),
    ],
)
def test_size_of_transactions(transfer, monkeypatch, databases, tmp_path, rows, size, expected):
    """A killed copy repeats at most the rows of one transaction; batches have two rows."""
    monkeypatch.setattr(copy_module, "CHUNK_ROWS", rows)
    monkeypatch.setattr(copy_module, "CHUNK_BYTES", size)
    monkeypatch.setattr("dbctl.extensions.transfer.engines.sqlite.rows.BATCH_ROWS", 2)
    saved, save = list[tuple[str, int, bool]](), TransferState.save_table

    def record(self, table, state):
        saved.append((table, state.digest.rows, state.is_complete))
        save(self, table, state)

    monkeypatch.setattr(TransferState, "save_table", record)
    transfer("run", "--to", databases("postgresql", tmp_path))
    assert [part for part in saved if part[0] == "item"] == [
        ("item", number, number == 20) for number in expected
    ]
    assert [part for part in saved if part[0] == "other"] == [("other", 0, True)]


def test_rows_without_a_position_are_one_transaction(answer, monkeypatch, databases, tmp_path):
    """A copy of them cannot continue."""
    monkeypatch.setattr(copy_module, "CHUNK_ROWS", 1)
    monkeypatch.setattr("dbctl.extensions.transfer.engines.postgresql.rows.BATCH_ROWS", 2, raising=False)
    source, destination = databases("postgresql", tmp_path), tmp_path / "new.db"
    run_sql(
        source, "create table line (content text)", "insert into line select 'x' from generate_series(1, 9)"
    )
    answer("--url", f"main={source}", "transfer", "run", "--to", str(destination))
    ((content,),) = run_sql(
        f"sqlite:///{destination}", "select content from dbctl_transfer where name = 'table/line'"
    )
    assert (json.loads(content)["rows"], json.loads(content)["position"]) == (9, "")


def test_row_that_a_trigger_skips_is_refused(transfer, monkeypatch, databases, tmp_path):
    """Another session creates the trigger after the tables."""
    destination = databases("postgresql", tmp_path)
    copy_table = run_module.copy_table

    def copy(*arguments):
        if not run_sql(destination, "select 1 from pg_trigger where tgname = 'skip'"):
            run_sql(destination, *(sql.format("insert", "new") for sql in SKIP))
        copy_table(*arguments)

    monkeypatch.setattr(run_module, "copy_table", copy)
    error = transfer("run", "--to", destination, status=6)["error"]
    assert (error["code"], "19 of 20 rows" in error["message"]) == ("constraint", True)
    assert "copied rows remain" in error["hint"]
    assert run_sql(destination, "select count(*) from item") == [(0,)]


@pytest.mark.slow
@pytest.mark.parametrize(("event", "row"), [("insert", "new"), ("delete", "old")])
def test_change_that_a_trigger_skips_is_refused(transfer, monkeypatch, databases, tmp_path, path, event, row):
    destination = databases("postgresql", tmp_path)
    transfer("run", "--to", destination)
    run_sql(f"sqlite:///{path}", "update item set name = 'new' where id in (7, 8)")
    synchronize = switch_module.synchronize

    def change(*arguments):
        if not run_sql(destination, "select 1 from pg_trigger where tgname = 'skip'"):
            run_sql(destination, *(sql.format(event, row) for sql in SKIP))
        return synchronize(*arguments)

    monkeypatch.setattr(switch_module, "synchronize", change)
    error = transfer("switch", "--to", destination, "--yes", status=6)["error"]
    assert (error["code"], "1 of 2 rows" in error["message"]) == ("constraint", True)
    assert run_sql(destination, "select count(*) from item where name = 'new'") == [(0,)]
    monkeypatch.undo()
    run_sql(destination, "drop trigger skip on item")
    assert transfer("switch", "--to", destination, "--yes")["data"]["changes"] == [
        {"table": "item", "added": 0, "changed": 2, "deleted": 0}
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 19])
def test_differences_are_fetched_in_parts(transfer, monkeypatch, databases, tmp_path, path, count):
    monkeypatch.setattr(copy_module, "KEYS", count)
    destination = databases("postgresql", tmp_path)
    transfer("run", "--to", destination)
    run_sql(f"sqlite:///{path}", "update item set name = 'new'", "insert into item values (21, 'x')")
    assert transfer("switch", "--to", destination, "--yes")["data"]["changes"] == [
        {"table": "item", "added": 1, "changed": 20, "deleted": 0}
    ]


def test_rows_without_a_key_are_replaced(answer, databases, tmp_path):
    source, destination = databases("postgresql", tmp_path), str(tmp_path / "new.db")
    run_sql(source, "create table line (content text)", "insert into line values ('a'), ('a'), ('b')")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    run_sql(source, "insert into line values ('c')")
    assert answer(*words, "switch", "--to", destination, "--yes")["data"]["changes"] == [
        {"table": "line", "added": 4, "changed": 0, "deleted": 3}
    ]


def test_durations_are_those_of_the_run(transfer, databases, tmp_path):
    """In seconds, to the millisecond."""
    begin = time.monotonic()
    result = transfer("run", "--to", databases("sqlite", tmp_path))["data"]
    elapsed = time.monotonic() - begin
    parts = [result["copy_seconds"], result["verify_seconds"]]
    assert 0 <= sum(parts) <= elapsed + 0.001
    assert parts == [round(part, 3) for part in parts]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_names_may_have_any_signs(answer, databases, tmp_path, engine):
    source, destination = tmp_path / "app.db", databases(engine, tmp_path)
    run_sql(
        f"sqlite:///{source}",
        """create table "{x} %s :p 'it''s' `a`" ("{}" integer primary key, "{0} %(x)s ?" text, ":y" text)""",
        """insert into "{x} %s :p 'it''s' `a`" values (1, 'a', '{}'), (2, null, '%')""",
        f"""insert into "{{x}} %s :p 'it''s' `a`" values (3, cast(x'{b"raw".hex()}ff' as text), 'b')"""
        if engine == "sqlite"
        else "select 1",
    )
    for command in ("run", "verify"):
        answer("--url", f"main={source}", "transfer", command, "--to", str(destination))
