"""The schemas that dbctl makes against those that the real applications make."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.engines import registry
from dbctl.url import parse_url
from tests.databases import ComparedDatabase, nothing_yet
from tests.shapes import chat_lancedb, flashpoint_web, promptvault, waqtor, yaai
from tests.shapes.real.description import Description, describe, recorded

#: Record, profile, database, engine, shape: what the shipped migrations make must equal the record.
SHIPPED = [
    ("waqtor-main", "waqtor", "main", "postgresql", "deployed"),
    ("waqtor-legacy", "waqtor", "legacy", "sqlite", ""),
    ("promptvault-postgresql", "promptvault", "main", "postgresql", "deployed"),
    ("promptvault-sqlite", "promptvault", "main", "sqlite", "deployed"),
    ("flashpoint-web-02-13", "flashpoint-web", "user", "sqlite", "deployed"),
    ("flashpoint-web-01-23", "flashpoint-web", "user", "sqlite", "january-23"),
    ("flashpoint-web-01-16", "flashpoint-web", "user", "sqlite", "january-16"),
    ("chat-lancedb", "chat-lancedb", "chat", "sqlite", "deployed"),
    ("yaai-app", "yaai", "app", "sqlite", "deployed"),
    ("yaai-chat", "yaai", "chat", "sqlite", "deployed"),
    ("yaai-memory", "yaai", "memory", "sqlite", ""),
]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComparedDatabase]:
    with nothing_yet(request.param, tmp_path / "it.db") as empty:
        yield empty


def live(address: str) -> Description:
    with closing(registry.open_for_reading(parse_url(address), "real", timeout=5)) as opened:
        return describe(opened)


@pytest.mark.parametrize(
    ("record", "profile", "database", "place", "shape"), SHIPPED, indirect=["place"], ids=[record[0] for record in SHIPPED]
)  # fmt: skip
def test_the_shipped_migrations_make_what_the_real_application_makes(
    record: str, profile: str, database: str, place: ComparedDatabase, shape: str
) -> None:
    app = ["--profile", profile, "--url", f"{database}={place.url}", "--db", database, "-q"]
    shaped = ["--variant", shape] if shape else []
    assert main([*app, "migrate", "up", "--no-backup", *shaped]) == 0
    assert live(place.url) == recorded(record)


@pytest.mark.parametrize(
    ("era", "record"),
    [("D", "flashpoint-web-01-31"), ("D'", "flashpoint-web-02-04-later"), ("E", "flashpoint-web-02-13")],
)
def test_an_earlier_text_of_a_migration_is_known_by_what_it_made(
    era: flashpoint_web.Era, record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", era=era)
    assert live(str(path)) == recorded(record)
    for command in ("status --check", "verify", "drift", "plan", "up"):
        assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "--db", "user", "migrate", *command.split()]) == 0  # fmt: skip
    assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "migrate", "up", "--db", "user", "--variant", "completed"]) == 0  # fmt: skip
    actual = live(str(path))
    newest = recorded("flashpoint-web-02-13")
    assert {name: actual[name] for name in newest if name != "roles"} == {
        name: newest[name] for name in newest if name != "roles"
    }
    capsys.readouterr()
    assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "--db", "user", "migrate", "drift", "-o", "json"]) == 0  # fmt: skip
    assert {finding["severity"] for finding in json.loads(capsys.readouterr().out)["data"]["findings"]} <= {
        "info"
    }


@pytest.mark.parametrize("shape", ["flashpoint-web", "promptvault", "chat-lancedb", "waqtor-legacy", "yaai"])
def test_a_database_to_the_letter_of_a_document_is_adopted_and_current(
    shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it.db"
    actual = {
        "flashpoint-web": lambda: flashpoint_web.document_user_db(path),
        "promptvault": lambda: promptvault.document(path),
        "chat-lancedb": lambda: chat_lancedb.document(path),
        "waqtor-legacy": lambda: waqtor.legacy(path),
        "yaai": lambda: yaai.printed_chat(path),
    }
    actual[shape]()
    profile, _, database = shape.partition("-legacy")[0], None, {"flashpoint-web": "user", "promptvault": "main", "chat-lancedb": "chat", "waqtor-legacy": "legacy", "yaai": "chat"}[shape]  # fmt: skip
    app = ["--profile", profile, "--url", f"{database}={path}", "--db", database, "-o", "json"]
    for command in ("baseline", "status --check", "verify", "drift", "up", "drift"):
        capsys.readouterr()
        assert main([*app, "migrate", *command.split()]) == 0, command
        result = json.loads(capsys.readouterr().out)["data"]
        assert [finding for finding in result.get("findings", ()) if finding["severity"] != "info"] == [], (
            command
        )
    assert result["findings"] == [] or shape == "promptvault"


@pytest.mark.parametrize("with_ledger", [True, False], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("database", ["app", "chat", "memory"])
def test_a_real_database_of_yaai_is_adopted_and_current(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, with_ledger: bool
) -> None:
    path = yaai.create_database(tmp_path / "it.db", yaai.deployed_script(database))
    assert live(str(path)) == recorded(f"yaai-{database}")
    if not with_ledger:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("drop table _migrations")
    app = ["--profile", "yaai", "--url", f"{database}={path}", "--db", database, "-o", "json"]
    for command in ("baseline", "status --check", "verify", "drift", "plan", "up"):
        capsys.readouterr()
        assert main([*app, "migrate", *command.split()]) == 0, command
        answer = json.loads(capsys.readouterr().out)["data"]
        assert answer.get("findings", []) == [], command
    assert answer["items"] == []
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select version, name from _migrations order by version").fetchall()
    assert [f"{version:03}_{name}" for version, name in rows] == yaai.DEPLOYED[database]


def test_a_chat_database_of_printed_sql_gets_the_rest_of_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = yaai.printed_chat(tmp_path / "it.db")
    app = ["--profile", "yaai", "--url", f"chat={path}", "-o", "json"]
    assert main([*app, "migrate", "baseline", "--db", "chat"]) == 0
    assert main([*app, "migrate", "up", "--db", "chat", "--variant", "printed-completed", "--no-backup"]) == 0
    for command in ("migrate drift --db chat", "migrate status --check --db chat", "search index check"):
        capsys.readouterr()
        assert main([*app, *command.split()]) == 0, command
        assert json.loads(capsys.readouterr().out)["data"].get("findings", []) == [], command
