"""Backups and restores on a server that are killed or interrupted: old or new state only, and reachable."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from dbctl.engines.mysql import connection
from tests import databases, servers
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng, retry_until
from tests.crash.forge import KillTimer, wait_for_result
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_mysql import OBJECTS, read_objects

KILLS = choose_count(2, 100)
RENAMES = (
    "select 1 from information_schema.processlist where info like concat('rename table%', database(), '%')"
)
#: Sessions of dbctl that use the database, or hold the lock for renaming it.
SESSIONS = {
    "postgresql": """select count(*) from pg_stat_activity where application_name ~ '^dbctl' and (datname = '{name}'
or pid in (select l.pid from pg_locks l where l.classid = 'pg_database'::regclass
  and l.objid in (select d.oid from pg_database d where starts_with(d.datname, '{name}'))))""",
    "mysql": """select count(*) from information_schema.processlist where id <> connection_id()
and (db = '{name}' or id = is_used_lock('{lock}'))""",
}


@pytest.fixture(params=["postgresql", "postgresql schema", "mysql"])
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        rows = (
            "values " + ", ".join(f"({n}, '{sha256(b'%d' % n).hexdigest()}')" for n in range(1, 60_001))
            if request.param == "mysql"
            else "select n, md5(n::text) from generate_series(1, 60000) n"
        )
        app.run("create table much (id int primary key, text text)", f"insert into much {rows}")
        yield app


def start_dbctl(pantry, *arguments):
    return forge.start(pantry.folder, *arguments, "-o", "json", environment={"TMPDIR": str(pantry.folder)})


def wait_for_descendants(pantry):
    """Wait until the child processes and server sessions of a killed dbctl process have ended.

    They may complete statements that they have received. While MySQL renames tables, its catalog lists some of them or
    none; a query for one table by name waits and finds it.
    """
    folder_name, deadline = os.fsencode(pantry.folder), time.monotonic() + 60
    while any(
        folder_name in _read_command_and_environment(process)
        for process in Path("/proc").iterdir()
        if process.name.isdigit()
    ) or _count_sessions(pantry):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _count_sessions(pantry):
    """Return the number of sessions of dbctl that may still change the database."""
    name = pantry.own.path
    sql = SESSIONS[pantry.engine].format(
        name=name, lock=connection.swap_lock_name(connection.lock_name(name))
    )
    server = (
        servers.mysql() if pantry.engine == "mysql" else servers.postgresql()
    )  # where no database is renamed
    ((count,),) = databases.from_url(servers.text(server)).rows(sql)
    return count


def _read_command_and_environment(process):
    """Return the command and environment of another process; empty if it has ended, or belongs to another user."""
    if int(process.name) == os.getpid():
        return b""
    try:
        return b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return b""


def list_folders(pantry):
    root = pantry.folder / "backups" / "larder"
    return {folder.name for folder in root.iterdir() if folder.is_dir()} if root.is_dir() else set()


def wait_until(process, condition):
    while process.poll() is None and not condition():
        time.sleep(0.001)


def has_complete_backup(pantry, before):
    root = pantry.folder / "backups/larder"
    return any((root / folder / "manifest.json").exists() for folder in list_folders(pantry) - before)


@pytest.mark.parametrize("left_out", [[], ["much", "recipe_labels"]])
def test_killed_server_backup_leaves_earlier_backups(pantry, left_out):
    promptvault_app.leave_out_rows(pantry.path, *left_out)
    first = promptvault_app.create_app_backup(pantry.path)
    timer, incomplete = KillTimer(create_rng("create on a server"), 0.2), set()
    for _ in retry_until(KILLS, incomplete):
        before = list_folders(pantry)
        process = start_dbctl(pantry, "backup", "create")
        wait_until(process, lambda before=before: list_folders(pantry) != before)
        timer.send_signal(process)
        wait_for_result(process)
        listing = promptvault_app.list_all_backups(pantry.path)
        incomplete.update(listing.incomplete)
        assert first.id in [backup.id for backup in listing.page.items]
        assert set(promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, deep=False))) <= {
            "backup-incomplete"
        }
    status, result = wait_for_result(start_dbctl(pantry, "backup", "create"))
    assert status == 0, result
    status, result = wait_for_result(start_dbctl(pantry, "backup", "prune", "--keep-last", "9", "--yes"))
    assert (status, len(result["data"]["leftovers"])) == (0, len(incomplete)), result
    assert not list(pantry.folder.glob("dbctl-secret-*"))


def test_killed_server_restore_leaves_old_or_new_rows(pantry):
    new = pantry.content()
    promptvault_app.create_app_backup(pantry.path)
    pantry.change_data()
    old = pantry.content()
    timer, outcomes = KillTimer(create_rng("restore on a server"), 2.0), {"old": 0, "new": 0}
    for _ in range(KILLS):
        before = list_folders(pantry)
        process = start_dbctl(pantry, "restore", "apply", "latest", "--yes")
        wait_until(process, lambda before=before: has_complete_backup(pantry, before))
        timer.send_signal(process)
        wait_for_result(process)
        wait_for_descendants(pantry)
        now = pantry.content()
        assert now in (old, new)
        outcomes["old" if now == old else "new"] += 1
        if now == new:
            status, result = wait_for_result(start_dbctl(pantry, "restore", "undo", "--yes"))
            assert status == 0, result
        assert pantry.content() == old
    status, result = wait_for_result(start_dbctl(pantry, "restore", "apply", "latest", "--yes"))
    assert status == 0, result
    assert pantry.content() == new
    status, result = wait_for_result(start_dbctl(pantry, "restore", "undo", "--yes"))
    assert status == 0, result
    assert pantry.content() == old
    assert not [database for database in pantry.databases() if "_dbctl_new" in database]
    assert not list(pantry.folder.glob("dbctl-secret-*"))
    print(outcomes)
    timer.assert_in_time()


def test_server_completes_table_swap_of_killed_restore(tmp_path):
    """Views, triggers and routines of MySQL, which a rename of tables does not move."""
    with larder_app.open_pantry("mysql", tmp_path / "app") as pantry:
        pantry.run(*OBJECTS)
        objects, new = read_objects(pantry), pantry.content()
        promptvault_app.create_app_backup(pantry.path)
        pantry.change_data()
        old = pantry.content()
        with closing(servers.mysql_connection(pantry.own)) as app:
            app.query("begin")
            app.query("select count(*) from recipes")  # the rename waits for this transaction
            process = start_dbctl(pantry, "restore", "apply", "latest", "--yes", "--timeout", "60")
            wait_until(process, lambda: pantry.rows(RENAMES))
            process.send_signal(signal.SIGKILL)
            wait_for_result(process)
            assert pantry.rows(RENAMES)
        wait_for_descendants(pantry)
        assert (pantry.content(), read_objects(pantry)) == (new, objects)
        status, result = wait_for_result(start_dbctl(pantry, "restore", "undo", "--yes"))
        assert status == 0, result
        assert (pantry.content(), read_objects(pantry)) == (old, objects)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [("backup", "create"), ("restore", "apply", "latest", "--yes")])
def test_signal_ends_server_command_without_leftovers(pantry, arguments, signal_number):
    promptvault_app.create_app_backup(pantry.path)
    pantry.change_data()
    content, statuses = pantry.content(), set()
    for _ in retry_until(1, statuses):  # again if it was too late
        before, names = list_folders(pantry), pantry.databases()
        process = start_dbctl(pantry, *arguments)
        wait_until(process, lambda before=before: list_folders(pantry) != before)
        process.send_signal(signal_number)
        status, result = wait_for_result(process)
        if status:
            statuses.add(status)
        elif arguments[0] == "restore":
            promptvault_app.undo_restore(pantry.path)
    assert (status, result["error"]["code"]) == (128 + signal_number, "interrupted")
    assert list_folders(pantry) == before
    assert pantry.content() == content
    assert not list(pantry.folder.glob("dbctl-secret-*"))
    assert pantry.databases() == names


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signal_after_the_destination_exists_leaves_a_reported_copy_or_nothing(pantry, signal_number):
    promptvault_app.create_app_backup(pantry.path)
    content = pantry.content()
    with databases.empty_database(pantry.engine, pantry.folder / "copy.db") as destination:
        destination.destroy()
        process = start_dbctl(pantry, "restore", "apply", "latest", "--to", destination.url, "--yes")
        wait_until(process, lambda: destination.own.path in list_databases(destination))
        process.send_signal(signal_number)
        status, _result = wait_for_result(process)
        left = list_databases(destination)
        assert (status, left) in ((0, [destination.own.path]), (128 + signal_number, []))
        if left:
            assert destination.content() == content


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)
def test_signal_while_a_complete_restore_is_cleaned_up_does_not_hide_the_copy(pantry):
    promptvault_app.create_app_backup(pantry.path)
    with databases.empty_database(pantry.engine, pantry.folder / "copy.db") as destination:
        destination.destroy()
        words = "restore", "apply", "latest", "--to", destination.url, "--yes"
        status, result = forge.run(pantry.folder, *words, extension="tests.crash.signal_after_swap")
        assert (status, result["data"]["effect"]["count"]) == (0, 1)
        assert destination.content() == pantry.content()


@pytest.mark.parametrize("pantry", ["postgresql"], indirect=True)
@pytest.mark.parametrize("is_copy", [True, False])
def test_signal_ends_a_restore_during_a_long_statement(pantry, is_copy):
    name = pantry.own.path  # the function is only slow in other databases
    pantry.run(
        f"""create function slow(text) returns text language plpgsql immutable as
        $$begin if current_database() <> '{name}' then perform pg_sleep(3600); end if; return $1; end$$""",
        "create index on much (slow(text)) where id = 1",
    )
    promptvault_app.create_app_backup(pantry.path)
    content, names, folders = pantry.content(), pantry.databases(), list_folders(pantry)
    with databases.empty_database(pantry.engine, pantry.folder / "copy.db") as destination:
        destination.destroy()
        words, restored = (["--to", destination.url], destination) if is_copy else ([], pantry)
        process = start_dbctl(pantry, "restore", "apply", "latest", *words, "--yes")
        sleeping = f"""select 1 from pg_stat_activity
            where wait_event = 'PgSleep' and starts_with(datname, '{restored.own.path}')"""
        wait_until(process, lambda: pantry.rows(sleeping))
        process.send_signal(signal.SIGTERM)
        status, result = wait_for_result(process)
        assert (status, list_databases(destination)) == (128 + signal.SIGTERM, []), result
    assert (pantry.content(), pantry.databases(), list_folders(pantry)) == (content, names, folders)


def list_databases(database):
    """Return the name of a database, if it exists, and those that dbctl creates next to it."""
    server = servers.mysql() if database.engine == "mysql" else servers.postgresql()
    sql = "select schema_name from information_schema.schemata" if database.engine == "mysql" else "select datname::text from pg_database"  # fmt: skip
    names = [str(name) for (name,) in databases.from_url(servers.text(server)).rows(sql)]
    return [name for name in names if name == database.own.path or name.startswith(f"{database.own.path}_d")]
