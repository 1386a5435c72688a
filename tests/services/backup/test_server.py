"""Backups of databases on a server: what only a server has, and what only a server can do to one."""

from __future__ import annotations

import gzip
import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from msgspec import structs

from dbctl.config import Selection
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.postgresql.backup import client_programs, database_properties
from dbctl.engines.postgresql.backup.dump_scanner import END, for_server
from dbctl.engines.postgresql.backup.rename_swap import exchange
from dbctl.engines.postgresql.session import open_session
from dbctl.engines.sql.query_builder import ident
from dbctl.errors import (
    BackupPartialError,
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DbctlError,
    DiskFullError,
    KeptMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    RestoreFailedError,
    TableMissingError,
    UnreachableError,
    UsageError,
)
from dbctl.files import subprocesses
from dbctl.model import Secret
from dbctl.services.app import app as apps
from dbctl.services.backup.create import Creation
from dbctl.services.backup.repository import Repository
from dbctl.services.restore.preview import preview
from tests import servers
from tests.caching import postgresql_database
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, codes, create, file_of, listed, undo, verified

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def secrets_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def pantry(tmp_path):
    with larder_app.settled("postgresql", tmp_path / "app") as made:
        yield made


@pytest.fixture
def shelf(tmp_path):
    """A pantry in a schema of a database that others use, too."""
    with larder_app.settled("postgresql schema", tmp_path / "app") as made:
        yield made


def creation(path, **more):
    with promptvault_app.opened(path, timeout=more.pop("timeout", 5), only=more.pop("only", "")) as (
        app,
        repository,
    ):
        return Creation(app, repository, timeout=app.timeout, **more).apply()


def central():
    return closing(servers.connection(servers.postgresql()))


def words(pantry):
    """Return what programs of the server want to know of it."""
    own = pantry.own
    return ["-h", own.host or "127.0.0.1", "-p", str(own.port or 5432), "-U", own.user]


def run_alone(*argv, **more):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, **more)


@pytest.fixture
def held(pantry):
    """Hold a table, so that a dump waits until this is let go."""
    pantry.run("create table lonely (x int)")
    with closing(servers.connection(pantry.own)) as other:
        other.execute("begin")
        other.execute("lock table lonely in access exclusive mode")
        yield other


def its_properties(pantry):
    with closing(open_session(servers.postgresql(), "tests", timeout=5, reading=True)) as own:
        return database_properties.of(own, pantry.own.path)


