"""An import of a file whose lines name their tables adds the rows of all tables, or none, on each engine."""

from __future__ import annotations

import json
import re

import pytest

from tests.databases import empty_database

SCHEMA = [
    "create table chats (id varchar(20) primary key, title varchar(40) not null)",
    "create table messages (id integer primary key, chat varchar(20) not null, body varchar(40), foreign key (chat) references chats (id))",
    "insert into chats values ('old', 'Old')",
]
CHAT = {"table": "chats", "row": {"id": "new", "title": "New"}}


def list_lines(error):
    """Return the numbers of the lines that an error names."""
    return [int(number) for number in re.findall(r"^line (\d+)", error["message"], re.MULTILINE)]


def message(number, chat="new", **values):
    return {"table": "messages", "row": {"id": number, "chat": chat, "body": None} | values}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "chat.db") as database:
        database.run(*SCHEMA)
        yield database


def read_rows(database):
    messages, chats = database.results("select id, chat, body from messages", "select id, title from chats")
    return sorted(messages), sorted(chats)


@pytest.fixture
def run_import(database, tmp_path, answer):
    def run(*lines, status=0, options=()):
        (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return answer(
            "data", "import", "rows.jsonl", "--url", f"main={database.url}", *options, status=status
        )

    return run


def test_rows_are_added_in_the_order_of_references(database, run_import):
    lines = [message(2, "new", body="first"), message(1, "old"), CHAT]
    before = read_rows(database)
    plan = run_import(*lines, options=["--dry-run"])["data"]["plan"]
    assert plan["rows"] == {"chats": 1, "messages": 2}
    assert read_rows(database) == before
    data = run_import(*lines)["data"]
    assert (data["table"], data["added"], data["tables"]) == (None, 3, {"chats": 1, "messages": 2})
    assert read_rows(database) == ([(1, "old", None), (2, "new", "first")], [("new", "New"), ("old", "Old")])


def test_nothing_is_added_if_one_table_refuses_a_row(database, run_import):
    before = read_rows(database)
    old = {"table": "chats", "row": {"id": "old", "title": "x"}}
    lines = [CHAT, message(1), message(2, "missing"), message(3, "old"), old]
    error = run_import(*lines, status=6)["error"]
    assert list_lines(error) == [3, 5]  # line 2 refers to a chat that the file adds
    assert read_rows(database) == before


def test_invalid_lines_of_all_tables_are_reported_together(database, run_import):
    before = read_rows(database)
    lines = [
        CHAT,
        {"table": "chats", "row": {"id": "a", "title": None}},
        message(1, None),
        {"table": "nothing", "row": {"id": 1}},
        message(2) | {"more": 1},
        message(3),
    ]
    error = run_import(*lines, status=2)["error"]
    assert error["code"] == "import-invalid"
    assert list_lines(error) == [2, 3, 4, 5]
    assert read_rows(database) == before


def test_lines_that_name_no_table_require_one(database, run_import):
    assert list_lines(run_import(CHAT["row"], status=2)["error"]) == [1]
    error = run_import(CHAT, options=["--format", "csv"], status=2)["error"]
    assert "table" in error["message"]


def test_lines_of_one_table_need_no_name(database, tmp_path, answer):
    (tmp_path / "rows.jsonl").write_text(json.dumps(CHAT["row"]) + "\n")
    data = answer("data", "import", "chats", "rows.jsonl", "--url", f"main={database.url}")["data"]
    assert (data["table"], data["added"], data["tables"]) == ("chats", 1, {"chats": 1})
