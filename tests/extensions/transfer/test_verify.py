"""What ``transfer verify`` reports: rows, keys, objects, and their numbers in its closing line."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from xxhash import xxh3_128_intdigest

from dbctl.cli.main import main
from dbctl.engines import registry
from dbctl.extensions.transfer.portable.write_lock import WriteProof
from dbctl.extensions.transfer.run import SchemaDifference, TransferVerification, VerifiedTable
from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.test_json import run_sql

COUNT = 30


@pytest.fixture
def path(tmp_path):
    """A file with a table of many rows, one without a key, and one without rows."""
    path = tmp_path / "app.db"
    run_sql(
        f"sqlite:///{path}",
        "create table item (id integer primary key, name text)",
        *(f"insert into item values ({number}, 'item {number}')" for number in range(1, COUNT + 1)),
        "create table line (content text, size integer)",
        "insert into line values ('same', 1), ('same', 1), (null, 2)",
        "create table blank (id integer primary key)",
    )
    return path


@pytest.fixture
def transfer(answer, path):
    return lambda *words, **options: answer("--url", f"main={path}", "transfer", *words, **options)


def digest(*lines):
    return f"{sum(map(xxh3_128_intdigest, lines)) % (1 << 128):032x}"


@pytest.mark.slow
def test_report_of_rows_that_differ(transfer, databases, tmp_path, path):
    destination = databases("postgresql", tmp_path)
    transfer("run", "--to", destination)
    run_sql(
        destination,
        "update item set name = 'other' where id = 3",
        "delete from item where id = 29",
        "insert into item values (0, null)",
        "delete from line where size = 2",
        "insert into line values (null, null)",
    )
    report = transfer("verify", "--to", destination, status=4)["data"]
    items = {number: b"%d\titem %d" % (number, number) for number in range(1, COUNT + 1)}
    others = {**items, 3: b"3\tother", 0: b"0\t\\N"}
    del others[29]
    tables = [
        {
            "table": "item",
            "source_rows": 30,
            "destination_rows": 30,
            "source_digest": digest(*items.values()),
            "destination_digest": digest(*others.values()),
            "equal": False,
            "missing": 1,
            "changed": 1,
            "extra": 1,
            "keys": [{"id": "29"}, {"id": "3"}, {"id": "0"}],
            "counted": True,
        },
        {
            "table": "line",
            "source_rows": 3,
            "destination_rows": 3,
            "source_digest": digest(b"same\t1", b"same\t1", b"\\N\t2"),
            "destination_digest": digest(b"same\t1", b"same\t1", b"\\N\t\\N"),
            "equal": False,
            "missing": 1,
            "changed": 0,
            "extra": 1,
            "keys": [{"content": "", "size": "2"}, {"content": "", "size": ""}],
            "counted": True,
        },
        {
            "table": "blank",
            "source_rows": 0,
            "destination_rows": 0,
            "source_digest": digest(),
            "destination_digest": digest(),
            "equal": True,
            "missing": 0,
            "changed": 0,
            "extra": 0,
            "keys": [],
            "counted": True,
        },
    ]
    assert sorted(report.pop("tables"), key=str) == sorted(tables, key=str)
    assert report == {
        "target": "app/main",
        "source": str(path),
        "destination": report["destination"],
        "equal": False,
        "objects": [],
        "counters": [],
        "writes": [],
        "new_user": None,
    }


@pytest.mark.slow
def test_first_keys_of_many_rows_are_listed(transfer, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    transfer("run", "--to", destination)
    run_sql(destination, "delete from item")
    (table,) = (
        table
        for table in transfer("verify", "--to", destination, status=4)["data"]["tables"]
        if table["table"] == "item"
    )
    assert (table["missing"], table["counted"]) == (COUNT, True)
    assert table["keys"] == [{"id": str(number)} for number in range(1, 21)]


def test_differences_are_counted_up_to_a_limit(transfer, monkeypatch, databases, tmp_path):
    destination = databases("sqlite", tmp_path)
    transfer("run", "--to", destination)
    run_sql(destination, "delete from item")
    monkeypatch.setattr("dbctl.extensions.transfer.run.MAX_DIFFERENCES", 4)
    monkeypatch.setattr("dbctl.extensions.transfer.compare._FIRST_WIDTH", 1)
    monkeypatch.setattr("dbctl.extensions.transfer.compare.MAX_ROWS", 5)
    tables = transfer("verify", "--to", destination, status=4)["data"]["tables"]
    (table,) = (table for table in tables if table["table"] == "item")
    assert (table["counted"], table["equal"], table["missing"] < COUNT) == (False, False, True)


def test_tables_of_which_only_the_definition_differs_are_compared(transfer, databases, tmp_path):
    destination = databases("sqlite", tmp_path)
    transfer("run", "--to", destination)
    run_sql(
        destination, "alter table item add more text", "delete from line", "create index sized on line (size)"
    )
    report = transfer("verify", "--to", destination, status=4)["data"]
    assert {table["table"]: table["equal"] for table in report["tables"]} == {
        "item": True,
        "line": False,
        "blank": True,
    }
    assert report["objects"] == [
        {"kind": "index", "name": "sized", "difference": "only in the destination"},
        {"kind": "table", "name": "item", "difference": "different"},
    ]


@pytest.mark.slow
def test_destination_in_use_is_reported_as_refused(transfer, databases, tmp_path):
    destination = databases("postgresql", tmp_path)
    transfer("run", "--to", destination)
    transfer("switch", "--to", destination, "--yes")
    engine = registry.load_engine("postgresql")
    with closing(engine.open_for_writing(parse_url(destination), "x/y", timeout=1)) as db, db.lock("test"):
        words = ("verify", "--to", destination, "--timeout", "0")
        (proof,) = transfer(*words, status=4)["data"]["writes"]
    assert (proof["table"], proof["outcome"], bool(proof["reason"])) == ("the database", "refused", True)
    assert [proof["outcome"] for proof in transfer("verify", "--to", destination)["data"]["writes"]]


@pytest.mark.slow
def test_rows_of_ledgers_are_not_compared(answer, databases, tmp_path):
    path, destination = tmp_path / "shop.db", databases("postgresql", tmp_path)
    run_sql(
        f"sqlite:///{path}",
        "create table item (id integer primary key)",
        "create table django_migrations (id integer primary key autoincrement, app varchar(255) not null,"
        " name varchar(255) not null, applied datetime not null)",
        "insert into django_migrations values (1, 'shop', '0001_initial', '2026-01-02 03:04:05')",
    )
    words = ("--url", f"main={path}", "transfer")
    answer(*words, "run", "--to", destination)
    run_sql(destination, "update django_migrations set applied = now()")
    report = answer(*words, "verify", "--to", destination)["data"]
    assert [table["table"] for table in report["tables"]] == ["item"]
    switched = answer(*words, "switch", "--to", destination, "--yes")["data"]
    assert [table["table"] for table in switched["tables"]] == ["item"]
    assert run_sql(destination, "select applied > '2026-02-01' from django_migrations") == [(True,)]


@pytest.mark.slow
def test_derived_copy_of_an_app_with_pending_migrations_is_compared_and_switched(answer, databases, tmp_path):
    answer("demo", "promptvault", str(tmp_path / "app"))
    database = next((tmp_path / "app").rglob("promptvault.db"))
    run_sql(
        f"sqlite:///{database}",
        "delete from _prisma_migrations where migration_name = '20250828120646_add_public_sharing_fields'",
    )
    words = ("--config", str(tmp_path / "app" / "dbctl.toml"), "transfer")
    destination = databases("postgresql", tmp_path)
    answer(*words, "run", "--derive", "--to", destination)
    assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True
    steps = answer(*words, "switch", "--to", destination, "--yes")["data"]["next_steps"]
    assert [step.split()[:2] for step in steps[:2]] == [["set", "main"], ["set", "DATABASE_URL"]]


@pytest.mark.slow
def test_tables_outside_of_the_search_path_are_compared(answer):
    with (
        servers.postgresql_database(encoding="UTF8") as first,
        servers.postgresql_database(encoding="UTF8") as second,
    ):
        source, destination = map(servers.text, (first, second))
        run_sql(
            source,
            "create schema extra",
            "create table extra.area (id int primary key)",
            "insert into extra.area values (1)",
            f"alter database {first.path} set search_path = extra, public",
        )
        words = ("--url", f"main={source}", "transfer")
        answer(*words, "run", "--to", destination)
        assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True
        run_sql(destination, "delete from extra.area")
        (table,) = answer(*words, "verify", "--to", destination, status=4)["data"]["tables"]
        assert (table["missing"], table["keys"]) == (1, [{"id": "1"}])


TABLE = VerifiedTable(
    table="item",
    source_rows=1,
    destination_rows=1,
    source_digest="00",
    destination_digest="00",
    equal=True,
    missing=0,
    changed=0,
    extra=0,
    keys=(),
    counted=True,
)
DIFFERENT = VerifiedTable(
    table="line",
    source_rows=1,
    destination_rows=0,
    source_digest="01",
    destination_digest="00",
    equal=False,
    missing=1,
    changed=0,
    extra=0,
    keys=(),
    counted=True,
)
OBJECT = SchemaDifference(kind="index", name="i", difference="missing")
PROOFS = {
    name: WriteProof(table=name, outcome=name, reason="" if name == "accepted" else "why")
    for name in ("accepted", "refused", "unknown")
}


@pytest.mark.parametrize(
    ("equal", "tables", "objects", "counters", "writes", "details", "status"),
    [
        (True, [TABLE], [], [], [], ["all equal"], 0),
        (True, [TABLE], [], [], ["accepted", "accepted", "unknown"], ["all equal", "2 accept new rows", "1 could not be tried"], 0),
        (True, [TABLE], [], [], ["refused", "accepted"], ["all equal", "1 accept new rows", "1 refuse new rows"], 4),
        (True, [TABLE], [], ["behind"], [], ["all equal", "1 sequence behind the rows"], 4),
        (False, [TABLE], [OBJECT], [], [], ["all rows equal", "1 object of the schema differ"], 4),
        (False, [TABLE, DIFFERENT], [OBJECT, OBJECT], ["a", "b"], ["accepted"],
         ["1 differ", "2 objects of the schema differ", "2 sequences behind the rows", "1 accept new rows"], 4),
    ],
)  # fmt: skip
def test_closing_line_counts_the_differences(equal, tables, objects, counters, writes, details, status):
    report = TransferVerification(
        target="app/main",
        source="a",
        destination="b",
        equal=equal,
        tables=tables,
        objects=objects,
        counters=counters,
        writes=[PROOFS[name] for name in writes],
    )
    assert (report.closing.details, report.status) == (details, status)
    assert report.closing.text == f"Compared {len(tables)} table{'s' if len(tables) > 1 else ''}"
    assert len(report.remarks) == len(counters) + writes.count("refused")
    assert [proof.outcome for proof in report.sections()["writes"]] == [
        name for name in writes if name != "accepted"
    ]


@pytest.mark.slow
def test_lines_of_commands(capsys, databases, tmp_path, path):
    """The last line of a command contains its duration."""
    destination = databases("postgresql", tmp_path)

    def run(*words, status=0):
        assert main(["--url", f"main={path}", "transfer", *words]) == status
        output = capsys.readouterr()
        assert re.search(r" in [\d.]+ (ms|s)\b", output.err), words
        return [line.split() for line in output.out.splitlines()]

    assert ["item", "30"] in [line[:2] for line in run("plan", "--to", destination)]
    run("run", "--to", destination)
    run_sql(destination, "delete from item where id = 3", "create table unrelated (id int)")
    lines = run("verify", "--to", destination, status=4)
    assert ["item", "30", "29", "no", "1", "0", "0"] in lines
    assert ["blank", "0", "0", "yes", "0", "0", "0"] in lines
    run("switch", "--to", destination, "--yes")