class Beside(threading.Thread):
    """A backup that runs while a test does something."""

    def __init__(self, pantry, timeout=30):
        super().__init__()
        self._path, self._timeout = pantry.path, timeout
        self.made, self.error = None, None
        self.start()
        self.child = self._child()

    def run(self):
        try:
            self.made = create(self._path, timeout=self._timeout)
        except DbctlError as error:
            self.error = error

    def _child(self):
        """Return the pid of pg_dump, once it waits for the lock."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            for entry in Path("/proc").iterdir():
                with suppress(OSError, ValueError):
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    name = (entry / "comm").read_text().strip()
                    if entry.name.isdigit() and int(stat[1]) == os.getpid() and name == "pg_dump":
                        with central() as asking:
                            waiting = asking.execute(
                                "select 1 from pg_stat_activity where application_name like 'dbctl %' and wait_event_type = 'Lock'"
                            ).fetchall()
                        if waiting:
                            return int(entry.name)
            time.sleep(0.02)
        pytest.fail(f"no pg_dump waits ({self.error})")


def nothing_is_left(pantry):
    root = pantry.path.with_name("backups") / "larder"
    assert not [one for one in root.glob("*") if one.name[0] != "."], list(root.glob("*"))
    assert not list(Path(tempfile.gettempdir()).iterdir())


# Made ------------------------------------------------------------------------------------------------------------


def test_pg_restore_alone_brings_a_backup_back(pantry, tmp_path):
    before = pantry.content()
    file = file_of(pantry.path, create(pantry.path))
    with postgresql_database() as url:
        run_alone(servers.client("pg_restore"), *words(pantry), "--exit-on-error", "-d", url.path, file)
        other = structs.replace(pantry.own, path=url.path)
        pantry.own = other
        assert pantry.content() == before


def test_gunzip_and_psql_alone_bring_a_plain_backup_back(pantry):
    before = pantry.content()
    file = file_of(pantry.path, made := creation(pantry.path, form="plain"))
    assert file.name == f"pantry_{made.id}.sql.gz"
    text = run_alone("gunzip", "-c", file).stdout
    first = pantry.own
    with postgresql_database() as url:
        run_alone(
            servers.client("psql"),
            *words(pantry),
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-1",
            "-d",
            url.path,
            input=text,
        )
        pantry.own = structs.replace(first, path=url.path)
        assert pantry.content() == before
        pantry.own = first
    assert codes(verified(pantry.path)) == []
    pantry.spoil()
    apply(pantry.path)
    assert pantry.content() == before


def test_the_configuration_says_which_form_is_the_usual_one(pantry):
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text() + 'format = "plain"\n')
    assert create(pantry.path).members[0].facts["format"] == "plain"
    assert creation(pantry.path, form="custom").members[0].facts["format"] == "custom"
    assert "custom, plain" in str(caught(UsageError, lambda: creation(pantry.path, form="tar")))


def test_a_profile_that_calls_its_files_so_makes_plain_dumps_the_usual_ones(pantry):
    own = pantry.folder / "own.toml"
    own.write_text(
        larder_app.PROFILE.read_text() + '\n[backup]\nnames = { pantry = "larder_{time}.sql.gz" }\n'
    )
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace(str(larder_app.PROFILE), str(own)))
    made = create(pantry.path)
    assert (made.members[0].file, made.members[0].facts["format"]) == (f"larder_{made.id}.sql.gz", "plain")
    custom = creation(pantry.path, form="custom")
    assert custom.members[0].file == f"larder_{custom.id}.dump"


def test_a_backup_holds_one_moment_while_others_write(pantry):
    pantry.run(
        "create table bank (id int primary key, cents int)",
        "insert into bank select n, 1000 from generate_series(0, 99) n",
        "create table log (at int)",
    )
    done = threading.Event()

    def write(number):
        with closing(servers.connection(pantry.own)) as own:
            while not done.is_set():
                with own.transaction():
                    own.execute("update bank set cents = cents - 1 where id = %s", [number])
                    own.execute("insert into log values (%s)", [number])
                    own.execute("update bank set cents = cents + 1 where id = %s", [99 - number])

    writers = [threading.Thread(target=write, args=[number]) for number in (3, 7)]
    for one in writers:
        one.start()
    try:
        made = [create(pantry.path) for _ in range(2)]
    finally:
        done.set()
        for one in writers:
            one.join()
    apply(pantry.path, made[0].id)
    assert pantry.rows("select sum(cents) from bank") == [(100_000,)]
    assert pantry.rows("select count(*) from log") == [(made[0].members[0].rows["log"],)]
    assert made[0].members[0].rows["log"] < made[1].members[0].rows["log"]


def test_a_manifest_tells_what_a_dump_does_not(pantry):
    name = ident(pantry.own.path)
    with central() as own:
        own.execute(f"grant temporary on database {name} to pg_monitor")
        own.execute(f"alter database {name} set work_mem = '7MB'")
        own.execute(f"comment on database {name} is 'jars'")
    facts = create(pantry.path).members[0].facts
    assert (facts["owner"], facts["encoding"], facts["collation"]) == (pantry.own.user, "UTF8", "C")
    assert '["pg_monitor", "TEMPORARY", false]' in facts["grants"]
    assert '["", "work_mem=7MB"]' in facts["settings"]
    assert facts["comment"] == "jars"
    assert facts["server"].split(".")[0] == facts["client"].split(".")[0]
    assert facts["system"].isdigit()


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_names_that_want_quoting_and_values_that_want_escaping_come_back(pantry, form):
    pantry.run(
        'create table "ta""ble; \'x\' (" ("a ""(b)" text, "\n" int)',
        "create table nothing ()",
        "insert into nothing default values",
        """insert into "ta""ble; 'x' (" values (E'\\\\.\\n\\\\.', 1), (E'COPY public.x (y) FROM stdin;\\n', 2), (null, null)""",
        "create function text() returns text language sql as $f$ select E'\\n--\\n-- Data for Name: x; Type: TABLE DATA; Schema: y\\n--\\n\\nCOPY a.b (c) FROM stdin;\\n' $f$",
    )
    before = pantry.content()
    made = creation(pantry.path, form=form)
    assert made.members[0].rows["ta\"ble; 'x' ("] == 3
    pantry.spoil()
    apply(pantry.path)
    assert pantry.content() == before


def test_large_objects_are_in_a_custom_dump_and_refused_in_a_plain_one(pantry):
    pantry.run("select lo_from_bytea(4711, 'jam')")
    caught(NotSupportedError, lambda: creation(pantry.path, form="plain"))
    create(pantry.path)
    pantry.run("select lo_unlink(4711)")
    apply(pantry.path)
    assert pantry.rows("select lo_get(4711)") == [(b"jam",)]


def test_a_backup_of_some_tables_is_partial_never_the_latest_and_not_restored(pantry):
    whole = create(pantry.path)
    part = creation(pantry.path, tables=["members", "order"])
    assert (part.kind, list(part.members[0].rows)) == ("partial", ["members", "order"])
    assert codes(verified(pantry.path)) == []
    with promptvault_app.opened(pantry.path) as (_app, repository):
        assert repository.find("latest").id == whole.id
    error = caught(BackupPartialError, lambda: apply(pantry.path, part.id))
    assert "members, order" in str(error)
    caught(TableMissingError, lambda: creation(pantry.path, tables=["nope"]))
    assert [one.id for one in listed(pantry.path).page.items] == [part.id, whole.id]


def test_a_partitioned_table_is_copied_with_its_rows(pantry):
    pantry.run(
        "create table parted (id int, at int) partition by range (at)",
        "create schema aside",
        "create table aside.early partition of parted for values from (0) to (10)",
        'create table "Late" partition of parted for values from (10) to (99) partition by list (id)',
        'create table late_1 partition of "Late" default',
        "insert into parted select n, n from generate_series(1, 30) n",
    )
    made = creation(pantry.path, tables=["parted"])
    assert dict(made.members[0].rows) == {"aside.early": 9, "late_1": 21}


def test_a_table_of_a_file_cannot_be_copied_alone(tmp_path):
    with larder_app.settled("sqlite", tmp_path / "app") as made:
        caught(NotSupportedError, lambda: creation(made.path, tables=["members"]))


# Nobody sees the password, and nothing is left -------------------------------------------------------------------


def test_trap_a_password_in_a_url_stands_in_the_list_of_processes_so_it_is_in_no_process_file_or_message(
    tmp_path,
):
    secret = "very;s3cret:\\pass w0rd"
    server = servers.parse(servers.private_postgresql(password=secret))
    folder = tmp_path / "app"
    folder.mkdir()
    with closing(servers.connection(structs.replace(server, password=Secret(secret)))) as own:
        own.execute("drop database if exists jars")
        own.execute("create database jars")
    url = structs.replace(server, path="jars", password=Secret(secret))
    (folder / "secret").write_text(secret)
    made = larder_app.ServedPantry(folder, url)
    quoted = servers.text(url).replace(quote(secret, safe=""), "${DBCTL_TEST_SECRET}")
    file = folder / "dbctl.toml"
    file.write_text(file.read_text().replace(servers.text(url), quoted))
    seen, done = [], threading.Event()

    def look():
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        text = (entry / name).read_bytes()
                        if b"pg_dump" in text or b"PGPASSFILE" in text:
                            seen.append(text)

    os.environ["DBCTL_TEST_SECRET"] = secret
    watching = threading.Thread(target=look)
    try:
        made.run("create table lonely (x int)")
        with closing(servers.connection(url)) as holder:
            holder.execute("begin")
            holder.execute("lock table lonely in access exclusive mode")
            watching.start()
            error = caught(BusyError, lambda: create(made.path, timeout=2))
        assert secret not in f"{error} {error.hint}"
        create(made.path)
        made.spoil()
        apply(made.path)
    finally:
        done.set()
        watching.join()
        del os.environ["DBCTL_TEST_SECRET"]
    assert seen
    assert not [text for text in seen if secret.encode() in text]
    for one in made.path.with_name("backups").rglob("*"):
        if one.is_file():
            assert secret.encode() not in one.read_bytes()
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_what_a_killed_dbctl_left_of_secrets_is_taken_away_and_what_is_in_use_is_not():
    place = Path(tempfile.gettempdir()) / f"{subprocesses.SECRETS}left"
    place.mkdir(mode=0o700)
    (place / "password").write_text("x")
    with subprocesses.secrets({"a": "b"}) as mine:
        assert not place.exists()
        assert oct(mine.stat().st_mode)[-3:] + oct((mine / "a").stat().st_mode)[-3:] == "700600"
        with subprocesses.secrets({}):
            assert (mine / "a").read_text() == "b"
    assert not mine.exists()


def test_a_locked_table_ends_a_backup_after_the_timeout_and_leaves_nothing(pantry, held):
    error = caught(BusyError, lambda: create(pantry.path, timeout=0.3))
    assert f"pid {held.info.backend_pid}" in str(error)
    nothing_is_left(pantry)


def test_a_killed_pg_dump_leaves_nothing(pantry, held):
    backup = Beside(pantry)
    os.kill(backup.child, signal.SIGKILL)
    backup.join()
    assert isinstance(backup.error, ClientFailedError), backup.error
    assert "SIGKILL" in str(backup.error)
    assert held
    nothing_is_left(pantry)


def test_a_server_that_ends_its_sessions_in_the_middle_leaves_nothing(pantry, held):
    backup = Beside(pantry)
    with central() as own:
        own.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> %s",
            [pantry.own.path, held.info.backend_pid],
        )
    backup.join()
    assert isinstance(backup.error, UnreachableError), backup.error
    nothing_is_left(pantry)


def test_a_full_disk_leaves_nothing(pantry):
    pantry.run("create table much as select md5(n::text) from generate_series(1, 20000) n")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; {sys.executable} -m dbctl backup create -o json"],
        cwd=pantry.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"code": "disk-full"' in done.stdout, done.stdout + done.stderr
    nothing_is_left(pantry)
    assert DiskFullError.exit_status == done.returncode


def test_programs_that_are_missing_or_too_old_are_told_before_anything_happens(pantry, tmp_path, monkeypatch):
    monkeypatch.setattr(client_programs, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    error = caught(ClientMissingError, lambda: create(pantry.path))
    assert "postgresql-client-" in error.hint
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    error = caught(ClientOldError, lambda: create(pantry.path))
    assert "9.6.24" in str(error)
    nothing_is_left(pantry)


def test_a_server_that_is_down_is_unreachable_in_every_command(pantry):
    create(pantry.path)
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(re.sub(r":\d+/", ":1/", file.read_text()))
    for call in (
        lambda: create(pantry.path),
        lambda: apply(pantry.path),
        lambda: verified(pantry.path),
    ):
        caught(UnreachableError, call)
    assert codes(verified(pantry.path, deep=False)) == []


# Brought back ----------------------------------------------------------------------------------------------------


def test_a_database_that_somebody_has_set_to_be_read_only_is_backed_up_and_verified_but_not_replaced(pantry):
    with central() as own:
        own.execute(f"alter database {ident(pantry.own.path)} set default_transaction_read_only = on")
    before = pantry.content()
    create(pantry.path)
    assert codes(verified(pantry.path, deep=True)) == []
    caught(ReadOnlyError, lambda: apply(pantry.path))
    with central() as own:
        own.execute(f"alter database {ident(pantry.own.path)} set default_transaction_read_only = off")
    assert pantry.content() == before
    assert list(pantry.databases()) == [pantry.own.path]


def test_a_restore_takes_the_name_of_the_database_and_carries_over_what_no_dump_tells(pantry):
    name, role = ident(pantry.own.path), f"r_{pantry.own.path}"
    with central() as own:
        own.execute(f"create role {role}")
        own.execute(f"grant connect on database {name} to {role} with grant option")
        own.execute(f"revoke temporary on database {name} from public")
        own.execute(f"""alter database {name} set search_path = public, "$user", 'odd name'""")
        own.execute(f"alter database {name} set default_transaction_read_only = off")
        own.execute(f"alter role {role} in database {name} set work_mem = '9MB'")
        own.execute(f"comment on database {name} is 'it''s \\ mine'")
        own.execute(f"alter database {name} connection limit 42")
    try:
        create(pantry.path)
        before = its_properties(pantry)
        done = apply(pantry.path)
        after = its_properties(pantry)
    finally:
        with central() as own:
            for (one,) in own.execute(
                "select datname from pg_database where starts_with(datname, %s)", [pantry.own.path]
            ).fetchall():
                own.execute(f"revoke all on database {ident(one)} from {role} cascade")
                own.execute(f"alter role {role} in database {ident(one)} reset all")
            own.execute(f"drop role {role}")
    assert done.databases[0].way == "swapped"
    assert after.lasting() == before.lasting()
    assert (len(after.grants), len(after.settings)) == (5, 3)
    assert after.oid != before.oid
    assert pantry.rows("select count(*) > 0 from pg_stats where schemaname = 'public'") == [(True,)]
    kept = [one for one, may in pantry.databases().items() if not may]
    assert kept == [f"{pantry.own.path}_dbctl_{done.safety_backup}"]


def test_sessions_are_named_in_the_plan_and_ended(pantry):
    create(pantry.path)
    url = servers.text(pantry.own)
    with psycopg.connect(url, autocommit=True, application_name="the app") as app:
        with promptvault_app.opened(pantry.path) as (opened, repository):
            steps = promptvault_app.restoring(opened, repository, "latest").plan().steps
        assert [one for one in steps if f"the app (pid {app.info.backend_pid}, user postgres" in one], steps
        apply(pantry.path)
        with pytest.raises(psycopg.OperationalError):
            app.execute("select 1")
        with suppress(psycopg.Error):
            app.rollback()


def test_an_app_that_connects_again_and_again_finds_the_old_rows_or_the_new(pantry):
    create(pantry.path)
    pantry.run("create table marks (old int)")
    url, done, seen, strange = servers.text(pantry.own), threading.Event(), [], []

    def go_on():
        while not done.is_set():
            try:
                with psycopg.connect(url, autocommit=True, connect_timeout=5) as app:
                    for _ in range(20):
                        found = app.execute("select to_regclass('marks'), (select count(*) from members)")
                        seen.append(found.fetchall())
            except psycopg.Error as error:
                strange.append(str(error))

    clients_ = [threading.Thread(target=go_on) for _ in range(3)]
    for one in clients_:
        one.start()
    try:
        apply(pantry.path)
    finally:
        time.sleep(0.3)
        done.set()
        for one in clients_:
            one.join()
    assert {row[0][0] for row in seen} == {"marks", None}
    assert len({row[0][1] for row in seen}) == 1
    assert pantry.rows("select to_regclass('marks')") == [(None,)]
    assert not [one for one in strange if "not currently accepting" in one]


def test_the_next_restore_lets_go_what_the_last_one_kept(pantry):
    create(pantry.path)
    first = apply(pantry.path)
    second = apply(pantry.path)
    names = set(pantry.databases())
    assert names == {pantry.own.path, f"{pantry.own.path}_dbctl_{second.safety_backup}"}
    error = caught(KeptMissingError, lambda: apply(pantry.path, first.safety_backup))
    assert "Nothing was changed" in error.hint
    assert set(pantry.databases()) == names


def test_the_script_in_a_safety_backup_goes_back_without_dbctl(pantry):
    create(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    done = apply(pantry.path)
    script = (
        promptvault_app.folder_of(pantry.path, done.safety_backup) / f"pantry_{done.safety_backup}.kept.sql"
    )
    run_alone(
        servers.client("psql"), *words(pantry), "-X", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", script
    )
    assert pantry.content() == spoiled


def test_what_a_killed_restore_left_on_the_server_is_dropped_by_the_next(pantry):
    create(pantry.path)
    left = f"{pantry.own.path}_dbctl_new_0badcafe"
    with central() as own:
        own.execute(f"create database {ident(left)}")
    apply(pantry.path)
    assert left not in pantry.databases()


def test_a_dump_of_a_newer_server_is_refused(pantry):
    made = create(pantry.path)
    facts = dict(made.members[0].facts) | {"server": "99.1"}
    dump = Dump(facts=facts, tables=made.members[0].rows, schema="")
    outside = registry.outside(pantry.own, "larder/pantry")
    error = caught(RestoreFailedError, lambda: outside.approach(dump))
    assert "PostgreSQL 99" in str(error)


@pytest.fixture
def plain_owner(pantry):
    """A role that owns the pantry and all that is in it, and may not create databases."""
    role = f"r_{pantry.own.path}"
    with central() as own:
        own.execute(f"create role {role} login")
        own.execute(f"alter database {ident(pantry.own.path)} owner to {role}")
    try:
        pantry.run("alter schema public owner to " + role)
        with closing(servers.connection(pantry.own)) as connection:
            for name in pantry.tables():
                connection.execute(f"alter table {ident(name)} owner to {role}")
            connection.execute(f"alter type member_kind owner to {role}")
        file = pantry.path.with_name("dbctl.toml")
        file.write_text(file.read_text().replace("postgres@", f"{role}@"))
        yield role
    finally:
        with central() as own:
            own.execute(f"alter database {ident(pantry.own.path)} owner to postgres")
        with closing(servers.connection(pantry.own)) as connection:
            connection.execute(f"reassign owned by {role} to postgres")
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_a_role_that_may_not_create_databases_restores_in_place_and_is_told_what_a_trial_wants(
    pantry, plain_owner
):
    before = pantry.content()
    create(pantry.path)
    error = caught(PrivilegeMissingError, lambda: verified(pantry.path))
    assert f'ALTER ROLE "{plain_owner}" CREATEDB;' in error.hint
    pantry.spoil()
    pantry.run(f"alter table regrets owner to {plain_owner}")
    spoiled = pantry.content()
    assert apply(pantry.path).databases[0].way == "in place"
    assert pantry.content() == before
    undo(pantry.path)
    assert pantry.content() == spoiled


def whole(pantry):
    """Return all that pg_dump tells of it, but what it makes up each time, and dbctl's own record."""
    told = run_alone(servers.client("pg_dump"), *words(pantry), pantry.own.path).stdout
    own = (b"restrict ", b"restore.apply", b"history_id_seq', ")
    return [line for line in told.splitlines() if not any(word in line for word in own)]


