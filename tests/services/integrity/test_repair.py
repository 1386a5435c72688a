"""Columns duplicated in another database: differences are reported and repaired, and other rows do not change."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import lancedb
import pytest

from dbctl.cli.main import main
from tests.shapes import chat_lancedb
from tests.shapes.chat_lancedb import ANON, GOOGLE, OLD, PLANTS, PYTHON, read_vectors

Run = Callable[..., Any]
FOLDER = Path("data/lancedb")
pytestmark = pytest.mark.needs_extension("lancedb")


with_both_schemas = pytest.mark.parametrize("master", ["deployed", "document"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def master(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two databases, created once."""
    home = tmp_path_factory.mktemp("chat")
    chat_lancedb.deployed(home / "data/chat.db")
    chat_lancedb.create_vectors(
        home / "data/lancedb", deployed=getattr(request, "param", "deployed") == "deployed"
    )
    return home


@pytest.fixture
def run(
    master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    shutil.copytree(master / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "chat-lancedb"]) == 0

    def run(*words: str, status: int = 0) -> Any:
        capsys.readouterr()
        exit_status = main([*words, "-o", "json"])
        response = json.loads(capsys.readouterr().out)
        assert exit_status == status, response
        return response["data"] if response["data"] is not None else response["error"]

    return run


def open_table() -> Any:
    return lancedb.connect(str(FOLDER)).open_table("chat_embeddings")


def key_column() -> str:
    return "message_id" if "message_id" in open_table().schema.names else "id"


def change_row(message: str, **values: str) -> None:
    open_table().update(where=f"{key_column()} = '{message}'", values=values)


def list_messages(run: Run) -> dict[str, list[str]]:
    """Return the messages of ``integrity cross-check`` by their code."""
    messages: dict[str, list[str]] = {}
    for finding in run("integrity", "cross-check")["findings"]:
        messages.setdefault(finding["code"], []).append(finding["message"])
    return messages


def test_expected_differences_are_reported_without_error(run: Run) -> None:
    messages = list_messages(run)
    assert set(messages) == {"renamed-key", "missing-reference", "placeholder", "per-user"}
    assert "USER-GONE" in messages["renamed-key"][0]
    assert (
        "embeddings: 3 of 9 rows of chat_embeddings have no row of messages"
        in messages["missing-reference"][2]
    )
    assert "sample" in messages["placeholder"][0]
    assert not any("sample" in message for message in messages["missing-reference"])


@with_both_schemas
def test_differences_are_reported_by_column_and_repaired(run: Run) -> None:
    change_row("msg-1", user_id=OLD)
    change_row(PLANTS, chat_id=PYTHON, content="Another text")
    differing = {
        message.split()[1].partition(".")[2]: message for message in list_messages(run)["copy-differs"]
    }
    assert set(differing) == {"user_id", "chat_id", "content"}
    assert "msg-1" in differing["user_id"]
    plan = run("integrity", "repair", "--dry-run")["plan"]
    assert not plan["destructive"]
    assert plan["rows"] == {"chat_embeddings": 3}
    result = run("integrity", "repair")
    assert (result["renamed"], result["repaired"], result["deleted"]) == (1, 2, 0)
    remaining = list_messages(run)
    assert "renamed-key" not in remaining
    assert [message.split()[1] for message in remaining["copy-differs"]] == ["chat_embeddings.content"]
    assert run("integrity", "repair", "--dry-run")["plan"]["steps"] == []


def test_rows_of_migrated_user_get_the_new_id(run: Run) -> None:
    step = f"change user_id of 1 row of chat_embeddings from USER-GONE to {GOOGLE}"
    assert run("integrity", "repair", "--dry-run")["plan"]["steps"] == [step]
    run("integrity", "repair")
    assert ("msg-before", GOOGLE) in read_vectors(FOLDER, key_column(), "user_id")


def test_moved_message_is_renamed_once(run: Run) -> None:
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as connection:
        connection.execute("update messages set user_id = ? where id = 'msg-5'", [GOOGLE])
        connection.execute("update users set migrated_from = 'USER-7' where id = ?", [GOOGLE])
    change_row("msg-5", user_id="USER-7")
    assert run("integrity", "repair", "--dry-run")["plan"]["rows"] == {"chat_embeddings": 1}
    assert run("integrity", "repair")["renamed"] == 1


