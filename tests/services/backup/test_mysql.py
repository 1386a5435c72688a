"""Backups on MySQL and MariaDB: views, triggers and routines, and restores with DDL that cannot be rolled back."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pymysql
import pytest
from msgspec import structs

from dbctl.cli.main import main
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump, DumpRequest
from dbctl.engines.contract.engine import VerifyOptions
from dbctl.engines.mysql import dump_programs, stored_code
from dbctl.engines.mysql.connection import acquire_sql, lock_name, swap_lock_name
from dbctl.engines.mysql.database import MySQLReader
from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.mysql.load import DumpScanner, remove_database_name
from dbctl.engines.mysql.opening import open_session
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import RestoreFailedError, RestoreUnfinishedError, RetainedDatabaseMissingError
from dbctl.errors.connection import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    PrivilegeMissingError,
    UnreachableError,
)
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Secret
from dbctl.services.backup.repository import BackupDetail
from dbctl.services.backup.verify import compare_with_live
from dbctl.services.restore.merge import TableSelection
from dbctl.services.restore.preview import preview
from dbctl.services.restore.tables import RestoreTables
from tests import servers
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app_backup,
    find_backup_file,
    list_all_backups,
    list_codes,
    open_repository,
    undo_restore,
    verify_backups,
)

#: Views, triggers and routines, and a table whose rows require escaping.
OBJECTS = (
    "create table cupboard (id int auto_increment primary key, name text, twice int generated always as (char_length(name) * 2) stored, raw blob)",
    "insert into cupboard (name, raw) values ('a''b\\n(1),(2);', 0x00ff27), ('),(', null), ('`', 0x0a)",
    "create view tall as select handle, mail from members where enabled = 1",
    "create trigger stamp before insert on cupboard for each row set new.name = concat(new.name, '!')",
    "create procedure shelve() insert into cupboard (name) values ('shelved')",
    "create function twice(n int) returns int deterministic return n * 2",
)
#: Routines of the database with their definers.
ROUTINES = "select routine_name, definer from information_schema.routines where routine_schema = database()"


pytestmark = [pytest.mark.usefixtures("private_temp_dir"), pytest.mark.product]


@pytest.fixture
def pantry(tmp_path):
    with larder_app.open_pantry("mysql", tmp_path / "app") as app:
        app.run(*OBJECTS)
        yield app


def program_name(kind):
    """Return the name of a client program of the server."""
    return dump_programs.PROGRAMS[servers.mysql_server().product][kind]


def show_routine_privilege():
    """Return the privilege for reading routines of other users."""
    return "SELECT ON `mysql`.`proc`" if servers.mysql_server().is_mariadb else "SHOW_ROUTINE ON *.*"


def read_objects(pantry):
    """Return the definitions of views, triggers, routines and two tables, and the foreign keys."""
    name = pantry.own.path
    definitions = [
        pantry.rows(f"show create {kind} {object_name}")[0][
            2 if kind in ("procedure", "function", "trigger") else 1
        ]
        for kind, object_name in (
            ("view", "tall"),
            ("trigger", "stamp"),
            ("procedure", "shelve"),
            ("function", "twice"),
            ("table", "recipes"),
            ("table", "member_logins"),
        )
    ]
    keys = pantry.rows(
        "select table_name, referenced_table_name, unique_constraint_schema = constraint_schema"
        " from information_schema.referential_constraints where constraint_schema = database() order by 1, 2"
    )
    assert all(is_same_schema for _, _, is_same_schema in keys)
    return [str(definition).replace(f"`{name}`.", "") for definition in definitions] + keys


def assert_objects_work(pantry):
    """Call the routines, the trigger and the view."""
    before = pantry.rows("select count(*) from cupboard")[0][0]
    pantry.run("call shelve()")
    assert pantry.rows("select name, twice(21) from cupboard order by id desc limit 1") == [("shelved!", 42)]
    assert pantry.rows("select count(*) from tall")[0][0] > 0
    pantry.run("delete from cupboard where name = 'shelved!'")
    assert pantry.rows("select count(*) from cupboard") == [(before,)]


def test_views_triggers_routines_and_keys_are_restored_and_undone(pantry):
    before, objects = pantry.content(), read_objects(pantry)
    create_app_backup(pantry.path)
    pantry.run(
        "drop view tall",
        "drop trigger stamp",
        "drop function twice",
        "create function other() returns int deterministic return 1",
    )
    pantry.change_data()
    changed_content = pantry.content()
    assert apply_restore(pantry.path).databases[0].strategy == "swapped"
    assert (pantry.content(), read_objects(pantry)) == (before, objects)
    assert_objects_work(pantry)
    with suppress(Exception):
        pantry.run("select other()")
        pytest.fail("a function created after the backup exists")
    undo_restore(pantry.path)
    assert pantry.content() == changed_content
    assert pantry.rows("select other()") == [(1,)]
    assert pantry.rows("show triggers") == []
    undo_restore(pantry.path)
    assert (pantry.content(), read_objects(pantry)) == (before, objects)
    assert_objects_work(pantry)


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(
            "create trigger {name}.marked before insert on {name}.cupboard for each row set new.raw = 'a'",
            marks=pytest.mark.slow,
            id="plain",
        ),
        pytest.param(
            "CREATE TRIGGER `{name}` . `marked`\n/* on */ AFTER UPDATE\nON `{name}`.`cupboard` FOR EACH ROW begin\nset @a = 1;\nend",
            id="quoted",
        ),
        pytest.param(
            "create trigger if not exists {name}.marked -- before\n before delete on cupboard for each row set @a = 1",
            marks=pytest.mark.slow,
            id="commented",
        ),
        pytest.param(
            "create trigger marked after insert on {name} . cupboard for each row set @a = (select count(*) from {name}.cupboard)",
            marks=pytest.mark.slow,
            id="table",
        ),
    ],
)
def test_trigger_that_names_its_database_is_loaded_into_another_one(pantry, definition, answer, monkeypatch):
    pantry.run(definition.format(name=pantry.own.path))
    monkeypatch.chdir(pantry.folder)
    answer("backup", "create")
    pantry.run("drop trigger marked")
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    answer("backup", "drill")
    assert [row[0] for row in pantry.rows("show triggers")] == ["stamp"]  # of the live database
    answer("restore", "apply", "latest", "--yes")
    assert sorted(row[0] for row in pantry.rows("show triggers")) == ["marked", "stamp"]
    answer("restore", "undo", "--yes")
    assert [row[0] for row in pantry.rows("show triggers")] == ["stamp"]


@pytest.mark.parametrize("cut", [1, 7, 64, 100_000])
def test_names_of_triggers_are_independent_of_block_size(cut):
    text = (
        b"INSERT INTO `a` VALUES ('trigger q.x');\nDELIMITER ;;\n"
        b"/*!50003 CREATE*/ /*!50017 DEFINER=`r``t`@`%`*/ /*!50003 Trigger\nq.x before insert\non q . `t` for each row set @a = 'on q.t'\n */;;\n"
        b"DELIMITER ;\n/*!50003 CREATE*/ /*!50020 DEFINER=`r`@`%`*/ /*!50003 PROCEDURE `p`() select 'trigger q.x' */;;\nDELIMITER ;\n"
    )
    blocks = (text[start : start + cut] for start in range(0, len(text), cut))
    expected = text.replace(b"Trigger\nq.x", b"Trigger\nx").replace(b"on q . `t`", b"on `t`")
    assert b"".join(remove_database_name(blocks, "q")) == expected


def test_trigger_without_a_readable_name_is_refused():
    text = b"DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 trigger q./*!50003 x*/ before insert on q.t for each row set @a = 1 */;;\nDELIMITER ;\n"
    with pytest.raises(RestoreFailedError):
        list(remove_database_name([text], "q"))


def test_server_client_restores_backup_without_dbctl(pantry):
    before = pantry.content()
    file = find_backup_file(pantry.path, create_app_backup(pantry.path))
    text = subprocess.run(["gunzip", "-c", file], check=True, capture_output=True).stdout
    first = pantry.own
    client = shutil.which(program_name("client"))
    options = ["-h", first.host or "localhost", "-P", str(first.port or 3306), "-u", first.user]
    with servers.mysql_database() as url:
        subprocess.run(
            [client, "--no-defaults", *options, url.path], input=text, check=True, capture_output=True
        )
        pantry.own = url
        assert pantry.content() == before
        assert_objects_work(pantry)
        pantry.own = first


def test_backup_under_writers_is_consistent(pantry):
    pantry.run(
        "create table bank (id int primary key, cents int)",
        "insert into bank values " + ", ".join(f"({n}, 1000)" for n in range(100)),
    )
    stop_event = threading.Event()

    def write():
        with closing(servers.mysql_connection(pantry.own)) as connection, connection.cursor() as cursor:
            while not stop_event.is_set():
                cursor.execute("begin")
                cursor.execute("update bank set cents = cents - 1 where id = 3")
                cursor.execute("update bank set cents = cents + 1 where id = 96")
                cursor.execute("commit")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup = create_app_backup(pantry.path)
    finally:
        stop_event.set()
        writer.join()
    apply_restore(pantry.path, backup.id)
    assert pantry.rows("select cast(sum(cents) as signed) from bank") == [(100_000,)]


def wait_for_next_second(pantry):
    """Wait until a new table gets a later creation time, in seconds, than all existing ones."""
    query = "select max(create_time) >= now() from information_schema.tables where table_schema like concat(database(), '%')"
    while pantry.rows(query) == [(1,)]:
        time.sleep(0.05)


def test_trap_rename_during_dump_starts_the_dump_again(pantry, tmp_path):
    """Another restore may rename tables; rows from before and after would be inconsistent."""
    sibling = f"{pantry.own.path}_other"
    pantry.run(
        "create table one (x int)", "insert into one values (1)", "create table two (x int)",
        "insert into two values (1)", f"create database {sibling}",
    )  # fmt: skip
    wait_for_next_second(pantry)
    pantry.run(*(f"create table {sibling}.{name} as select 2 as x" for name in ("one", "two")))
    pantry.run(*(f"alter table {sibling}.{name} modify x int" for name in ("one", "two")))
    wait_for_next_second(pantry)
    moves = [f"{name} to {sibling}.{name}_old, {sibling}.{name} to {name}" for name in ("one", "two")]
    path, calls = tmp_path / "dump.sql.gz", []

    def rename_tables(_share):  # during the first attempt
        if not calls:
            pantry.run(f"rename table {', '.join(moves)}")
        calls.append(path)

    with closing(MySQLReader(pantry.own, "larder/pantry", timeout=5)) as reader:
        reader.dumps.dump(DumpRequest(path, compress="gzip", progress=rename_tables))
    text = gzip.decompress(path.read_bytes())
    for name in (b"one", b"two"):
        assert re.search(rb"INSERT INTO `%s` VALUES\s*\(2\);" % name, text)


@pytest.mark.parametrize("change", ["alter table zebra add y int, algorithm=copy", "drop table zebra"])
def test_table_that_changes_before_it_is_dumped_starts_the_dump_again(pantry, tmp_path, change):
    pantry.run(
        "create table ant (x int primary key, text mediumtext)", "create table zebra (x int)", "insert into zebra values (1)",
        *(f"insert into ant values ({number}, repeat('{number}', 1000000))" for number in range(9)),
    )  # fmt: skip
    path, calls = tmp_path / "dump.sql.gz", []

    def change_table(_share):  # during the first attempt
        if not calls:
            pantry.run(change)
        calls.append(path)

    with closing(MySQLReader(pantry.own, "larder/pantry", timeout=5)) as reader:
        dump = reader.dumps.dump(DumpRequest(path, progress=change_table))
    assert dump.verification.tables.get("zebra") == (1 if "alter" in change else None)


@pytest.mark.parametrize("cut", [1, 7, 100, 1 << 20])
def test_row_counts_are_independent_of_block_size(cut):
    text = (
        b"-- Dumping data for table `a``b`\n--\n\nLOCK TABLES `a``b` WRITE;\nINSERT INTO `a``b` VALUES\n"
        b"(1,'x'),\n(2,'y);\\n(3');\nUNLOCK TABLES;\n"
        b"-- Dumping data for table `one`\n--\n\nINSERT INTO `one` (`a(`, `b`) VALUES (1,'),('),(2,NULL),(3,'it''s \\' (');\n"
        b"INSERT INTO `one` VALUES (4,0x28);\nUNLOCK TABLES;\n-- Dumping data for table `none`\nUNLOCK TABLES;\n"
        b"create procedure p()\nINSERT INTO `one` VALUES (5,6);\n-- Dump completed on 2026-01-01\n"
    )
    scanner = DumpScanner()
    for start in range(0, len(text), cut):
        scanner.feed(text[start : start + cut])
    scanner.finish()
    assert (scanner.rows, scanner.problem) == ({"a`b": 2, "one": 4, "none": 0}, "")
    truncated = DumpScanner()
    truncated.feed(text[:-40])
    truncated.finish()
    assert truncated.problem


def test_truncated_dump_is_invalid(pantry):
    import gzip

    backup = create_app_backup(pantry.path)
    file = find_backup_file(pantry.path, backup)
    text = gzip.decompress(file.read_bytes())
    dump = Dump(metadata=backup.members[0].facts, tables=backup.members[0].rows, schema="")
    rng = random.Random(3)  # noqa: S311
    for _ in range(20):
        file.write_bytes(gzip.compress(text[: rng.randrange(len(text) - 60)]))
        assert (
            registry.load_engine("mysql")
            .verify_dump(file, dump, "larder/pantry", VerifyOptions(quick=True))
            .problems
        )


@pytest.mark.slow
def test_non_transactional_tables_are_locked_and_restored(pantry):
    """MediaWiki, for example, stores its search index in a MyISAM table."""
    pantry.run(
        "create table heap (x int primary key, words text, fulltext (words)) engine=MyISAM",
        "create table memory_rows (x int primary key) engine=MEMORY",
        "insert into heap values (1, 'tea'), (2, 'milk')",
        "insert into memory_rows values (1), (2), (3)",
    )
    error_codes = []

    def write(_share):
        if not error_codes:
            for table in ("heap", "memory_rows"):
                with (
                    closing(servers.mysql_connection(pantry.own)) as writer,
                    writer.cursor() as cursor,
                    pytest.raises(pymysql.OperationalError) as error,
                ):
                    cursor.execute("set session lock_wait_timeout = 1")
                    cursor.execute(f"insert into {table} (x) values (9)")
                error_codes.append(error.value.args[0])

    with open_repository(pantry.path) as (app, _repository):
        db = app.reader("pantry")
        assert db.dumps.blocks_writers()
        dump = db.dumps.dump(DumpRequest(pantry.path.with_name("heap.sql.gz"), progress=write))
    assert error_codes == [1205, 1205]
    assert (dump.verification.tables["heap"], dump.verification.tables["memory_rows"]) == (2, 3)

    create_app_backup(pantry.path)
    pantry.run("insert into heap values (3, 'sugar')", "drop table memory_rows")
    assert verify_backups(pantry.path, deep=True).findings == []
    apply_restore(pantry.path)
    assert pantry.rows("select x from heap where match (words) against ('milk' in boolean mode)") == [(2,)]
    assert pantry.rows("select engine from information_schema.tables where table_name = 'heap' and table_schema = database()") == [("MyISAM",)]  # fmt: skip
    assert pantry.rows("select count(*) from memory_rows") == [(3,)]


def test_unlockable_table_leaves_no_backup(pantry):
    pantry.run("create table heap (x int) engine=MyISAM")
    with closing(servers.mysql_connection(pantry.own)) as writer, writer.cursor() as cursor:
        cursor.execute("lock tables heap write")
        catch_error(BusyError, lambda: create_app_backup(pantry.path, timeout=1))
    assert not backup_folders(pantry)

    killed_ids = []

    def end_lock(_share):
        if not killed_ids:  # the session with the table locks is the one after the session of the reader
            condition = f"db = '{pantry.own.path}' and id > {reader}"
            ((connection_id,),) = pantry.rows(f"select min(id) from {PROCESSES} own where {condition}")
            pantry.run(f"kill {connection_id}")
            killed_ids.append(connection_id)

    destination = pantry.path.with_name("heap.sql.gz")
    with open_repository(pantry.path) as (app, _repository):
        db = app.reader("pantry")
        ((reader,),) = db.connection.fetch("select connection_id()")
        catch_error(UnreachableError, lambda: db.dumps.dump(DumpRequest(destination, progress=end_lock)))
    assert not destination.exists()


def test_merge_table_is_refused_by_name(pantry):
    pantry.run(
        "create table heap (x int) engine=MyISAM", "create table merged (x int) engine=MERGE union=(heap)"
    )
    error = catch_error(NotSupportedError, lambda: create_app_backup(pantry.path))
    assert "merged" in error.context["feature"]
    assert "heap" not in error.context["feature"]
    assert "InnoDB" not in error.hint
    assert not backup_folders(pantry)


def test_missing_lock_privilege_is_reported_with_grant(pantry):
    pantry.run("create table heap (x int) engine=MyISAM")
    name, database = f"l_{os.getpid()}", pantry.own.path
    with closing(servers.mysql_connection(servers.mysql())) as admin, admin.cursor() as cursor:
        cursor.execute(f"create user {name}@'%' identified by 'pw'")
        try:
            cursor.execute(f"grant select, show view, trigger, event on `{database}`.* to {name}@'%'")
            cursor.execute(f"grant {show_routine_privilege()} to {name}@'%'")
            file = pantry.path.with_name("dbctl.toml")
            file.write_text(file.read_text().replace(f"{pantry.own.user}@", f"{name}:pw@"))
            error = catch_error(PrivilegeMissingError, lambda: create_app_backup(pantry.path))
            assert f"GRANT LOCK TABLES ON `{database}`.* TO '{name}'@'%'" in error.hint
            assert not backup_folders(pantry)
            cursor.execute(error.hint.partition("As an administrator: ")[2])
            assert create_app_backup(pantry.path).members[0].rows["heap"] == 0
        finally:
            cursor.execute(f"drop user {name}@'%'")


def backup_folders(pantry):
    root = pantry.path.with_name("backups") / "larder"
    return [entry for entry in root.glob("*") if entry.name[0] != "."]


@pytest.mark.slow
def test_trap_password_is_in_no_process_and_no_file(pantry):
    secret, name = "pass w0rd;\\\"'#x", f"u_{os.getpid()}"
    with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
        cursor.execute(f"create user {name}@'%%' identified by %s", [secret])
        cursor.execute(f"grant all on {ident(pantry.own.path)}.* to {name}@'%'")
    try:
        file = pantry.path.with_name("dbctl.toml")
        file.write_text(file.read_text().replace(f"{pantry.own.user}@", f"{name}:${{DBCTL_TEST_SECRET}}@"))
        os.environ["DBCTL_TEST_SECRET"] = secret
        process_texts, stop_event = [], threading.Event()

        def watch_processes():
            while not stop_event.is_set():
                for entry in Path("/proc").glob("[0-9]*"):
                    for part in ("cmdline", "environ"):
                        with suppress(OSError):
                            text = (entry / part).read_bytes()
                            if b"--defaults-file" in text:
                                process_texts.append(text)

        watcher = threading.Thread(target=watch_processes)
        watcher.start()
        try:
            error = catch_error(PrivilegeMissingError, lambda: create_app_backup(pantry.path))
            assert f"GRANT {show_routine_privilege()} TO " in error.hint
            pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
            for _ in range(20):  # on a loaded machine, the programs may end before they are seen
                create_app_backup(pantry.path)
                if process_texts:
                    break
            error = catch_error(PrivilegeMissingError, lambda: apply_restore(pantry.path))
        finally:
            stop_event.set()
            watcher.join()
            del os.environ["DBCTL_TEST_SECRET"]
        assert "GRANT ALL ON `" in error.hint
        assert "\\_dbctl\\_%`.* TO " in error.hint
        assert process_texts
        assert not [text for text in process_texts if secret.encode() in text]
        for entry in pantry.path.with_name("backups").rglob("*"):
            if entry.is_file():
                assert secret.encode() not in entry.read_bytes()
        assert not list(Path(tempfile.gettempdir()).iterdir())
    finally:
        with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
            cursor.execute(f"drop user {name}@'%'")


def test_open_transaction_times_out_restore_without_changes(pantry):
    create_app_backup(pantry.path)
    pantry.change_data()
    before, objects = pantry.content(), read_objects(pantry)
    with closing(servers.mysql_connection(pantry.own)) as app, app.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select count(*) from recipes")
        catch_error(BusyError, lambda: apply_restore(pantry.path, timeout=1))
        cursor.execute("rollback")
    assert (pantry.content(), read_objects(pantry)) == (before, objects)
    assert_objects_work(pantry)
    assert pantry.databases() == [pantry.own.path]
    assert [backup.kind for backup in list_all_backups(pantry.path).page.items] == ["backup"]


def test_trap_restore_waits_for_session_of_killed_process(pantry):
    create_app_backup(pantry.path)
    before, lock = pantry.content(), swap_lock_name(lock_name(pantry.own.path))
    with closing(servers.mysql_connection(pantry.own)) as killed, killed.cursor() as cursor:
        cursor.execute(acquire_sql(lock))
        error = catch_error(BusyError, lambda: apply_restore(pantry.path, timeout=0))
        assert f"a killed restore that has not ended yet, session {killed.thread_id()} of the server" in str(
            error
        )
    assert pantry.content() == before
    assert pantry.databases() == [pantry.own.path]


def test_database_whose_tables_are_being_swapped_is_busy(pantry):
    """In between, views are dropped, and a catalog may lack some of the tables."""
    pantry.run("rename table members to other")
    words = ["--config", str(pantry.path.with_name("dbctl.toml")), "data", "rows", "other"]
    with closing(servers.mysql_connection(pantry.own)) as restore, restore.cursor() as cursor:
        assert main(words) == 2
        cursor.execute(acquire_sql(swap_lock_name(lock_name(pantry.own.path))))
        assert main(words) == 11


@pytest.mark.slow
def test_swap_session_has_lock_for_next_restore(pantry):
    create_app_backup(pantry.path)
    lock, sessions, stop_event = swap_lock_name(lock_name(pantry.own.path)), [], threading.Event()
    query = (
        f"select id, is_used_lock('{lock}') from {PROCESSES} own"
        f" where info like 'rename table%%{pantry.own.path}%%'"
    )

    def watch_sessions(app):
        with (
            closing(app),
            closing(servers.mysql_connection(pantry.own)) as connection,
            connection.cursor() as cursor,
        ):
            while not (stop_event.is_set() or cursor.execute(query)):
                pass
            sessions.extend(cursor.fetchall())

    app = servers.mysql_connection(pantry.own)
    app.query("begin")
    app.query("select count(*) from recipes")  # the rename waits for this transaction
    watcher = threading.Thread(target=watch_sessions, args=[app])
    watcher.start()
    try:
        apply_restore(pantry.path, timeout=60)
    finally:
        stop_event.set()
        watcher.join()
    ((renaming_id, lock_id),) = sessions
    assert renaming_id == lock_id
    with closing(servers.mysql_connection(pantry.own)) as connection, connection.cursor() as cursor:
        cursor.execute("select is_free_lock(%s)", [lock])
        assert cursor.fetchone() == (1,)


@pytest.mark.slow
def test_next_restore_drops_retained_database(pantry):
    create_app_backup(pantry.path)
    first = apply_restore(pantry.path)
    second = apply_restore(pantry.path)
    assert pantry.databases() == [pantry.own.path, f"{pantry.own.path}_dbctl_{second.safety_backup}"]
    catch_error(RetainedDatabaseMissingError, lambda: apply_restore(pantry.path, first.safety_backup))


@pytest.mark.slow
def test_undo_of_killed_restore_creates_objects_again(pantry):
    create_app_backup(pantry.path)
    objects = read_objects(pantry)
    result = apply_restore(pantry.path)
    undo_restore(pantry.path)
    # The state after a kill: the retained database exists, other objects are dropped, and no table is moved.
    safety = next(backup for backup in list_all_backups(pantry.path).page.items if backup.kind == "safety")
    name = safety.members[0].facts["kept"]
    undo_restore(pantry.path)
    with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database if not exists {ident(name)}")
    pantry.run("drop view tall", "drop trigger stamp")
    assert result.safety_backup
    before = pantry.content()
    apply_restore(pantry.path, safety.id)
    assert (pantry.content(), read_objects(pantry)) == (before, objects)


def test_restore_is_refused_if_keys_of_another_database_would_follow_the_replaced_tables(pantry):
    """The server renames the tables in the keys, too: they would refer to the retained database."""
    create_app_backup(pantry.path)
    with servers.mysql_database() as other, closing(servers.mysql_connection(other)) as connection:
        with connection.cursor() as cursor:
            references = f"references {ident(pantry.own.path)}.cupboard (id)"
            cursor.execute(
                f"create table visits (id int primary key, member int, foreign key (member) {references})"
            )
        error = catch_error(RestoreFailedError, lambda: apply_restore(pantry.path))
        assert "visits" in str(error)
        assert "DROP FOREIGN KEY" in error.hint
        assert pantry.databases() == [pantry.own.path]
        with connection.cursor() as cursor:
            cursor.execute(error.hint.partition(": ")[2])
            cursor.execute("set foreign_key_checks = 0")
            # of a table that is missing, such as one that was dropped
            cursor.execute(
                f"create table absences (id int primary key, member int, foreign key (member) {references.replace('cupboard', 'lost')})"
            )
            connection.commit()
        apply_restore(pantry.path)


@pytest.mark.slow
def test_broken_views_do_not_prevent_restore(pantry):
    before, objects = pantry.content(), read_objects(pantry)
    create_app_backup(pantry.path)
    pantry.run("create view taller as select * from tall", "set foreign_key_checks = 0", "drop table members")
    lost = pantry.content()
    result = apply_restore(pantry.path)
    assert (pantry.content(), read_objects(pantry)) == (before, objects)
    messages = [finding.message for finding in result.findings if finding.code == "maintenance"]
    assert "view tall was broken and is not retained" in messages
    assert "view taller was broken and is not retained" in messages
    assert [message for message in messages if "referred to no table and is not retained" in message]
    pantry.run(
        "start transaction", "delete from members", "rollback"
    )  # fails if a retained object refers to the dropped table
    undo_restore(pantry.path)
    assert pantry.content() == lost
    undo_restore(pantry.path)
    assert (pantry.content(), read_objects(pantry)) == (before, objects)


@pytest.mark.slow
def test_broken_view_remains_after_failed_restore(pantry):
    create_app_backup(pantry.path)
    pantry.run("create table short_lived (a int)", "create view broken as select * from short_lived")
    pantry.run("drop table short_lived")
    with closing(servers.mysql_connection(pantry.own)) as app, app.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select count(*) from recipes")
        catch_error(BusyError, lambda: apply_restore(pantry.path, timeout=1))
        cursor.execute("rollback")
    assert pantry.rows(
        "select table_name from information_schema.views where table_schema = database() order by 1"
    ) == [("broken",), ("tall",)]
    assert_objects_work(pantry)


def read_collations(pantry):
    return pantry.rows("select @@collation_database")[0][0], *(
        row[-1] for row in pantry.rows("show triggers")
    )


@pytest.mark.slow
def test_restore_changes_only_the_collation_of_its_database(pantry):
    pantry.run(f"alter database {ident(pantry.own.path)} collate utf8mb4_unicode_ci")
    collations_before, objects = read_collations(pantry), read_objects(pantry)
    create_app_backup(pantry.path)
    pantry.run(f"alter database {ident(pantry.own.path)} collate utf8mb4_bin")
    changed_collations = read_collations(pantry)
    assert list_codes(verify_backups(pantry.path)) == []
    assert read_collations(pantry) == changed_collations
    apply_restore(pantry.path)
    assert (read_collations(pantry), read_objects(pantry)) == (collations_before, objects)
    undo_restore(pantry.path)
    assert read_collations(pantry) == changed_collations
    pantry.destroy()
    apply_restore(pantry.path)
    assert (read_collations(pantry), read_objects(pantry)) == (collations_before, objects)


@pytest.fixture
def limited_user(pantry):
    """A user with all privileges on the pantry and its temporary databases, but none for other definers."""
    name = f"u_{os.getpid()}"
    url = structs.replace(pantry.own, user=name, password=Secret("pw"))
    pattern = f"{pantry.own.path}_dbctl_".replace("_", "\\_")
    with closing(servers.mysql_connection(servers.mysql())) as admin, admin.cursor() as cursor:
        cursor.execute(f"create user {name}@'%' identified by 'pw'")
        try:
            for database in (pantry.own.path, f"{pattern}%"):
                cursor.execute(f"grant all on `{database}`.* to {name}@'%'")
            cursor.execute(f"grant {show_routine_privilege()} to {name}@'%'")
            yield url
        finally:
            cursor.execute(f"drop user {name}@'%'")


def test_backup_by_a_user_who_may_read_some_tables_is_refused_or_states_it(pantry, limited_user):
    """Rights for single tables do not show whether there are others."""
    pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
    first, *others = sorted(pantry.tables())
    database, account = ident(pantry.own.path), f"{limited_user.user}@'%'"
    pantry.run(
        f"revoke select, trigger on {database}.* from {account}",
        f"grant select on {database}.{ident(first)} to {account}",
    )
    text = (pantry.folder / "dbctl.toml").read_text()
    (pantry.folder / "dbctl.toml").write_text(text.replace(pantry.url, servers.text(limited_user)))
    error = catch_error(PrivilegeMissingError, lambda: create_app_backup(pantry.path))
    assert "GRANT SELECT ON" in error.hint
    pantry.run(*(f"grant select on {database}.{ident(table)} to {account}" for table in others))
    backup = create_app_backup(pantry.path)
    with promptvault_app.open_repository(pantry.path) as (_, repository):
        plan = promptvault_app.create_restore(repository, backup.id).plan()
        details = repository.describe(repository.find(backup.id), BackupDetail).summary()
    shown = "may not see, if there are any: GRANT SELECT ON"
    assert any(shown in step for step in plan.steps)
    assert shown in str(details["remarks on pantry"])


def test_objects_that_the_user_cannot_create_are_not_dropped(pantry, limited_user):
    objects = read_objects(pantry)
    pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
    create_app_backup(pantry.path)
    pantry.run(*OBJECTS[2:])
    before = pantry.content()
    text = (pantry.folder / "dbctl.toml").read_text()
    (pantry.folder / "dbctl.toml").write_text(text.replace(pantry.url, servers.text(limited_user)))
    error = catch_error(PrivilegeMissingError, lambda: apply_restore(pantry.path))
    assert "may not create it with that definer" in str(error)
    assert f"GRANT {servers.mysql_server().definer_privilege} ON *.* TO " in error.hint
    assert (pantry.content(), read_objects(pantry)) == (before, objects)
    assert_objects_work(pantry)


@pytest.mark.slow
def test_objects_with_forbidden_definer_are_not_dropped(pantry, limited_user):
    server = servers.mysql_server()
    pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
    create_app_backup(pantry.path)
    pantry.run(f"grant {server.definer_privilege} on *.* to {limited_user.user}@'%'")
    text = (pantry.folder / "dbctl.toml").read_text()
    (pantry.folder / "dbctl.toml").write_text(text.replace(pantry.url, servers.text(limited_user)))
    for definer, privilege in (
        ("missing@localhost", "ALLOW_NONEXISTENT_DEFINER"),
        ("root@localhost", "SYSTEM_USER"),
    ):
        pantry.run(f"create definer = {definer} procedure shelve() select 1")
        if not server.is_mariadb:
            before = pantry.content(), pantry.rows(ROUTINES)
            error = catch_error(PrivilegeMissingError, lambda: apply_restore(pantry.path))
            assert f"GRANT {privilege} ON *.* TO " in error.hint
            assert (pantry.content(), pantry.rows(ROUTINES)) == before
            pantry.run(f"grant {privilege} on *.* to {limited_user.user}@'%'")
        apply_restore(pantry.path)
        assert pantry.rows(ROUTINES) == []


@pytest.mark.slow
def test_comment_of_the_database_is_restored_and_undone(pantry):
    if not servers.mysql_server().is_mariadb:
        pytest.skip("only MariaDB has comments of databases")

    def read_comment():
        return pantry.rows("select schema_comment from information_schema.schemata where schema_name = database()")  # fmt: skip

    pantry.run(f"alter database `{pantry.own.path}` comment 'it''s 5 \\\\ 7'")
    before = read_comment()
    create_app_backup(pantry.path)
    pantry.run(f"alter database `{pantry.own.path}` comment 'later'")
    apply_restore(pantry.path)
    assert read_comment() == before
    undo_restore(pantry.path)
    assert read_comment() == [("later",)]
    pantry.destroy()
    apply_restore(pantry.path)
    assert read_comment() == before


def test_required_tablespace_is_reported(pantry):
    if servers.mysql_server().is_mariadb:
        pytest.skip("only MySQL has tablespaces of several tables")
    name = f"space_{os.getpid()}"
    with closing(servers.mysql_connection(servers.mysql())) as admin, admin.cursor() as cursor:
        cursor.execute(f"create tablespace {name} add datafile '{name}.ibd'")
        try:
            pantry.run(
                f"create table `in ``it` (id int primary key, n int comment 'x\n) /*!50100 TABLESPACE `y` */ ') tablespace {name}",
                "create table separate (id int primary key) tablespace innodb_file_per_table",
                "create table within (id int primary key) tablespace innodb_system",
                "insert into `in ``it` values (1, 2)",
            )
            backup = create_app_backup(pantry.path)
            (remark,) = [remark for remark in backup.remarks if "tablespace" in remark]
            assert f"tablespace {name} " in remark
            assert "in `it" in remark
            assert "separate" not in remark
            assert "within" not in remark
            pantry.run("delete from `in ``it`")
            apply_restore(pantry.path, backup.id)
            assert pantry.rows("select * from `in ``it`") == [(1, 2)]
        finally:
            pantry.destroy()
            cursor.execute("select schema_name from information_schema.schemata")
            for (sibling,) in cursor.fetchall():
                if sibling.startswith(f"{pantry.own.path}_"):
                    cursor.execute(f"drop database {ident(sibling)}")
            cursor.execute(f"drop tablespace {name}")


#: A text in it looks like the end of a definition in a dump, so the client creates the objects of its database.
AMBIGUOUS = "create procedure note() select 'end ;;\n' as text"


@pytest.mark.slow
@pytest.mark.parametrize("by_client", [True, False])
def test_failed_creation_of_objects_retains_replaced_database(pantry, tmp_path, monkeypatch, by_client):
    if by_client:
        pantry.run(AMBIGUOUS)
    before, objects = pantry.content(), read_objects(pantry)
    create_app_backup(pantry.path)
    pantry.change_data()
    changed_content = pantry.content()
    # This client is killed if it connects to the database instead of a temporary one.
    client = program_name("client")
    client_path, bin_dir = shutil.which(client), tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / client).write_text(
        f'#!/bin/sh\ncase "$*" in *--database={pantry.own.path}) kill -9 $$;; esac\nexec {client_path} "$@"\n'
    )
    (bin_dir / client).chmod(0o755)
    with monkeypatch.context() as patched:
        if by_client:
            patched.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
        else:
            patched.setattr(stored_code, "to_packet", lambda *_: b"create view v as select * from missing")
        error = catch_error(RestoreUnfinishedError, lambda: apply_restore(pantry.path))
    assert "restore undo" in error.hint
    assert pantry.content() == before
    assert [backup.kind for backup in list_all_backups(pantry.path).page.items] == ["safety", "backup"]
    undo_restore(pantry.path)
    assert (pantry.content(), read_objects(pantry)) == (changed_content, objects)
    assert len(pantry.databases()) == len([pantry.own.path, "retained"])


@pytest.mark.slow
def test_text_like_the_end_of_a_definition_is_restored(pantry):
    pantry.run(AMBIGUOUS, "create trigger stamp_again before update on cupboard for each row set new.name = 'DELIMITER ;\n'")  # fmt: skip
    shown = "show create procedure note", "show create trigger stamp_again"
    definitions, objects = [pantry.rows(sql)[0][2] for sql in shown], read_objects(pantry)
    create_app_backup(pantry.path)
    apply_restore(pantry.path)
    assert ([pantry.rows(sql)[0][2] for sql in shown], read_objects(pantry)) == (definitions, objects)


@pytest.mark.parametrize("end", [b"", b"; select * from missing"])
def test_packet_changes_no_settings_of_its_session(pantry, end):
    query = "select database(), @@sql_mode, @@time_zone, @@character_set_client, @@lock_wait_timeout"
    sql = b"select 1; create table ran (a int); set sql_mode = '', time_zone = '+02:00', lock_wait_timeout = default; use mysql; set names latin1"
    with closing(open_session(pantry.own, "pantry", timeout=5, read_only=False)) as session:
        before, completed = session.run(query), []
        with suppress(pymysql.Error):
            completed += session.run_packet(sql + end)
        assert (session.run(query), pantry.rows("select count(*) from ran")) == (before, [(0,)])
        with pytest.raises(pymysql.err.ProgrammingError):
            session.run("select 1; select 2")
        assert len(completed) == 5


@pytest.mark.slow
def test_routine_privileges_are_granted_again(pantry):
    name = f"r_{os.getpid()}"
    with closing(servers.mysql_connection(pantry.own)) as admin, admin.cursor() as cursor:
        cursor.execute(f"create user {name}@'%'")
        try:
            cursor.execute(f"grant execute on procedure shelve to {name}@'%'")
            cursor.execute(f"grant execute, alter routine on function twice to {name}@'%' with grant option")
            cursor.execute(f"show grants for {name}@'%'")
            grants = sorted(cursor.fetchall())
            create_app_backup(pantry.path)
            apply_restore(pantry.path)
            undo_restore(pantry.path)
            cursor.execute(f"show grants for {name}@'%'")
            assert sorted(cursor.fetchall()) == grants
        finally:
            cursor.execute(f"drop user {name}@'%'")


def test_dump_of_other_product_or_newer_server_is_refused(pantry):
    backup = create_app_backup(pantry.path)
    restore_target = registry.load_engine(pantry.own.engine).restore_target(pantry.own, "larder/pantry")
    mariadb = servers.mysql_server().is_mariadb
    for server in ("99.1.0-MariaDB", "8.0.33") if mariadb else ("99.1.0", "10.11.19-MariaDB"):
        facts = dict(backup.members[0].facts) | {"server": server}
        dump = Dump(metadata=facts, tables={}, schema="")
        catch_error(RestoreFailedError, lambda dump=dump: restore_target.strategy(dump))


@pytest.mark.mariadb
def test_doctor_reports_missing_and_old_programs_before_a_backup_fails(pantry, tmp_path, monkeypatch, answer):
    command = ["--config", str(pantry.path.with_name("dbctl.toml")), "doctor"]
    codes = ["client-missing", "client-old"]

    def find():
        findings = answer(*command, status=None)["data"]["findings"]
        return [finding for finding in findings if finding["code"] in codes]

    assert find() == []
    answer(*command[:2], "backup", "create")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [finding["code"] for finding in find()] == ["client-missing"]
    old = tmp_path / program_name("dump")
    old.write_text("#!/bin/sh\necho 'mariadb-dump  Ver 10.13 Distrib 5.5.1-MariaDB, for Linux'\n")
    old.chmod(0o755)
    (finding,) = find()
    assert finding["code"] == "client-old"
    required = finding["message"].partition("but version ")[2].split()[0]
    old.rename(tmp_path / program_name("client"))
    for option in ("--dry-run", "--yes"):
        restore = answer(*command[:2], "restore", "apply", "latest", option, status=None)
        assert restore["error"]["code"] == "client-old"
    assert f"the client programs of MariaDB {required} or newer" in finding["hint"]


def test_missing_or_old_programs_are_reported_first(pantry, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    catch_error(ClientMissingError, lambda: create_app_backup(pantry.path))
    mariadb, old = servers.mysql_server().is_mariadb, tmp_path / program_name("dump")
    versions = [
        "mariadb-dump  Ver 10.13 Distrib 5.5.1-MariaDB, for Linux",
        "mysqldump  Ver 5.7.1 for Linux on x86_64 (MySQL Community Server)",
    ]
    old.write_text(f"#!/bin/sh\necho '{versions[not mariadb]}'\n")
    old.chmod(0o755)
    catch_error(ClientOldError, lambda: create_app_backup(pantry.path))
    old.write_text(f"#!/bin/sh\necho '{versions[mariadb]}'\n")
    error = catch_error(ClientMissingError, lambda: create_app_backup(pantry.path))
    assert f"{old.name} of {servers.mysql_server().product} ({old} is of another product)" in str(error)
    assert list_codes(verify_backups(pantry.path)) == ["no-backup"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"(2,'b'),\n(3,'c');", b"(2,'b"),  # within a value
        (b"(2,'b'),\n(3,'c');", b"(2,'b'),"),  # between two rows
        (b"(2,'b'),\n(3,'c');", b"(2,'b'),\n(3,');"),  # its end looks like a complete statement
        (b"(2,'b'),\n(3,'c');", b"(2,'it\\'),\n(3,'c');"),
        (b"(1,'a'),\n(2,'b'),\n(3,'c');", b""),
        (b" VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');", b" VALUES (1,'a'),(2,'b"),  # all rows in one line
        (b" VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');", b" VALUES (1,'a'),(2,'b'),"),
        (b"  `name` text\n) ENGINE=InnoDB;", b"  `name` te"),
        (b" end ;;\nDELIMITER ;", b""),
        (b" */;\n-- Dump", b"\n-- Dump"),
    ],
)
def test_truncated_statement_in_dump_is_detected(before, after):
    text = (
        b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n--\n/*!40101 SET NAMES utf8mb4 */;\n\n"
        b"--\n-- Table structure for table `t`\n--\n\nCREATE TABLE `t` (\n  `id` int,\n  `name` text\n) ENGINE=InnoDB;\n\n"
        b"--\n-- Dumping data for table `t`\n--\n\nLOCK TABLES `t` WRITE;\nINSERT INTO `t` VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');\n"
        b"UNLOCK TABLES;\nDELIMITER ;;\n/*!50003 CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW begin\n-- Dumping it\n"
        b"set new.id = 1; end */;;\nDELIMITER ;\n/*!50003 CREATE PROCEDURE p() begin end */;\n"
        b"DELIMITER ;;\nCREATE PROCEDURE q() begin\n select 1;\n end ;;\nDELIMITER ;\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n"
        b"-- Dump completed on 2026-01-01\n"
    )
    complete, truncated = DumpScanner(), DumpScanner()
    complete.feed(text)
    complete.finish()
    assert (complete.rows, complete.problem) == ({"t": 3}, "")
    assert before in text
    truncated.feed(text.replace(before, after, 1))
    truncated.finish()
    assert truncated.problem


def test_incomplete_dump_output_leaves_no_backup(pantry, tmp_path, monkeypatch):
    program = shutil.which(program_name("dump"))
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / program_name("dump")
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {program} --version\n'
        f'{program} "$@" | sed "s/,\'memb!\'.*/,\'memb/"\n'  # the trigger appends the exclamation mark
    )
    wrapper.chmod(0o755)
    pantry.run("insert into cupboard (name) values ('memb')")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    error = catch_error(ClientFailedError, lambda: create_app_backup(pantry.path))
    assert "cupboard" in error.context["reason"]
    assert not backup_folders(pantry)


def test_row_counts_include_other_insert_statements():
    scanner = DumpScanner()
    scanner.feed(
        b"-- Dumping data for table `a`\n--\n-- WHERE:  id > 0\n\nINSERT  IGNORE INTO `a` VALUES (1),(2);\n\n"
        b"-- Dumping data for table `b`\n--\n\nREPLACE INTO `b` VALUES (1);\nREPLACE INTO `b` VALUES (2);\n\n"
        b"-- Dumping routines for database 'x'\n--\n-- Dump completed\n"
    )
    scanner.finish()
    assert (scanner.rows, scanner.problem) == ({"a": 2, "b": 2}, "")


@pytest.mark.slow
@pytest.mark.mariadb
def test_unsupported_row_history_is_reported(pantry):
    pantry.run(
        "create table by_time (id int primary key, x int) with system versioning",
        "create table by_number (id int primary key, x int, a bigint unsigned generated always as row start,"
        " b bigint unsigned generated always as row end, period for system_time (a, b)) with system versioning",
        "insert into by_time values (1, 1)",
        "insert into by_number (id, x) values (1, 1)",
        "update by_time set x = 2",
        "update by_number set x = 2",
    )
    backup = create_app_backup(pantry.path)
    (remark,) = [remark for remark in backup.remarks if "by_number" in remark]
    assert "by_time" in remark
    apply_restore(pantry.path)
    assert pantry.rows("select x from by_number for system_time all") == [(2,)]
    pantry.run("drop table by_number")
    backup = create_app_backup(pantry.path)
    assert not [remark for remark in backup.remarks if "by_time" in remark]


@pytest.mark.slow
@pytest.mark.mariadb
def test_live_rows_are_counted_with_the_history_that_a_backup_has(pantry):
    pantry.run(
        "create table by_time (id int primary key, x int) with system versioning",
        "insert into by_time values (1, 1), (2, 1)",
        "update by_time set x = 2 where id = 1",
        "delete from by_time where id = 2",
    )
    backup = create_app_backup(pantry.path)
    assert backup.members[0].rows["by_time"] == 3  # two versions of the first row, and the deleted one
    assert list_codes(verify_backups(pantry.path, deep=True)) == []
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        assert list(compare_with_live(app, repository.find(backup.id))) == []
        (database,) = preview(promptvault_app.open_source(repository, backup.id)).databases
        assert [table.table for table in database.tables if table.current_rows != table.backup_rows] == []
        selection = TableSelection(tables=["by_time"], new_name="by_then")
        operation = RestoreTables(promptvault_app.open_source(repository, backup.id), selection)
        assert "fill it with 1 row" in operation.plan().steps
        assert operation.apply().tables[0].inserted == 1


def test_numbers_of_an_archive_are_restored(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with servers.private_mysql_app(tmp_path, "--loose-plugin-load-add=ha_archive") as cursor:
        cursor.execute("create table t (id int auto_increment primary key, note text) engine = archive")
        cursor.execute("insert into t (note) values ('a'), (') ENGINE=ARCHIVE AUTO_INCREMENT=9')")
        cursor.execute("select * from t")
        rows = cursor.fetchall()
        answer("backup", "create")
        answer("restore", "apply", "latest", "--yes")
        cursor.execute("select * from t")
        assert cursor.fetchall() == rows
        cursor.execute("insert into t (note) values ('c')")
        assert cursor.lastrowid == 3


def test_tables_without_a_key_are_restored_where_the_server_generates_keys(tmp_path, monkeypatch, answer):
    if servers.mysql_server().is_mariadb:
        pytest.skip("MariaDB generates no keys")
    monkeypatch.chdir(tmp_path)
    with servers.private_mysql_app(tmp_path, "--sql-generate-invisible-primary-key=ON") as cursor:
        cursor.execute("set session sql_generate_invisible_primary_key = 0")
        cursor.execute("create table t (a int)")
        cursor.execute("insert into t values (1), (1)")
        answer("backup", "create")
        assert answer("backup", "drill")["data"]["databases"][0]["passed"]
        cursor.execute("delete from t")
        answer("restore", "apply", "latest", "--yes")
        cursor.execute("select * from t")
        assert cursor.fetchall() == ((1,), (1,))
        cursor.execute("show create table t")
        assert "PRIMARY KEY" not in cursor.fetchone()[1]
        cursor.execute("set global sql_require_primary_key = 1")
        error = answer("restore", "apply", "latest", "--yes", status=1)["error"]
        assert "sql_require_primary_key = 0" in error["hint"]


def test_decimals_in_json_are_restored_as_numbers(pantry, monkeypatch, answer):
    """Only functions store decimals in JSON; a server reads a number with a fraction in the text of a dump as a float."""
    if servers.mysql_server().is_mariadb:
        pytest.skip("MariaDB stores JSON as text")
    monkeypatch.chdir(pantry.folder)
    pantry.run(
        "create table paid (id int primary key, doc json)",
        "insert into paid values (1, json_array(1.10, 3.00, date '2020-01-02', '1.10', null)), (2, null), (3, '[1.0, -0.0]')",
    )
    assert answer("backup", "create")["warnings"] == []
    assert answer("backup", "drill")["data"]["databases"][0]["passed"]
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    pantry.run("delete from paid")
    answer("restore", "apply", "latest", "--yes")
    assert [text for (text,) in pantry.rows("select doc from paid order by id")] == [
        '[1.1, 3.0, "2020-01-02", "1.10", null]', None, "[1.0, -0.0]",
    ]  # fmt: skip
    pantry.run(
        "insert into paid values (4, json_object('n', 1234567890123456789012.5)), (5, '[5.097591267711211e-13]')"
    )
    (warning,) = answer("backup", "create")["warnings"]
    assert "paid.doc" in warning
    assert answer("backup", "drill")["data"]["databases"][0]["passed"]