def test_in_place_everything_comes_back_and_nobody_may_do_more_than_before(pantry, plain_owner):
    grantee = f"{plain_owner}_app"
    name = ident(pantry.own.path)
    pantry.run(
        "create extension citext",  # which the owner does not own
        f"create role {grantee}",
        f"set role {plain_owner}; create function same(int, int) returns bool language sql as 'select $1 = $2';"
        " create operator === (leftarg = int, rightarg = int, function = same);"
        " create table posted (id int primary key); create publication news for table posted;"
        " select lo_from_bytea(0, 'then');"
        f" alter default privileges in schema public grant select on tables to {grantee};"
        f" alter default privileges grant insert on tables to {grantee};"
        " alter default privileges revoke execute on functions from public",
        f"alter database {name} set statement_timeout = '100ms'",
    )
    try:
        before = whole(pantry)
        create(pantry.path)
        pantry.run(
            f"set role {plain_owner}",
            "drop table posted",
            "select lo_from_bytea(0, 'now')",
        )
        spoiled = whole(pantry)
        done = apply(pantry.path)
        assert done.databases[0].way == "in place"
        assert [one.code for one in done.findings if one.code == "look-after"] == []
        assert whole(pantry) == before
        undo(pantry.path)
        assert whole(pantry) == spoiled
    finally:
        with central() as own:
            own.execute(f"alter database {name} reset all")
        pantry.run(f"drop owned by {grantee}", f"drop role {grantee}")


