"""Deletions that cascade into the database of vectors: planned and applied as one change, and completed after an interruption."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from dbctl.engines.sqlite.write_connection import WriteConnection
from dbctl.errors.connection import UnreachableError
from dbctl.extensions.lancedb.writer import LanceWriter
from tests.shapes import chat_lancedb
from tests.shapes.chat_lancedb import ANON, GARDEN, GOOGLE, OLD, PLANTS, PYTHON, read_vectors

Run = Callable[..., Any]


in_both_shapes = pytest.mark.parametrize("master", ["deployed", "document"], indirect=True, scope="module")


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
def home(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Run) -> Path:
    shutil.copytree(master / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert answer("init", "chat-lancedb")["data"]["databases"] == {
        "chat": "data/chat.db",
        "vectors": "data/lancedb",
    }
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0) -> Any:
        capsys.readouterr()
        exit_code = main([*words, "-o", "json"])
        result = json.loads(capsys.readouterr().out)
        assert exit_code == status, result
        return result

    return run


def key_column() -> str:
    folder = next(iter(Path("data/lancedb").glob("*.lance")))
    assert folder.name == "chat_embeddings.lance"
    import lancedb

    columns = lancedb.connect("data/lancedb").open_table("chat_embeddings").schema.names
    return "message_id" if "message_id" in columns else "id"


def list_vector_keys() -> set[object]:
    return {key for (key,) in read_vectors(Path("data/lancedb"), key_column())}


def list_chats() -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect("data/chat.db")) as connection:
        return connection.execute("select id from chats order by id").fetchall()


def test_unconfigured_database_refuses_the_deletion(run: Run, home: Path) -> None:
    file = home / "dbctl.toml"
    file.write_text(file.read_text().replace('vectors = "data/lancedb"\n', ""))
    error = run("users", "delete", ANON, "--yes", status=10)["error"]
    assert error["code"] == "cascade-unreachable"
    assert str(home / "data/lancedb") in error["message"]
    assert "--db chat" in error["hint"]
    assert ANON in [user["id"] for user in run("users", "list")["data"]["items"]]
    for words in (("integrity", "cross-check"), ("doctor",)):
        codes = [finding["code"] for finding in run(*words)["data"]["findings"]]
        assert codes.count("not-configured") == 1, words
    assert run("users", "delete", ANON, "--db", "chat", "--yes")["data"]["rows"]["messages"] == 4
    shutil.rmtree("data/lancedb")
    assert run("users", "delete", GOOGLE, "--yes")["ok"]
    assert "not-configured" not in str(run("integrity", "cross-check"))


@pytest.mark.parametrize("is_file", [False, True], ids=["missing", "a file"])
def test_unreadable_database_is_a_warning_of_user_statistics(run: Run, is_file: bool) -> None:
    shutil.rmtree("data/lancedb")
    if is_file:
        Path("data/lancedb").write_text("no folder")
    result = run("stats", "user", ANON)
    assert result["data"]["rows"]["messages"] == 4
    assert "vectors/chat_embeddings" not in result["data"]["rows"]
    assert result["warnings"] == result["data"]["skipped"]
    assert result["warnings"][0].startswith("chat_embeddings was not counted: chat-lancedb/vectors")


@in_both_shapes
def test_deleting_a_user_deletes_all_embeddings(run: Run) -> None:
    assert run("stats", "user", ANON)["data"]["rows"]["vectors/chat_embeddings"] == 5
    plan = run("users", "delete", ANON, "--dry-run")["data"]["plan"]
    assert plan["rows"] == {
        "users": 1,
        "chats": 2,
        "messages": 4,
        "attachments": 2,
        "vectors/chat_embeddings": 5,
    }
    assert "delete 5 rows of chat_embeddings in chat-lancedb/vectors" in plan["steps"]
    before = list_vector_keys()
    assert run("users", "delete", ANON, "--yes")["data"]["rows"] == plan["rows"]
    assert before - list_vector_keys() == {"msg-1", "msg-2", "msg-3", PLANTS, "msg-browser"}


def test_rows_before_registration_are_deleted_with_the_user(run: Run) -> None:
    assert run("users", "delete", GOOGLE, "--yes")["data"]["rows"]["vectors/chat_embeddings"] == 1
    assert "msg-before" not in list_vector_keys()


@in_both_shapes
def test_deleting_chats_and_messages_deletes_their_embeddings(run: Run) -> None:
    before = list_vector_keys()
    run("data", "delete", "attachments", "att-1", "--yes")
    assert list_vector_keys() == before
    rows = run("data", "delete", "messages", "msg-3", "--yes")["data"]["rows"]
    assert rows == {"messages": 1, "vectors/chat_embeddings": 1}
    run("data", "delete", "chats", PYTHON, "--yes")
    assert before - list_vector_keys() == {"msg-1", "msg-2", "msg-3"}


def test_embedding_with_wrong_user_is_deleted_with_its_message(run: Run, home: Path) -> None:
    import lancedb

    table = lancedb.connect("data/lancedb").open_table("chat_embeddings")
    table.update(
        where=f"{key_column()} = '{PLANTS}'", values={"user_id": "USER-WRONG", "chat_id": "chat-wrong"}
    )
    assert run("data", "delete", "chats", GARDEN, "--yes")["data"]["rows"]["vectors/chat_embeddings"] == 1
    assert PLANTS not in list_vector_keys()


def test_many_ids_are_queried_in_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbctl.services.deletion.cross_database.BATCH", 1)
    rows = run("users", "delete", ANON, OLD, "--yes")["data"]["rows"]
    assert rows["vectors/chat_embeddings"] == 6
    assert list_vector_keys() == {"msg-before", "msg-nobody", "sample"}


def test_failed_deletion_in_the_other_database_changes_neither(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_before, chats_before = list_vector_keys(), list_chats()
    delete = LanceWriter.delete

    def fail(self: LanceWriter, table: str, where: Any) -> int:
        delete(self, table, where)
        raise UnreachableError(target="vectors", reason="No space left on device", hint="")

    with monkeypatch.context() as patched:
        patched.setattr(LanceWriter, "delete", fail)
        run("users", "delete", ANON, "--yes", status=10)
    assert (list_vector_keys(), list_chats()) == (vectors_before, chats_before)
    run("users", "delete", ANON, "--yes")
    assert len(list_vector_keys()) == len(vectors_before) - 5


def test_failed_commit_restores_the_embeddings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors_before, chats_before = list_vector_keys(), list_chats()
    run_statement = WriteConnection.run

    def fail(self: WriteConnection, sql: str, *rest: Any) -> Any:
        if sql.lower().startswith("commit"):
            raise UnreachableError(target="chat", reason="No space left on device", hint="")
        return run_statement(self, sql, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(WriteConnection, "run", fail)
        run("users", "delete", ANON, "--yes", status=10)
    assert list_chats() == chats_before
    assert list_vector_keys() == vectors_before


def test_repeated_command_completes_an_interrupted_deletion(run: Run) -> None:
    """The first command was killed before its commit: it had deleted only the embeddings."""
    import lancedb

    lancedb.connect("data/lancedb").open_table("chat_embeddings").delete(f"user_id = '{ANON}'")
    findings = run("integrity", "cross-check")["data"]["findings"]
    assert any("no row of chat_embeddings" in finding["message"] for finding in findings)
    plan = run("users", "delete", ANON, "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"users": 1, "chats": 2, "messages": 4, "attachments": 2}
    run("users", "delete", ANON, "--yes")
    findings = run("integrity", "cross-check")["data"]["findings"]
    assert not any("no row of chat_embeddings" in finding["message"] for finding in findings)


def test_unreachable_database_refuses_the_deletion_without_db_option(run: Run) -> None:
    Path("data/lancedb").rename("elsewhere")
    error = run("users", "delete", ANON, "--yes", status=10)["error"]
    assert error["code"] == "cascade-unreachable"
    assert "--db chat" in error["hint"]
    result = run("users", "delete", ANON, "--yes", "--db", "chat")
    assert "chat-lancedb/vectors" in " ".join(result["warnings"])
    run("users", "list")
    Path("elsewhere").rename("data/lancedb")
    assert "msg-browser" in list_vector_keys()


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_missing_library_refuses_the_deletion_with_a_hint(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    error = run("users", "delete", ANON, option, status=10)["error"]
    assert error["code"] == "cascade-unreachable"
    assert "dbctl[lancedb]" in error["hint"]
    assert "--db chat" in error["hint"]
    run("users", "list")
    run("data", "delete", "attachments", "att-1", "--yes")


def test_deleting_a_row_of_users_deletes_its_embeddings(run: Run) -> None:
    rows = run("data", "delete", "users", ANON, "--yes")["data"]["rows"]
    assert rows["vectors/chat_embeddings"] == 5


def test_unconfigured_and_missing_databases_do_not_refuse_the_deletion(run: Run, home: Path) -> None:
    shutil.rmtree("data/lancedb")
    Path("data/lancedb").mkdir()
    assert "vectors/chat_embeddings" not in run("users", "delete", ANON, "--yes")["data"]["rows"]
    options = ["--profile", "chat-lancedb", "--url", "chat=data/chat.db"]
    assert not run(*options, "users", "delete", OLD, "--yes")["warnings"]
