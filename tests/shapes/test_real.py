"""Compare the schemas that dbctl creates with the recorded schemas of the real applications."""

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
from tests.databases import ComparedDatabase, create_database, empty_database
from tests.shapes import chat_lancedb, flashpoint_web, promptvault, waqtor, yaai
from tests.shapes.real.description import Description, describe, read_record

#: Record, profile, database, engine, variant: the shipped migrations must create the recorded schema.
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
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComparedDatabase]:
    with empty_database(request.param, tmp_path / "app.db") as empty:
        yield empty


def describe_live(address: str) -> Description:
    url = parse_url(address)
    with closing(registry.load_engine(url.engine).open_for_reading(url, "real", timeout=5)) as opened:
        return describe(opened)


@pytest.mark.parametrize(
    ("record", "profile", "database", "target", "variant"), SHIPPED, indirect=["target"], ids=[record[0] for record in SHIPPED]
)  # fmt: skip
def test_shipped_migrations_create_the_recorded_schema(
    record: str, profile: str, database: str, target: ComparedDatabase, variant: str
) -> None:
    app = ["--profile", profile, "--url", f"{database}={target.url}", "--db", database, "-q"]
    options = ["--variant", variant] if variant else []
    assert main([*app, "migrate", "up", "--no-backup", *options]) == 0
    assert describe_live(target.url) == read_record(record)


@pytest.mark.parametrize(
    ("era", "record"),
    [("D", "flashpoint-web-01-31"), ("D'", "flashpoint-web-02-04-later"), ("E", "flashpoint-web-02-13")],
)
def test_database_of_an_earlier_migration_text_is_recognised_and_completed(
    era: flashpoint_web.Era, record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", era=era)
    assert describe_live(str(path)) == read_record(record)
    for command in ("status --check", "verify", "drift", "plan", "up"):
        assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "--db", "user", "migrate", *command.split()]) == 0  # fmt: skip
    assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "migrate", "up", "--db", "user", "--variant", "completed"]) == 0  # fmt: skip
    actual = describe_live(str(path))
    newest = read_record("flashpoint-web-02-13")
    assert {name: actual[name] for name in newest if name != "roles"} == {
        name: newest[name] for name in newest if name != "roles"
    }
    capsys.readouterr()
    assert main(["--profile", "flashpoint-web", "--url", f"user={path}", "--db", "user", "migrate", "drift", "-o", "json"]) == 0  # fmt: skip
    assert {finding["severity"] for finding in json.loads(capsys.readouterr().out)["data"]["findings"]} <= {
        "info"
    }


@pytest.mark.parametrize(
    "app_name", ["flashpoint-web", "promptvault", "chat-lancedb", "waqtor-legacy", "yaai"]
)
def test_database_in_the_document_variant_is_baselined_without_findings(
    app_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.db"
    creators = {
        "flashpoint-web": lambda: flashpoint_web.document_user_db(path),
        "promptvault": lambda: promptvault.document(path),
        "chat-lancedb": lambda: chat_lancedb.document(path),
        "waqtor-legacy": lambda: waqtor.legacy(path),
        "yaai": lambda: yaai.printed_chat(path),
    }
    creators[app_name]()
    profile, database = app_name.partition("-legacy")[0], {"flashpoint-web": "user", "promptvault": "main", "chat-lancedb": "chat", "waqtor-legacy": "legacy", "yaai": "chat"}[app_name]  # fmt: skip
    app = ["--profile", profile, "--url", f"{database}={path}", "--db", database, "-o", "json"]
    for command in ("baseline", "status --check", "verify", "drift", "up", "drift"):
        capsys.readouterr()
        assert main([*app, "migrate", *command.split()]) == 0, command
        result = json.loads(capsys.readouterr().out)["data"]
        assert [finding for finding in result.get("findings", ()) if finding["severity"] != "info"] == [], (
            command
        )
    assert result["findings"] == [] or app_name == "promptvault"


@pytest.mark.parametrize("with_ledger", [True, False], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("database", ["app", "chat", "memory"])
def test_yaai_database_with_or_without_ledger_is_baselined_without_findings(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, with_ledger: bool
) -> None:
    path = create_database(tmp_path / "app.db", yaai.deployed_script(database))
    assert describe_live(str(path)) == read_record(f"yaai-{database}")
    if not with_ledger:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("drop table _migrations")
    app = ["--profile", "yaai", "--url", f"{database}={path}", "--db", database, "-o", "json"]
    for command in ("baseline", "status --check", "verify", "drift", "plan", "up"):
        capsys.readouterr()
        assert main([*app, "migrate", *command.split()]) == 0, command
        result = json.loads(capsys.readouterr().out)["data"]
        assert result.get("findings", []) == [], command
    assert result["items"] == []
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select version, name from _migrations order by version").fetchall()
    assert [f"{version:03}_{name}" for version, name in rows] == yaai.DEPLOYED[database]


def test_chat_database_of_the_printed_sql_is_completed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = yaai.printed_chat(tmp_path / "app.db")
    app = ["--profile", "yaai", "--url", f"chat={path}", "-o", "json"]
    assert main([*app, "migrate", "baseline", "--db", "chat"]) == 0
    assert main([*app, "migrate", "up", "--db", "chat", "--variant", "printed-completed", "--no-backup"]) == 0
    for command in ("migrate drift --db chat", "migrate status --check --db chat", "search index check"):
        capsys.readouterr()
        assert main([*app, *command.split()]) == 0, command
        assert json.loads(capsys.readouterr().out)["data"].get("findings", []) == [], command