def test_in_place_what_the_app_commits_meanwhile_is_in_the_safety_backup_or_stays(pantry, plain_owner):
    pantry.run(f"set role {plain_owner}; create table ticks (n int primary key)")
    create(pantry.path)
    told, over = list[int](), threading.Event()

    def write():
        with closing(servers.connection(pantry.own)) as app:
            for n in itertools.count():
                if over.is_set():
                    return
                app.execute("insert into ticks values (%s)", [n])
                told.append(n)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not told:
            time.sleep(0.001)
        assert apply(pantry.path).databases[0].way == "in place"
        done = len(told)
        while len(told) == done:
            time.sleep(0.001)
    finally:
        over.set()
        writer.join()
    behind = {n for (n,) in pantry.rows("select n from ticks")}
    undo(pantry.path)
    before = {n for (n,) in pantry.rows("select n from ticks")}
    assert not before & behind
    assert before | behind == set(told)


def test_in_place_a_failure_behind_a_large_object_leaves_what_was_there(pantry, plain_owner):
    pantry.run(
        f"set role {plain_owner}; create index on members (mail);"
        " select lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two')"
    )
    create(pantry.path)
    # What is in the way only once the dump makes its indexes, long behind the large objects.
    pantry.run(
        "create function stop() returns event_trigger language plpgsql as $$ begin raise 'stopped'; end $$",
    )
    pantry.run(
        "create extension if not exists citext",
        "alter extension citext add function stop()",  # so that it stays
        "create event trigger stopping on ddl_command_start when tag in ('CREATE INDEX') execute function stop()",
    )
    held = whole(pantry)
    error = caught(ClientFailedError, lambda: apply(pantry.path))
    assert "stopped" in str(error)
    assert whole(pantry) == held


