"""Modules that a command may import: each one delays the start of the command."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import metadata

import pytest

from dbctl.cli._catalog import read_catalog
from dbctl.services.events.store import EventStore
from tests.services.flashpoint_app import copy_deployment
from tests.shapes import chat_lancedb
from tools.commands import read_groups

RUN = "from dbctl.__main__ import run; run()"
#: Packages whose import takes longer than a whole reading command; only commands that use them may load them.
HEAVY = {
    "argon2", "bcrypt", "jsonschema", "lancedb", "numpy", "obstore", "psycopg", "pyarrow", "pymysql", "pyrage", "rich", "sqlglot",
    "ast", "bz2", "concurrent.futures", "difflib", "dis", "ipaddress", "json", "linecache", "logging", "lzma", "msgspec.inspect",
    "msgspec.yaml", "platform", "queue", "sqlite_utils", "subprocess", "tabulate", "tempfile", "textwrap", "tokenize",
    "traceback", "typer.completion", "typing_extensions", "urllib.request",
}  # fmt: skip
#: Those that Python itself imports since 3.14: for annotations, and for the option -c.
OF_PYTHON = {"ast", "linecache"} if sys.version_info >= (3, 14) else set[str]()
#: Maximum number of modules of dbctl that a command loads.
BUDGET = {"users list": 84, "search games wizard": 110}

#: Code that reports modules that compile a regular expression on import; run before ``RUN``. Modules of profiles must do so,
#: because msgspec compiles their patterns.
REPORT_PATTERNS = """\
import re, sys
original = re.compile
def compile(*arguments, **options):
    frame = sys._getframe(1)
    if frame.f_code.co_name == "<module>":
        sys.stderr.write(f"compiled by {frame.f_globals['__name__']}\\n")
    return original(*arguments, **options)
re.compile = compile
"""

#: Code that reports the loaded modules at the end of the process; run before ``RUN``.
REPORT_MODULES = """\
import os, sys
end = os._exit
def report(status):
    modules = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None) or name in ("os", "sys")]
    sys.stderr.write("modules: " + " ".join(modules))
    sys.stderr.flush()
    end(status)
os._exit = report
"""

CONFIGURATION = """\
[apps.flashpoint]
profile = "flashpoint-web"
[apps.flashpoint.databases]
user = "backend/user.db"
flashpoint = "Data/flashpoint.sqlite"
"""


def list_imports(code, *words, cwd=None):
    """Return the modules that a process has imported when it ends; a module whose import is deferred has no specification."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBCTL")}
    environment.pop("COLUMNS", None)
    if cwd is not None:
        environment["XDG_STATE_HOME"] = str(cwd)
    command = [sys.executable, "-c", f"{REPORT_MODULES}{code}\nos._exit(0)", *words]
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    return set(process.stderr.rpartition("modules: ")[2].split())


@pytest.fixture(scope="module")
def python():
    return list_imports("pass")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    place = tmp_path_factory.mktemp("sample")
    copy_deployment(place)
    (place / "dbctl.toml").write_text(CONFIGURATION)
    create_event_store(place)
    return place


def create_event_store(home):
    """Create the event store, for which sqlite-utils is loaded once."""
    with EventStore(home / "dbctl").writing():
        pass


def find_unneeded(modules):
    """Return the heavy packages, and the command groups other than that of the command."""
    groups = {f"dbctl.cli.{group}" for group in read_catalog().groups}
    return sorted(modules & (HEAVY | groups) - OF_PYTHON)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("--version", set()),
        pytest.param(
            "--help",
            {"dbctl.extensions", "dbctl.extensions.installed"},
            marks=pytest.mark.needs_extension(),  # the help of a whole dbctl is a file
        ),
    ],
)
def test_version_and_help_import_only_the_entry_point(word, names, python):
    additional = list_imports(RUN, word) - python - {"gc"}
    assert additional == {"dbctl", "dbctl.__main__"} | names


@pytest.mark.parametrize("words", BUDGET)
def test_reading_command_imports_only_modules_of_its_query(sample, words):
    modules = list_imports(RUN, *words.split(), cwd=sample)
    assert find_unneeded(modules - {f"dbctl.cli.{words.split()[0]}"}) == []
    assert len([name for name in modules if name.startswith("dbctl")]) <= BUDGET[words]


