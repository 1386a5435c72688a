"""What a command may import before it answers; a line at the top of a module is paid for by every command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from dbctl import demo
from dbctl.cli._lazy import GROUPS

RUN = "from dbctl.__main__ import run; run()"
#: What Typer, msgspec, SQLite and TOML load by themselves cannot be avoided.
FOUNDATION = "import gc, msgspec, sqlite3, tomllib, typer, typer.main"
#: Packages from elsewhere that a command may load when it draws no table on a terminal.
PACKAGES = {"dbctl", "msgspec", "typer", "typing_extensions"}
#: Of the standard library, beside what the foundation loads.
LIBRARY = {"binascii", "fcntl"}
#: Of dbctl, whatever a command reads in a SQLite file. A line more here is a file more that every such command reads.
READING = {
    "dbctl": "__main__ cli config durable engines errors interrupt model profiles render services toml url",
    "dbctl.cli": "_app _lazy _options _run main",
    "dbctl.engines": "base fulltext plans progress ranked registry sql sqlite transfer",
    "dbctl.engines.sqlite": "checks connection describes dialect failures files fulltext kept measures reader stream times",
    "dbctl.profiles": "cleanup_model codecs environment_model loader model rebuild_model search_model semantic_model"
    " sessions_model suspicion_model",
    "dbctl.render": "answer draw envelope escape failure grid look out progress values words",
    "dbctl.services": "apps",
}
#: Beside these, what a list of users needs, and a search of games, which an index in a file of its own may answer.
USERS = {"dbctl.services": "live rules setting_values user_files user_filters user_table users"}
SEARCH = {
    "dbctl.engines": "sidecar text_query",
    "dbctl.engines.sqlite": "index_order sidecar sidecar_file sidecar_search sidecar_state",
    "dbctl.services": "near query_language query_values search search_narrow search_sidecar search_snippet search_terms"
    " search_text text_language",
}
#: Tells, before ``RUN``, which modules make a regular expression while they are imported. Those of profiles hand it to
#: msgspec, which does so.
TOLD_OF_PATTERNS = """\
import re, sys
made = re.compile
def compile(*given, **named):
    frame = sys._getframe(1)
    if frame.f_code.co_name == "<module>":
        sys.stderr.write(f"compiled by {frame.f_globals['__name__']}\\n")
    return made(*given, **named)
re.compile = compile
"""

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


def spelled(*told):
    return {f"{room}.{name}" for one in told for room, names in one.items() for name in names.split()}


def own(modules):
    """Return the modules of dbctl, without those of single commands, which are imported by name and not timed."""
    return {name for name in modules if name.startswith("dbctl.")}


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
    assert own(modules) == spelled(READING, USERS)


def test_search_imports_no_more_than_a_query_needs(sample, foundation):
    modules = imported(RUN, "search", "games", "wizard", cwd=sample)
    assert offending(modules - {"dbctl.cli.search"}, foundation) == []
    assert own(modules) == spelled(READING, SEARCH)


@pytest.mark.parametrize("words", ["users list", "search games wizard"])
def test_a_reading_command_makes_no_regular_expression_before_it_needs_one(sample, words):
    code = f"{TOLD_OF_PATTERNS}{RUN}"
    command = [sys.executable, "-c", code, *words.split()]
    ran = subprocess.run(command, cwd=sample, capture_output=True, text=True, check=True)
    made = {line.split()[-1] for line in ran.stderr.splitlines() if line.startswith("compiled by dbctl")}
    assert {name for name in made if not name.startswith("dbctl.profiles.")} == set()


def test_the_help_of_a_group_loads_no_driver(foundation):
    modules = imported(RUN, "users", "--help")
    assert (
        offending(modules - {"dbctl.cli.users"}, foundation - {"sqlite3", "sqlite3.dbapi2", "_sqlite3"}) == []
    )


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_command_takes_is_not_written_as_text_which_typer_would_compile_in_every_run(group):
    app = import_module(f"dbctl.cli.{group.replace(' ', '_')}").app
    taken = [one.callback.__annotations__ for one in app.registered_commands]
    assert [name for one in taken for name, kind in one.items() if isinstance(kind, str)] == []
