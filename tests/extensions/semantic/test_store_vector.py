"""Storing vectors from files, and creating missing vectors with the configured embedder."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import lancedb
import pytest

from dbctl.errors.connection import ConstraintError
from dbctl.extensions.semantic.make_vectors import MakeVectors
from tests.engines import lance
from tests.shapes import chat_lancedb
from tests.shapes.chat_lancedb import ANON, ANSWER, OLD, PLANTS, PYTHON, THEIR

#: An embedder: a vector of the text's length, an error for texts with "no vector"; logs each text.
PROGRAM = f"""\
import json, sys
text = sys.stdin.read()
with open("requests", "a") as file:
    print(text, file=file)
if "no vector" in text:
    sys.exit("that text is too long")
print(json.dumps([len(text), 1.0] * {lance.SIZE // 2}))
"""
VECTOR = [float(number + 1) for number in range(lance.SIZE)]


@pytest.fixture(scope="module", params=["deployed", "document"])
def master(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(request.param)
    deployed = request.param == "deployed"
    (chat_lancedb.deployed if deployed else chat_lancedb.document)(home / "data/chat.db")
    chat_lancedb.create_vectors(home / "data/lancedb", deployed=deployed)
    return home


@pytest.fixture
def chat(master, tmp_path, monkeypatch, answer):
    """Return a function that runs a command in a copy of the deployment, with a program as embedder."""
    shutil.copytree(master / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    answer("init", "chat-lancedb")
    (tmp_path / "embed.py").write_text(PROGRAM)
    with (tmp_path / "dbctl.toml").open("a") as file:
        command = json.dumps([sys.executable, "embed.py"])
        file.write(f'\n[apps.chat-lancedb.embedder]\nkind = "command"\ncommand = {command}\n')

    def run(*words, status=0):
        response = answer(*words, status=status)
        return response["data"] if response["data"] is not None else response["error"]

    return run


def open_table():
    return lancedb.connect("data/lancedb").open_table(lance.TABLE)


def key_column():
    return "message_id" if "message_id" in open_table().schema.names else "id"


def read_rows():
    return {row[key_column()]: row for row in open_table().to_arrow().to_pylist()}


def delete_vectors(*messages):
    for message in messages:
        open_table().delete(f"{key_column()} = '{message}'")


def execute_sql(sql):
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as db:
        db.execute(sql)


def write_vector_file(numbers):
    Path("vector.json").write_text(json.dumps(numbers), encoding="utf-8")
    return "vector.json"


def test_stored_vector_replaces_existing_vector_after_confirmation(chat):
    words = ["search", "vectors", "store", PLANTS, write_vector_file(VECTOR)]
    before = read_rows()
    plan = chat(*words, "--dry-run")["plan"]
    assert (plan["rows"], plan["destructive"]) == ({lance.TABLE: 1}, True)
    assert chat(*words, status=6)["code"] == "confirmation-missing"
    assert read_rows() == before
    result = chat(*words, "--yes")
    assert (result["replaced"], result["added"]) == (1, 0)
    column = "vector" if "vector" in before[PLANTS] else "embedding"
    after = read_rows()
    assert after.pop(PLANTS) == {**before.pop(PLANTS), column: VECTOR}
    assert after == before


def test_vector_of_new_message_is_stored_as_the_app_does(chat):
    delete_vectors(PLANTS)
    result = chat("search", "vectors", "store", PLANTS, write_vector_file(VECTOR))
    assert (result["replaced"], result["added"], result["dimension"]) == (0, 1, lance.SIZE)
    row = read_rows()[PLANTS]
    assert (row["chat_id"], row["user_id"], row["role"]) == (chat_lancedb.GARDEN, ANON, "user")
    assert (row["content"], row["timestamp"]) == ("Which plants like shade?", 1_760_954_400_000.0)
    deployed = key_column() == "message_id"
    assert row["metadata"] == ("{}" if deployed else {"model": None, "language": None})
    assert row["vector" if deployed else "embedding"] == VECTOR
    if deployed:
        assert row["chat_title"] == "A garden"
    neighbours = chat("search", "semantic", "--vector", "vector.json", "--limit", "1")["items"]
    assert [(row["id"], row["similarity"]) for row in neighbours] == [(PLANTS, 1.0)]


@pytest.mark.parametrize(
    ("message", "numbers", "code"),
    [
        ("msg-nowhere", VECTOR, "row-not-found"),
        ("sample", VECTOR, "row-not-found"),
        (PLANTS, VECTOR[1:], "vector-invalid"),
        (PLANTS, [0.0] * lance.SIZE, "vector-invalid"),
        (PLANTS, "words", "vector-invalid"),
    ],
)
def test_invalid_vector_or_message_is_refused(chat, message, numbers, code):
    before = read_rows()
    words = ["search", "vectors", "store", message, write_vector_file(numbers), "--yes"]
    assert chat(*words, status=None)["code"] == code
    assert read_rows() == before


def test_missing_vectors_are_created_once(chat, tmp_path):
    delete_vectors(ANSWER, PLANTS, THEIR)
    plan = chat("search", "vectors", "make", "--dry-run")["plan"]
    assert (plan["rows"], plan["destructive"]) == ({lance.TABLE: 3}, False)
    assert not (tmp_path / "requests").exists(), "a plan sends no request"
    result = chat("search", "vectors", "make")
    assert (result["created"], result["remaining"], result["failed"]) == (3, 0, [])
    requests = (tmp_path / "requests").read_text().splitlines()
    assert sorted(requests) == ["Is Python fast?", "What is Python?", "Which plants like shade?"]
    row = read_rows()[THEIR]
    assert (row["user_id"], row["content"]) == (OLD, "Is Python fast?")
    assert (row.get("vector") or row["embedding"])[0] == len("Is Python fast?")
    assert chat("search", "vectors", "make")["created"] == 0
    assert "missing-rows" not in {finding["code"] for finding in chat("integrity", "cross-check")["findings"]}


def test_vectors_that_are_null_are_computed_and_their_rows_stay(chat):
    """As in an anonymised copy."""
    table, column = open_table(), "vector" if "vector" in open_table().schema.names else "embedding"
    before = read_rows()
    table.update(where=f"{key_column()} in ('{ANSWER}', '{PLANTS}')", values_sql={column: "null"})
    delete_vectors(THEIR)
    assert chat("search", "vectors", "make")["created"] == 3
    after = read_rows()
    assert after.keys() == before.keys()
    assert all(row[column] is not None for row in after.values())
    for key in (ANSWER, PLANTS):
        assert after[key][column][0] == len(after[key]["content"])
        assert {**after[key], column: None} == {**before[key], column: None}


def test_filters_and_limit_restrict_created_vectors(chat):
    delete_vectors(ANSWER, PLANTS, THEIR)
    assert chat("search", "vectors", "make", "--user", OLD)["created"] == 1
    assert chat("search", "vectors", "make", "--chat", PYTHON)["created"] == 1
    delete_vectors(ANSWER)
    result = chat("search", "vectors", "make", "--limit", "1")
    assert (result["created"], result["remaining"]) == (1, 1)


def test_failed_text_does_not_stop_the_others(chat):
    delete_vectors(ANSWER, PLANTS, THEIR)
    execute_sql(f"update messages set content = 'no vector of this' where id = '{ANSWER}'")
    execute_sql(f"update messages set content = '  ' where id = '{THEIR}'")
    result = chat("search", "vectors", "make", status=12)
    assert (result["created"], result["remaining"], result["without_text"], result["failed"]) == (
        1,
        1,
        1,
        [ANSWER],
    )
    assert PLANTS in read_rows()
    assert ANSWER not in read_rows()


def test_failing_embedder_ends_the_work(chat, tmp_path):
    delete_vectors(ANSWER, PLANTS, THEIR)
    (tmp_path / "embed.py").write_text("raise SystemExit('broken')")
    assert chat("search", "vectors", "make", status=1)["code"] == "embedder-failed"
    (tmp_path / "embed.py").write_text("print([1.0, 2.0])")
    assert chat("search", "vectors", "make", status=2)["code"] == "vector-invalid"


def test_error_after_written_vectors_states_their_number(chat, tmp_path):
    delete_vectors(ANSWER, PLANTS, THEIR)
    short = "if open('requests').read().count('\\n') > 1:\n    sys.exit(print([1.0]))\nprint(json"
    (tmp_path / "embed.py").write_text(PROGRAM.replace("print(json", short))
    error = chat("search", "vectors", "make", status=2)
    assert error["code"] == "vector-invalid"
    assert error["hint"].startswith("1 vector ")
    assert len({ANSWER, PLANTS, THEIR} & read_rows().keys()) == 1


def test_error_after_written_vectors_does_not_state_that_nothing_was_changed(chat, monkeypatch):
    delete_vectors(ANSWER, PLANTS, THEIR)
    embed, calls = MakeVectors._embed, []

    def embed_once(*arguments):
        if calls:
            raise ConstraintError(target="chat", reason="full")
        calls.append(arguments)
        return embed(*arguments)

    monkeypatch.setattr(MakeVectors, "_embed", embed_once)
    error = chat("search", "vectors", "make", status=None)
    assert error["hint"] == "1 vector written before. Run it again for the rest."


def test_other_model_requires_confirmation(chat, tmp_path):
    delete_vectors(PLANTS)
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write('model = "another-model"\n')
    assert chat("search", "vectors", "make", status=6)["code"] == "confirmation-missing"
    assert chat("search", "vectors", "make", "--yes")["created"] == 1


def test_missing_embedder_is_reported(chat, tmp_path):
    text = (tmp_path / "dbctl.toml").read_text().partition("\n[apps.chat-lancedb.embedder]")[0]
    (tmp_path / "dbctl.toml").write_text(text)
    assert chat("search", "vectors", "make", status=2)["code"] == "embedder-not-configured"
