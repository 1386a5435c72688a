"""Backups of PostgreSQL databases: properties, sessions, locks and failures of a server."""

from __future__ import annotations

import gzip
import hashlib
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

from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.postgresql import dump_programs, properties
from dbctl.engines.postgresql.dump_limits import adapt_to_server
from dbctl.engines.postgresql.dump_programs import END
from dbctl.engines.postgresql.load import swap_lock_key
from dbctl.engines.postgresql.session import open_session
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import BackupPartialError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    PrivilegeMissingError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.files import codecs, subprocesses
from dbctl.model import Secret
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import Repository
from dbctl.services.restore.preview import preview
from tests import servers
from tests.receivers import wait_until
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_compression import change_manifest
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app_backup,
    find_backup_file,
    list_all_backups,
    list_codes,
    undo_restore,
    verify_backups,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("private_temp_dir")]

ROOT = Path(__file__).parents[3]
#: The programs that print the content of a compressed file.
DECOMPRESS = {"none": ["cat"], "gzip": ["gunzip", "-c"], "zstd": ["zstd", "-q", "-d", "-c"]}

#: The schemas with tables that were analyzed; all databases of a server share some tables of the system.
ANALYZED_SCHEMAS = """select distinct schemaname::text from pg_stat_all_tables s join pg_class c on c.oid = s.relid
where last_analyze is not null and not relisshared"""


@pytest.fixture
def pantry(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as app:
        yield app


@pytest.fixture
def schema_pantry(tmp_path):
    """Larder in a schema of a shared database."""
    with larder_app.open_pantry("postgresql schema", tmp_path / "app") as app:
        yield app


def create_with_options(path, **options):
    with promptvault_app.open_repository(
        path, timeout=options.pop("timeout", 5), only=options.pop("only", "")
    ) as (_app, repository):
        return CreateBackup(repository, **options).apply()


def connect_to_server():
    return closing(servers.connection(servers.postgresql()))


def connection_options(pantry):
    """Return the connection options of the client programs."""
    url = pantry.own
    return ["-h", url.host or "127.0.0.1", "-p", str(url.port or 5432), "-U", url.user]


def run_program(*argv, **options):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, **options)


@pytest.fixture
def locked_table(pantry):
    """Lock a table, so that a dump waits until the lock is released."""
    pantry.run("create table lonely (x int)")
    with closing(servers.connection(pantry.own)) as other:
        other.execute("begin")
        other.execute("lock table lonely in access exclusive mode")
        yield other


def read_properties(pantry):
    with closing(open_session(servers.postgresql(), "tests", timeout=5, read_only=True)) as connection:
        return properties.read_properties(connection, pantry.own.path)


