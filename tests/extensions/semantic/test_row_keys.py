"""Vectors of rows whose keys are numbers, in a table of vectors that has them as numbers or as text."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

PROFILE = """\
schema = "dbctl.profile/1"
name = "notes"
title = "Notes"
time = "sqlite-time"
boolean = "bool-01"

[databases.main]
engines = ["sqlite"]
needs = ["notes"]

[databases.vectors]
engines = ["lancedb"]
needs = ["vectors"]
keys = { vectors = ["id"] }

[semantic]
database = "vectors"
table = "vectors"
id = ["id"]
vector = ["numbers"]
fields = { text = "text" }
text = "text"

[[semantic.related]]
name = "stored"
database = "main"
table = "notes"
key = "id"
by = "id"
fields = { text = "text" }

[semantic.source]
related = "stored"
"""
#: An embedder that logs each text.
PROGRAM = """\
import json, sys
text = sys.stdin.read()
with open("requests", "a") as file:
    print(text, file=file)
print(json.dumps([len(text), 1.0]))
"""


@pytest.fixture(params=[pa.int64(), pa.string()], ids=str)
def notes(request, tmp_path, monkeypatch):
    """Create five notes: two with a vector, one whose vector is NULL, two without."""
    monkeypatch.chdir(tmp_path)
    Path("notes.toml").write_text(PROFILE)
    Path("embed.py").write_text(PROGRAM)
    Path("dbctl.toml").write_text(
        '[apps.notes]\nprofile = "notes.toml"\n'
        'databases = { main = "sqlite:main.db", vectors = "lancedb:lance" }\n'
        f'embedder = {{ kind = "command", command = {json.dumps([sys.executable, "embed.py"])} }}\n'
    )
    execute_sql("create table notes (id integer primary key, text text)")
    execute_sql("insert into notes values " + ", ".join(f"({n}, 'note {n}')" for n in range(1, 6)))
    vectors = pa.array([[1.0, 2.0], [2.0, 3.0], None], pa.list_(pa.float32(), 2))
    keys = pa.array([1, 2, 3]).cast(request.param)
    table = pa.table({"id": keys, "text": [f"note {n}" for n in range(1, 4)], "numbers": vectors})
    lancedb.connect("lance").create_table("vectors", table)


def execute_sql(sql):
    with closing(sqlite3.connect("main.db", isolation_level=None)) as db:
        db.execute(sql)


def read_vectors():
    rows = lancedb.connect("lance").open_table("vectors").to_arrow().to_pylist()
    return {str(row["id"]): row["numbers"] for row in rows}


@pytest.mark.usefixtures("notes")
def test_only_rows_without_a_vector_are_sent(answer):
    """With keys of another type all rows were sent each time, and with numbers a NULL was a duplicate key."""
    result = answer("search", "vectors", "make")["data"]
    assert (result["created"], result["remaining"]) == (3, 0)
    assert Path("requests").read_text().split("\n") == ["note 3", "note 4", "note 5", ""]
    assert read_vectors() == {"1": [1, 2], "2": [2, 3], **{key: [6, 1] for key in "345"}}
    result = answer("search", "vectors", "make")["data"]
    assert (result["created"], result["remaining"]) == (0, 0)


@pytest.mark.usefixtures("notes")
def test_row_of_the_vector_is_not_similar_to_itself(answer):
    items = answer("search", "semantic", "--similar-to", "1")["data"]["items"]
    assert [str(row["id"]) for row in items] == ["2"]


@pytest.mark.usefixtures("notes")
def test_texts_that_are_not_unicode_fail_without_a_request(answer):
    """They ended the command with an internal error, before the rows after them."""
    execute_sql("update notes set text = cast(x'61ff' as text) where id < 5")
    result = answer("search", "vectors", "make", status=12)["data"]
    assert (result["created"], result["remaining"], result["failed"]) == (1, 2, ["3", "4"])
    assert Path("requests").read_text() == "note 5\n"


@pytest.mark.usefixtures("notes")
def test_vectors_of_any_length_are_not_searched(answer):
    """The library refused them, and the hint named the profile."""
    table = pa.table({"id": ["1"], "text": ["a"], "numbers": pa.array([[1.0, 2.0]], pa.list_(pa.float32()))})
    lancedb.connect("lance").create_table("vectors", table, mode="overwrite")
    error = answer("search", "semantic", "--similar-to", "1", status=2)["error"]
    assert error["code"] == "not-supported"
    assert "fixed length" in error["hint"]
