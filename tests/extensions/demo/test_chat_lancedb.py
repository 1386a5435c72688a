"""The sample of the chat with LanceDB: deterministic rows, consistent databases, and vectors grouped by topic."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.errors.migrations import MigrationVariantUnknownError
from dbctl.extensions.demo.builder import DemoBuilt, build_sample
from tests.extensions.lancedb import opening

AT = datetime(2026, 8, 1, tzinfo=UTC)
COUNTS = {"users": 6, "chats": 24, "messages": 200}
KEY_COLUMN = {"deployed": "message_id", "document": "id"}
VECTOR_COLUMN = {"deployed": "vector", "document": "embedding"}


def build(place: Path, seed: int = 0, variant: str = "") -> DemoBuilt:
    return build_sample(place, profile="chat-lancedb", at=AT, seed=seed, counts=COUNTS, variant=variant)


def content(built: DemoBuilt) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(built.databases["chat"])) as connection:
        rows = {name: connection.execute(f"select * from {name} order by 1").fetchall() for name in ("users", "chats", "messages", "attachments")}  # fmt: skip
    with closing(opening.open_reader(built.databases["vectors"])) as reader:
        columns = [name for name in reader.tables()["chat_embeddings"].columns if name != "metadata"]
        rows["vectors"] = reader.select("chat_embeddings", columns)
    return rows


@pytest.mark.slow
def test_rows_depend_only_on_the_seed(tmp_path: Path) -> None:
    first, second, other = build(tmp_path / "a"), build(tmp_path / "b"), build(tmp_path / "c", seed=1)
    assert content(first) == content(second)
    assert content(first) != content(other)
    assert all(content(first).values()), "a table is empty"
    assert first.rows == {"users": 6, "chats": 24, "messages": 200, "attachments": first.rows["attachments"]}
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file() and "lancedb" not in path.parts]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("variant", ["deployed", "document"])
def test_sample_of_each_variant_passes_all_checks(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer(
        "demo",
        "chat-lancedb",
        "new",
        "--variant",
        variant,
        "--users",
        "5",
        "--chats",
        "12",
        "--messages",
        "80",
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
        answer("migrate", "plan", *(["--variant", "upgraded"] if variant == "document" else []))["data"][
            "items"
        ]
    ) == (2 if variant == "document" else 0)
    users = answer("stats", "run", "users")["data"]["items"]
    assert sum(user["messages"] for user in users) == 80
    assert answer("search", "messages", "train", "--count")["data"]["total"] >= 0


@pytest.mark.parametrize("variant", ["deployed", "document"])
def test_nearest_vectors_have_the_same_topic_and_unit_length(variant: str, tmp_path: Path) -> None:
    built = build(tmp_path / "new", variant=variant)
    with closing(opening.open_reader(built.databases["vectors"])) as reader:
        searcher, column, key = reader.vectors, VECTOR_COLUMN[variant], KEY_COLUMN[variant]
        with closing(sqlite3.connect(built.databases["chat"])) as connection:
            topics = {
                chat_id: title.partition(" ")[0]
                for chat_id, title in connection.execute("select id, title from chats")
            }
        assert len(set(topics.values())) > 3, "too few topics"
        for message, chat in reader.select("chat_embeddings", [key, "chat_id"])[::40]:
            vector = searcher.read_vector("chat_embeddings", {key: message}, column)
            assert vector is not None
            assert abs(sum(component * component for component in vector) - 1) < 1e-5
            neighbours = searcher.find_nearest("chat_embeddings", vector, ["chat_id"], column=column, limit=5)
            assert {topics[str(row[0])] for row in neighbours} == {topics[str(chat)]}


def test_variant_of_another_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationVariantUnknownError):
        build(tmp_path, variant="waqtor")


@pytest.mark.parametrize("existing", ["data", ".env"])
def test_existing_files_are_refused_and_unchanged(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("existing")
    with pytest.raises(FileExistsAlreadyError):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
