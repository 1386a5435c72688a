"""A refused import lists every line that a key or a foreign key refuses, on each engine and in each format."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.url import parse_url
from tests import servers

CREATE = [
    "create table shelves (id integer primary key, name varchar(20))",
    """create table books (id integer primary key, code varchar(20) unique, shelf integer, at varchar(20), foreign key (shelf)
    references shelves (id))""",
    "insert into shelves values (1, 'low'), (2, 'high')",
    "insert into books values (1, 'a', 1, 'x')",
]
ROWS = [
    {"id": 2, "code": "b", "shelf": 1, "at": "x"},
    {"id": 3, "code": "a", "shelf": 2, "at": "x"},  # the code is stored
    {"id": 4, "code": "c", "shelf": 9, "at": "x"},  # no such shelf
    {"id": 5, "code": None, "shelf": None, "at": "x"},
    {"id": 2, "code": "d", "shelf": 1, "at": "x"},  # the id is in the first line
    {"id": 6, "code": None, "shelf": 8, "at": "x"},  # no such shelf
    {"id": 1, "code": "e", "shelf": 1, "at": "x"},  # the id is stored
]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "books.db")) as file, file:
            file.executescript(";".join(CREATE))
        yield str(tmp_path / "books.db")
    elif request.param == "postgresql":
        with servers.postgresql_schema() as address, closing(servers.connection(address)) as connection:
            for sql in CREATE:
                connection.execute(sql)
            yield servers.text(address)
    else:
        with servers.mysql_database() as address, closing(servers.mysql_connection(address)) as mysql:
            with mysql.cursor() as cursor:
                for sql in CREATE:
                    cursor.execute(sql)
            mysql.commit()
            yield str(address)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_refused_line_is_listed(
    url: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"rows.{form}"
    if form == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in ROWS]
        file.write_text("\n".join(["id,code,shelf,at", *lines]) + "\n")
    options = ["--profile", "plain", "--url", f"main={url}", "-o", "json"]
    status = main([*options, "data", "import", "books", str(file), "--yes"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (status, error["code"]) == (6, "constraint")
    first = 1 if form == "jsonl" else 2
    lines = [
        f"line {first + 1} of {file}: code a exists in books",
        f"line {first + 2} of {file}: shelf 9 refers to a missing row of shelves",
        f"line {first + 4} of {file}: id 2 is also in line {first}",
        f"line {first + 5} of {file}: shelf 8 refers to a missing row of shelves",
        f"line {first + 6} of {file}: id 1 exists in books",
    ]
    assert error["message"].splitlines()[1:] == lines
    status = main([*options, "data", "import", "books", str(file), "--dry-run"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (status, error["code"]) == (6, "constraint")
    assert error["message"].splitlines()[1:] == [line for line in lines if "refers to" not in line]
    main([*options, "stats", "tables", "--exact"])
    tables = {row["table"]: row["rows"] for row in json.loads(capsys.readouterr().out)["data"]["items"]}
    assert tables["books"] == 1


def test_lines_that_only_foreign_keys_refuse_are_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,shelf\n2,1\n3,9\n")
    options = ["--profile", "plain", "--url", f"main={url}", "-o", "json"]
    assert main([*options, "data", "import", "books", str(file), "--yes"]) == 6
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].splitlines()[1:] == [
        f"line 3 of {file}: shelf 9 refers to a missing row of shelves"
    ]


@pytest.mark.parametrize(("action", "lines"), [("fail", []), ("abort", ["line 3 of rows.csv"])])
def test_row_that_a_trigger_refuses_is_named_if_it_is_known(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    action: str,
    lines: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("books.db")) as file, file:
        file.execute("create table books (code text primary key)")
        file.execute(
            f"create trigger t before insert on books when new.code = 'b' begin select raise({action}, 'no'); end"
        )
    Path("rows.csv").write_text("code\na\nb\nc\n")
    options = ["--profile", "plain", "--url", "main=books.db", "-o", "json"]
    assert main([*options, "data", "import", "books", "rows.csv", "--yes"]) == 6
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].splitlines()[1:] == lines


SKIPS = {
    "sqlite": ["create trigger skips before insert on books begin select raise(ignore); end"],
    "postgresql": [
        "create function skip() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger skips before insert on books for each row execute function skip()",
    ],
    "mysql": ["alter table books drop foreign key books_ibfk_1", "alter table books engine = MyISAM"],
}


def run_sql(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements with the client of a database; return the rows of the last one."""
    address = parse_url(url)
    with closing(
        sqlite3.connect(url)
        if address.is_local
        else servers.connection(address)
        if address.engine == "postgresql"
        else servers.mysql_connection(address)
    ) as connection:
        cursor = connection.cursor()
        for sql in statements:
            cursor.execute(sql)
        connection.commit()
        return list(cursor.fetchall() if cursor.description else [])


@pytest.mark.parametrize("state", ["off", "state"])
def test_row_that_the_database_does_not_add_is_refused(
    url: str, state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger skips it, or its table cannot roll back; with an audit log, and without one."""
    monkeypatch.setenv("DBCTL_STATE", state if state == "off" else str(tmp_path / state))
    engine = parse_url(url).engine
    run_sql(url, *SKIPS[engine])
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 7, "code": "z"}\n')
    for words in (["add", "books", "id=7", "code=z"], ["import", "books", str(file)]):
        status = main(["--profile", "plain", "--url", f"main={url}", "-o", "json", "data", *words, "--yes"])
        error = json.loads(capsys.readouterr().out)["error"]
        refused = "row-skipped" if words[0] == "add" else "constraint"
        assert (status, error["code"]) == ((2, "not-supported") if engine == "mysql" else (6, refused))
    assert run_sql(url, "select id, code from books") == [(1, "a")]


@pytest.mark.parametrize(
    "key", ["text primary key", "integer primary key desc", "integer, primary key (code, shelf)"]
)
@pytest.mark.parametrize("command", ["add", "import"])
def test_row_without_key_that_sqlite_would_store_as_null_is_refused_by_the_plan(
    key: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # SQLite permits NULL in these keys, unlike in the alias of the rowid, for which it creates a number
    path, file = tmp_path / "books.db", tmp_path / "rows.jsonl"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"create table books (shelf integer, code {key})")
    file.write_text('{"shelf": 1}\n')
    address = ["--profile", "plain", "--url", f"main={path}"]
    words = ["add", "books", "shelf=1"] if command == "add" else ["import", "books", str(file)]
    for option in ("--dry-run", "--yes"):
        assert main([*address, "data", *words, option]) == 2
        message = capsys.readouterr().err
        assert "requires code" in message or "code, which books requires" in message
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select * from books").fetchall() == []
