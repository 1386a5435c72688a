"""Backups on MySQL and MariaDB: what only they have, and what their changes of a schema, which cannot be taken back, want."""

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

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.dump_reader import Reading
from dbctl.engines.mysql.reader import MySQLReader
from dbctl.engines.sql.query_builder import ident
from dbctl.errors import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    KeptMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    RestoreFailedError,
    RestoreUnfinishedError,
    UnreachableError,
)
from dbctl.model import Secret
from tests import servers
from tests.services import larder_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, codes, create, file_of, listed, opened, undo, verified

#: What is no table, and a table whose rows want escaping.
MORE = (
    "create table cupboard (id int auto_increment primary key, name text, twice int generated always as (char_length(name) * 2) stored, raw blob)",
    "insert into cupboard (name, raw) values ('a''b\\n(1),(2);', 0x00ff27), ('),(', null), ('`', 0x0a)",
    "create view tall as select handle, mail from members where enabled = 1",
    "create trigger stamp before insert on cupboard for each row set new.name = concat(new.name, '!')",
    "create procedure shelve() insert into cupboard (name) values ('shelved')",
    "create function twice(n int) returns int deterministic return n * 2",
)
#: Which routines the database has, and who made them.
ROUTINES = "select routine_name, definer from information_schema.routines where routine_schema = database()"


@pytest.fixture(autouse=True)
def secrets_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def pantry(tmp_path):
    with larder_app.settled("mysql", tmp_path / "app") as made:
        made.run(*MORE)
        yield made


def program(kind):
    """Return what the program for a kind of work is called that fits the server."""
    return client_programs.PROGRAMS[servers.mysql_server().product][kind]


def seeing_routines():
    """Return what a user is granted to see routines that others made."""
    return "SELECT ON `mysql`.`proc`" if servers.mysql_server().is_mariadb else "SHOW_ROUTINE ON *.*"