@pytest.mark.parametrize(
    "words",
    [
        "users list", "users show morgan", "users delete morgan --dry-run", "search games wizard", "data rows users",
        "schema show users", "data export users {place}/users.csv", "stats tables", "stats bloat", "integrity check", "migrate status",
        "stats indexes", "sessions cleanup --dry-run", "maintain vacuum --dry-run", "backup create --repository {place}/backups",
        pytest.param("search index status", marks=pytest.mark.needs_extension("external_index")),
        pytest.param("search index build", marks=pytest.mark.needs_extension("external_index")),
    ],
)  # fmt: skip
def test_command_that_does_not_write_rows_loads_no_sqlite_utils(sample, tmp_path, words):
    assert "sqlite_utils" not in list_imports(RUN, *words.format(place=tmp_path).split(), cwd=sample)


@pytest.mark.needs_extension("lancedb")
def test_status_of_vectors_loads_no_library_of_vectors(tmp_path):
    chat_lancedb.deployed(tmp_path / "data/chat.db")
    chat_lancedb.create_vectors(tmp_path / "data/lancedb")
    (tmp_path / "dbctl.toml").write_text(
        '[apps.chat]\nprofile = "chat-lancedb"\n[apps.chat.databases]\nchat = "data/chat.db"\nvectors = "data/lancedb"\n'
    )
    assert not list_imports(RUN, "status", cwd=tmp_path) & {"lancedb", "pyarrow", "numpy"}


