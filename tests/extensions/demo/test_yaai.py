"""The sample of YAAI: deterministic rows, and four complete and consistent databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.extensions.demo.builder import DemoBuilt, build_sample

AT = datetime(2026, 8, 1, tzinfo=UTC)


def build(place: Path, seed: int = 0) -> DemoBuilt:
    return build_sample(place, profile="yaai", at=AT, seed=seed, counts={"chats": 9, "messages": 300})


def content(built: DemoBuilt) -> dict[str, list[tuple[object, ...]]]:
    rows = {}
    for name, path in built.databases.items():
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute(
                "select name from sqlite_master where type = 'table' and name not like '%fts%' and name <> '_migrations'"
            ).fetchall()
            for (table,) in tables:
                rows[f"{name}.{table}"] = connection.execute(f"select * from {table} order by 1").fetchall()
    return rows


def test_rows_depend_only_on_the_seed(tmp_path: Path) -> None:
    first, second, other = build(tmp_path / "a"), build(tmp_path / "b"), build(tmp_path / "c", seed=1)
    assert content(first) == content(second) != content(other)
    assert all(content(first).values()), "a table is empty"
    assert (first.rows["chats"], first.rows["messages"], first.accounts) == (9, 300, ())
    assert (tmp_path / "a/secrets/encryption.key").stat().st_size == 32
    assert sorted(path.name for path in (tmp_path / "a/db").iterdir()) == sorted(
        path.name for path in first.databases.values()
    )
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*") if path.is_file()} == {0o600}


@pytest.mark.slow
def test_sample_passes_all_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer("demo", "yaai", "new", "--chats", "9", "--messages", "60")
    monkeypatch.chdir(tmp_path / "new")
    for command in (
        "apps check", "integrity check", "integrity cross-check", "migrate drift", "migrate verify", "search index check",
    ):  # fmt: skip
        assert answer(*command.split())["data"]["findings"] == [], command
    assert answer("search", "messages", "name", "--count")["data"]["total"] > 0
    assert answer("stats", "run", "artifacts")["data"]["total"] > 0
    answer("backup", "create")
    answer("backup", "drill")
    assert answer("doctor")["data"]["findings"] == []


@pytest.mark.parametrize("existing", ["db", "settings.json"])
def test_existing_files_are_refused_and_unchanged(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("existing")
    with pytest.raises(FileExistsAlreadyError):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "existing"