def others(pantry):
    """Return what is no table, as the server tells it, and the keys between the tables."""
    name = pantry.own.path
    told = [
        pantry.rows(f"show create {kind} {what}")[0][2 if kind in ("procedure", "function", "trigger") else 1]
        for kind, what in (
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
    assert all(same for _, _, same in keys)
    return [str(one).replace(f"`{name}`.", "") for one in told] + keys


def works(pantry):
    """Let what is no table act."""
    before = pantry.rows("select count(*) from cupboard")[0][0]
    pantry.run("call shelve()")
    assert pantry.rows("select name, twice(21) from cupboard order by id desc limit 1") == [("shelved!", 42)]
    assert pantry.rows("select count(*) from tall")[0][0] > 0
    pantry.run("delete from cupboard where name = 'shelved!'")
    assert pantry.rows("select count(*) from cupboard") == [(before,)]


def test_views_triggers_routines_and_keys_come_back_with_the_tables_and_go_back_with_them(pantry):
    before, told = pantry.content(), others(pantry)
    create(pantry.path)
    pantry.run(
        "drop view tall",
        "drop trigger stamp",
        "drop function twice",
        "create function other() returns int deterministic return 1",
    )
    pantry.spoil()
    spoiled = pantry.content()
    assert apply(pantry.path).databases[0].way == "swapped"
    assert (pantry.content(), others(pantry)) == (before, told)
    works(pantry)
    with suppress(Exception):
        pantry.run("select other()")
        pytest.fail("a function of later is there")
    undo(pantry.path)
    assert pantry.content() == spoiled
    assert pantry.rows("select other()") == [(1,)]
    assert pantry.rows("show triggers") == []
    undo(pantry.path)
    assert (pantry.content(), others(pantry)) == (before, told)
    works(pantry)


def test_the_client_of_the_server_alone_brings_a_backup_back(pantry):
    before = pantry.content()
    file = file_of(pantry.path, create(pantry.path))
    text = subprocess.run(["gunzip", "-c", file], check=True, capture_output=True).stdout
    first = pantry.own
    client = shutil.which(program("client"))
    place = ["-h", first.host or "localhost", "-P", str(first.port or 3306), "-u", first.user]
    with servers.mysql_database() as url:
        subprocess.run(
            [client, "--no-defaults", *place, url.path], input=text, check=True, capture_output=True
        )
        pantry.own = url
        assert pantry.content() == before
        works(pantry)
        pantry.own = first


def test_a_backup_holds_one_moment_while_others_write(pantry):
    pantry.run(
        "create table bank (id int primary key, cents int)",
        "insert into bank values " + ", ".join(f"({n}, 1000)" for n in range(100)),
    )
    done = threading.Event()

    def write():
        with closing(servers.mysql_connection(pantry.own)) as own, own.cursor() as cursor:
            while not done.is_set():
                cursor.execute("begin")
                cursor.execute("update bank set cents = cents - 1 where id = 3")
                cursor.execute("update bank set cents = cents + 1 where id = 96")
                cursor.execute("commit")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = create(pantry.path)
    finally:
        done.set()
        writer.join()
    apply(pantry.path, made.id)
    assert pantry.rows("select cast(sum(cents) as signed) from bank") == [(100_000,)]


def later(pantry):
    """Wait until a table that is made now is of another second than those that are there."""
    asked = "select max(create_time) >= now() from information_schema.tables where table_schema like concat(database(), '%')"
    while pantry.rows(asked) == [(1,)]:
        time.sleep(0.05)


def test_trap_a_rename_changes_no_schema_so_a_dump_beside_which_tables_changed_places_is_made_anew(
    pantry, tmp_path
):
    """For example by a restore of another machine, or by one that was killed; a mix of both is no moment."""
    beside = f"{pantry.own.path}_beside"
    pantry.run(
        "create table one (x int)", "insert into one values (1)", "create table two (x int)",
        "insert into two values (1)", f"create database {beside}",
    )  # fmt: skip
    later(pantry)
    pantry.run(*(f"create table {beside}.{name} as select 2 as x" for name in ("one", "two")))
    pantry.run(*(f"alter table {beside}.{name} modify x int" for name in ("one", "two")))
    later(pantry)
    moves = [f"{name} to {beside}.{name}_old, {beside}.{name} to {name}" for name in ("one", "two")]
    path, told = tmp_path / "dump.sql.gz", []

    def exchange(_share):  # in the middle of the first try
        if not told:
            pantry.run(f"rename table {', '.join(moves)}")
        told.append(path)

    with closing(MySQLReader(pantry.own, "larder/pantry", timeout=5)) as reader:
        reader.dump(path, progress=exchange)
    text = gzip.decompress(path.read_bytes())
    for name in (b"one", b"two"):
        assert re.search(rb"INSERT INTO `%s` VALUES\s*\(2\);" % name, text)


@pytest.mark.parametrize("cut", [1, 7, 100, 1 << 20])
def test_rows_are_counted_however_a_dump_is_written(cut):
    text = (
        b"-- Dumping data for table `a``b`\n--\n\nLOCK TABLES `a``b` WRITE;\nINSERT INTO `a``b` VALUES\n"
        b"(1,'x'),\n(2,'y);\\n(3');\nUNLOCK TABLES;\n"
        b"-- Dumping data for table `one`\n--\n\nINSERT INTO `one` (`a(`, `b`) VALUES (1,'),('),(2,NULL),(3,'it''s \\' (');\n"
        b"INSERT INTO `one` VALUES (4,0x28);\nUNLOCK TABLES;\n-- Dumping data for table `none`\nUNLOCK TABLES;\n"
        b"create procedure p()\nINSERT INTO `one` VALUES (5,6);\n-- Dump completed on 2026-01-01\n"
    )
    reading = Reading()
    for at in range(0, len(text), cut):
        reading.feed(text[at : at + cut])
    reading.finish()
    assert (reading.rows, reading.problem) == ({"a`b": 2, "one": 4, "none": 0}, "")
    half = Reading()
    half.feed(text[:-40])
    half.finish()
    assert half.problem


def test_a_dump_that_is_cut_anywhere_is_not_whole(pantry):
    import gzip

    made = create(pantry.path)
    file = file_of(pantry.path, made)
    text = gzip.decompress(file.read_bytes())
    dump = Dump(facts=made.members[0].facts, tables=made.members[0].rows, schema="")
    chance = random.Random(3)  # noqa: S311 - places, not secrets
    for _ in range(20):
        file.write_bytes(gzip.compress(text[: chance.randrange(len(text) - 60)]))
        assert registry.prove("mysql", file, dump, "larder/pantry", quick=True).problems


def test_tables_without_transactions_are_locked_for_the_dump_and_come_back(pantry):
    """The text of MediaWiki's search stands in such a table."""
    pantry.run(
        "create table heap (x int primary key, words text, fulltext (words)) engine=MyISAM",
        "create table memory_rows (x int primary key) engine=MEMORY",
        "insert into heap values (1, 'tea'), (2, 'milk')",
        "insert into memory_rows values (1), (2), (3)",
    )
    refused = []

    def write(_share):
        if not refused:
            for table in ("heap", "memory_rows"):
                with (
                    closing(servers.mysql_connection(pantry.own)) as writer,
                    writer.cursor() as cursor,
                    pytest.raises(pymysql.OperationalError) as error,
                ):
                    cursor.execute("set session lock_wait_timeout = 1")
                    cursor.execute(f"insert into {table} (x) values (9)")
                refused.append(error.value.args[0])

    with opened(pantry.path) as (app, _repository):
        db = app.reader("pantry")
        assert db.holds_up()
        dumped = db.dump(pantry.path.with_name("heap.sql.gz"), progress=write)
    assert refused == [1205, 1205]
    assert (dumped.proof.tables["heap"], dumped.proof.tables["memory_rows"]) == (2, 3)

    create(pantry.path)
    pantry.run("insert into heap values (3, 'sugar')", "drop table memory_rows")
    assert verified(pantry.path, deep=True).findings == []
    apply(pantry.path)
    assert pantry.rows("select x from heap where match (words) against ('milk' in boolean mode)") == [(2,)]
    assert pantry.rows("select engine from information_schema.tables where table_name = 'heap' and table_schema = database()") == [("MyISAM",)]  # fmt: skip
    assert pantry.rows("select count(*) from memory_rows") == [(3,)]


def test_a_backup_ends_without_a_trace_where_a_table_cannot_be_locked_or_loses_its_lock(pantry):
    pantry.run("create table heap (x int) engine=MyISAM")
    with closing(servers.mysql_connection(pantry.own)) as writer, writer.cursor() as cursor:
        cursor.execute("lock tables heap write")
        caught(BusyError, lambda: create(pantry.path, timeout=1))
    assert not listed_folders(pantry)

    ended = []

    def end_lock(_share):
        if not ended:  # the session that holds the lock is the first one after the reader's
            own = f"db = '{pantry.own.path}' and id > {reader}"
            ((number,),) = pantry.rows(f"select min(id) from information_schema.processlist where {own}")
            pantry.run(f"kill {number}")
            ended.append(number)

    destination = pantry.path.with_name("heap.sql.gz")
    with opened(pantry.path) as (app, _repository):
        db = app.reader("pantry")
        ((reader,),) = db._fetch("select connection_id()", {})
        caught(UnreachableError, lambda: db.dump(destination, progress=end_lock))
    assert not destination.exists()


def test_a_table_that_only_shows_rows_of_others_is_refused_by_name(pantry):
    pantry.run(
        "create table heap (x int) engine=MyISAM", "create table merged (x int) engine=MERGE union=(heap)"
    )
    error = caught(NotSupportedError, lambda: create(pantry.path))
    assert "merged" in error.facts["what"]
    assert "heap" not in error.facts["what"]
    assert not listed_folders(pantry)


def test_who_may_not_lock_tables_gets_the_grant_that_is_missing(pantry):
    pantry.run("create table heap (x int) engine=MyISAM")
    name, database = f"l_{os.getpid()}", pantry.own.path
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute(f"create user {name}@'%' identified by 'pw'")
        try:
            cursor.execute(f"grant select, show view, trigger, event on `{database}`.* to {name}@'%'")
            cursor.execute(f"grant {seeing_routines()} to {name}@'%'")
            file = pantry.path.with_name("dbctl.toml")
            file.write_text(file.read_text().replace(f"{pantry.own.user}@", f"{name}:pw@"))
            error = caught(PrivilegeMissingError, lambda: create(pantry.path))
            assert f"GRANT LOCK TABLES ON `{database}`.* TO '{name}'@'%'" in error.hint
            assert not listed_folders(pantry)
            cursor.execute(f"grant lock tables on `{database}`.* to {name}@'%'")
            assert create(pantry.path).members[0].rows["heap"] == 0
        finally:
            cursor.execute(f"drop user {name}@'%'")


def listed_folders(pantry):
    root = pantry.path.with_name("backups") / "larder"
    return [one for one in root.glob("*") if one.name[0] != "."]


def test_trap_a_password_in_an_option_stands_in_the_list_of_processes_so_it_is_in_no_process_and_no_file(
    pantry,
):
    secret, name = "pass w0rd;\\\"'#x", f"u_{os.getpid()}"
    with closing(servers.mysql_connection(servers.mysql())) as own, own.cursor() as cursor:
        cursor.execute(f"create user {name}@'%%' identified by %s", [secret])
        cursor.execute(f"grant all on {ident(pantry.own.path)}.* to {name}@'%'")
    try:
        file = pantry.path.with_name("dbctl.toml")
        file.write_text(file.read_text().replace(f"{pantry.own.user}@", f"{name}:${{DBCTL_TEST_SECRET}}@"))
        os.environ["DBCTL_TEST_SECRET"] = secret
        seen, done = [], threading.Event()

        def look():
            while not done.is_set():
                for entry in Path("/proc").glob("[0-9]*"):
                    for part in ("cmdline", "environ"):
                        with suppress(OSError):
                            text = (entry / part).read_bytes()
                            if b"--defaults-file" in text:
                                seen.append(text)

        watching = threading.Thread(target=look)
        watching.start()
        try:
            error = caught(PrivilegeMissingError, lambda: create(pantry.path))
            assert f"GRANT {seeing_routines()} TO " in error.hint
            pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
            create(pantry.path)
            error = caught(PrivilegeMissingError, lambda: apply(pantry.path))
        finally:
            done.set()
            watching.join()
            del os.environ["DBCTL_TEST_SECRET"]
        assert "GRANT ALL ON `" in error.hint
        assert "\\_dbctl\\_%`.* TO " in error.hint
        assert seen
        assert not [text for text in seen if secret.encode() in text]
        for one in pantry.path.with_name("backups").rglob("*"):
            if one.is_file():
                assert secret.encode() not in one.read_bytes()
        assert not list(Path(tempfile.gettempdir()).iterdir())
    finally:
        with closing(servers.mysql_connection(servers.mysql())) as own, own.cursor() as cursor:
            cursor.execute(f"drop user {name}@'%'")


def test_a_transaction_that_holds_a_table_ends_a_restore_after_the_timeout_and_nothing_was_changed(pantry):
    create(pantry.path)
    pantry.spoil()
    held, told = pantry.content(), others(pantry)
    with closing(servers.mysql_connection(pantry.own)) as app, app.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select count(*) from recipes")
        caught(BusyError, lambda: apply(pantry.path, timeout=1))
        cursor.execute("rollback")
    assert (pantry.content(), others(pantry)) == (held, told)
    works(pantry)
    assert pantry.databases() == [pantry.own.path]
    assert [one.kind for one in listed(pantry.path).page.items] == ["backup"]


def test_trap_a_server_goes_on_with_what_a_killed_dbctl_told_it_so_the_next_one_waits_for_that_session(
    pantry,
):
    create(pantry.path)
    held, lock = pantry.content(), locks.exchange(locks.name_of(pantry.own.path))
    with closing(servers.mysql_connection(pantry.own)) as killed, killed.cursor() as cursor:
        cursor.execute(locks.take(lock))
        error = caught(BusyError, lambda: apply(pantry.path, timeout=0))
        assert f"killed and has yet to end, session {killed.thread_id()} of the server" in str(error)
    assert pantry.content() == held
    assert pantry.databases() == [pantry.own.path]


def test_the_session_that_lets_tables_change_places_has_the_lock_that_the_next_dbctl_waits_for(pantry):
    create(pantry.path)
    lock, seen, done = locks.exchange(locks.name_of(pantry.own.path)), [], threading.Event()
    asked = (
        f"select id, is_used_lock('{lock}') from information_schema.processlist"
        f" where info like 'rename table%%{pantry.own.path}%%'"
    )

    def look(app):
        with closing(app), closing(servers.mysql_connection(pantry.own)) as own, own.cursor() as cursor:
            while not (done.is_set() or cursor.execute(asked)):
                pass
            seen.extend(cursor.fetchall())

    app = servers.mysql_connection(pantry.own)
    app.query("begin")
    app.query("select count(*) from recipes")  # which the exchange waits for
    looking = threading.Thread(target=look, args=[app])
    looking.start()
    try:
        apply(pantry.path, timeout=60)
    finally:
        done.set()
        looking.join()
    ((renaming, holding),) = seen
    assert renaming == holding
    with closing(servers.mysql_connection(pantry.own)) as own, own.cursor() as cursor:
        cursor.execute("select is_free_lock(%s)", [lock])
        assert cursor.fetchone() == (1,)


def test_the_next_restore_lets_go_what_the_last_one_kept(pantry):
    create(pantry.path)
    first = apply(pantry.path)
    second = apply(pantry.path)
    assert pantry.databases() == [pantry.own.path, f"{pantry.own.path}_dbctl_{second.safety_backup}"]
    caught(KeptMissingError, lambda: apply(pantry.path, first.safety_backup))


def test_a_restore_that_was_killed_before_its_tables_moved_is_undone_by_making_anew_what_is_no_table(pantry):
    create(pantry.path)
    told = others(pantry)
    done = apply(pantry.path)
    undo(pantry.path)
    # As a kill leaves it: the database for what is kept is made, what is no table is dropped, and no table is moved.
    kept = next(one for one in listed(pantry.path).page.items if one.kind == "safety")
    name = kept.members[0].facts["kept"]
    undo(pantry.path)
    with closing(servers.mysql_connection(servers.mysql())) as own, own.cursor() as cursor:
        cursor.execute(f"create database if not exists {ident(name)}")
    pantry.run("drop view tall", "drop trigger stamp")
    assert done.safety_backup
    before = pantry.content()
    apply(pantry.path, kept.id)
    assert (pantry.content(), others(pantry)) == (before, told)


def test_a_view_whose_table_is_gone_keeps_nobody_from_restoring_that_table(pantry):
    before, there = pantry.content(), others(pantry)
    create(pantry.path)
    pantry.run("create view taller as select * from tall", "set foreign_key_checks = 0", "drop table members")
    lost = pantry.content()
    done = apply(pantry.path)
    assert (pantry.content(), others(pantry)) == (before, there)
    told = [one.message for one in done.findings if one.code == "look-after"]
    assert "view tall, which was broken, is not kept" in told
    assert "view taller, which was broken, is not kept" in told
    assert [one for one in told if "which pointed to no table, is not kept" in one]
    pantry.run("start transaction", "delete from members", "rollback")  # nothing that is kept is in the way
    undo(pantry.path)
    assert pantry.content() == lost
    undo(pantry.path)
    assert (pantry.content(), others(pantry)) == (before, there)


def test_what_is_broken_stays_where_a_restore_fails(pantry):
    create(pantry.path)
    pantry.run("create table short_lived (a int)", "create view broken as select * from short_lived")
    pantry.run("drop table short_lived")
    with closing(servers.mysql_connection(pantry.own)) as app, app.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select count(*) from recipes")
        caught(BusyError, lambda: apply(pantry.path, timeout=1))
        cursor.execute("rollback")
    assert pantry.rows(
        "select table_name from information_schema.views where table_schema = database() order by 1"
    ) == [("broken",), ("tall",)]
    works(pantry)


def sorting(pantry):
    return pantry.rows("select @@collation_database")[0][0], *(
        row[-1] for row in pantry.rows("show triggers")
    )


def test_a_dump_alters_how_no_other_database_sorts_than_the_one_that_it_runs_in(pantry):
    pantry.run(f"alter database {ident(pantry.own.path)} collate utf8mb4_unicode_ci")
    then, told = sorting(pantry), others(pantry)
    create(pantry.path)
    pantry.run(f"alter database {ident(pantry.own.path)} collate utf8mb4_bin")
    now = sorting(pantry)
    assert codes(verified(pantry.path)) == []
    assert sorting(pantry) == now
    apply(pantry.path)
    assert (sorting(pantry), others(pantry)) == (then, told)
    undo(pantry.path)
    assert sorting(pantry) == now
    pantry.destroy()
    apply(pantry.path)
    assert (sorting(pantry), others(pantry)) == (then, told)


@pytest.fixture
def somebody(pantry):
    """A user who owns the pantry and what goes beside it, and may do nothing in the name of others."""
    name = f"u_{os.getpid()}"
    own = structs.replace(pantry.own, user=name, password=Secret("pw"))
    pattern = f"{pantry.own.path}_dbctl_".replace("_", "\\_")
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute(f"create user {name}@'%' identified by 'pw'")
        try:
            for what in (pantry.own.path, f"{pattern}%"):
                cursor.execute(f"grant all on `{what}`.* to {name}@'%'")
            cursor.execute(f"grant {seeing_routines()} to {name}@'%'")
            yield own
        finally:
            cursor.execute(f"drop user {name}@'%'")


def test_what_a_user_could_not_make_again_is_not_dropped(pantry, somebody):
    told = others(pantry)
    pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
    create(pantry.path)
    pantry.run(*MORE[2:])
    held = pantry.content()
    text = (pantry.folder / "dbctl.toml").read_text()
    (pantry.folder / "dbctl.toml").write_text(text.replace(pantry.url, servers.text(somebody)))
    error = caught(PrivilegeMissingError, lambda: apply(pantry.path))
    assert "could not make it again" in str(error)
    assert f"GRANT {servers.mysql_server().making_for_others} ON *.* TO " in error.hint
    assert (pantry.content(), others(pantry)) == (held, told)
    works(pantry)


def test_what_has_a_definer_that_a_user_may_not_name_is_not_dropped(pantry, somebody):
    server = servers.mysql_server()
    pantry.run("drop view tall", "drop trigger stamp", "drop procedure shelve", "drop function twice")
    create(pantry.path)
    pantry.run(f"grant {server.making_for_others} on *.* to {somebody.user}@'%'")
    text = (pantry.folder / "dbctl.toml").read_text()
    (pantry.folder / "dbctl.toml").write_text(text.replace(pantry.url, servers.text(somebody)))
    for definer, right in (
        ("nobody@nowhere", "ALLOW_NONEXISTENT_DEFINER"),
        ("root@localhost", "SYSTEM_USER"),
    ):
        pantry.run(f"create definer = {definer} procedure shelve() select 1")
        if not server.is_mariadb:
            held = pantry.content(), pantry.rows(ROUTINES)
            error = caught(PrivilegeMissingError, lambda: apply(pantry.path))
            assert f"GRANT {right} ON *.* TO " in error.hint
            assert (pantry.content(), pantry.rows(ROUTINES)) == held
            pantry.run(f"grant {right} on *.* to {somebody.user}@'%'")
        apply(pantry.path)
        assert pantry.rows(ROUTINES) == []


def test_a_tablespace_that_a_server_must_have_is_named(pantry):
    if servers.mysql_server().is_mariadb:
        pytest.skip("only MySQL has tablespaces of several tables")
    name = f"space_{os.getpid()}"
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute(f"create tablespace {name} add datafile '{name}.ibd'")
        try:
            pantry.run(
                f"create table `in ``it` (id int primary key, n int comment 'x\n) /*!50100 TABLESPACE `y` */ ') tablespace {name}",
                "create table alone (id int primary key) tablespace innodb_file_per_table",
                "create table within (id int primary key) tablespace innodb_system",
                "insert into `in ``it` values (1, 2)",
            )
            made = create(pantry.path)
            (remark,) = [remark for remark in made.remarks if "tablespace" in remark]
            assert f"tablespace {name} " in remark
            assert "in `it" in remark
            assert "alone" not in remark
            assert "within" not in remark
            pantry.run("delete from `in ``it`")
            apply(pantry.path, made.id)
            assert pantry.rows("select * from `in ``it`") == [(1, 2)]
        finally:
            pantry.destroy()
            cursor.execute("select schema_name from information_schema.schemata")
            for (beside,) in cursor.fetchall():
                if beside.startswith(f"{pantry.own.path}_"):
                    cursor.execute(f"drop database {ident(beside)}")
            cursor.execute(f"drop tablespace {name}")


def test_where_what_is_no_table_cannot_be_made_the_message_says_so_and_what_was_replaced_is_kept(
    pantry, tmp_path, monkeypatch
):
    before, told = pantry.content(), others(pantry)
    create(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    # A client that is killed each time it is to work in the database itself, and not in one beside it.
    named = program("client")
    real, own = shutil.which(named), tmp_path / "bin"
    own.mkdir()
    (own / named).write_text(
        f'#!/bin/sh\ncase "$*" in *--database={pantry.own.path}) kill -9 $$;; esac\nexec {real} "$@"\n'
    )
    (own / named).chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{own}:{os.environ['PATH']}")
        error = caught(RestoreUnfinishedError, lambda: apply(pantry.path))
    assert "restore undo" in error.hint
    assert pantry.content() == before
    assert [one.kind for one in listed(pantry.path).page.items] == ["safety", "backup"]
    undo(pantry.path)
    assert (pantry.content(), others(pantry)) == (spoiled, told)
    assert len(pantry.databases()) == len([pantry.own.path, "kept"])


def test_rights_on_single_routines_are_granted_again(pantry):
    name = f"r_{os.getpid()}"
    with closing(servers.mysql_connection(pantry.own)) as central, central.cursor() as cursor:
        cursor.execute(f"create user {name}@'%'")
        try:
            cursor.execute(f"grant execute on procedure shelve to {name}@'%'")
            cursor.execute(f"grant execute, alter routine on function twice to {name}@'%' with grant option")
            cursor.execute(f"show grants for {name}@'%'")
            granted = sorted(cursor.fetchall())
            create(pantry.path)
            apply(pantry.path)
            undo(pantry.path)
            cursor.execute(f"show grants for {name}@'%'")
            assert sorted(cursor.fetchall()) == granted
        finally:
            cursor.execute(f"drop user {name}@'%'")


def test_a_dump_of_another_product_or_a_newer_server_is_refused(pantry):
    made = create(pantry.path)
    outside = registry.outside(pantry.own, "larder/pantry")
    mariadb = servers.mysql_server().is_mariadb
    for server in ("99.1.0-MariaDB", "8.0.33") if mariadb else ("99.1.0", "10.11.19-MariaDB"):
        facts = dict(made.members[0].facts) | {"server": server}
        dump = Dump(facts=facts, tables={}, schema="")
        caught(RestoreFailedError, lambda dump=dump: outside.approach(dump))


def test_programs_that_are_missing_or_too_old_are_told_before_anything_happens(pantry, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    caught(ClientMissingError, lambda: create(pantry.path))
    mariadb, old = servers.mysql_server().is_mariadb, tmp_path / program("dump")
    told = [
        "mariadb-dump  Ver 10.13 Distrib 5.5.1-MariaDB, for Linux",
        "mysqldump  Ver 5.7.1 for Linux on x86_64 (MySQL Community Server)",
    ]
    old.write_text(f"#!/bin/sh\necho '{told[not mariadb]}'\n")
    old.chmod(0o755)
    caught(ClientOldError, lambda: create(pantry.path))
    old.write_text(f"#!/bin/sh\necho '{told[mariadb]}'\n")
    error = caught(ClientMissingError, lambda: create(pantry.path))
    assert f"{old.name} of {servers.mysql_server().product} ({old} is none of it)" in str(error)
    assert codes(verified(pantry.path)) == ["no-backup"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"(2,'b'),\n(3,'c');", b"(2,'b"),  # in a value
        (b"(2,'b'),\n(3,'c');", b"(2,'b'),"),  # between two rows
        (b"(2,'b'),\n(3,'c');", b"(2,'b'),\n(3,');"),  # so that its end looks like one
        (b"(2,'b'),\n(3,'c');", b"(2,'it\\'),\n(3,'c');"),
        (b"(1,'a'),\n(2,'b'),\n(3,'c');", b""),
        (b" VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');", b" VALUES (1,'a'),(2,'b"),  # all rows in one line
        (b" VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');", b" VALUES (1,'a'),(2,'b'),"),
        (b"  `name` text\n) ENGINE=InnoDB;", b"  `name` te"),
        (b" end ;;\nDELIMITER ;", b""),
        (b" */;\n-- Dump", b"\n-- Dump"),
    ],
)
def test_a_statement_that_is_cut_off_in_a_dump_with_its_last_line_is_found(before, after):
    text = (
        b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n--\n/*!40101 SET NAMES utf8mb4 */;\n\n"
        b"--\n-- Table structure for table `t`\n--\n\nCREATE TABLE `t` (\n  `id` int,\n  `name` text\n) ENGINE=InnoDB;\n\n"
        b"--\n-- Dumping data for table `t`\n--\n\nLOCK TABLES `t` WRITE;\nINSERT INTO `t` VALUES\n(1,'a'),\n(2,'b'),\n(3,'c');\n"
        b"UNLOCK TABLES;\nDELIMITER ;;\n/*!50003 CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW begin\n-- Dumping it\n"
        b"set new.id = 1; end */;;\nDELIMITER ;\n/*!50003 CREATE PROCEDURE p() begin end */;\n"
        b"DELIMITER ;;\nCREATE PROCEDURE q() begin\n select 1;\n end ;;\nDELIMITER ;\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n"
        b"-- Dump completed on 2026-01-01\n"
    )
    whole, half = Reading(), Reading()
    whole.feed(text)
    whole.finish()
    assert (whole.rows, whole.problem) == ({"t": 3}, "")
    assert before in text
    half.feed(text.replace(before, after, 1))
    half.finish()
    assert half.problem


def test_a_dump_program_that_leaves_out_the_middle_of_its_output_makes_no_backup(
    pantry, tmp_path, monkeypatch
):
    real = shutil.which(program("dump"))
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / program("dump")
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {real} --version\n'
        f'{real} "$@" | sed "s/,\'memb!\'.*/,\'memb/"\n'  # the trigger adds the mark
    )
    fake.chmod(0o755)
    pantry.run("insert into cupboard (name) values ('memb')")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    error = caught(ClientFailedError, lambda: create(pantry.path))
    assert "cupboard" in error.facts["reason"]
    assert not listed_folders(pantry)


def test_rows_are_counted_in_dumps_without_locks_or_with_other_kinds_of_insert():
    reading = Reading()
    reading.feed(
        b"-- Dumping data for table `a`\n--\n-- WHERE:  id > 0\n\nINSERT  IGNORE INTO `a` VALUES (1),(2);\n\n"
        b"-- Dumping data for table `b`\n--\n\nREPLACE INTO `b` VALUES (1);\nREPLACE INTO `b` VALUES (2);\n\n"
        b"-- Dumping routines for database 'x'\n--\n-- Dump completed\n"
    )
    reading.finish()
    assert (reading.rows, reading.problem) == ({"a": 2, "b": 2}, "")


@pytest.mark.mariadb
def test_history_that_no_dump_can_hold_is_named_when_the_backup_is_made(pantry):
    pantry.run(
        "create table by_time (id int primary key, x int) with system versioning",
        "create table by_number (id int primary key, x int, a bigint unsigned generated always as row start,"
        " b bigint unsigned generated always as row end, period for system_time (a, b)) with system versioning",
        "insert into by_time values (1, 1)",
        "insert into by_number (id, x) values (1, 1)",
        "update by_time set x = 2",
        "update by_number set x = 2",
    )
    made = create(pantry.path)
    (remark,) = [remark for remark in made.remarks if "by_number" in remark]
    assert "by_time" in remark
    apply(pantry.path)
    assert pantry.rows("select x from by_number for system_time all") == [(2,)]
    pantry.run("drop table by_number")
    made = create(pantry.path)
    assert not [remark for remark in made.remarks if "by_time" in remark]
