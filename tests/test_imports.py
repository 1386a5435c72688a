"""What a command may import before it answers; a line at the top of a module is paid for by every command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dbctl.cli._lazy import GROUPS
from dbctl.services import demo

RUN = "from dbctl.__main__ import run; run()"
#: What Typer, msgspec, SQLite and TOML load by themselves cannot be avoided.
FOUNDATION = "import gc, json, msgspec, sqlite3, tomllib, typer, typer.main"
#: Packages from elsewhere that a command may load when it draws no table on a terminal.
PACKAGES = {"dbctl", "msgspec", "typer", "typing_extensions"}
#: Of the standard library, beside what the foundation loads.
LIBRARY = {"binascii", "fcntl"}

CONFIGURATION = """\
[apps.flashpoint]
profile = "flashpoint-web"
[apps.flashpoint.databases]
user = "backend/user.db"
flashpoint = "Data/flashpoint.sqlite"
"""


def imported(code, *words, cwd=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBCTL")}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-X", "importtime", "-c", code, *words]
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


@pytest.fixture(scope="module")
def python():
    return imported("pass")


@pytest.fixture(scope="module")
def foundation():
    return imported(FOUNDATION)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    place = tmp_path_factory.mktemp("sample")
    demo.build(place, counts={"games": 20, "users": 5, "plays": 5})
    (place / "dbctl.toml").write_text(CONFIGURATION)
    return place


def offending(modules, foundation):
    """Return the modules that a reading command has no use for."""
    other = {f"dbctl.cli.{group}" for group in GROUPS}
    strange = {name for name in modules - foundation if name.partition(".")[0] not in PACKAGES | LIBRARY}
    return sorted(strange | (modules & other))


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help_import_nothing_but_the_entry(word, python):
    beyond = imported(RUN, word) - python - {"gc"}
    assert beyond == {"dbctl", "dbctl.__main__"}


def test_users_list_imports_no_more_than_a_query_needs(sample, foundation):
    modules = imported(RUN, "users", "list", cwd=sample)
    assert offending(modules - {"dbctl.cli.users"}, foundation) == []


def test_search_imports_no_more_than_a_query_needs(sample, foundation):
    modules = imported(RUN, "search", "games", "wizard", cwd=sample)
    assert offending(modules - {"dbctl.cli.search"}, foundation) == []


def test_the_help_of_a_group_loads_no_driver(foundation):
    modules = imported(RUN, "users", "--help")
    assert (
        offending(modules - {"dbctl.cli.users"}, foundation - {"sqlite3", "sqlite3.dbapi2", "_sqlite3"}) == []
    )