def test_zero_vectors_are_reported(run: Run) -> None:
    zero_vector = [0.0] * open_table().schema.field("vector").type.list_size
    open_table().update(where=f"{key_column()} = 'msg-1'", values={"vector": zero_vector})
    codes = [finding["code"] for finding in run("integrity", "check")["findings"]]
    assert "vector-zeros" in codes


def test_missing_table_is_reported(run: Run) -> None:
    lancedb.connect(str(FOLDER)).drop_table("chat_embeddings")
    messages = list_messages(run)
    assert messages["missing-rows"] == [
        "embeddings: table chat_embeddings is missing; 5 rows of messages in chat have no row there"
    ]
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as connection:
        connection.execute("delete from messages")
    assert "missing-rows" not in list_messages(run)


def test_missing_rows_are_listed_and_counted(run: Run) -> None:
    open_table().delete(f"{key_column()} in ('msg-1', '{PLANTS}')")
    messages = list_messages(run)
    assert "2 of 5 rows of messages in chat have no row of chat_embeddings" in messages["missing-rows"][0]
    assert f"{ANON} 3, not 4" in messages["per-user"][0]
    result = run("integrity", "repair")
    assert (result["missing"], sorted(result["keys"])) == (2, sorted(["msg-1", PLANTS]))


@with_both_schemas
def test_orphans_are_deleted_only_on_request(run: Run) -> None:
    run("integrity", "repair", "--yes")
    assert len(read_vectors(FOLDER, key_column())) == 9
    plan = run("integrity", "repair", "--delete-orphans", "--dry-run")["plan"]
    assert plan["destructive"]
    assert plan["steps"] == ["delete 4 rows of chat_embeddings without an original"]
    assert run("integrity", "repair", "--delete-orphans", status=6)["code"] == "confirmation-missing"
    assert run("integrity", "repair", "--delete-orphans", "--yes")["deleted"] == 4
    assert sorted(read_vectors(FOLDER, key_column())) == [
        ("msg-1",),
        ("msg-2",),
        ("msg-3",),
        ("msg-4",),
        ("msg-5",),
    ]
    assert set(list_messages(run)) == set()


def test_duplicate_rows_are_reported(run: Run) -> None:
    open_table().add(open_table().to_arrow().slice(0, 1))
    assert "1 row of chat_embeddings are duplicates" in list_messages(run)["duplicate"][0]


def test_large_tables_are_compared_in_passes_with_same_result(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_row("msg-1", user_id=OLD)
    open_table().delete(f"{key_column()} = 'msg-2'")
    messages = list_messages(run)
    monkeypatch.setattr("dbctl.services.checks.cross_database.MAX_ROWS", 2)
    messages_in_passes = list_messages(run)
    assert {code: len(texts) for code, texts in messages_in_passes.items()} == {
        code: len(texts) for code, texts in messages.items()
    }
    assert messages_in_passes["missing-rows"] == messages["missing-rows"]
    assert run("integrity", "repair", "--delete-orphans", "--yes")["deleted"] == 4


def test_app_without_duplicated_columns_is_refused(run: Run) -> None:
    error = run("--profile", "yaai", "--url", "chat=none.sqlite", "integrity", "repair", status=2)
    assert error["code"] == "feature-missing"


KEYS = {
    "Google API key": "AIza" + "Sy0123456789abcdefghijk",
    "API key (OpenAI, Anthropic and others)": "sk-" + "ant-0123456789abcdefghij",
    "GitHub token": "ghp_" + "0123456789abcdefghijklmnop",
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("form", KEYS)
def test_exposed_keys_are_reported_without_the_key(
    run: Run, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"Use {KEYS[form]} for it"
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = ?", (text, PLANTS))
        db.execute("update users set preferences = ? where id = ?", (json.dumps({"key": text}), ANON))
    change_row(PLANTS, content=text)
    key_messages = list_messages(run)["key-exposed"]
    assert all(f"({form})" in message for message in key_messages)
    assert [(message.split()[3], message.split(": ")[-1]) for message in key_messages] == [
        ("users", ANON), ("messages", PLANTS), ("chat_embeddings", PLANTS),
    ]  # fmt: skip
    main(["integrity", "cross-check"])
    streams = capsys.readouterr()
    assert KEYS[form] not in "".join(key_messages) + streams.out + streams.err


@pytest.mark.parametrize(
    "text", ["task-oriented-programming-is-nice", "sk-short", "See AIza and AKIA", "eyJhbGci"]
)
def test_text_that_only_resembles_a_key_is_not_reported(run: Run, text: str) -> None:
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = ?", (text, PLANTS))
    assert "key-exposed" not in list_messages(run)
