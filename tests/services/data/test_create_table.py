"""``data import --create`` on each engine: exact values, types by the whole file, refusals that leave nothing, undo, and kills."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from tests import servers

#: Each column has a value that is lost if the type is selected by the first lines, or by the form of numbers alone.
CSV = """id,name,zip,price,weight,big,day,code,empty,exponent,mixed,underscore,signed,huge,blank
1,Cleo,00123,19.90,1.5,123456789012345678901,2026-01-01,7,,1e5,1,1,1,1,1
2,"Anna ""x""; y",12345,5.00,2.25,3,2026-02-01,8,,2.5e-3,x,1_000,+2,1e999,""
3,,99,1000.10,3,-4,,-0,,7,,3,3,3,3
"""
TYPES = {
    "sqlite": {"id": "integer", "price": "text", "weight": "real", "big": "text", "exponent": "real"},
    "postgresql": {
        "id": "bigint",
        "price": "numeric",
        "weight": "numeric",
        "big": "numeric",
        "exponent": "double precision",
    },
    "mysql": {
        "id": "bigint",
        "price": "decimal(6,2)",
        "weight": "decimal(3,2)",
        "big": "decimal(21,0)",
        "exponent": "double",
    },
}
JSON_ROWS = [
    '{"id": 1, "price": 19.90, "tags": {"b": [1, 2.50], "a": null}, "ok": true, "code": "007", "either": 1.50, "raw": {"$b64": "AP8="}}',
    '{"id": 9223372036854775807, "price": 0.10, "tags": [], "ok": false, "code": "8", "either": "x", "raw": null}',
    '{"id": -9223372036854775808, "price": 3.25, "tags": null, "ok": null, "code": null, "either": {"k": 1.10}, "raw": {"$b64": ""}}',
]


class Place:
    """An empty database with one table, and the command line on it."""

    def __init__(self, kind: str, url: str, run: Callable[[str], Sequence[Sequence[Any]]]) -> None:
        self.kind, self.url, self.run = kind, url, run

    def command(self, *words: str) -> int:
        return main([*words, "--url", f"main={self.url}"])


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    create = "create table shelves (id integer primary key)"
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as file:
            file.execute(create)
            yield Place("sqlite", str(tmp_path / "shop.db"), lambda sql: file.execute(sql).fetchall())
    elif request.param == "postgresql":
        with servers.postgresql_schema() as address, closing(servers.connection(address)) as session:
            session.execute(create)

            def fetch(sql: str) -> Sequence[Sequence[Any]]:
                cursor = session.execute(sql)  # type: ignore[call-overload]
                return cursor.fetchall() if cursor.description else []

            yield Place("postgresql", servers.text(address), fetch)
    else:
        with servers.mysql_database() as address, closing(servers.mysql_connection(address)) as mysql:

            def execute(sql: str) -> Sequence[Sequence[Any]]:
                mysql.commit()  # a new snapshot
                with mysql.cursor() as cursor:
                    cursor.execute(sql)
                    rows: Sequence[Sequence[Any]] = cursor.fetchall()
                mysql.commit()
                return rows

            execute(create)
            yield Place("mysql", str(address), execute)


def read_data(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out, parse_float=Decimal)


def list_tables(place: Place) -> set[str]:
    if place.kind == "sqlite":
        return {row[0] for row in place.run("select name from sqlite_master where type = 'table'")}
    schema = "current_schema()" if place.kind == "postgresql" else "database()"
    return {
        row[0]
        for row in place.run(
            f"select table_name from information_schema.tables where table_schema = {schema}"
        )
    }


def test_types_follow_from_every_line_and_no_digit_is_lost(place, tmp_path, capsys):
    (tmp_path / "deliveries.csv").write_text("\ufeff" + CSV)
    words = ("data", "import", "deliveries", "deliveries.csv", "--create", "--key", "id")
    assert place.command(*words, "--dry-run", "-o", "json") == 0
    plan = read_data(capsys)["data"]["plan"]
    assert list_tables(place) == {"shelves"}
    assert place.command(*words, "-o", "json") == 0
    created = read_data(capsys)["data"]["created"]
    assert [step for step in plan["steps"] if step.startswith("column")] == [
        f"column {name}: {declared}{', primary key' if name == 'id' else ''}"
        for name, declared in created.items()
    ]
    text = "longtext" if place.kind == "mysql" else "text"
    assert created == {**dict.fromkeys(CSV.partition("\n")[0].split(","), text), **TYPES[place.kind]}

    assert place.command("data", "export", "deliveries", "-", "--format", "csv") == 0
    stored = [line.split(",") for line in capsys.readouterr().out.replace('"', "").splitlines()]
    expected = [
        line.split(",") for line in CSV.replace('"Anna ""x""; y"', "Anna x; y").replace('""', "").splitlines()
    ]
    for cells, values in zip(stored, expected, strict=True):
        for name, cell, value in zip(expected[0], cells, values, strict=True):
            is_number = created[name] != text and value not in ("", name)
            assert Decimal(cell) == Decimal(value) if is_number else cell == value
    for name in ("price", "zip", "big"):
        values = [str(row[0]) for row in place.run(f"select {name} from deliveries order by id")]
        assert values == [cells[expected[0].index(name)] for cells in expected[1:]]


def test_values_of_json_are_stored_with_their_types(place, tmp_path, capsys):
    (tmp_path / "items.jsonl").write_text("\n".join(JSON_ROWS))
    assert place.command("data", "import", "items", "items.jsonl", "--create", "--key", "id") == 0
    assert place.command("data", "export", "items", "-", "--format", "jsonl") == 0
    rows = [json.loads(line, parse_float=str) for line in capsys.readouterr().out.splitlines()]
    rows.sort(key=lambda row: row["code"] or "~")
    assert [row["id"] for row in rows] == [1, 9223372036854775807, -9223372036854775808]
    assert [str(row["price"]) for row in rows] == ["19.90", "0.10", "3.25"]
    assert [row["either"] for row in rows] == ["1.50", "x", '{"k":1.10}']
    assert [row["raw"] for row in rows] == [{"$b64": "AP8="}, None, {"$b64": ""}]
    assert [row["ok"] for row in rows] == [True, False, None]
    stored = [
        row["tags"] if row["tags"] is None else json.loads(row["tags"], parse_float=str) for row in rows
    ]
    # A server of MySQL stores the number, not its text.
    decimal = "2.5" if place.kind == "mysql" and not servers.mysql_server().is_mariadb else "2.50"
    assert stored == [{"b": [1, decimal], "a": None}, [], None]


#: Content of files, and the exit code by which it is refused.
REFUSED_FILES = [
    (b"", 2),
    (b"a,,c\n1,2,3\n", 2),
    (b"a,A\n1,2\n", 2),
    (b"a,a\n1,2\n", 2),
    (b"a, b\n1,2\n", 2),
    (b"a;b\n1;2\n", 2),
    (b"a\tb\n1\t2\n", 2),
    (b"a,x\x1b[31m\n1,2\n", 2),
    (b"a,b\n1,2\n1\n", 2),
    (b'a,b\n1,"2\n', 2),
    (b"a,b\n1,\xff\n", 2),
    (b"a,b\n1,x\x00y\n", 2),
    (b"a,b\n,2\n", 2),  # the key is NULL
    (b"b,c\n1,2\n", 2),  # no column of the key
    (b"a,b\n1,2\n1,3\n", 6),  # a key twice
]


def test_refused_file_leaves_no_table(place, tmp_path):
    for content, status in REFUSED_FILES:
        (tmp_path / "rows.csv").write_bytes(content)
        assert place.command("data", "import", "fresh", "rows.csv", "--create", "--key", "a") == status, (
            content
        )
        assert list_tables(place) == {"shelves"}, content
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert place.command("data", "import", "fresh", "rows.csv", "--create") == 0


def test_texts_that_begin_like_bytes_are_texts(place, tmp_path):
    (tmp_path / "paths.csv").write_text("a,b\n\\x00ff,\\x00\n\\xyz,\\xFF\n")
    assert place.command("data", "import", "fresh", "paths.csv", "--create", "--key", "a") == 0
    assert sorted(str(row[0]) for row in place.run("select a from fresh")) == ["\\x00ff", "\\xyz"]
    assert sorted(bytes(row[0]) for row in place.run("select b from fresh")) == [b"\0", b"\xff"]


#: Files of another form, and a part of the error.
WRONG_FILES = [
    ("rows.csv", b"a\tb\n1\t2\n", "separate the columns by commas"),
    ("rows.csv", "a,b\n1,2\n".encode("utf-16"), "not valid UTF-8"),
    ("rows.json", b'[{"a": 1}]', "--format jsonl"),
]


def test_error_names_what_the_file_is(place, tmp_path, capsys):
    for file, content, words in WRONG_FILES:
        (tmp_path / file).write_bytes(content)
        assert place.command("data", "import", "fresh", file, "--create") == 2
        assert words in capsys.readouterr().err


def test_only_a_nul_in_json_is_refused(place, tmp_path):
    text = '{"a": ["%su0000"]}'
    (tmp_path / "nul.jsonl").write_text(text % "\\")
    assert place.command("data", "import", "fresh", "nul.jsonl", "--create") == 2
    (tmp_path / "text.jsonl").write_text(text % "\\\\")
    assert place.command("data", "import", "fresh", "text.jsonl", "--create") == 0
    assert json.loads(str(place.run("select cast(a as char(99)) from fresh")[0][0])) == ["\\u0000"]


#: Names that a new table cannot have, and the exit code.
NAMES_IN_USE = [("shelves", 6), ("SHELVES", 6), ("schema_migrations", 2), (" x", 2), ("", 2)]


def test_name_that_is_in_use_or_not_allowed_is_refused(place, tmp_path):
    not_allowed = {"sqlite": ("sqlite_x", 2), "postgresql": ("shelves_pkey", 6), "mysql": ("n" * 65, 2)}
    for name, status in [*NAMES_IN_USE, not_allowed[place.kind]]:
        (tmp_path / "rows.csv").write_text("a\n1\n")
        for more in ([], ["--dry-run"]):
            assert place.command("data", "import", name, "rows.csv", "--create", *more) == status
        assert list_tables(place) == {"shelves"}
        assert not place.run("select * from shelves")


@pytest.mark.parametrize("rows", [0, 3, 1500])
def test_undo_drops_the_table_until_its_rows_change(place, tmp_path, capsys, rows):
    (tmp_path / "rows.csv").write_text("id,v\n" + "".join(f"{row},x{row}\n" for row in range(rows)))
    assert place.command("data", "import", "fresh", "rows.csv", "--create", "--key", "id") == 0
    place.run("insert into fresh values ('-1', 'later')")
    capsys.readouterr()
    assert place.command("audit", "list", "-o", "json") == 0
    (operation,) = read_data(capsys)["data"]["items"]
    number = str(operation["operation"])
    assert place.command("undo", number, "--yes") == 6
    assert place.run("select count(*) from fresh")[0][0] == rows + 1
    place.run("delete from fresh where v = 'later'")
    if place.kind != "sqlite":  # which would wait for the lock of this connection
        place.run("alter table fresh add column more integer")
        assert place.command("undo", number, "--yes") == 6
        place.run("alter table fresh drop column more")
    capsys.readouterr()
    assert place.command("undo", number, "--yes") == 0
    assert f"Undid operation {number}: table fresh dropped" in capsys.readouterr().err
    assert list_tables(place) == {"shelves"}
    assert place.command("undo", number, "--yes") == 6
    capsys.readouterr()
    assert place.command("audit", "list", "-o", "json") == 0
    assert [item["result"] for item in read_data(capsys)["data"]["items"]] == ["committed", "committed"]


@pytest.mark.slow
def test_killed_import_leaves_no_rows_and_can_be_repeated(place, tmp_path):
    count = 60_000
    (tmp_path / "rows.csv").write_text("id,v\n" + "".join(f"{row},x{row}\n" for row in range(count)))
    line = [
        sys.executable,
        "-m",
        "dbctl",
        "data",
        "import",
        "fresh",
        "rows.csv",
        "--url",
        f"main={place.url}",
    ]
    process = subprocess.Popen([*line, "--create", "--key", "id"], stderr=subprocess.DEVNULL)
    # a server without transactions for its schema shows the table before the rows
    deadline = time.monotonic() + 30
    while process.poll() is None and "fresh" not in list_tables(place) and time.monotonic() < deadline:
        if place.kind != "mysql" and (tmp_path / "state").exists():
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if "fresh" in list_tables(place):
        assert place.kind == "mysql"
        assert place.run("select count(*) from fresh")[0][0] == 0
        again = line
    else:
        again = [*line, "--create", "--key", "id"]
    assert subprocess.run(again, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert place.run("select count(*) from fresh")[0][0] == count
