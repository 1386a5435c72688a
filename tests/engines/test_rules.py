"""Rules for the source code; violations lose locks or data without an error."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

import pytest

import dbctl
from dbctl.engines.contract.database import Readable, Writable
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.url import list_engines
from tests.conformance.abilities import CONTRACTS

SOURCE = Path(dbctl.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

#: Modules that may open files by path, and the files: closing any descriptor of a database file drops every lock of
#: this process on it, so each entry explains why the files are not databases.
OPENERS = {
    "__main__.py": "/dev/null, the standard streams and the shipped help",
    "extensions/installed.py": "the shipped names of the extensions",
    "files/tar.py": "files that it extracts from an archive (O_EXCL) into a new folder",
    "files/atomic.py": "new files, directories, files that the user names before any database is opened, backups, and the files of a database that cannot be opened",
    "files/subprocesses.py": "dumps of servers that it creates (O_EXCL), and option files for client programs (O_EXCL)",
    "files/compression.py": "copies that a backup created, and files of backups",
    "extensions/lancedb/location.py": "files of LanceDB, which are never locked, and those that root created, whose owner it changes by descriptor",
    "extensions/lancedb/snapshot.py": "files of LanceDB tables, which are never locked",
    "extensions/lancedb/dump.py": "archives of backups",
    "engines/file_locks.py": "files under /proc",
    "extensions/adopt/mysql.py": "private copies of dumps",
    "engines/mysql/options.py": "~/.my.cnf",
    "engines/postgresql/load.py": "files of backups",
    "engines/mysql/swap.py": "the script in a safety backup",
    "files/codecs.py": "dumps of servers",
    "extensions/adopt/postgresql.py": "private copies of dumps",
    "engines/sqlite/replace_content.py": "a new file with a temporary name (O_EXCL), before it connects to it",
    "extensions/adopt/sqlite.py": "private copies of dumps",
    "engines/sqlite/connection.py": "the first bytes of a database that it reads without locks, so none can be lost",
    "engines/sqlite/errors.py": "the header of a database whose definitions it cannot read, which remains open, so that no lock is lost",
    "extensions/salvage/sqlite/image.py": "private copies of damaged files, and a reference file, without open connections to them",
    "extensions/external_index/file.py": "the first bytes of a database that it reads without locks, so none can be lost, and of its external index",
    "extensions/external_index/build.py": "the external index while it is created (O_EXCL), and its folder",
    "engines/sqlite/files.py": "-wal files, which are never locked",
    "engines/sqlite/write_connection.py": "a database that it creates (O_EXCL), before it connects to it",
    "files/lock.py": "lock files",
    "extensions/transfer/engines/sqlite/pages.py": "private copies of databases, which no other process locks",
    "services/events/legacy.py": "the folder of the event store, for its lock",
    "files/temp.py": "folders, most of which are new",
    "render/streams.py": "/dev/null",
    "services/backup/app_files.py": "the archive that it creates (O_EXCL), from files that are not databases of the app",
    "cli/_completion.py": "/dev/null",
    "cli/_support/log.py": "log files, and no database",
    "services/events/changes/log.py": "a file that says that changes are not in the event store",
    "services/events/changes/records.py": "the key of the digests of secrets",
    "services/events/recorder.py": "the lock file of a run",
    "services/events/store.py": "the new file of the event store (O_EXCL), before it connects to it",
    "services/setup/configuration.py": "the copy of a configuration that it creates (O_EXCL)",
    "extensions/fleet/run.py": "/dev/null",
    "stores/directory.py": "markers and manifests of backups",
}
#: Modules that connect to databases, and the databases.
CONNECTORS = {
    "cli/_support/log.py": "the socket of journald",
    "services/events/store.py": "the event store",
    "extensions/lancedb/location.py": "every folder of tables",
    "extensions/lancedb/verify.py": "a private folder with the content of a backup",
    "engines/mysql/exact_values.py": "the socket of its own relay, for a program in a container",
    "engines/mysql/opening.py": "the socket of a server, to test whether it has a listener",
    "engines/mysql/session.py": "every database on a server",
    "engines/postgresql/foreign.py": "the scratch database of a foreign dump, as its only owner",
    "engines/postgresql/session.py": "every database on a server, also for the state of a session with a silent connection",
    "files/liveness.py": "every database on a server, to test whether it accepts connections",
    "engines/sqlite/connection.py": "the database of an app, and the files of the other modules of SQLite",
    "engines/sqlite/dump.py": "the copy of a backup",
    "engines/sqlite/replace_content.py": "the target of a restore, and the dump",
    "engines/sqlite/restore.py": "the target of a restore",
    "extensions/adopt/sqlite.py": "private copies of foreign files, and the file that it creates from a dump",
    "extensions/salvage/sqlite/image.py": "a private copy of a damaged database, for the integrity check",
    "extensions/salvage/sqlite/new_database.py": "the new file of a recovery, and an empty database in memory",
    "extensions/salvage/sqlite/recover.py": "the new file of a recovery, for its journal mode",
    "extensions/salvage/sqlite/schema.py": "the reference file",
}
DRIVERS = ("sqlite", "psycopg", "pymysql", "lancedb", "pyarrow")
OPENING = {"open", "fdopen", "read_bytes", "read_text", "write_bytes", "write_text"}
COPYING = {"copy", "copy2", "copyfile", "copyfileobj", "file_digest", "sendfile", "copy_file_range"}


@cache
def walk_file(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def find_calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Return the calls of a file, with the name of the function or method."""
    calls = [node for node in walk_file(file) if isinstance(node, ast.Call)]
    return [
        (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", ""), call)
        for call in calls
    ]


def find_callers(name: str) -> list[str]:
    return [
        str(file.relative_to(SOURCE))
        for file in FILES
        for called_name, _ in find_calls(file)
        if called_name == name
    ]


@pytest.mark.needs_extension
def test_only_listed_engine_modules_import_drivers_and_connect():
    assert set(find_callers("connect")) == set(CONNECTORS)
    importers = {
        str(file.relative_to(SOURCE))
        for file in FILES
        for node in walk_file(file)
        if (isinstance(node, ast.Import) and any(alias.name.startswith(DRIVERS) for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(DRIVERS))
    }
    # The event store is dbctl's own file; `dbctl version` prints the version of SQLite.
    permitted = (
        "engines/",
        "extensions/adopt/sqlite.py",
        "extensions/copies/rewrite_sqlite.py",
        "extensions/lancedb/",
        "extensions/salvage/sqlite/",
        "extensions/transfer/engines/",
        "services/events/",
        "sqlite_library.py",
        "services/support/versions.py",
    )
    assert sorted(name for name in importers if not name.startswith(permitted)) == []


@pytest.mark.parametrize("name", ["executescript", "enable_load_extension"])
def test_no_function_with_implicit_commit_is_called(name):
    assert find_callers(name) == []


def test_sqlite_backup_always_has_a_callback():
    """Without a callback, Python retries without limit while another process holds a lock."""
    backup_calls = [
        (str(file.relative_to(SOURCE)), {keyword.arg for keyword in node.keywords})
        for file in FILES
        for called_name, node in find_calls(file)
        if called_name == "backup"
    ]
    assert {file for file, _ in backup_calls} == {
        "engines/sqlite/dump.py",
        "engines/sqlite/replace_content.py",
    }
    assert all({"pages", "progress"} <= arguments for _, arguments in backup_calls)


def test_no_connection_is_a_context_manager():
    """``with connection:`` does not begin a transaction, and rolls back nothing without one."""
    violations = [
        f"{file.relative_to(SOURCE)}:{item.context_expr.lineno}"
        for file in FILES
        for node in walk_file(file)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Name | ast.Attribute)
        and "connection" in ast.unparse(item.context_expr).lower()
    ]
    assert violations == []


def test_engines_open_files_only_in_listed_modules():
    openers = {
        str(file.relative_to(SOURCE))
        for file in FILES
        if file.is_relative_to(SOURCE / "engines")
        for called_name, node in find_calls(file)
        if called_name in OPENING and not ast.unparse(node.func).startswith("self._")
    }
    assert openers <= set(OPENERS)


def test_os_open_is_called_only_in_listed_modules():
    openers = {
        str(file.relative_to(SOURCE))
        for file in FILES
        for _, node in find_calls(file)
        if ast.unparse(node.func) == "os.open"
    }
    assert openers <= set(OPENERS)


@pytest.mark.parametrize("name", sorted(COPYING))
def test_no_file_is_copied_or_hashed_by_path(name):
    violations = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in FILES
        for called_name, node in find_calls(file)
        if called_name == name and ast.unparse(node.func).startswith(("shutil.", "hashlib.", "os."))
    ]
    assert violations == []