def test_what_a_newer_program_says_to_newer_servers_is_not_said_to_an_older_one(pantry):
    made = creation(pantry.path, form="plain")
    text = gzip.decompress(file_of(pantry.path, made).read_bytes())
    line = b"\nSET idle_in_transaction_session_timeout = 0;\n"
    newer = text.replace(line, line + b"SET transaction_timeout = 0;\n", 1)
    assert newer != text
    for size in (1, 7, 4096, len(newer)):
        blocks = [newer[at : at + size] for at in range(0, len(newer), size)]
        assert b"".join(for_server(blocks, 16)) == text
        assert b"".join(for_server(blocks, 17)) == newer


@pytest.mark.parametrize("size", [1, 100, 5000, 1 << 20])
def test_what_looks_like_the_end_of_a_transaction_among_rows_stays(size):
    head, rows = b"--\n\nBEGIN;\n\nSET a = 0;\nSET client_min_messages = warning;\n", b"x\n" * 9000
    row = b"\nCOMMIT;\n\nBEGIN;\n"
    text = head + rows + row + rows + b"\nCOMMIT;\n\n--" + END + b"--\n\n"
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    told = b"".join(for_server(blocks, 99))
    assert told == text.replace(b"\nBEGIN;\n", b"\n", 1).replace(b"\nCOMMIT;\n\n--" + END, b"\n--" + END)


