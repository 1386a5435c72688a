"""The sample of PromptVault: deterministic rows, and a complete and consistent database on each engine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.errors.databases import DatabaseNotEmptyError
from dbctl.extensions.demo.builder import DemoBuilt, build_sample
from dbctl.url import parse_url
from tests import servers

AT = datetime(2026, 8, 1, tzinfo=UTC)


def build(place: Path, seed: int = 0) -> DemoBuilt:
    return build_sample(place, profile="promptvault", at=AT, seed=seed, counts={"users": 8, "prompts": 40})


def content(built: DemoBuilt) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(built.databases["main"])) as connection:
        return [
            connection.execute(f'select * from "{table}" order by 1, 2').fetchall()
            for table in ("User", "Prompt", "PromptVersion", "PromptTag", "Rating", "Team", "Tag", "Settings")
        ]


def test_rows_depend_only_on_the_seed(tmp_path: Path) -> None:
    first, second, other = build(tmp_path / "a"), build(tmp_path / "b"), build(tmp_path / "c", seed=1)
    assert content(first) == content(second) != content(other)
    assert first.rows["prompts"] == 40
    assert first.rows["users"] == 8


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_sample_on_each_engine_passes_all_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as postgresql_url, servers.mysql_database() as mysql_url:
        url = {"postgresql": postgresql_url, "mysql": mysql_url}.get(engine)
        words = ["--url", f"main={servers.text(url)}"] if url else []
        assert main(["demo", "promptvault", "new", "--users", "8", "--prompts", "40", *words]) == 0
        monkeypatch.chdir(tmp_path / "new")
        for command in (
            "apps check",
            "integrity check",
            "integrity cross-check",
            "migrate drift",
            "search index check",
        ):
            capsys.readouterr()
            assert main([*command.split(), "-o", "json"]) == 0
            assert json.loads(capsys.readouterr().out)["data"]["findings"] == [], command
        assert main(["search", "prompts", "--count"]) == 0
        if url:
            with pytest.raises(DatabaseNotEmptyError):
                build_sample(
                    tmp_path / "more", profile="promptvault", urls={"main": parse_url(servers.text(url))}
                )
            assert not (tmp_path / "more").exists()


def test_existing_database_is_refused(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(FileExistsAlreadyError):
        build(tmp_path)


def test_file_of_url_option_is_filled_even_if_already_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, is_migrated in (("new.db", False), ("migrated.db", True)):
        at = ["--url", f"main={name}"]
        if is_migrated:
            answer("--profile", "promptvault", *at, "migrate", "up")
        result = answer("demo", "promptvault", name[:3], *at, "--users", "4", "--prompts", "9")["data"]
        assert result["databases"] == {"main": str(tmp_path / name)}
        assert answer("--config", f"{name[:3]}/dbctl.toml", "users", "list")["data"]["total"] == 4
        assert [path.name for path in (tmp_path / name[:3]).iterdir()] == ["dbctl.toml"]
        assert answer("demo", "promptvault", "more", *at, status=6)["error"]["code"] == "database-not-empty"


@pytest.mark.parametrize(
    "words",
    [
        "flashpoint-web --url user=x.db",
        "promptvault --url vectors=x.db",
        "waqtor --url main=postgresql://h/x --url legacy=x.db",
        "waqtor --url main=mysql://h/x",
    ],
)
def test_url_of_database_or_engine_that_the_sample_lacks_is_refused_before_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--dry-run"]):
        assert answer("demo", *words.split(), *more, status=2)["error"]["code"] == "not-supported"
    assert list(tmp_path.iterdir()) == []


def test_server_that_stores_names_in_lower_case_is_named_with_its_socket(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with servers.mysql_database(server=servers.private_mysql("--lower-case-table-names=1")) as url:
        address = servers.text(url)
        error = answer("demo", "promptvault", "new", "--url", f"main={address}", status=2)["error"]
    assert error["code"] == "schema-mismatch"
    assert "it has settings" in error["message"]
    assert "?unix_socket=/" in address
    assert f"main={address}" in error["hint"]
