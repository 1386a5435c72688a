"""The sample of the chat with LanceDB: the same for the same seed, sound in both databases, and vectors that make sense."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from dbctl import demo
from dbctl.engines.contract.vectors import Vectors
from dbctl.errors import FileExistsAlreadyError, MigrationShapeUnknownError
from tests.engines import lance

AT = datetime(2026, 8, 1, tzinfo=UTC)
COUNTS = {"users": 6, "chats": 24, "messages": 200}
KEY = {"deployed": "message_id", "document": "id"}
VECTOR = {"deployed": "vector", "document": "embedding"}


def build(place: Path, seed: int = 0, shape: str = "") -> demo.DemoBuilt:
    return demo.build(place, profile="chat-lancedb", at=AT, seed=seed, counts=COUNTS, shape=shape)


def content(built: demo.DemoBuilt) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(built.databases["chat"])) as connection:
        rows = {name: connection.execute(f"select * from {name} order by 1").fetchall() for name in ("users", "chats", "messages", "attachments")}  # fmt: skip
    with closing(lance.reader(built.databases["vectors"])) as reader:
        columns = [name for name in reader.tables()["chat_embeddings"].columns if name != "metadata"]
        rows["vectors"] = reader.select("chat_embeddings", columns)
    return rows


def test_the_same_seed_makes_the_same_rows_and_another_one_others(tmp_path: Path) -> None:
    one, again, other = build(tmp_path / "a"), build(tmp_path / "b"), build(tmp_path / "c", seed=1)
    assert content(one) == content(again)
    assert content(one) != content(other)
    assert all(content(one).values()), "no table is empty"
    assert one.rows == {"users": 6, "chats": 24, "messages": 200, "attachments": one.rows["attachments"]}
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file() and "lancedb" not in path.parts]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("shape", ["deployed", "document"])
def test_it_is_a_sound_deployment_of_either_shape(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer(
        "demo", "chat-lancedb", "new", "--variant", shape, "--users", "5", "--chats", "12", "--messages", "80"
    )
    monkeypatch.chdir(tmp_path / "new")
    for command in (
        "apps check",
        "integrity cross-check",
        "integrity check --quick --db chat",
        "migrate verify",
    ):
        assert answer(*command.split())["data"]["findings"] == [], command
    assert answer("migrate", "status", "--check")["data"]["items"]
    assert len(
        answer("migrate", "plan", *(["--variant", "upgraded"] if shape == "document" else []))["data"][
            "items"
        ]
    ) == (2 if shape == "document" else 0)
    told = answer("stats", "run", "users")["data"]["items"]
    assert sum(one["messages"] for one in told) == 80
    assert answer("search", "messages", "train", "--count")["data"]["total"] >= 0


@pytest.mark.parametrize("shape", ["deployed", "document"])
def test_what_is_near_is_about_the_same_and_of_length_one(shape: str, tmp_path: Path) -> None:
    built = build(tmp_path / "new", shape=shape)
    with closing(lance.reader(built.databases["vectors"])) as reader:
        near, column, key = cast("Vectors", reader), VECTOR[shape], KEY[shape]
        with closing(sqlite3.connect(built.databases["chat"])) as connection:
            topics = {
                one: title.partition(" ")[0]
                for one, title in connection.execute("select id, title from chats")
            }
        assert len(set(topics.values())) > 3, "chats are about several things"
        for message, chat in reader.select("chat_embeddings", [key, "chat_id"])[::40]:
            vector = near.vector_of("chat_embeddings", {key: message}, column)
            assert vector is not None
            assert abs(sum(one * one for one in vector) - 1) < 1e-5
            found = near.nearest("chat_embeddings", vector, ["chat_id"], column=column, top=5)
            assert {topics[str(one[0])] for one in found} == {topics[str(chat)]}


def test_a_shape_that_it_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationShapeUnknownError):
        build(tmp_path, shape="waqtor")


@pytest.mark.parametrize("there", ["data", ".env"])
def test_what_is_there_is_left_alone_and_nothing_is_put_beside_it(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileExistsAlreadyError):
        build(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [there]