def test_in_place_what_other_schemas_hold_stays_and_what_depends_on_this_one_keeps_it_from_being_replaced(
    shelf,
):
    schema = servers.schema_of(shelf.own)
    other = f"{schema}_other"
    create(shelf.path)
    before = shelf.content()
    shelf.run(f"create schema {other}", f"create table {other}.mine as select 1 as x")
    try:
        shelf.spoil()
        assert apply(shelf.path).databases[0].way == "in place"
        assert shelf.content() == before
        assert shelf.rows(f"select x from {other}.mine") == [(1,)]
        shelf.run(f"create view {other}.names as select handle from members")
        error = caught(ClientFailedError, lambda: apply(shelf.path))
        assert f"view {other}.names depends on" in str(error)
        assert shelf.content() == before
        assert shelf.rows(f"select count(*) > 0 from {other}.names") == [(True,)]
    finally:
        shelf.run(f"drop schema {other} cascade")


def test_trap_a_commit_goes_on_without_a_killed_dbctl_so_the_next_restore_waits_for_that_session(pantry):
    """For as long as a replica lets it wait, for example."""
    create(pantry.path)
    held = pantry.content()
    with central() as killed:
        killed.execute("select pg_advisory_lock(%s)", [exchange(pantry.own.path)])
        error = caught(BusyError, lambda: apply(pantry.path, timeout=0))
        assert f"(pid {killed.info.backend_pid} of the server" in str(error)
        assert "a restore that was killed and has yet to end" in str(error)
    assert pantry.content() == held
    assert pantry.databases() == {pantry.own.path: True}


