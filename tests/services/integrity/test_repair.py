"""Rows that repeat those of another database: what differs is told, brought in line, and nothing else is touched."""

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
from tests.shapes.chat_lancedb import ANON, GOOGLE, OLD, PLANTS, PYTHON, in_vectors

Run = Callable[..., Any]
FOLDER = Path("data/lancedb")


in_both_shapes = pytest.mark.parametrize("master", ["deployed", "document"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def master(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both databases, made once."""
    home = tmp_path_factory.mktemp("chat")
    chat_lancedb.deployed(home / "data/chat.db")
    chat_lancedb.vectors(home / "data/lancedb", deployed=getattr(request, "param", "deployed") == "deployed")
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
        found = main([*words, "-o", "json"])
        told = json.loads(capsys.readouterr().out)
        assert found == status, told
        return told["data"] if told["data"] is not None else told["error"]

    return run


def table() -> Any:
    return lancedb.connect(str(FOLDER)).open_table("chat_embeddings")


def key() -> str:
    return "message_id" if "message_id" in table().schema.names else "id"


def spoil(message: str, **values: str) -> None:
    table().update(where=f"{key()} = '{message}'", values=values)


def found(run: Run) -> dict[str, list[str]]:
    """Return the messages of ``integrity cross-check`` by their code."""
    told: dict[str, list[str]] = {}
    for one in run("integrity", "cross-check")["findings"]:
        told.setdefault(one["code"], []).append(one["message"])
    return told


def test_what_is_normal_is_told_and_is_no_error(run: Run) -> None:
    told = found(run)
    assert set(told) == {"formerly", "not-in-other", "placeholder", "per-user"}
    assert "USER-GONE" in told["formerly"][0]
    assert "embeddings: 3 of 9 rows of chat_embeddings name no row of messages" in told["not-in-other"][2]
    assert "sample" in told["placeholder"][0]
    assert not any("sample" in one for one in told["not-in-other"])


@in_both_shapes
def test_what_differs_is_told_by_column_and_what_can_be_mended_is(run: Run) -> None:
    spoil("msg-1", user_id=OLD)
    spoil(PLANTS, chat_id=PYTHON, content="Another text")
    differing = {one.split()[1].partition(".")[2]: one for one in found(run)["differs"]}
    assert set(differing) == {"user_id", "chat_id", "content"}
    assert "msg-1" in differing["user_id"]
    plan = run("integrity", "repair", "--dry-run")["plan"]
    assert not plan["destructive"]
    assert plan["rows"] == {"chat_embeddings": 3}
    done = run("integrity", "repair")
    assert (done["renamed"], done["mended"], done["deleted"]) == (1, 2, 0)
    left = found(run)
    assert "formerly" not in left
    assert [one.split()[1] for one in left["differs"]] == ["chat_embeddings.content"]
    assert run("integrity", "repair", "--dry-run")["plan"]["steps"] == []


def test_rows_of_before_an_account_come_to_be_the_accounts(run: Run) -> None:
    step = f"change user_id of 1 row of chat_embeddings from USER-GONE to {GOOGLE}"
    assert run("integrity", "repair", "--dry-run")["plan"]["steps"] == [step]
    run("integrity", "repair")
    assert ("msg-before", GOOGLE) in in_vectors(FOLDER, key(), "user_id")


def test_a_message_that_moved_to_an_account_takes_its_row_along_once(run: Run) -> None:
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as connection:
        connection.execute("update messages set user_id = ? where id = 'msg-5'", [GOOGLE])
        connection.execute("update users set migrated_from = 'USER-7' where id = ?", [GOOGLE])
    spoil("msg-5", user_id="USER-7")
    assert run("integrity", "repair", "--dry-run")["plan"]["rows"] == {"chat_embeddings": 1}
    assert run("integrity", "repair")["renamed"] == 1


def test_vectors_that_nothing_finds_are_told(run: Run) -> None:
    spoil_vector = [0.0] * table().schema.field("vector").type.list_size
    table().update(where=f"{key()} = 'msg-1'", values={"vector": spoil_vector})
    codes = [one["code"] for one in run("integrity", "check")["findings"]]
    assert "vector-zeros" in codes


def test_messages_are_wanting_where_there_is_no_table_for_their_rows(run: Run) -> None:
    lancedb.connect(str(FOLDER)).drop_table("chat_embeddings")
    told = found(run)
    assert told["wanting"] == [
        "embeddings: there is no table chat_embeddings, and 5 rows of messages in chat have no row there"
    ]
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as connection:
        connection.execute("delete from messages")
    assert "wanting" not in found(run)


def test_what_is_wanting_is_listed_and_counted(run: Run) -> None:
    table().delete(f"{key()} in ('msg-1', '{PLANTS}')")
    told = found(run)
    assert "2 of 5 rows of messages in chat have no row of chat_embeddings" in told["wanting"][0]
    assert f"{ANON} 3, not 4" in told["per-user"][0]
    done = run("integrity", "repair")
    assert (done["wanting"], sorted(done["keys"])) == (2, sorted(["msg-1", PLANTS]))


@in_both_shapes
def test_orphans_go_only_where_that_is_asked_for(run: Run) -> None:
    run("integrity", "repair", "--yes")
    assert len(in_vectors(FOLDER, key())) == 9
    plan = run("integrity", "repair", "--delete-orphans", "--dry-run")["plan"]
    assert plan["destructive"]
    assert plan["steps"] == ["delete 4 rows of chat_embeddings that repeat nothing"]
    assert run("integrity", "repair", "--delete-orphans", status=6)["code"] == "confirmation-missing"
    assert run("integrity", "repair", "--delete-orphans", "--yes")["deleted"] == 4
    assert sorted(in_vectors(FOLDER, key())) == [("msg-1",), ("msg-2",), ("msg-3",), ("msg-4",), ("msg-5",)]
    assert set(found(run)) == set()


def test_rows_that_are_there_twice_are_told(run: Run) -> None:
    table().add(table().to_arrow().slice(0, 1))
    assert "1 row of chat_embeddings repeat what another one does" in found(run)["twice"][0]


def test_large_tables_are_compared_in_several_passes_with_the_same_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil("msg-1", user_id=OLD)
    table().delete(f"{key()} = 'msg-2'")
    whole = found(run)
    monkeypatch.setattr("dbctl.services.integrity.duplicated_columns.HELD", 2)
    parts = found(run)
    assert {code: len(some) for code, some in parts.items()} == {
        code: len(some) for code, some in whole.items()
    }
    assert parts["wanting"] == whole["wanting"]
    assert run("integrity", "repair", "--delete-orphans", "--yes")["deleted"] == 4


def test_what_repeats_nothing_anywhere_says_so(run: Run) -> None:
    told = run("--profile", "yaai", "--url", "chat=none.sqlite", "integrity", "repair", status=2)
    assert told["code"] == "ability-missing"


KEYS = {
    "Google API key": "AIza" + "Sy0123456789abcdefghijk",
    "API key (OpenAI, Anthropic and the like)": "sk-" + "ant-0123456789abcdefghij",
    "GitHub token": "ghp_" + "0123456789abcdefghijklmnop",
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("form", KEYS)
def test_keys_of_services_are_reported_by_their_place_and_never_shown(
    run: Run, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"Use {KEYS[form]} for it"
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = ?", (text, PLANTS))
        db.execute("update users set preferences = ? where id = ?", (json.dumps({"key": text}), ANON))
    spoil(PLANTS, content=text)
    exposed = found(run)["key-exposed"]
    assert all(f"({form})" in one for one in exposed)
    assert [(one.split()[3], one.split(": ")[-1]) for one in exposed] == [
        ("users", ANON), ("messages", PLANTS), ("chat_embeddings", PLANTS),
    ]  # fmt: skip
    main(["integrity", "cross-check"])
    shown = capsys.readouterr()
    assert KEYS[form] not in "".join(exposed) + shown.out + shown.err


@pytest.mark.parametrize(
    "text", ["task-oriented-programming-is-nice", "sk-short", "See AIza and AKIA", "eyJhbGci"]
)
def test_text_that_only_resembles_a_key_is_not_reported(run: Run, text: str) -> None:
    with closing(sqlite3.connect("data/chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = ?", (text, PLANTS))
    assert "key-exposed" not in found(run)