# Composition ---------------------------------------------------------------------------------------------------------

#: Names of engines; ``url.py`` and the extensions have them.
ENGINE_NAMES = frozenset(dict(list_engines()))


def import_engine_classes() -> Iterator[type]:
    packages = ["dbctl.engines", *(entry.place.rpartition(".")[0] for _, entry in list_engines())]
    names = {
        module.name
        for package in packages
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    }
    for name in sorted(names):
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and value.__module__ == name:
                yield value


def test_database_without_a_method_of_its_contract_cannot_be_created():
    class Incomplete(SQLiteReader, Writable):
        """A writer that cannot write."""

    with pytest.raises(TypeError, match="advance_sequences"):
        Incomplete(Path("app.sqlite"), "custom/main")


@pytest.mark.needs_extension("lancedb")
def test_each_part_is_a_property_of_the_contract():
    parts = {
        (cls.__name__, name)
        for cls in import_engine_classes()
        if Readable in cls.__mro__
        for name, value in vars(cls).items()
        if isinstance(value, cached_property) and not name.startswith("_")
    }
    assert len(parts) > 40
    assert {name for _, name in parts} <= CONTRACTS.keys()


def test_engines_import_their_parts_by_statements():
    """A type checker and an editor follow an import in a property, and not the name of a class in a text; only the registry has those."""
    callers = [
        path for path in find_callers("import_module") if path.startswith(("engines/", "extensions/lancedb/"))
    ]
    assert callers == ["engines/registry.py"]


def compares_engine(node):
    """Whether a comparison is between the attribute or variable ``engine`` and the name of an engine."""
    operands = [node.left, *node.comparators]
    names = {getattr(operand, "attr", getattr(operand, "id", "")) for operand in operands}
    return "engine" in names and any(
        isinstance(part, ast.Constant) and part.value in ENGINE_NAMES
        for operand in operands
        for part in ast.walk(operand)
    )


def test_no_code_compares_the_name_of_an_engine():
    assert not [
        f"{file.relative_to(SOURCE)}: {ast.unparse(node)}"
        for file in FILES
        for node in walk_file(file)
        if isinstance(node, ast.Compare) and compares_engine(node)
    ]