def test_the_session_that_lets_names_change_has_the_lock_that_the_next_restore_waits_for(pantry):
    create(pantry.path)
    with central() as other:
        other.execute("begin")
        other.execute(
            f"comment on database {ident(pantry.own.path)} is 'locked'"
        )  # which the exchange waits for
        seen, done = [], threading.Event()

        def look():
            asked = """select l.pid, exists (select from pg_locks h where h.pid = l.pid and h.granted
            and h.locktype = 'advisory' and (h.classid::int8 << 32) | h.objid::int8 = %s) from pg_locks l
            where l.classid = 'pg_database'::regclass and not l.granted and %s = any(pg_blocking_pids(l.pid))"""
            with central() as own:
                while not done.is_set() and not seen:
                    seen.extend(own.execute(asked, [exchange(pantry.own.path), other.info.backend_pid]))
            other.execute("rollback")

        looking = threading.Thread(target=look)
        looking.start()
        try:
            apply(pantry.path, timeout=60)
        finally:
            done.set()
            looking.join()
        assert [holds for _pid, holds in seen] == [True]
        assert other.execute("select pg_try_advisory_lock(%s)", [exchange(pantry.own.path)]).fetchone() == (
            True,
        )


def test_a_locked_table_ends_a_restore_in_place_after_the_timeout_and_nothing_was_changed(shelf):
    create(shelf.path)
    shelf.spoil()
    held = shelf.content()
    with closing(servers.connection(shelf.own)) as other:
        other.execute("begin")
        other.execute("select count(*) from members")
        error = caught(BusyError, lambda: apply(shelf.path, timeout=0.3))
        assert f"pid {other.info.backend_pid}" in str(error)
        other.execute("rollback")
    assert shelf.content() == held
    assert [one.kind for one in listed(shelf.path).page.items] == ["backup"]


def test_the_schema_public_of_a_url_means_the_whole_database_unless_another_one_is_there(pantry):
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace(pantry.own.path, f"{pantry.own.path}?schema=public"))
    pantry.run("create extension pg_trgm")
    before = pantry.content()
    assert create(pantry.path).members[0].facts["schema"] == ""
    pantry.spoil()
    assert apply(pantry.path).databases[0].way == "swapped"
    assert pantry.content() == before
    pantry.run("create schema theirs", "create table theirs.t as select 1 as x")
    pantry.spoil()
    made = create(pantry.path)
    assert made.members[0].facts["schema"] == "public"
    pantry.run("update theirs.t set x = 2")
    for name in (made.id, listed(pantry.path).page.items[-1].id):
        assert apply(pantry.path, name).databases[0].way == "in place"
    assert pantry.content() == before
    assert pantry.rows("select x from theirs.t") == [(2,)]


def test_a_trial_may_be_made_on_another_server_that_the_configuration_names(pantry):
    create(pantry.path)
    private = servers.private_postgresql(password="trial")
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text() + f'scratch = "{private.replace("postgres@", "postgres:trial@")}"\n')
    assert codes(verified(pantry.path)) == []
    file.write_text(file.read_text().replace("postgres:trial@", "postgres:wrong@"))
    caught(UnreachableError, lambda: verified(pantry.path))


# Several databases -----------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(pantry):
    """An app with one database on a server and one in a file."""
    folder = pantry.folder
    with closing(sqlite3.connect(folder / "notes.db")) as notes, notes:
        notes.execute("create table notes (x)")
        notes.execute("insert into notes values ('first')")
    (folder / "mixed.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "mixed"\ntitle = "Mixed"\n[databases.main]\nengines = ["postgresql"]\n'
        'needs = ["members"]\n[databases.notes]\nengines = ["sqlite"]\nneeds = ["notes"]\n'
    )
    (folder / "dbctl.toml").write_text(
        f'[apps.mixed]\nprofile = "mixed.toml"\n[apps.mixed.databases]\nmain = "{pantry.url}"\nnotes = "notes.db"\n'
        '[apps.mixed.backup]\nrepository = "backups"\n'
    )
    return pantry


def notes(pantry, sql="select x from notes"):
    with closing(sqlite3.connect(pantry.folder / "notes.db", timeout=0.1)) as connection, connection:
        return connection.execute(sql).fetchall()


def test_a_file_and_a_server_of_one_app_are_in_one_backup_and_come_back_together(mixed):
    before = mixed.content()
    made = create(mixed.path)
    assert [one.file.partition(".")[2] for one in made.members] == ["dump", "db.gz"]
    assert codes(verified(mixed.path)) == []
    mixed.spoil()
    notes(mixed, "update notes set x = 'second'")
    apply(mixed.path)
    assert (mixed.content(), notes(mixed)) == (before, [("first",)])
    undo(mixed.path)
    assert notes(mixed) == [("second",)]
    assert mixed.content() != before


def test_when_the_file_fails_the_server_is_put_back(mixed):
    create(mixed.path)
    mixed.spoil()
    held = mixed.content()
    with closing(sqlite3.connect(mixed.folder / "notes.db", isolation_level=None)) as app:
        app.execute("begin immediate")
        caught(BusyError, lambda: apply(mixed.path, timeout=0.3))
        app.execute("rollback")
    assert mixed.content() == held
    assert list(mixed.databases()) == [mixed.own.path]
    assert [one.kind for one in listed(mixed.path).page.items] == ["backup"]