class BackgroundBackup(threading.Thread):
    """A backup in another thread."""

    def __init__(self, pantry, timeout=30):
        super().__init__()
        self._path, self._timeout = pantry.path, timeout
        self.backup, self.error = None, None
        self.start()
        self.child_pid = self._find_child()

    def run(self):
        try:
            self.backup = create_app_backup(self._path, timeout=self._timeout)
        except DbctlError as error:
            self.error = error

    def _find_child(self):
        """Return the pid of pg_dump as soon as it waits for the lock."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for entry in Path("/proc").iterdir():
                with suppress(OSError, ValueError):
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    name = (entry / "comm").read_text().strip()
                    if entry.name.isdigit() and int(stat[1]) == os.getpid() and name == "pg_dump":
                        with connect_to_server() as connection:
                            waiting = connection.execute(
                                "select 1 from pg_stat_activity where application_name like 'dbctl %' and wait_event_type = 'Lock'"
                            ).fetchall()
                        if waiting:
                            return int(entry.name)
            time.sleep(0.02)
        pytest.fail(f"pg_dump does not wait for the lock ({self.error})")


def assert_no_leftovers(pantry):
    root = pantry.path.with_name("backups") / "larder"
    assert not [entry for entry in root.glob("*") if entry.name[0] != "."], list(root.glob("*"))
    assert not list(Path(tempfile.gettempdir()).iterdir())


# Creation --------------------------------------------------------------------------------------------------------


def test_user_without_home_directory_creates_backups(pantry, without_home):
    create_app_backup(pantry.path)
    assert list_codes(verify_backups(pantry.path)) == []


@pytest.mark.parametrize("compress", list(DECOMPRESS))
def test_pg_restore_restores_backup_without_dbctl(pantry, compress):
    before = pantry.content()
    backup = create_with_options(pantry.path, compress=compress)
    file = find_backup_file(pantry.path, backup)
    archive = run_program(*DECOMPRESS[compress], file).stdout
    assert file.name == f"pantry_{backup.id}.dump{codecs.SUFFIXES[compress]}"
    assert (backup.members[0].compress, backup.members[0].size) == (compress, len(archive))
    assert b"Lentil Soup" in archive  # pg_dump has not compressed the rows
    with servers.postgresql_database(encoding="UTF8") as url:
        run_program(
            servers.client("pg_restore"),
            *connection_options(pantry),
            "--exit-on-error",
            "-d",
            url.path,
            input=archive,
        )
        first, pantry.own = pantry.own, structs.replace(pantry.own, path=url.path)
        assert pantry.content() == before
        pantry.own = first
    assert list_codes(verify_backups(pantry.path, deep=True)) == []
    pantry.change_data()
    apply_restore(pantry.path)
    assert pantry.content() == before


def test_backup_that_pg_dump_compressed_is_verified_and_restored(pantry):
    before, backup = pantry.content(), create_app_backup(pantry.path)
    file = find_backup_file(pantry.path, backup)
    older = file.with_suffix("")
    run_program(
        servers.client("pg_dump"), *connection_options(pantry), "-Fc", "-Z6", "-f", older, pantry.own.path
    )
    file.unlink()
    content = older.read_bytes()
    assert b"Lentil Soup" not in content
    change_manifest(
        pantry.path,
        backup,
        file=older.name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        compress="none",
        plain_bytes=0,
    )
    assert list_codes(verify_backups(pantry.path, deep=True)) == []
    pantry.change_data()
    apply_restore(pantry.path, backup.id)
    assert pantry.content() == before


def test_gunzip_and_psql_restore_plain_backup(pantry):
    before = pantry.content()
    file = find_backup_file(pantry.path, backup := create_with_options(pantry.path, form="plain"))
    assert (file.name, backup.members[0].compress) == (f"pantry_{backup.id}.sql.gz", "none")
    catch_error(NotSupportedError, lambda: create_with_options(pantry.path, form="plain", compress="zstd"))
    text = run_program("gunzip", "-c", file).stdout
    first = pantry.own
    with servers.postgresql_database(encoding="UTF8") as url:
        run_program(
            servers.client("psql"),
            *connection_options(pantry),
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
    assert list_codes(verify_backups(pantry.path)) == []
    pantry.change_data()
    apply_restore(pantry.path)
    assert pantry.content() == before


def test_configured_format_is_the_default(pantry):
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text() + 'format = "plain"\n')
    assert create_app_backup(pantry.path).members[0].facts["format"] == "plain"
    assert create_with_options(pantry.path, form="custom").members[0].facts["format"] == "custom"
    assert "custom, plain" in str(
        catch_error(UsageError, lambda: create_with_options(pantry.path, form="tar"))
    )


def test_documented_file_name_makes_plain_format_default(pantry):
    profile = pantry.folder / "profile.toml"
    profile.write_text(
        larder_app.PROFILE.read_text() + '\n[backup]\nnames = { pantry = "larder_{time}.sql.gz" }\n'
    )
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace(str(larder_app.PROFILE), str(profile)))
    backup = create_app_backup(pantry.path)
    assert (backup.members[0].file, backup.members[0].facts["format"]) == (
        f"larder_{backup.id}.sql.gz",
        "plain",
    )
    custom = create_with_options(pantry.path, form="custom")
    assert custom.members[0].file == f"larder_{custom.id}.dump.gz"


def test_backup_under_writers_is_consistent(pantry):
    pantry.run(
        "create table bank (id int primary key, cents int)",
        "insert into bank select n, 1000 from generate_series(0, 99) n",
        "create table log (at int)",
    )
    stop_event = threading.Event()

    def write(account):
        with closing(servers.connection(pantry.own)) as connection:
            while not stop_event.is_set():
                with connection.transaction():
                    connection.execute("update bank set cents = cents - 1 where id = %s", [account])
                    connection.execute("insert into log values (%s)", [account])
                    connection.execute("update bank set cents = cents + 1 where id = %s", [99 - account])

    writers = [threading.Thread(target=write, args=[number]) for number in (3, 7)]
    for writer in writers:
        writer.start()
    try:
        backups = [create_app_backup(pantry.path) for _ in range(2)]
    finally:
        stop_event.set()
        for writer in writers:
            writer.join()
    apply_restore(pantry.path, backups[0].id)
    assert pantry.rows("select sum(cents) from bank") == [(100_000,)]
    assert pantry.rows("select count(*) from log") == [(backups[0].members[0].rows["log"],)]
    assert backups[0].members[0].rows["log"] < backups[1].members[0].rows["log"]


def test_manifest_contains_database_properties(pantry):
    name = ident(pantry.own.path)
    with connect_to_server() as connection:
        connection.execute(f"grant temporary on database {name} to pg_monitor")
        connection.execute(f"alter database {name} set work_mem = '7MB'")
        connection.execute(f"comment on database {name} is 'jars'")
    facts = create_app_backup(pantry.path).members[0].facts
    assert (facts["owner"], facts["encoding"], facts["collation"]) == (pantry.own.user, "UTF8", "C")
    assert '["pg_monitor", "TEMPORARY", false]' in facts["grants"]
    assert '["", "work_mem=7MB"]' in facts["settings"]
    assert facts["comment"] == "jars"
    assert int(facts["server"].split(".")[0]) <= int(facts["client"].split(".")[0])
    assert facts["system"].isdigit()


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_unusual_names_and_values_are_restored(pantry, form):
    pantry.run(
        'create table "ta""ble; \'x\' (" ("a ""(b)" text, "\n" int)',
        "create table nothing ()",
        "insert into nothing default values",
        """insert into "ta""ble; 'x' (" values (E'\\\\.\\n\\\\.', 1), (E'COPY public.x (y) FROM stdin;\\n', 2), (null, null)""",
        "create function text() returns text language sql as $f$ select E'\\n--\\n-- Data for Name: x; Type: TABLE DATA; Schema: y\\n--\\n\\nCOPY a.b (c) FROM stdin;\\n' $f$",
    )
    before = pantry.content()
    backup = create_with_options(pantry.path, form=form)
    assert backup.members[0].rows["ta\"ble; 'x' ("] == 3
    pantry.change_data()
    apply_restore(pantry.path)
    assert pantry.content() == before


def test_large_objects_require_custom_format(pantry):
    pantry.run("select lo_from_bytea(4711, 'jam')")
    catch_error(NotSupportedError, lambda: create_with_options(pantry.path, form="plain"))
    create_app_backup(pantry.path)
    pantry.run("select lo_unlink(4711)")
    apply_restore(pantry.path)
    assert pantry.rows("select lo_get(4711)") == [(b"jam",)]


def test_partial_backup_is_never_latest_and_not_restored(pantry):
    complete = create_app_backup(pantry.path)
    partial = create_with_options(pantry.path, tables=["members", "order"])
    assert (partial.kind, list(partial.members[0].rows)) == ("partial", ["members", "order"])
    assert list_codes(verify_backups(pantry.path)) == []
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        assert repository.find("latest").id == complete.id
    error = catch_error(BackupPartialError, lambda: apply_restore(pantry.path, partial.id))
    assert "members, order" in str(error)
    catch_error(TableMissingError, lambda: create_with_options(pantry.path, tables=["nope"]))
    assert [backup.id for backup in list_all_backups(pantry.path).page.items] == [partial.id, complete.id]


def test_partitioned_table_is_backed_up_with_its_partitions(pantry):
    pantry.run(
        "create table parted (id int, at int) partition by range (at)",
        "create schema other",
        "create table other.early partition of parted for values from (0) to (10)",
        'create table "Late" partition of parted for values from (10) to (99) partition by list (id)',
        'create table late_1 partition of "Late" default',
        "insert into parted select n, n from generate_series(1, 30) n",
    )
    backup = create_with_options(pantry.path, tables=["parted"])
    assert dict(backup.members[0].rows) == {"other.early": 9, "late_1": 21}


def test_single_table_of_sqlite_file_is_not_backed_up(tmp_path):
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        catch_error(NotSupportedError, lambda: create_with_options(app.path, tables=["members"]))


# Passwords and leftovers -----------------------------------------------------------------------------------------


def test_trap_password_is_in_no_process_file_or_message(tmp_path):
    secret = "very;s3cret:\\pass w0rd"
    server = servers.parse_url(servers.private_postgresql(password=secret))
    folder = tmp_path / "app"
    folder.mkdir()
    with closing(servers.connection(structs.replace(server, password=Secret(secret)))) as connection:
        connection.execute("drop database if exists jars")
        connection.execute("create database jars")
    url = structs.replace(server, path="jars", password=Secret(secret))
    (folder / "secret").write_text(secret)
    with closing(servers.connection(url)) as connection:
        larder_app.fill_postgresql(connection)
    app = larder_app.ServedPantry(folder, url)
    quoted = servers.text(url).replace(quote(secret, safe=""), "${DBCTL_TEST_SECRET}")
    file = folder / "dbctl.toml"
    file.write_text(file.read_text().replace(servers.text(url), quoted))
    process_texts, stop_event = [], threading.Event()

    def watch_processes():
        while not stop_event.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        text = (entry / name).read_bytes()
                        if b"pg_dump" in text or b"PGPASSFILE" in text:
                            process_texts.append(text)

    os.environ["DBCTL_TEST_SECRET"] = secret
    watcher = threading.Thread(target=watch_processes)
    try:
        app.run("create table lonely (x int)")
        with closing(servers.connection(url)) as holder:
            holder.execute("begin")
            holder.execute("lock table lonely in access exclusive mode")
            watcher.start()
            error = catch_error(BusyError, lambda: create_app_backup(app.path, timeout=2))
        assert secret not in f"{error} {error.hint}"
        create_app_backup(app.path)
        app.change_data()
        apply_restore(app.path)
    finally:
        stop_event.set()
        watcher.join()
        del os.environ["DBCTL_TEST_SECRET"]
    assert process_texts
    assert not [text for text in process_texts if secret.encode() in text]
    for entry in app.path.with_name("backups").rglob("*"):
        if entry.is_file():
            assert secret.encode() not in entry.read_bytes()
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_secret_files_of_killed_process_are_removed():
    leftover = Path(tempfile.gettempdir()) / f"{subprocesses.SECRETS_PREFIX}leftover"
    leftover.mkdir(mode=0o700)
    (leftover / "password").write_text("x")
    with subprocesses.secret_files({"a": "b"}) as in_use:
        assert not leftover.exists()
        assert oct(in_use.stat().st_mode)[-3:] + oct((in_use / "a").stat().st_mode)[-3:] == "700600"
        with subprocesses.secret_files({}):
            assert (in_use / "a").read_text() == "b"
    assert not in_use.exists()


def test_locked_table_times_out_backup_without_leftovers(pantry, locked_table):
    error = catch_error(BusyError, lambda: create_app_backup(pantry.path, timeout=0.3))
    assert f"pid {locked_table.info.backend_pid}" in str(error)
    assert_no_leftovers(pantry)


def test_killed_pg_dump_leaves_no_files(pantry, locked_table):
    backup = BackgroundBackup(pantry)
    os.kill(backup.child_pid, signal.SIGKILL)
    backup.join()
    assert isinstance(backup.error, ClientFailedError), backup.error
    assert "SIGKILL" in str(backup.error)
    assert locked_table
    assert_no_leftovers(pantry)


def test_terminated_sessions_leave_no_files(pantry, locked_table):
    backup = BackgroundBackup(pantry)
    with connect_to_server() as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> %s",
            [pantry.own.path, locked_table.info.backend_pid],
        )
    backup.join()
    assert isinstance(backup.error, UnreachableError), backup.error
    assert_no_leftovers(pantry)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_table_that_is_renamed_before_it_is_dumped_starts_the_dump_again(pantry, locked_table, stream):
    """A migration may run since dbctl has exported the snapshot, in which pg_dump finds the former name."""
    config = pantry.path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace("\nrepository =", f"\nstream = {stream}\nrepository ="))
    assert f"stream = {stream}" in config.read_text()
    backup = BackgroundBackup(pantry)
    locked_table.execute("alter table lonely rename to quiet")
    locked_table.execute("commit")
    backup.join()
    assert backup.error is None
    (member,) = backup.backup.members
    assert ("lonely" in member.rows, "quiet" in member.rows) == (False, True)


def test_full_disk_leaves_no_files(pantry):
    pantry.run("create table much as select md5(n::text) from generate_series(1, 20000) n")
    result = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; {sys.executable} -m dbctl backup create -o json"],
        cwd=pantry.folder,
        # Python would not notice that the limit truncates the cached bytecode of a module.
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"code": "disk-full"' in result.stdout, result.stdout + result.stderr
    assert_no_leftovers(pantry)
    assert DiskFullError.exit_status == result.returncode


def test_doctor_reports_missing_and_old_programs_before_a_backup_fails(pantry, tmp_path, monkeypatch, answer):
    command = ["--config", str(pantry.path.with_name("dbctl.toml")), "doctor"]
    codes = ["client-missing", "client-old"]

    def find():
        findings = answer(*command, status=None)["data"]["findings"]
        return [finding for finding in findings if finding["code"] in codes]

    assert find() == []
    answer(*command[:2], "backup", "create")
    monkeypatch.setattr(dump_programs.subprocesses, "POSTGRESQL_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [finding["code"] for finding in find()] == ["client-missing"]
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    (finding,) = find()
    assert finding["code"] == "client-old"
    required = finding["message"].partition("but version ")[2].split()[0]
    for program in ("psql", "pg_restore"):
        (tmp_path / program).symlink_to(old)
    for option in ("--dry-run", "--yes"):
        restore = answer(*command[:2], "restore", "apply", "latest", option, status=None)
        assert restore["error"]["code"] == "client-old", restore["error"]
    assert f"the client programs of PostgreSQL {required} or newer" in finding["hint"]


def test_missing_or_old_programs_are_reported_first(pantry, tmp_path, monkeypatch):
    monkeypatch.setattr(dump_programs.subprocesses, "POSTGRESQL_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    error = catch_error(ClientMissingError, lambda: create_app_backup(pantry.path))
    assert "postgresql-client-" in error.hint
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    error = catch_error(ClientOldError, lambda: create_app_backup(pantry.path))
    assert "9.6.24" in str(error)
    assert_no_leftovers(pantry)


def test_stopped_server_is_unreachable_in_every_command(pantry):
    create_app_backup(pantry.path)
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(re.sub(r":\d+/", ":1/", file.read_text()))
    for call in (
        lambda: create_app_backup(pantry.path),
        lambda: apply_restore(pantry.path),
        lambda: verify_backups(pantry.path),
    ):
        catch_error(UnreachableError, call)
    assert list_codes(verify_backups(pantry.path, deep=False)) == []


# Restore ---------------------------------------------------------------------------------------------------------


def test_read_only_database_is_backed_up_but_not_replaced(pantry):
    with connect_to_server() as connection:
        connection.execute(f"alter database {ident(pantry.own.path)} set default_transaction_read_only = on")
    before = pantry.content()
    create_app_backup(pantry.path)
    assert list_codes(verify_backups(pantry.path, deep=True)) == []
    catch_error(ReadOnlyError, lambda: apply_restore(pantry.path))
    with connect_to_server() as connection:
        connection.execute(f"alter database {ident(pantry.own.path)} set default_transaction_read_only = off")
    assert pantry.content() == before
    assert list(pantry.databases()) == [pantry.own.path]


def test_restore_preserves_name_and_database_properties(pantry):
    name, role = ident(pantry.own.path), f"r_{pantry.own.path}"
    with connect_to_server() as connection:
        connection.execute(f"create role {role}")
        connection.execute(f"grant connect on database {name} to {role} with grant option")
        connection.execute(f"revoke temporary on database {name} from public")
        connection.execute(f"""alter database {name} set search_path = public, "$user", 'odd name'""")
        connection.execute(f"alter database {name} set default_transaction_read_only = off")
        connection.execute(f"alter role {role} in database {name} set work_mem = '9MB'")
        connection.execute(f"comment on database {name} is 'it''s \\ mine'")
        connection.execute(f"alter database {name} connection limit 42")
    try:
        create_app_backup(pantry.path)
        before = read_properties(pantry)
        result = apply_restore(pantry.path)
        after = read_properties(pantry)
    finally:
        with connect_to_server() as connection:
            for (database,) in connection.execute(
                "select datname from pg_database where starts_with(datname, %s)", [pantry.own.path]
            ).fetchall():
                connection.execute(f"revoke all on database {ident(database)} from {role} cascade")
                connection.execute(f"alter role {role} in database {ident(database)} reset all")
            connection.execute(f"drop role {role}")
    assert result.databases[0].strategy == "swapped"
    assert after.transferable() == before.transferable()
    assert (len(after.grants), len(after.settings)) == (5, 3)
    assert after.oid != before.oid
    assert pantry.rows(ANALYZED_SCHEMAS) == [("public",)]
    retained = [backup for backup, may_connect in pantry.databases().items() if not may_connect]
    assert retained == [f"{pantry.own.path}_dbctl_{result.safety_backup}"]


def test_sessions_are_listed_in_plan_and_ended(pantry):
    create_app_backup(pantry.path)
    url = servers.text(pantry.own)
    with psycopg.connect(url, autocommit=True, application_name="the app") as app:
        with promptvault_app.open_repository(pantry.path) as (_opened, repository):
            steps = promptvault_app.create_restore(repository, "latest").plan().steps
        assert [step for step in steps if f"the app (pid {app.info.backend_pid}, user postgres" in step], (
            steps
        )
        apply_restore(pantry.path)
        with pytest.raises(psycopg.OperationalError):
            app.execute("select 1")
        with suppress(psycopg.Error):
            app.rollback()


def test_reconnecting_app_reads_old_or_new_rows(pantry):
    create_app_backup(pantry.path)
    pantry.run("create table marks (old int)")
    url, stop_event, rows, errors = servers.text(pantry.own), threading.Event(), [], []

    def connect_repeatedly():
        while not stop_event.is_set():
            try:
                with psycopg.connect(url, autocommit=True, connect_timeout=5) as app:
                    for _ in range(20):
                        cursor = app.execute("select to_regclass('marks'), (select count(*) from members)")
                        rows.append(cursor.fetchall())
            except psycopg.Error as error:
                errors.append(str(error))

    threads = [threading.Thread(target=connect_repeatedly) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: rows)
        apply_restore(pantry.path)
        wait_until(lambda: any(row[0][0] is None for row in list(rows)))
    finally:
        stop_event.set()
        for thread in threads:
            thread.join()
    assert {row[0][0] for row in rows} == {"marks", None}
    assert len({row[0][1] for row in rows}) == 1
    assert pantry.rows("select to_regclass('marks')") == [(None,)]
    assert not [error for error in errors if "not currently accepting" in error]


def test_next_restore_drops_retained_database(pantry):
    create_app_backup(pantry.path)
    first = apply_restore(pantry.path)
    second = apply_restore(pantry.path)
    names = set(pantry.databases())
    assert names == {pantry.own.path, f"{pantry.own.path}_dbctl_{second.safety_backup}"}
    error = catch_error(RetainedDatabaseMissingError, lambda: apply_restore(pantry.path, first.safety_backup))
    assert "Nothing was changed" in error.hint
    assert set(pantry.databases()) == names


def test_script_of_safety_backup_restores_without_dbctl(pantry):
    create_app_backup(pantry.path)
    pantry.change_data()
    changed_content = pantry.content()
    result = apply_restore(pantry.path)
    script = (
        promptvault_app.find_backup_folder(pantry.path, result.safety_backup)
        / f"pantry_{result.safety_backup}.kept.sql"
    )
    run_program(
        servers.client("psql"),
        *connection_options(pantry),
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        "postgres",
        "-f",
        script,
    )
    assert pantry.content() == changed_content


def test_leftover_database_of_killed_restore_is_dropped(pantry):
    create_app_backup(pantry.path)
    leftover = f"{pantry.own.path}_dbctl_new_0badcafe"
    with connect_to_server() as connection:
        connection.execute(f"create database {ident(leftover)} template template0")
    apply_restore(pantry.path)
    assert leftover not in pantry.databases()


def test_dump_of_newer_server_is_refused(pantry):
    backup = create_app_backup(pantry.path)
    facts = dict(backup.members[0].facts) | {"server": "99.1"}
    dump = Dump(metadata=facts, tables=backup.members[0].rows, schema="")
    restore_target = registry.load_engine(pantry.own.engine).restore_target(pantry.own, "larder/pantry")
    error = catch_error(RestoreFailedError, lambda: restore_target.strategy(dump))
    assert "PostgreSQL 99" in str(error)


@pytest.fixture
def plain_owner(pantry):
    """A role that owns the pantry and all its objects, but cannot create databases."""
    role = f"r_{pantry.own.path}"
    with connect_to_server() as server:
        server.execute(f"create role {role} login")
        server.execute(f"alter database {ident(pantry.own.path)} owner to {role}")
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
        with connect_to_server() as server:
            server.execute(f"alter database {ident(pantry.own.path)} owner to postgres")
        with closing(servers.connection(pantry.own)) as connection:
            connection.execute(f"reassign owned by {role} to postgres")
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_role_without_createdb_restores_in_place(pantry, plain_owner):
    before = pantry.content()
    create_app_backup(pantry.path)
    error = catch_error(PrivilegeMissingError, lambda: verify_backups(pantry.path))
    assert f'ALTER ROLE "{plain_owner}" CREATEDB;' in error.hint
    pantry.change_data()
    pantry.run(f"alter table new_table owner to {plain_owner}")
    changed_content = pantry.content()
    assert apply_restore(pantry.path).databases[0].strategy == "in place"
    assert pantry.content() == before
    undo_restore(pantry.path)
    assert pantry.content() == changed_content


def read_dump(pantry):
    """Return the output of pg_dump without random values and the records of dbctl."""
    dump = run_program(servers.client("pg_dump"), *connection_options(pantry), pantry.own.path).stdout
    volatile = (b"restrict ", b"restore.apply", b"history_id_seq', ")
    return [line for line in dump.splitlines() if not any(word in line for word in volatile)]


def test_restore_in_place_preserves_objects_and_privileges(pantry, plain_owner):
    grantee = f"{plain_owner}_app"
    name = ident(pantry.own.path)
    pantry.run(
        "create extension citext",  # not owned by the owner of the database
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
        before = read_dump(pantry)
        create_app_backup(pantry.path)
        pantry.run(f"set role {plain_owner}", "drop table posted", "select lo_from_bytea(0, 'now')")
        changed_content = read_dump(pantry)
        result = apply_restore(pantry.path)
        assert result.databases[0].strategy == "in place"
        assert [finding.code for finding in result.findings if finding.code == "maintenance"] == []
        assert read_dump(pantry) == before
        undo_restore(pantry.path)
        assert read_dump(pantry) == changed_content
    finally:
        with connect_to_server() as connection:
            connection.execute(f"alter database {name} reset all")
        pantry.run(f"drop owned by {grantee}", f"drop role {grantee}")


#: An extension with two tables whose rows a dump contains, except those that the extension created.
CONFIGURATION = (
    "create extension citext",
    "create table zones (id int primary key); create table places (id int primary key, zone int references zones)",
    "insert into zones values (1), (11); insert into places values (1, 1), (11, 11)",
    "alter extension citext add table zones; alter extension citext add table places",
    """update pg_extension set extconfig = array['zones'::regclass::oid, 'places'::regclass::oid],
  extcondition = array['where id > 10', 'where id > 10'] where extname = 'citext'""",
)


def test_restore_in_place_replaces_rows_of_extensions(pantry, plain_owner):
    pantry.run(*CONFIGURATION, f"grant select on zones, places to {plain_owner}")
    create_app_backup(pantry.path)
    pantry.run(
        "delete from places where id = 11; delete from zones where id = 11; insert into zones values (12)"
    )
    error = catch_error(PrivilegeMissingError, lambda: apply_restore(pantry.path))
    assert 'GRANT INSERT ON "public"."' in error.hint
    pantry.run(f"grant insert, delete on zones, places to {plain_owner}")
    assert apply_restore(pantry.path).databases[0].strategy == "in place"
    assert pantry.rows("select id from zones order by id") == [(1,), (11,)]
    assert pantry.rows("select * from places order by id") == [(1, 1), (11, 11)]
    undo_restore(pantry.path)
    assert pantry.rows("select id from zones order by id") == [(1,), (12,)]
    assert pantry.rows("select * from places") == [(1, 1)]


def test_database_with_an_extension_that_only_it_may_have_is_restored_in_place(pantry, monkeypatch):
    pantry.run(*CONFIGURATION, "update pg_extension set extname = 'pg_cron' where extname = 'citext'")
    create_app_backup(pantry.path)
    before = pantry.content()
    pantry.change_data()
    pantry.run("delete from places where id = 11")
    for options, reason in (
        ("-c cron.database_name=desk", "allows pg_cron only in database desk"),
        ("", "lacks extensions of the dump: pg_cron"),  # as a server without its library
    ):
        monkeypatch.setenv("PGOPTIONS", options)
        error = catch_error(NotSupportedError, lambda: verify_backups(pantry.path))
        assert reason in str(error)
        assert "the backup may be valid" in error.hint
    assert apply_restore(pantry.path).databases[0].strategy == "in place"
    assert pantry.content() == before
    assert pantry.rows("select * from places order by id") == [(1, 1), (11, 11)]


def test_commits_during_restore_in_place_are_not_lost(pantry, plain_owner):
    pantry.run(f"set role {plain_owner}; create table ticks (n int primary key)")
    create_app_backup(pantry.path)
    inserted, stop = list[int](), threading.Event()

    def write():
        with closing(servers.connection(pantry.own)) as app:
            for n in itertools.count():
                if stop.is_set():
                    return
                app.execute("insert into ticks values (%s)", [n])
                inserted.append(n)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not inserted:
            time.sleep(0.001)
        assert apply_restore(pantry.path).databases[0].strategy == "in place"
        count = len(inserted)
        while len(inserted) == count:
            time.sleep(0.001)
    finally:
        stop.set()
        writer.join()
    remaining = {n for (n,) in pantry.rows("select n from ticks")}
    undo_restore(pantry.path)
    before = {n for (n,) in pantry.rows("select n from ticks")}
    assert not before & remaining
    assert before | remaining == set(inserted)


def test_session_that_a_pooler_retains_in_the_new_database_does_not_block_the_swap(pantry):
    create_app_backup(pantry.path)
    before = read_dump(pantry)
    retained, ended = list[psycopg.Connection](), threading.Event()

    def connect():
        new = "select datname from pg_database where starts_with(datname, %s)"
        with connect_to_server() as central:
            while not (ended.is_set() or retained):
                for (name,) in central.execute(new, [f"{pantry.own.path}_dbctl_new_"]).fetchall():
                    with suppress(psycopg.Error):
                        retained.append(servers.connection(structs.replace(pantry.own, path=name)))
                time.sleep(0.001)

    pooler = threading.Thread(target=connect)
    pooler.start()
    try:
        apply_restore(pantry.path)
    finally:
        ended.set()
        pooler.join()
    with pytest.raises(psycopg.OperationalError):
        retained[0].execute("select 1")
    assert read_dump(pantry) == before


def test_failed_restore_in_place_changes_nothing(pantry, plain_owner):
    pantry.run(
        f"set role {plain_owner}; create index on members (mail);"
        " select lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two')"
    )
    create_app_backup(pantry.path)
    # The restore fails when it creates the indexes, after it has created the large objects.
    pantry.run(
        "create function stop() returns event_trigger language plpgsql as $$ begin raise 'stopped'; end $$"
    )
    pantry.run(
        "create extension if not exists citext",
        "alter extension citext add function stop()",  # objects of an extension are not dropped
        "create event trigger stopping on ddl_command_start when tag in ('CREATE INDEX') execute function stop()",
    )
    before = read_dump(pantry)
    error = catch_error(ClientFailedError, lambda: apply_restore(pantry.path))
    assert "stopped" in str(error)
    assert read_dump(pantry) == before


def test_event_triggers_do_not_run_while_a_backup_is_loaded(pantry):
    pantry.run(
        "create table changes (tag text)",
        "create function note() returns event_trigger language plpgsql"
        " as $$ begin insert into changes values (tg_tag); end $$",
        "create materialized view totals as select count(*) from members",
        "create event trigger noting on ddl_command_end execute function note()",
    )
    create_app_backup(pantry.path)
    before = read_dump(pantry)
    pantry.run("drop event trigger noting", "truncate changes")
    apply_restore(pantry.path)
    assert read_dump(pantry) == before
    pantry.run("create table later ()")
    assert pantry.rows("select tag from changes") == [("CREATE TABLE",)]


def test_programs_get_names_that_the_locale_lacks(tmp_path):
    with servers.postgresql_database(encoding="UTF8") as url:
        name = f"{url.path}_größe"
        with closing(servers.connection(url)) as central:
            central.execute(f"create database {ident(name)}")
        with closing(servers.connection(structs.replace(url, path=name))) as connection:
            connection.execute("create table sizes (height int)")
        address = servers.text(structs.replace(url, path=quote(name)))
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.size]\nprofile = "plain"\ndatabases = "{address}"\n[apps.size.backup]\nrepository = "backups"\n'
        )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.fspath(Path(__file__).parents[3]),
            "DBCTL_STATE": "off",
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
        }
        command = [sys.executable, "-m", "dbctl", "backup", "create"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_settings_of_newer_versions_are_not_sent_to_older_server(pantry):
    backup = create_with_options(pantry.path, form="plain")
    text = gzip.decompress(find_backup_file(pantry.path, backup).read_bytes())
    line = b"\nSET idle_in_transaction_session_timeout = 0;\n"
    newer = text.replace(line, line + b"SET transaction_timeout = 0;\n", 1)
    assert newer != text
    for size in (1, 7, 4096, len(newer)):
        blocks = [newer[start : start + size] for start in range(0, len(newer), size)]
        assert b"".join(adapt_to_server(blocks, 16)) == text
        assert b"".join(adapt_to_server(blocks, 17)) == newer


def test_persistence_of_sequences_is_not_sent_to_older_server(pantry):
    pantry.run(
        "create table one (id int generated always as identity, x text)",
        "insert into one (x) select * from (values ('    SEQUENCE NAME a'), ('    LOGGED'), ('    START WITH 1')) v",
        "create table rows (x text)",
        "insert into rows select x from one",
    )
    backup = create_with_options(pantry.path, form="plain")
    text = gzip.decompress(find_backup_file(pantry.path, backup).read_bytes())
    for persistence in (b"LOGGED", b"UNLOGGED"):  # servers before 15 have only the first
        newer = re.sub(rb"(one_id_seq\n)(    START WITH)", rb"\1    " + persistence + rb"\n\2", text)
        assert newer != text
        for size in (1, 7, 4096, len(newer)):
            blocks = [newer[start : start + size] for start in range(0, len(newer), size)]
            assert b"".join(adapt_to_server(blocks, 14)) == b"".join(adapt_to_server([text], 14))
            assert b"LOGGED\n    START" in b"".join(adapt_to_server(blocks, 15))


@pytest.mark.parametrize("size", [1, 100, 5000, 1 << 20])
def test_transaction_statements_in_rows_are_preserved(size):
    head, rows = b"--\n\nBEGIN;\n\nSET a = 0;\nSET client_min_messages = warning;\n", b"x\n" * 9000
    row = b"\nCOMMIT;\n\nBEGIN;\n"
    text = head + rows + row + rows + b"\nCOMMIT;\n\n--" + END + b"--\n\n"
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    adapted = b"".join(adapt_to_server(blocks, 99))
    assert adapted == text.replace(b"\nBEGIN;\n", b"\n", 1).replace(b"\nCOMMIT;\n\n--" + END, b"\n--" + END)


def test_restore_in_place_preserves_other_schemas(schema_pantry):
    schema = servers.schema_of(schema_pantry.own)
    other = f"{schema}_other"
    create_app_backup(schema_pantry.path)
    before = schema_pantry.content()
    schema_pantry.run(f"create schema {other}", f"create table {other}.mine as select 1 as x")
    try:
        schema_pantry.change_data()
        assert apply_restore(schema_pantry.path).databases[0].strategy == "in place"
        assert schema_pantry.content() == before
        assert schema_pantry.rows(f"select x from {other}.mine") == [(1,)]
        analyzed = {name for (name,) in schema_pantry.rows(ANALYZED_SCHEMAS)}
        assert analyzed & {schema, other} == {schema}
        schema_pantry.run(f"create view {other}.names as select handle from members")
        error = catch_error(ClientFailedError, lambda: apply_restore(schema_pantry.path))
        assert f"view {other}.names depends on" in str(error)
        assert schema_pantry.content() == before
        assert schema_pantry.rows(f"select count(*) > 0 from {other}.names") == [(True,)]
    finally:
        schema_pantry.run(f"drop schema {other} cascade")


def test_trap_restore_waits_for_session_of_killed_restore(pantry):
    """The server may not have ended its session, for example while a commit waits for a replica."""
    create_app_backup(pantry.path)
    before = pantry.content()
    with connect_to_server() as killed:
        killed.execute("select pg_advisory_lock(%s)", [swap_lock_key(pantry.own.path)])
        error = catch_error(BusyError, lambda: apply_restore(pantry.path, timeout=0))
        assert f"(pid {killed.info.backend_pid} of the server" in str(error)
        assert "a killed restore that has not ended yet" in str(error)
    assert pantry.content() == before
    assert pantry.databases() == {pantry.own.path: True}


def test_rename_session_has_lock_for_next_restore(pantry):
    create_app_backup(pantry.path)
    with connect_to_server() as other:
        other.execute("begin")
        other.execute(
            f"comment on database {ident(pantry.own.path)} is 'locked'"
        )  # the rename waits for this transaction
        sessions, stop_event = [], threading.Event()

        def watch_sessions():
            query = """select l.pid, exists (select from pg_locks h where h.pid = l.pid and h.granted
            and h.locktype = 'advisory' and (h.classid::int8 << 32) | h.objid::int8 = %s) from pg_locks l
            where l.classid = 'pg_database'::regclass and not l.granted and %s = any(pg_blocking_pids(l.pid))"""
            with connect_to_server() as connection:
                while not stop_event.is_set() and not sessions:
                    sessions.extend(
                        connection.execute(query, [swap_lock_key(pantry.own.path), other.info.backend_pid])
                    )
            other.execute("rollback")

        watcher = threading.Thread(target=watch_sessions)
        watcher.start()
        try:
            apply_restore(pantry.path, timeout=60)
        finally:
            stop_event.set()
            watcher.join()
        assert [has_lock for _pid, has_lock in sessions] == [True]
        assert other.execute(
            "select pg_try_advisory_lock(%s)", [swap_lock_key(pantry.own.path)]
        ).fetchone() == (True,)


def test_locked_table_times_out_restore_in_place(schema_pantry):
    create_app_backup(schema_pantry.path)
    schema_pantry.change_data()
    before = schema_pantry.content()
    with closing(servers.connection(schema_pantry.own)) as other:
        other.execute("begin")
        other.execute("select count(*) from members")
        error = catch_error(BusyError, lambda: apply_restore(schema_pantry.path, timeout=0.3))
        assert f"pid {other.info.backend_pid}" in str(error)
        other.execute("rollback")
    assert schema_pantry.content() == before
    assert [backup.kind for backup in list_all_backups(schema_pantry.path).page.items] == ["backup"]


def test_schema_public_selects_database_unless_other_schemas_exist(pantry):
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace(pantry.own.path, f"{pantry.own.path}?schema=public"))
    pantry.run("create extension pg_trgm")
    before = pantry.content()
    assert create_app_backup(pantry.path).members[0].facts["schema"] == ""
    pantry.change_data()
    assert apply_restore(pantry.path).databases[0].strategy == "swapped"
    assert pantry.content() == before
    pantry.run("create schema other", "create table other.t as select 1 as x")
    pantry.change_data()
    backup = create_app_backup(pantry.path)
    assert backup.members[0].facts["schema"] == "public"
    pantry.run("update other.t set x = 2")
    for name in (backup.id, list_all_backups(pantry.path).page.items[-1].id):
        assert apply_restore(pantry.path, name).databases[0].strategy == "in place"
    assert pantry.content() == before
    assert pantry.rows("select x from other.t") == [(2,)]


def test_trial_uses_configured_scratch_server(pantry):
    create_app_backup(pantry.path)
    private = servers.private_postgresql(password="trial")
    file = pantry.path.with_name("dbctl.toml")
    file.write_text(file.read_text() + f'scratch = "{private.replace("postgres@", "postgres:trial@")}"\n')
    assert list_codes(verify_backups(pantry.path)) == []
    file.write_text(file.read_text().replace("postgres:trial@", "postgres:wrong@"))
    catch_error(UnreachableError, lambda: verify_backups(pantry.path))


# Several databases -----------------------------------------------------------------------------------------------


@pytest.fixture
def mixed_app(pantry):
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


def query_notes(pantry, sql="select x from notes"):
    with closing(sqlite3.connect(pantry.folder / "notes.db", timeout=0.1)) as connection, connection:
        return connection.execute(sql).fetchall()


def test_file_and_server_database_are_restored_together(mixed_app):
    before = mixed_app.content()
    backup = create_app_backup(mixed_app.path)
    assert [member.file.partition(".")[2] for member in backup.members] == ["dump.gz", "db.gz"]
    assert list_codes(verify_backups(mixed_app.path)) == []
    mixed_app.change_data()
    query_notes(mixed_app, "update notes set x = 'second'")
    apply_restore(mixed_app.path)
    assert (mixed_app.content(), query_notes(mixed_app)) == (before, [("first",)])
    undo_restore(mixed_app.path)
    assert query_notes(mixed_app) == [("second",)]
    assert mixed_app.content() != before


def test_failed_file_restore_reverts_server_database(mixed_app):
    create_app_backup(mixed_app.path)
    mixed_app.change_data()
    before = mixed_app.content()
    with closing(sqlite3.connect(mixed_app.folder / "notes.db", isolation_level=None)) as app:
        app.execute("begin immediate")
        catch_error(BusyError, lambda: apply_restore(mixed_app.path, timeout=0.3))
        app.execute("rollback")
    assert mixed_app.content() == before
    assert list(mixed_app.databases()) == [mixed_app.own.path]
    assert [backup.kind for backup in list_all_backups(mixed_app.path).page.items] == ["backup"]


def test_python_gzip_reads_plain_backup(pantry):
    from dbctl.services.app.session import open_app

    file = find_backup_file(pantry.path, create_with_options(pantry.path, form="plain"))
    with gzip.open(file) as read:
        assert b"-- PostgreSQL database dump complete" in read.read()
    with open_app(Selection(config=str(pantry.path.with_name("dbctl.toml"))), timeout=5) as app:
        assert Repository(app).manifests()[1] == {}


#: One object of each kind that a schema can contain, most of them with dependencies.
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


@pytest.mark.parametrize("kind", ["postgresql", "postgresql schema"])
def test_unlogged_tables_and_their_sequences_are_restored(kind, tmp_path):
    persistence = "select relname, relkind, relpersistence from pg_class where relname ~ '^fast' and pg_table_is_visible(oid) order by 1"
    queries = [persistence, "select * from fast order by id", "select last_value, is_called from fast_id_seq"]
    with larder_app.open_pantry(kind, tmp_path / "app") as pantry:
        pantry.run(
            "create unlogged table fast (id int generated always as identity primary key, x text)",
            "insert into fast (x) values ('a'), ('b')",
        )
        before = pantry.results(*queries)
        assert ("fast", "r", "u") in before[0]
        create_app_backup(pantry.path)
        pantry.run("drop table fast")
        assert apply_restore(pantry.path).exit_status == 0
        assert pantry.results(*queries) == before
        assert pantry.rows("insert into fast (x) values ('c') returning id") == [(3,)]


@pytest.mark.parametrize("kind", ["postgresql", "postgresql schema"])
def test_objects_of_every_kind_are_restored(kind, tmp_path):
    with larder_app.open_pantry(kind, tmp_path / "app") as pantry:
        pantry.run(*ALL_KINDS)
        before = pantry.content()
        assert {"parted_1", "parted_2"} < before.keys()
        first = create_app_backup(pantry.path)
        assert (first.members[0].rows["parted_1"], first.members[0].rows["parted_2"]) == (1, 1)
        assert list_codes(verify_backups(pantry.path)) == []
        pantry.change_data()
        pantry.run(
            "drop view seen_again", "alter table two add column later int", "create table more (x pair)"
        )
        result = apply_restore(pantry.path)
        assert result.exit_status == 0
        assert pantry.content() == before
        assert pantry.rows("select nextval('lone'), n from counted") == [(8, 2)]
        assert pantry.rows("insert into one (v) values ('b') returning id") == [(3,)]
        with promptvault_app.open_repository(pantry.path) as (app, _repository):
            assert app.reader("pantry").schema_reader.fingerprint() == first.members[0].schema


# Row counts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["postgresql", "postgresql schema"])
def test_child_tables_are_counted_equally_by_backup_and_restore(kind, tmp_path):
    with larder_app.open_pantry(kind, tmp_path / "app") as pantry:
        pantry.run(
            "create table crate (id int primary key)",
            "create table cold_crate (degrees int) inherits (crate)",
            "insert into crate values (1)",
            "insert into cold_crate values (2, -4), (3, -5)",
            "create table shelf (n int) partition by range (n)",
            "create table low_shelf partition of shelf for values from (0) to (5)",
            "insert into shelf values (1), (2)",
        )
        before, backup = pantry.content(), create_app_backup(pantry.path)
        rows = backup.members[0].rows
        assert (rows["crate"], rows["cold_crate"], rows["low_shelf"]) == (1, 2, 2)
        assert list_codes(verify_backups(pantry.path)) == []
        pantry.run("delete from cold_crate")
        with promptvault_app.open_repository(pantry.path) as (_app, repository):
            database = preview(promptvault_app.open_source(repository, backup.id)).databases[0]
        assert {
            table.table: (table.current_rows, table.backup_rows)
            for table in database.tables
            if table.current_rows != table.backup_rows
        } == {"cold_crate": (0, 2)}
        apply_restore(pantry.path)
        assert pantry.content() == before


def test_database_settings_do_not_change_dump(pantry):
    pantry.run("create table crates (tags text[])", "insert into crates values (array['a', null])")
    with connect_to_server() as connection:
        connection.execute(f"alter database {ident(pantry.own.path)} set array_nulls = off")
    create_app_backup(pantry.path)
    assert list_codes(verify_backups(pantry.path)) == []
    apply_restore(pantry.path)
    with closing(servers.connection(pantry.own)) as connection:
        assert connection.execute("select tags[2] is null from crates").fetchall() == [(True,)]


@pytest.mark.slow
def test_idle_limits_of_a_database_do_not_end_a_backup(pantry):
    """A transaction of dbctl waits while pg_dump reads its snapshot."""
    name = ident(pantry.own.path)
    pantry.run("create table large as select i, repeat(md5(i::text), 30) from generate_series(1, 500000) i")
    with connect_to_server() as connection:
        for limit in ("idle_in_transaction_session_timeout", "idle_session_timeout"):
            connection.execute(f"alter database {name} set {limit} = 500")
    create_app_backup(pantry.path)
    assert list_codes(verify_backups(pantry.path)) == []
