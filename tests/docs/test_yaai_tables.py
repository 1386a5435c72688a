"""The table of the page about YAAI: every command runs on databases of the documented schema."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from dbctl.cli.main import main
from docs.documents import read_rows
from tests.examples import mark_command
from tests.shapes import yaai

ROWS = read_rows("YAAI")
COMMANDS = list(dict.fromkeys(command for row in ROWS for command in row.commands))


def test_every_function_of_document_has_row() -> None:
    functions = {
        "paginate", "selectMany", "insert", "execute", "raw", "batchInsert", "runMigrations", "applyMigration",
        "parseMigration", "getMigrationStatus", "getAppliedMigrations", "getPendingMigrations", "searchMessages",
        "searchMessagesInChat", "backupDatabase", "backupAll", "restoreDatabase", "checkIntegrity", "checkAllIntegrity",
        "getDatabaseNames", "getDatabaseStats",
    }  # fmt: skip
    assert functions <= {name for row in ROWS for name in re.findall(r"(\w+)\(", row.function)}


@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=mark_command(command)) for command in COMMANDS]
)
def test_command_of_row_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    urls = [word for name, path in yaai.document(tmp_path).items() for word in ("--url", f"{name}={path}")]
    app = ["--profile", "yaai", *urls]
    Path("rows.jsonl").write_text('{"table": "chats", "row": {"id": "new", "title": "Another chat"}}\n')
    Path("chats.csv").write_text("id,title\nnew,Another chat\n", encoding="utf-8")
    shutil.copytree(Path(__file__).parents[2] / "migrations/yaai/chat/document", "own")
    if command.startswith("restore"):
        assert main([*app, "backup", "create", "--repository", "backups"]) == 0
    if command.startswith("migrate up --db chat --migrations own"):
        new = ["migrate", "new", "add-notes", "--db", "chat", "--migrations", "own"]
        assert main([*app, *new]) == 0
        max(Path("own").rglob("*.sql")).write_text("create table notes (id integer primary key);\n")
    command = re.sub(r"\bCHAT\b", yaai.GARDEN, command)
    if command.startswith("data set"):  # the index of the document refuses every change of a message
        assert main([*app, "search", "index", "repair"]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"not-a-real-key\n")))
    capsys.readouterr()
    status = main([*app, *shlex.split(command), "-o", "json"])
    assert status == 0, capsys.readouterr().out
