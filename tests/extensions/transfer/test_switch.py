"""``transfer switch`` step by step: what it counts, what it refuses, and what remains unchanged then."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from urllib.parse import quote

import pytest
from msgspec import structs

from dbctl import progress
from dbctl.config.sections import Selection
from dbctl.errors.connection import BusyError
from dbctl.extensions.transfer import run as run_module
from dbctl.extensions.transfer import switch as switch_module
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.errors import TransferMissingError
from dbctl.extensions.transfer.run import RunTransfer, verify_transfer
from dbctl.extensions.transfer.schema import SchemaOptions
from dbctl.extensions.transfer.switch import SwitchTransfer
from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.test_json import run_sql
from tests.observed_progress import observe_progress

ENGINES = ["sqlite", "postgresql", "mysql"]
CHANGES = [
    *(
        f"insert into person (id, mail) values ('new{number}', 'new{number}@example.org')"
        for number in range(3)
    ),
    "update person set note = 'changed' where id in ('p0001', 'p0002')",
    "delete from member where person = 'p0004'",
    "delete from person where id = 'p0004'",
]


@pytest.fixture
def start(answer, source):
    """Run a command of the group on the source."""
    return lambda *words, **options: answer("--url", f"main={source}", "transfer", *words, **options)


@pytest.fixture
def change(source):
    """Return a function that runs statements on the source."""
    return lambda *statements: run_sql(f"sqlite:///{source}", *statements)


@contextmanager
def open_endpoints(source, destination):
    from dbctl.services.app.session import open_app

    with open_app(Selection(urls=[f"main={source}"]), timeout=5) as app:
        yield Endpoints(app, parse_url(destination))


def after(monkeypatch, module, name, action):
    """Run ``action`` after each call of a function of a module."""
    original = getattr(module, name)

    def call(*arguments):
        result = original(*arguments)
        action()
        return result

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("engine", ENGINES)
def test_changes_are_counted_by_table(start, change, databases, tmp_path, source, engine):
    destination = databases(engine, tmp_path)
    start("run", "--to", destination)
    change(*CHANGES)
    with open_endpoints(source, destination) as endpoints:
        result = SwitchTransfer(endpoints).apply()
        names = endpoints.destination_url.option_names
    assert ("schema" in names) == (engine == "postgresql")
    assert all(name in result.next_steps[0] for name in names)
    changes = {part.table: (part.added, part.changed, part.deleted) for part in result.changes}
    assert changes == {"person": (3, 2, 1), "member": (0, 0, 1)}
    assert result.effect is not None
    assert result.effect.counts == {
        "tables": 4,
        "rows equal": 5 + 42 + 39 + 16,
        "changes since the copy": 7,
        "tables of the source locked": 4,
    }
    assert sorted(list(row.values())[:5] for row in result.summary()) == [
        ["event", 16, 0, 0, 0],
        ["member", 39, 0, 0, 1],
        ["person", 42, 3, 2, 1],
        ["room", 5, 0, 0, 0],
    ]
    assert len(result.next_steps) == 2


def test_plan_of_a_switch(start, databases, tmp_path, source):
    destination = databases("postgresql", tmp_path)
    start("run", "--to", destination)
    plan = start("switch", "--to", destination, "--dry-run")["data"]["plan"]
    assert (plan["destructive"], len(plan["steps"])) == (True, 4)
    assert "--unlock" in plan["steps"][0]
    assert str(source) in plan["steps"][0]
    start("switch", "--to", destination, status=6)  # it asks for --yes


def test_switch_to_a_missing_file_creates_none(source, tmp_path):
    destination = tmp_path / "missing.db"
    with open_endpoints(source, f"sqlite:///{destination}") as endpoints, pytest.raises(TransferMissingError):
        SwitchTransfer(endpoints).apply()
    assert not destination.exists()


def test_changed_schema_is_refused_before_a_row_is_copied(start, change, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    start("run", "--to", destination)
    change("delete from event", *(f"create index i{number} on room (floor)" for number in range(7)))
    error = start("switch", "--to", destination, "--yes", status=4)["error"]
    assert error["code"] == "transfer-schema-changed"
    assert "transfer run" in error["hint"]  # to run the switch again would not help
    assert len(re.findall(r"index i\d of room is new", error["message"])) == 5
    assert run_sql(destination, "select count(*) from event") == [(16,)]
    change("insert into event values (null, 'it is not locked')")


@pytest.mark.slow
def test_schema_that_changes_during_the_switch_is_refused(start, change, monkeypatch, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    change("pragma journal_mode = wal")  # so that readers block no writer
    start("run", "--to", destination)
    after(monkeypatch, switch_module, "finish_copy", lambda: change("create index late on room (floor)"))
    error = start("switch", "--to", destination, "--yes", status=4)["error"]
    assert (error["code"], "late" in error["message"]) == ("transfer-schema-changed", True)


@pytest.mark.slow
def test_writes_that_the_lock_does_not_refuse_are_noticed(
    start, change, monkeypatch, databases, tmp_path, source
):
    destination = databases("postgresql", tmp_path)
    change("pragma journal_mode = wal")
    start("run", "--to", destination)

    def write():
        triggers = change("select name, sql from sqlite_master where type = 'trigger' and tbl_name = 'event'")
        change(
            *(f'drop trigger "{name}"' for name, _ in triggers),
            "insert into event values (null, 'late')",
            *(sql for _, sql in triggers),
        )

    after(monkeypatch, switch_module, "finish_copy", write)
    error = start("switch", "--to", destination, "--yes", status=None)["error"]
    assert (error["code"], error["message"].count("event"), "person" in error["message"]) == (
        "source-changing", 1, False,
    )  # fmt: skip
    monkeypatch.undo()
    assert start("switch", "--to", destination, "--yes")["data"]["rows"] == 102


def test_destination_that_changes_during_the_copy_is_refused(start, monkeypatch, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    after(
        monkeypatch,
        run_module,
        "finish_copy",
        lambda: run_sql(destination, "delete from event where message = ''"),
    )
    error = start("run", "--to", destination, status=4)["error"]
    assert (error["code"], "event" in error["message"], "person" in error["message"]) == (
        "transfer-different", True, False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("is_known", [True, False])
def test_source_that_cannot_be_unlocked_is_named(start, monkeypatch, databases, tmp_path, is_known):
    destination = databases("postgresql", tmp_path)
    start("run", "--to", destination)

    def fail(*_arguments):
        if is_known:
            raise TransferMissingError(target="x", url="y")
        raise ZeroDivisionError

    def refuse(*_arguments):
        raise BusyError(target="x", holder="", waited=0)

    monkeypatch.setattr(switch_module, "drop_state", fail)
    monkeypatch.setattr(SwitchTransfer, "_unlock", refuse)
    error = start("switch", "--to", destination, "--yes", status=5 if is_known else 1)["error"]
    assert ("--unlock" in (error["hint"] or "")) is is_known


@pytest.mark.parametrize("engine", ENGINES)
def test_same_change_of_both_sides(start, change, databases, tmp_path, engine):
    destination = databases(engine, tmp_path)
    start("run", "--to", destination)
    for execute in (change, lambda sql: run_sql(destination, sql)):
        execute("update person set note = 'changed' where id = 'p0001'")
    assert start("switch", "--to", destination, "--yes")["data"]["changes"] == []


@pytest.mark.slow
def test_indexes_remain(start, change, databases, tmp_path):
    """To create those of a large table again takes longer than the changes."""
    destination = databases("postgresql", tmp_path)
    indexes = "select indexrelid from pg_index where indrelid = 'person'::regclass order by 1"
    start("run", "--to", destination)
    before = run_sql(destination, indexes)
    change(*CHANGES)
    start("run", "--to", destination)
    assert run_sql(destination, indexes) == before
    change("delete from event")
    start("switch", "--to", destination, "--yes")
    assert run_sql(destination, indexes) == before


@pytest.mark.slow
def test_progress_counts_the_rows_that_are_read(databases, tmp_path, source):
    destination, counts = databases("postgresql", tmp_path), list[int]()
    stages = list[str]()
    work = progress.Work("transfer run")
    work.on_stage = lambda: stages.append(work.report().stage)
    work.measure("", None, "rows")
    with open_endpoints(source, destination) as endpoints, progress.track(work, None):
        RunTransfer(endpoints, SchemaOptions()).apply()
    assert work.report().done == 2 * 101
    copying = [stage for stage in stages if "copying" in stage]
    assert [stage.partition(",")[0] for stage in copying] == [
        f"{number} of 4 tables" for number in range(1, 5)
    ]
    assert {stage.split()[-1] for stage in copying} == {"room", "person", "member", "event"}
    with open_endpoints(source, destination) as endpoints, observe_progress(counts.append):
        verify_transfer(endpoints)
        assert sum(counts) == 2 * 101
        counts.clear()
        SwitchTransfer(endpoints).apply()
    assert sum(counts) == 4 * 101


@pytest.mark.slow
def test_unlocking_counts_the_tables(answer, start, databases, tmp_path, source):
    destination = databases("postgresql", tmp_path)
    start("run", "--to", destination)
    start("switch", "--to", destination, "--yes")
    plan = start("switch", "--unlock", "--dry-run")["data"]["plan"]
    assert [
        name in step for name, step in zip(["event", "member", "person", "room"], plan["steps"], strict=True)
    ]
    result = start("switch", "--unlock", "--yes")["data"]
    assert (result["effect"]["count"], result["source"]) == (4, str(source))
    assert start("switch", "--unlock", "--yes")["data"]["effect"] is None


def test_next_step_has_the_address_of_the_destination(start, source):
    with servers.mysql_database() as url:
        name = f"{url.path}_a?b%41"
        with closing(servers.mysql_connection(url)) as db, db.cursor() as cursor:
            cursor.execute(f'create database "{name}"')
        to = servers.text(structs.replace(url, path=quote(name)))
        start("run", "--to", to)
        warnings = start("switch", "--to", to, "--yes")["warnings"]
    (address,) = re.findall('set main = "(.*?)"', "\n".join(warnings))
    assert parse_url(address).path == name
