"""Rules for the source of dbctl that no type checker knows; what breaks them loses locks or data without an error."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dbctl

SOURCE = Path(dbctl.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

#: Who may open files by their path, and which: closing any descriptor of a database file drops every lock that
#: this process holds on it. A line here says why what is opened is never one.
OPENERS = {
    "__main__.py": "/dev/null, the standard streams and the help that is shipped",
    "archives.py": "files that it makes of an archive (O_EXCL), in a folder of its own",
    "durable.py": "files it has just made, directories, what a person names before any database is opened, and what else is handed to it: backups, and the files of a database that cannot be opened",
    "engines/clients.py": "dumps of servers that it makes (O_EXCL), and what programs of a server are told (O_EXCL)",
    "engines/compression.py": "copies that a backup has made, and files of backups",
    "engines/lancedb/files.py": "files of LanceDB, on which nobody holds a lock",
    "engines/lancedb/given.py": "files of LanceDB that root has made, whose owner it changes by what it has opened",
    "engines/lancedb/snapshot.py": "files of LanceDB tables, of which no process keeps locks",
    "engines/lancedb/undump.py": "archives of backups",
    "engines/locks.py": "what the kernel tells under /proc",
    "engines/mysql/loose.py": "private copies of dumps",
    "engines/mysql/option_file.py": "~/.my.cnf",
    "engines/mysql/outside.py": "the script in a safety backup",
    "engines/packed.py": "dumps of servers",
    "engines/postgresql/loose.py": "private copies of dumps",
    "engines/sqlite/dump.py": "the copy that it makes (O_EXCL), before it is connected to",
    "engines/sqlite/load.py": "a new file that has no name of a database yet (O_EXCL), before it is connected to",
    "engines/sqlite/loose.py": "private copies of dumps",
    "engines/sqlite/reader.py": "the first bytes of a database that it reads without locks, so none can be lost",
    "engines/sqlite/recover/image.py": "private copies of damaged files, and a sound one beside them, while no connection to them is open",
    "engines/sqlite/recover/made.py": "the new file that it makes (O_EXCL), before it is connected to",
    "engines/sqlite/sidecar_state.py": "the first bytes of a database that it reads without locks, so none can be lost",
    "engines/sqlite/sidecar_file.py": "the first bytes of a search index of its own, which nobody locks",
    "engines/sqlite/sidecar_make.py": "the same while it is made (O_EXCL), and its folder",
    "engines/sqlite/wal.py": "-wal files, which carry no locks",
    "engines/sqlite/writer.py": "a database that it makes itself (O_EXCL), before it is connected to",
    "lockfile.py": "lock files",
    "private.py": "folders, most of which it has just made",
    "render/out.py": "/dev/null",
    "services/backup_extras.py": "the archive that it makes (O_EXCL) of files that are no database of the app",
    "stores/directory.py": "marks and manifests of backups",
}
#: Who connects to a database.
CONNECTORS = {
    "engines/lancedb/place.py": "every folder of tables",
    "engines/lancedb/proof.py": "a private folder that holds what a backup does",
    "engines/mysql/session.py": "every database on a server",
    "engines/postgresql/scratch_role.py": "the scratch database of a foreign dump, as the role that owns it alone",
    "engines/postgresql/probe.py": "the state of a session whose connection is silent",
    "engines/postgresql/session.py": "every database on a server",
    "engines/served/liveness.py": "the same, to see whether the server accepts connections",
    "engines/sqlite/connection.py": "the database of an app",
    "engines/sqlite/dump.py": "the copy that a backup makes",
    "engines/sqlite/load.py": "what a restore writes over, and the dump that it reads",
    "engines/sqlite/loose.py": "private copies of what somebody else left, and the file that it makes of a dump's text",
    "engines/sqlite/recover/finish.py": "the new file that a recovery makes, and an empty one in memory",
    "engines/sqlite/recover/image.py": "a private copy of a damaged database, to ask SQLite what is wrong with it",
    "engines/sqlite/recover/made.py": "the new file that a recovery makes",
    "engines/sqlite/recover/salvage.py": "the same, for its journal mode",
    "engines/sqlite/recover/schema.py": "a sound database of the same shape",
}
DRIVERS = ("sqlite", "psycopg", "pymysql", "lancedb", "pyarrow")
OPENING = {"open", "fdopen", "read_bytes", "read_text", "write_bytes", "write_text"}
COPYING = {"copy", "copy2", "copyfile", "copyfileobj", "file_digest", "sendfile", "copy_file_range"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            made = node.func
            yield made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", ""), node


def called(name: str) -> list[str]:
    return [
        str(file.relative_to(SOURCE))
        for file in FILES
        for found, _ in calls(ast.parse(file.read_text(encoding="utf-8")))
        if found == name
    ]


def test_only_the_engines_import_drivers_and_connect_and_in_few_places():
    assert set(called("connect")) == set(CONNECTORS)
    importing = {
        str(file.relative_to(SOURCE))
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(one.name.startswith(DRIVERS) for one in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(DRIVERS))
    }
    assert all(name.startswith("engines/") for name in importing), importing


@pytest.mark.parametrize("name", ["executescript", "enable_load_extension"])
def test_nothing_that_commits_behind_our_back_is_called(name):
    assert called(name) == []


def test_sqlites_backup_is_called_only_with_a_callback_that_can_end_it():
    """Without one, Python tries again for ever where somebody holds a lock."""
    made = [
        (str(file.relative_to(SOURCE)), {one.arg for one in node.keywords})
        for file in FILES
        for found, node in calls(ast.parse(file.read_text(encoding="utf-8")))
        if found == "backup"
    ]
    assert {file for file, _ in made} == {"engines/sqlite/dump.py", "engines/sqlite/load.py"}
    assert all({"pages", "progress"} <= words for _, words in made)


def test_no_connection_is_a_context_manager():
    """``with connection:`` neither begins a transaction nor, without one, rolls anything back."""
    wrong = [
        f"{file.relative_to(SOURCE)}:{item.context_expr.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Name | ast.Attribute)
        and "connection" in ast.unparse(item.context_expr).lower()
    ]
    assert wrong == []


def test_the_engines_open_files_only_where_it_is_said_why_none_is_a_database():
    opening = {
        str(file.relative_to(SOURCE))
        for file in FILES
        if file.is_relative_to(SOURCE / "engines")
        for found, node in calls(ast.parse(file.read_text(encoding="utf-8")))
        if found in OPENING and not ast.unparse(node.func).startswith("self._")
    }
    assert opening <= set(OPENERS)


def test_os_open_is_called_only_where_it_is_said_why():
    opening = {
        str(file.relative_to(SOURCE))
        for file in FILES
        for _, node in calls(ast.parse(file.read_text(encoding="utf-8")))
        if ast.unparse(node.func) == "os.open"
    }
    assert opening <= set(OPENERS)


@pytest.mark.parametrize("name", sorted(COPYING))
def test_no_file_is_copied_or_hashed_by_its_path(name):
    wrong = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in FILES
        for found, node in calls(ast.parse(file.read_text(encoding="utf-8")))
        if found == name and ast.unparse(node.func).startswith(("shutil.", "hashlib.", "os."))
    ]
    assert wrong == []