def test_migrations_that_insert_only_rows_of_the_ledger_load_no_sqlite_utils(tmp_path):
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/001_first.sql").write_text("create table first (id integer primary key);\n")
    words = ["migrate", "up", "--url", "main=app.db", "--migrations", "migrations"]
    list_imports(
        RUN, *words, cwd=tmp_path
    )  # it creates the event store, for which sqlite-utils is loaded once
    (tmp_path / "migrations/002_second.sql").write_text("create table second (id integer primary key);\n")
    assert "sqlite_utils" not in list_imports(RUN, *words, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        assert connection.execute("select count(*) from second").fetchone() == (0,)


@pytest.mark.parametrize(
    "words",
    [
        "users deactivate morgan --yes", "data set users 3 username=renamed --yes", "sessions cleanup --yes",
        "maintain vacuum --yes", "maintain analyze --yes", "data delete users 4 --yes",
        "migrate new active --db user --migrations . --alter users --not-null is_active",
    ],
)  # fmt: skip
def test_command_that_writes_rows_uses_sqlite_utils(sample, tmp_path, words):
    home = tmp_path / "home"
    shutil.copytree(sample, home)
    modules = list_imports(RUN, *words.split(), cwd=home)
    assert "sqlite_utils" in modules
    assert not modules & {"numpy", "pandas"}


@pytest.mark.parametrize(
    "words",
    ["users list", pytest.param("search games wizard", marks=pytest.mark.needs_extension("external_index"))],
)
def test_reading_command_compiles_no_regular_expression_on_import(sample, words):
    if words.startswith("search"):  # without an index, a note names a command
        list_imports(RUN, "search", "index", "build", cwd=sample)
    code = f"{REPORT_PATTERNS}{RUN}"
    command = [sys.executable, "-c", code, *words.split()]
    process = subprocess.run(command, cwd=sample, capture_output=True, text=True, check=True)
    patterns = {
        line.split()[-1] for line in process.stderr.splitlines() if line.startswith("compiled by dbctl")
    }
    assert {name for name in patterns if not name.startswith("dbctl.profiles.")} == set()


@pytest.mark.parametrize(
    "words",
    ["users list", "users create robin --email robin@example.org --generate", "roles list", "settings list"],
)
def test_command_about_users_loads_only_the_core_of_the_profile_and_its_contracts(sample, tmp_path, words):
    place = tmp_path / "home"
    shutil.copytree(sample, place)
    modules = list_imports(RUN, *words.split(), cwd=place)
    assert "dbctl.profiles.model.core" in modules
    contracts = {"dbctl.engines.contract.dumps", "dbctl.engines.contract.vectors"}
    assert not modules & {"dbctl.profiles.model.profile", *contracts}


def test_group_help_loads_no_app_and_no_driver():
    modules = list_imports(RUN, "users", "--help")
    assert not modules & {"dbctl.services.app.app", "dbctl.profiles.loader"}
    assert find_unneeded(modules - {"dbctl.cli.users", "textwrap"} | (modules & {"sqlite3"})) == []


@pytest.mark.parametrize("group", read_groups(), ids=lambda group: group.name)
def test_parameter_annotations_of_commands_are_not_strings(group):
    # Typer would compile annotations that are strings in every run
    annotations = [info.callback.__annotations__ for info in group.infos]
    assert [
        name for annotation in annotations for name, kind in annotation.items() if isinstance(kind, str)
    ] == []


def test_deferred_module_is_imported_once_by_threads_that_use_it(python):
    code = """
from dbctl import startup
startup.defer_imports()
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
assert subprocess is sys.modules["subprocess"]
with ThreadPoolExecutor(8) as threads:
    classes = set(threads.map(lambda _: subprocess.Popen, range(64)))
assert len(classes) == 1 and classes == {sys.modules["subprocess"].Popen}
"""
    assert "subprocess" in list_imports(code)


def test_inspect_works_with_the_values_that_stand_for_deferred_modules():
    code = """
from dbctl import startup
startup.defer_imports()
import fractions, inspect, sys
assert sys.version_info >= (3, 14) or not getattr(sys.modules["ast"], "__spec__", None)
assert inspect.getsource(fractions.Fraction).startswith("class Fraction")
flags = dict(inspect.dis.COMPILER_FLAG_NAMES)
import dis
assert flags == {flag: name for flag, name in dis.COMPILER_FLAG_NAMES.items()}
print(dis.code_info(compile("pass", "", "exec")))
"""
    list_imports(code)


def test_sqlite_utils_is_imported_without_what_dbctl_does_not_use_of_it():
    code = """
import re, sys
compile_now = re.compile
from dbctl.sqlite_library import Database, TransformError
assert re.compile is compile_now
parser = "sqlite_utils.create_table_parser"
assert not {"click", "dateutil.parser", "numpy", "pluggy", "secrets", parser} & set(sys.modules)
assert not any(type(finder).__name__ == "_HiddenModules" for finder in sys.meta_path)
database = Database(memory=True, execute_plugins=False)
database.execute("create virtual table words using fts5(word)")
assert database.table("words").virtual_table_using == "FTS5"
with database.atomic(), database.atomic():  # the inner one is a savepoint with a random name
    assert "secrets" in sys.modules
database.execute("create table notes (text text check (text <> ''))")
notes = database.table("notes").transform(rename={"text": "content"})
assert "CHECK (content <> '')" in notes.schema and parser in sys.modules
database.execute("pragma writable_schema = on")
database.execute("update sqlite_schema set sql = sql || '/*' where name = 'notes'")
try:
    notes.transform(rename={"content": "text"})
    raise AssertionError("a schema that cannot be read was changed")
except TransformError as error:
    assert "Unterminated SQL comment" in str(error)
assert Database(memory=True).execute("select 1").fetchone() == (1,)  # with plugins
assert "pluggy" in sys.modules
from sqlite_utils import hookspecs, recipes, utils
assert recipes.parsedate("1 May 2030") == "2030-05-01"
assert utils.click.Group("app").name == "app"
import click, dateutil.parser, numpy
assert click.core and dateutil.parser.parse and numpy.array
"""
    assert {"click", "dateutil.parser"} <= set(list_imports(code))


def test_psycopg_reads_its_version_without_the_metadata_of_all_packages():
    code = """
from dbctl import startup
startup.defer_imports()
import psycopg, psycopg_binary
"""
    assert "importlib.metadata" not in list_imports(code)


def test_versions_of_packages_are_those_of_importlib_metadata():
    names = sorted({package.metadata["Name"] for package in metadata.distributions()})
    code = f"""
from dbctl import startup
startup.defer_imports()
from importlib import metadata
for name in {names}:
    print(name, metadata.version(name))
try:
    metadata.version("no-such-package")
except metadata.PackageNotFoundError:
    print("missing")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == [f"{name} {metadata.version(name)}" for name in names] + ["missing"]