def test_gzip_of_python_reads_a_plain_backup_whole(pantry):
    file = file_of(pantry.path, creation(pantry.path, form="plain"))
    with gzip.open(file) as read:
        assert b"-- PostgreSQL database dump complete" in read.read()
    with apps.opened(Selection(config=str(pantry.path.with_name("dbctl.toml"))), timeout=5) as app:
        assert Repository(app).manifests()[1] == {}


#: One of each kind of thing that a schema can hold, most of them in the way of another one.
ALL_KINDS = (
    "create domain small as int check (value < 100)",
    "create type pair as (a int, b text)",
    "create type span_of_small as range (subtype = int4)",
    "create table parted (id int, at date, n small, p pair, primary key (id, at)) partition by range (at)",
    "create table parted_1 partition of parted for values from ('2020-01-01') to ('2021-01-01')",
    "create table parted_2 partition of parted default",
    "insert into parted values (1, '2020-05-05', 7, (1, 'x')), (2, '2022-02-02', 8, null)",
    "create table one (id int generated always as identity primary key, v varchar(5) check (v in ('a', 'b')), other int)",
    'create table two (id serial primary key, one int references one deferrable initially deferred, t text collate "C")',
    "alter table one add foreign key (other) references two",
    "insert into one (v) values ('a'), (null)",
    "insert into two (one, t) values (1, E'line\\nbreak\\ttab\\\\')",
    "create unlogged table fast (x int)",
    "create sequence lone start 7",
    "select nextval('lone')",
    "create index partial on two (lower(t)) where t in ('a', 'b')",
    "create unique index unique_two on two (t nulls first, one desc) include (id)",
    "create view seen as select o.id, v from one o join two w on w.one = o.id",
    "create view seen_again as select * from seen where v = any (array['a', 'b'])",
    "create materialized view counted as select count(*) as n from one",
    "create function changed() returns trigger language plpgsql as $$begin new.v := new.v; return new; end$$",
    "create trigger changing before update on one for each row execute function changed()",
    "create rule none as on delete to two do instead nothing",
    "create procedure nothing(a int) language sql as 'select 1'",
    "create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0')",
    "alter table one enable row level security",
    "create policy mine on one using (v = current_user)",
    "create text search dictionary plain (template = simple)",
    "create text search configuration words (copy = simple)",
    "comment on table one is 'it''s one'",
    "create statistics of_two on t, one from two",
)


@pytest.mark.parametrize("place", ["postgresql", "postgresql schema"])
def test_whatever_a_schema_holds_comes_back_and_is_told_alike(place, tmp_path):
    with larder_app.settled(place, tmp_path / "app") as made:
        made.run(*ALL_KINDS)
        before = made.content()
        assert {"parted_1", "parted_2"} < before.keys()
        first = create(made.path)
        assert (first.members[0].rows["parted_1"], first.members[0].rows["parted_2"]) == (1, 1)
        assert codes(verified(made.path)) == []
        made.spoil()
        made.run("drop view seen_again", "alter table two add column later int", "create table more (x pair)")
        done = apply(made.path)
        assert done.exit_status == 0
        assert made.content() == before
        assert made.rows("select nextval('lone'), n from counted") == [(8, 2)]
        assert made.rows("insert into one (v) values ('b') returning id") == [(3,)]
        with promptvault_app.opened(made.path) as (app, _repository):
            assert app.reader("pantry").fingerprint() == first.members[0].schema


# What a dump counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["postgresql", "postgresql schema"])
def test_a_table_with_child_tables_is_counted_alike_by_backup_and_restore(place, tmp_path):
    with larder_app.settled(place, tmp_path / "app") as pantry:
        pantry.run(
            "create table crate (id int primary key)",
            "create table cold_crate (degrees int) inherits (crate)",
            "insert into crate values (1)",
            "insert into cold_crate values (2, -4), (3, -5)",
            "create table shelf (n int) partition by range (n)",
            "create table low_shelf partition of shelf for values from (0) to (5)",
            "insert into shelf values (1), (2)",
        )
        before, made = pantry.content(), create(pantry.path)
        rows = made.members[0].rows
        assert (rows["crate"], rows["cold_crate"], rows["low_shelf"]) == (1, 2, 2)
        assert codes(verified(pantry.path)) == []
        pantry.run("delete from cold_crate")
        with promptvault_app.opened(pantry.path) as (app, repository):
            seen = preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app)).databases[
                0
            ]
        assert {one.table: (one.now, one.then) for one in seen.tables if one.now != one.then} == {
            "cold_crate": (0, 2)
        }
        apply(pantry.path)
        assert pantry.content() == before


def test_settings_of_the_database_do_not_change_what_a_dump_means(pantry):
    pantry.run("create table crates (tags text[])", "insert into crates values (array['a', null])")
    with central() as own:
        own.execute(f"alter database {ident(pantry.own.path)} set array_nulls = off")
    create(pantry.path)
    assert codes(verified(pantry.path)) == []
    apply(pantry.path)
    with closing(servers.connection(pantry.own)) as own:
        assert own.execute("select tags[2] is null from crates").fetchall() == [(True,)]
