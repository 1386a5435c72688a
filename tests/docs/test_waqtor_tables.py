"""The tables of the page about WaQtor: every command runs on both variants of the app."""

from __future__ import annotations

import io
import shlex
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.errors.base import Exit
from docs.documents import read_rows
from tests import servers
from tests.examples import mark_command
from tests.shapes import waqtor

pytestmark = pytest.mark.slow

ROWS = read_rows("WaQtor")
COMMANDS = list(dict.fromkeys(command for row in ROWS for command in row.commands))
FUNCTIONS = {
    "list-users", "create-admin", "create-user", "update-role", "show-stats", "reset-password", "delete-user",
    "activate", "deactivate", "show-user",
}  # fmt: skip


def test_every_function_of_app_script_has_row():
    assert {row.function.strip("`").split()[0] for row in ROWS} >= FUNCTIONS


#: Exit codes other than 0: ``doctor`` reports errors of the sample; ``stats slow`` a missing extension.
EXIT_STATUSES = {"doctor": {Exit.OK, Exit.CHECK_FAILED}, "stats slow": {Exit.OK, Exit.USAGE}}
#: Values that only one variant has.
ONLY = {"is_active=false": "deployed", "status=disconnected": "document"}
PLACEHOLDERS = {
    "ADDRESS": "ana@waqtor.example",
    "NEW": "new@waqtor.example",
    "SESSION": waqtor.key("b", 1),
    "CAMPAIGN": waqtor.key("d", 2),
    "GROUP": waqtor.key("9", 2),
}
CASES = [
    pytest.param(variant, words, id=f"{variant}: {words}", marks=mark_command(words))
    for words in COMMANDS
    for variant in ("deployed", "document")
    if variant == ONLY.get(words.split()[-1], variant)
]
IMPORTED = """id,email,password_hash,created_at,updated_at
12345678-0000-4000-8000-000000000001,csv@waqtor.example,$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z
"""


@pytest.fixture
def create_variant(tmp_path, monkeypatch, capsys):
    """Return a function that creates a variant of the app and returns a function that runs commands on it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new-users.csv").write_text(IMPORTED, encoding="utf-8")
    (tmp_path / "own").mkdir()
    with servers.postgresql_database(encoding="UTF8") as url:

        def run_command(words):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"pass123\n")))
            app = ["--profile", "waqtor", "--url", f"main={servers.text(url)}"]
            status = main([*app, *shlex.split(words), "-o", "json"])
            return status, capsys.readouterr().out

        def create(variant, words):
            with closing(servers.connection(url)) as connection:
                getattr(waqtor, variant)(connection)
            if "dump.sql" in words:
                subprocess.run(["pg_dump", "-f", "dump.sql", servers.text(url)], check=True)
            return run_command

        yield create


@pytest.mark.parametrize(("variant", "words"), CASES)
def test_command_of_row_works(create_variant, variant, words):
    run_command = create_variant(variant, words)
    if words.startswith("restore"):
        assert run_command("backup create --repository backups")[0] == 0
    if words.startswith("migrate up"):
        assert run_command("migrate baseline")[0] == 0
        assert run_command("migrate new add-index --migrations own")[0] == 0
        max(Path("own").rglob("*.sql")).write_text("create table notes (id integer primary key);\n")
    for name, value in PLACEHOLDERS.items():
        words = words.replace(name, value)
    status, output = run_command(words)
    assert status in EXIT_STATUSES.get(words, {Exit.OK}), output
