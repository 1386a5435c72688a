"""Writing waits for locks, handles signals, and applies changes completely or not at all."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import nan
from pathlib import Path

import pytest

from dbctl.engines.contract.database import Condition, InSubquery, ReferenceCount
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.registry import load_engine
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.rows import BATCH_BYTES, split_rows
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ConstraintError,
    DatabaseMissingError,
    DiskFullError,
    FileFailedError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import ValueInvalidError
from dbctl.url import parse_url

ROOT = os.geteuid() == 0
HAS_PROC_LOCKS = Path("/proc/locks").exists()
as_root = pytest.mark.skipif(not ROOT, reason="only root can give files away, mount, or become another user")
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


def build(path: Path, mode: str = "wal", rows: int = 3) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("pragma synchronous = off")
        connection.execute("create table t (id integer primary key, a text)")
        connection.execute("begin")
        connection.executemany("insert into t values (?, ?)", ((n, f"row {n}") for n in range(rows)))
        connection.execute("commit")
    return path


def query_value(path: Path, sql: str = "select count(*) from t") -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchone()[0]


@contextmanager
def run_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run ``code``, which prints "ready", in a child process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n", child.stderr.read()
            yield child
        finally:
            child.kill()


HOLDER = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute(sys.argv[2])
c.execute("select * from t").fetchone()
print("ready", flush=True)
time.sleep(float(sys.argv[3]))
c.execute("rollback")
c.close()
"""

PROGRAM = """
import sys
from pathlib import Path
from dbctl import signals
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.errors.base import DbctlError

def main():
    path = Path(sys.argv[1])
    if sys.argv[2] == "SQLiteReader":
        opened = SQLiteReader(path, "app/user", timeout=30)
        print("ready", flush=True)
        return opened.query(sys.argv[3])
    opened = SQLiteWriter(path, "app/user", OpenOptions(timeout=30))
    with opened.lock("users delete"):
        if sys.argv[3] == "begin":
            print("ready", flush=True)
        with opened.transaction():
            opened.delete("t", [])
            print("ready", flush=True)
            opened.query(sys.argv[3])

signals.install_handlers()
try:
    main()
except signals.Interrupted as error:
    sys.exit(error.exit_status)
except DbctlError as error:
    print(error, file=sys.stderr)
    sys.exit(int(error.exit_status))
"""

ENDLESS_QUERY = "with recursive n(x) as (select 1 union all select x + 1 from n) select sum(x) from n"


def holder_pattern(holder):
    """Return a pattern for the lock holder in a message, if the kernel reports it."""
    return rf"by pid {holder.pid} \(" if HAS_PROC_LOCKS else "is locked; waited"


# Waiting -------------------------------------------------------------------------------------------------------------


@MODES
def test_write_waits_for_another_write(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    with (
        run_process(HOLDER, path, "begin immediate", 1),
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=30))) as writer,
    ):
        start = time.monotonic()
        with writer.transaction():
            writer.delete("t", [])
        assert time.monotonic() - start > 0.1
    assert query_value(path) == 0


@MODES
@pytest.mark.parametrize("timeout", [0, 0.4])
def test_busy_error_names_the_lock_holder_after_the_timeout(tmp_path, mode, timeout):
    path = build(tmp_path / "app.db", mode)
    with (
        run_process(HOLDER, path, "begin immediate", 30) as holder,
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=timeout))) as writer,
    ):
        start = time.monotonic()
        with pytest.raises(BusyError, match=holder_pattern(holder)) as caught, writer.transaction():
            writer.delete("t", [])
        assert timeout <= time.monotonic() - start < 25  # the holder runs for 30 s
    assert caught.value.exit_status == 11
    assert query_value(path) == 3


@pytest.mark.skipif(not HAS_PROC_LOCKS, reason="only Linux reports the holders of locks")
def test_process_without_lock_is_not_named(tmp_path):
    path = build(tmp_path / "app.db")
    idle = HOLDER.replace('c.execute("rollback")', "")
    with (
        run_process(idle, path, "select 1", 30) as first,
        run_process(HOLDER, path, "begin immediate", 30) as other,
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=0))) as writer,
    ):
        with pytest.raises(BusyError) as caught, writer.transaction():
            pass
        assert f"pid {other.pid} " in str(caught.value)
        assert f"pid {first.pid} " not in str(caught.value)


def test_commit_waits_for_readers(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with (
        run_process(HOLDER, path, "begin", 1),
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=30))) as writer,
    ):
        start = time.monotonic()
        with writer.transaction():
            writer.delete("t", [])
        assert time.monotonic() - start > 0.1
    assert query_value(path) == 0


def test_commit_timeout_changes_nothing_and_next_commit_succeeds(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=0.3))) as writer:
        with run_process(HOLDER, path, "begin", 30) as holder:
            with pytest.raises(BusyError, match=holder_pattern(holder)), writer.transaction():
                writer.delete("t", [])
            assert writer.count("t") == 3
        with writer.transaction():
            writer.delete("t", [Condition("id", "=", 1)])
    assert query_value(path) == 2


def test_wal_mode_does_not_wait_for_readers(tmp_path):
    path = build(tmp_path / "app.db", "wal")
    with (
        run_process(HOLDER, path, "begin", 30),
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=0))) as writer,
        writer.transaction(),
    ):
        writer.delete("t", [])
    assert query_value(path) == 0


# Signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("activity", ["waiting", "waiting for another dbctl", "querying", "reading"])
def test_signal_ends_the_process_without_changes(tmp_path, signal_number, status, activity):
    path = build(tmp_path / "app.db", "wal")
    holder = PROGRAM if activity == "waiting for another dbctl" else HOLDER
    arguments = (path, "SQLiteWriter", ENDLESS_QUERY) if holder is PROGRAM else (path, "begin immediate", 30)
    class_name = "SQLiteReader" if activity == "reading" else "SQLiteWriter"
    sql = ENDLESS_QUERY if activity in ("querying", "reading") else "begin"

    def assert_signal_ends_process() -> None:
        program = PROGRAM
        if activity == "waiting for another dbctl":
            program = PROGRAM.replace(
                "    with opened.lock", '    print("ready", flush=True)\n    with opened.lock'
            )
        with run_process(program, path, class_name, sql) as child:
            time.sleep(0.3)
            assert child.poll() is None
            child.send_signal(signal_number)
            assert child.wait(25) == status, (
                child.stderr.read()
            )  # without the signal it would run for at least 30 s

    if activity.startswith("waiting"):
        with run_process(holder, *arguments):
            assert_signal_ends_process()
    else:
        assert_signal_ends_process()
    assert query_value(path) == 3
    assert query_value(path, "pragma integrity_check") == "ok"


def test_killed_writer_leaves_no_changes_and_no_locks(tmp_path):
    path = build(tmp_path / "app.db", "wal")
    with (
        run_process(PROGRAM, path, "SQLiteWriter", ENDLESS_QUERY) as child,
        closing(SQLiteWriter(path, "app/user", OpenOptions(timeout=0))) as writer,
    ):
        with pytest.raises(BusyError) as caught, writer.lock("roles create"):
            pass
        assert re.search(rf"by dbctl users delete \(pid {child.pid} on .+, since 20\d\d-", str(caught.value))
        child.kill()
        child.wait()
        with writer.lock("roles create"), writer.transaction():
            assert writer.count("t") == 3


# The lock between dbctl processes ---------------------------------------------------------------------------------------


def lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.dbctl-lock")


def test_lock_file_contains_its_holder_and_is_reused(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.lock("users delete"):
        lock = json.loads(lock_path(path).read_text())
        assert (lock["pid"], lock["command"]) == (os.getpid(), "users delete")
        inode = lock_path(path).stat().st_ino
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.lock("again"):
        assert lock_path(path).stat().st_ino == inode


def test_two_links_to_one_file_share_one_lock(tmp_path):
    path = build(tmp_path / "app.db")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.db").symlink_to(path)
    with (
        closing(SQLiteWriter(path, "app/user")) as first,
        first.lock("first"),
        closing(SQLiteWriter(tmp_path / "sub" / "link.db", "app/user", OpenOptions(timeout=0))) as second,
        pytest.raises(BusyError, match="first"),
        second.lock("second"),
    ):
        pass
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == ["link.db"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_lock_file_has_the_mode_of_the_database(tmp_path, mode):
    path = build(tmp_path / "app.db")
    path.chmod(mode)
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.lock("users delete"):
        assert stat.S_IMODE(lock_path(path).stat().st_mode) == mode & 0o660


@as_root
@MODES
def test_files_written_by_root_keep_their_owner(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    os.chown(path, 1234, 1235)
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.lock("users delete"), writer.transaction():
        writer.delete("t", [])
        owners = {entry.name: (entry.stat().st_uid, entry.stat().st_gid) for entry in tmp_path.iterdir()}
    assert set(owners.values()) == {(1234, 1235)}
    assert len(owners) > 2


@as_root
def test_files_created_by_root_get_the_directory_owner(tmp_path):
    os.chown(tmp_path, 1234, 1235)
    with closing(
        SQLiteWriter(tmp_path / "new.db", "app/user", OpenOptions(create={"journal_mode": "wal"}))
    ) as writer:
        assert writer.query("pragma journal_mode") == [("wal",)]
        status = (tmp_path / "new.db").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 1235, 0o600)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "directory"])
def test_link_or_directory_as_lock_file_is_refused(tmp_path, kind):
    path = build(tmp_path / "app.db")
    (tmp_path / "precious").write_text("precious")
    if kind == "symlink":
        lock_path(path).symlink_to(tmp_path / "precious")
    elif kind == "hard link":
        lock_path(path).hardlink_to(tmp_path / "precious")
    else:
        lock_path(path).mkdir()
    with (
        closing(SQLiteWriter(path, "app/user")) as writer,
        pytest.raises(UnreachableError, match="its lock"),
        writer.lock("users delete"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


# Files that must not be written ---------------------------------------------------------------------------------------------


def test_file_with_second_hard_link_is_refused(tmp_path):
    path = build(tmp_path / "app.db")
    (tmp_path / "other.db").hardlink_to(path)
    with pytest.raises(ReadOnlyError, match="second hard link") as caught:
        SQLiteWriter(path, "app/user")
    assert caught.value.exit_status == 6


OPEN_WITHOUT_PRIVILEGES = """
import os, sys
from pathlib import Path
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteWriter
import dbctl.engines.sqlite.write_connection  # as long as this user may read the modules
from dbctl.errors.base import DbctlError
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
print("ready", flush=True)
try:
    SQLiteWriter(Path(sys.argv[1]), "app/user", OpenOptions(create={} if sys.argv[2:] else None))
except DbctlError as error:
    sys.exit(int(error.exit_status))
"""


@pytest.mark.parametrize("protected", ["file", "directory", "a new file", "an inaccessible directory"])
def test_file_without_write_access_is_refused(tmp_path, protected):
    folder = tmp_path / "place"
    folder.mkdir()
    path = build(folder / "app.db", "delete")
    if ROOT:
        for parent in (tmp_path, *tmp_path.parents):
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o755)
    path.chmod(0o444 if protected == "file" else 0o666)
    folder.chmod({"file": 0o777, "directory": 0o555, "a new file": 0o555}.get(protected, 0o000))
    try:
        with run_process(
            OPEN_WITHOUT_PRIVILEGES,
            folder / "new.db" if protected == "a new file" else path,
            *(["create"] if protected != "file" else []),
        ) as child:
            assert child.wait(10) == (6 if protected in ("file", "directory") else 10), child.stderr.read()
    finally:
        folder.chmod(0o755)
    assert [entry.name for entry in folder.iterdir()] == ["app.db"]


def test_new_file_requires_an_existing_directory(tmp_path):
    with pytest.raises(DatabaseMissingError, match="gone"):
        load_engine("sqlite").open_for_writing(
            parse_url(str(tmp_path / "gone" / "app.db")), "app/user", timeout=1, pragmas={}, create={}
        )
    with pytest.raises(DatabaseMissingError):
        load_engine("sqlite").open_for_writing(
            parse_url(str(tmp_path / "app.db")), "app/user", timeout=1, pragmas={}
        )
    assert list(tmp_path.iterdir()) == []


@MODES
def test_only_writers_have_a_large_cache_and_no_connection_maps_the_file(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    names = ("cache_size", "mmap_size", "foreign_keys")
    with closing(SQLiteWriter(path, "app/user", OpenOptions(pragmas={}))) as writer:
        assert [writer.query(f"pragma {name}") for name in names] == [[(-64000,)], [(0,)], [(1,)]]
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert [reader.query(f"pragma {name}") for name in names[:2]] == [[(-2000,)], [(0,)]]


@MODES
def test_journal_mode_is_not_changed(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    with closing(
        SQLiteWriter(
            path, "app/user", OpenOptions(create={"journal_mode": "truncate"}, pragmas={"synchronous": "1"})
        )
    ) as writer:
        assert writer.query("pragma journal_mode") == [(mode,)]
        assert writer.query("pragma synchronous") == [(1,)]
        assert writer.query("pragma foreign_keys") == [(1,)]


@pytest.mark.parametrize(
    ("name", "value"), [("user_version = 3; pragma x", "1"), ("synchronous", "1; drop table t")]
)
def test_invalid_pragma_of_a_profile_is_refused(tmp_path, name, value):
    path = build(tmp_path / "app.db")
    with pytest.raises(ValueInvalidError, match="pragma"):
        SQLiteWriter(path, "app/user", OpenOptions(pragmas={name: value}))


# A full disk -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 1 MB."""
    if (
        not ROOT
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("mounting is not possible here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@MODES
def test_full_disk_fails_without_data_loss(small_disk, mode):
    path = build(small_disk / "app.db", mode, rows=100)
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with pytest.raises(DiskFullError) as caught, writer.lock("users import"), writer.transaction():
            writer.insert_many("t", ["a"], (("x" * 1000,) for _ in range(3000)))
        assert caught.value.exit_status == 1
        assert writer.count("t") == 100
    assert query_value(path) == 100
    assert query_value(path, "pragma integrity_check") == "ok"


def test_largest_key_is_not_called_a_full_disk(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("create table t (id integer primary key autoincrement, a text)")
        connection.execute("insert into t values (9223372036854775807, 'x')")
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with (
            pytest.raises(FileFailedError, match="although the disk has space") as caught,
            writer.transaction(),
        ):
            writer.insert("t", {"a": "y"})
        assert "AUTOINCREMENT" in caught.value.hint
    assert query_value(path) == 1


def remount(folder, *, nr_inodes):
    subprocess.run(["mount", "-o", f"remount,nr_inodes={nr_inodes}", folder], check=True)


@MODES
def test_disk_without_inodes_is_full(small_disk, mode):
    path = build(small_disk / "app.db", mode, rows=100)
    status = os.statvfs(small_disk)
    remount(small_disk, nr_inodes=status.f_files - status.f_ffree)
    with (
        pytest.raises(DiskFullError),
        closing(SQLiteWriter(path, "app/user")) as writer,
        writer.transaction(),
    ):
        writer.insert_many("t", ["a"], [("x",)])
    remount(small_disk, nr_inodes=status.f_files)
    assert query_value(path) == 100


@MODES
def test_write_after_a_full_disk_succeeds_with_free_space(small_disk, mode):
    path = build(small_disk / "app.db", mode, rows=100)
    with closing(SQLiteReader(path, "app/user")) as reader:
        reader.count("t")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        file.writelines(itertools.repeat(bytes(4096)))
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.count("t") == 100
    with (
        pytest.raises(DiskFullError),
        closing(SQLiteWriter(path, "app/user")) as writer,
        writer.lock("users import"),
        writer.transaction(),
    ):
        writer.insert_many("t", ["a"], (("x" * 1000,) for _ in range(30)))
    filler.unlink()
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        assert writer.insert_many("t", ["a"], (("x" * 1000,) for _ in range(30))) == 30
    assert query_value(path) == 130


WRITE_WITH_SIZE_LIMIT = """
import resource, signal, sys
from pathlib import Path
from dbctl.engines.sqlite.database import SQLiteWriter
from dbctl.errors.connection import FileFailedError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.dont_write_bytecode = True  # the limit would truncate it
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
print("ready", flush=True)
writer = SQLiteWriter(Path(sys.argv[1]), "app/user")
try:
    with writer.transaction():
        writer.insert_many("t", ["a"], (("x" * 1000,) for _ in range(3000)))
except FileFailedError as error:
    assert writer.count("t") == 3
    sys.exit(int(error.exit_status))
"""


@MODES
def test_file_size_limit_fails_without_data_loss(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    with run_process(WRITE_WITH_SIZE_LIMIT, path) as child:
        assert child.wait(30) == 1, child.stderr.read()
    assert query_value(path) == 3
    assert FileFailedError.exit_status == 1


# Translated errors -----------------------------------------------------------------------------------------------------------


def test_every_sqlite_error_is_translated(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table strict_ (a integer not null check (a > 0)) strict")
        connection.execute("create table many (a primary key, b references many)")
    with closing(SQLiteWriter(path, "app/user")) as writer:
        for error, table, values in (
            (ConstraintError, "strict_", {"a": "word"}),
            (ConstraintError, "strict_", {"a": -1}),
            (ConstraintError, "t", {"id": "word"}),
            (ConstraintError, "many", {"a": 1, "b": 2}),
            (ValueInvalidError, "t", {"a": "\udfff"}),
            (QueryFailedError, "t", {"a": [1]}),
            (DbctlError, "t", {"a": "x" * (1 << 30)}),
        ):
            with pytest.raises(error), writer.transaction():
                writer.insert(table, values)
        assert writer.count("t") == 3
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert_many("many", ["a", "b"], [(1, None), (2, 1), (3, 9)])
        assert writer.count("many") == 0


# Rows written with sqlite-utils ----------------------------------------------------------------------------------------------


def test_delete_from_table_with_the_name_of_an_alias(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "create table T1 (id integer primary key); create table child (parent integer);"
            "insert into T1 values (1), (2), (3); insert into child values (1), (1), (3);"
        )
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        unused = ReferenceCount("id", "child", "parent", "=", 0)
        assert writer.delete("T1", [unused]) == 1
        assert writer.select("T1", ["id"]) == [(1,), (3,)]
        used = InSubquery(["id"], "child", ["parent"])
        assert writer.delete("T1", [used]) == 2


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: writer.insert("t", {"a": "x"}),
        lambda writer: writer.insert_many("t", ["a"], [("x",)]),
        lambda writer: writer.delete("t", []),
    ],
    ids=["insert", "insert_many", "delete"],
)
def test_table_that_another_program_dropped_is_not_created_again(tmp_path, write):
    path = build(tmp_path / "app.db")
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert "t" in writer.tables()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("drop table t")
        with pytest.raises(QueryFailedError), writer.transaction():
            write(writer)
    assert query_value(path, "select count(*) from sqlite_master where name = 't'") == 0


def test_row_that_a_trigger_ignores_is_not_counted(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "create trigger odd before insert on t when new.a = 'odd' begin select raise(ignore); end"
        )
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        assert writer.insert_many("t", ["a"], [("odd",), ("even",), ("odd",)]) == 1


def test_row_of_wrong_length_is_refused(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with pytest.raises(QueryFailedError), writer.transaction():
            writer.insert_many("t", ["id", "a"], [(10, "x"), (11,)])
        assert writer.count("t") == 3


REJECT = "create trigger bad before insert on {table} when new.a = 'bad' begin insert into log values (1); select raise({action}, 'bad'); end"


@pytest.mark.parametrize(
    ("table", "rows", "number"),
    [
        ("retained", [("x",), ("y",), ("row",)], None),
        ("retained", [("row",), ("x",)], 1),
        ("retained", [("x",), ("y",), (nan,)], 3),
        ("rolled_back", [("x",), ("row",)], None),
        ("failing", [("x",), ("bad",)], None),
        ("failing", [("bad",)], 1),
        ("aborting", [("x",), ("bad",), ("y",)], 2),
    ],
)
def test_error_of_a_batch_names_the_refused_row_or_none(tmp_path, table, rows, number):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table log (n)")
        for name, action in {"retained": "fail", "rolled_back": "rollback"}.items():
            connection.execute(f"create table {name} (a text unique on conflict {action})")
            connection.execute(f"insert into {name} values ('row')")
        for name, action in {"failing": "fail", "aborting": "abort"}.items():
            connection.execute(f"create table {name} (a)")
            connection.execute(
                REJECT.replace("bad before", f"{name}_bad before").format(table=name, action=action)
            )
        connection.commit()
    with (
        closing(SQLiteWriter(path, "app/user")) as writer,
        pytest.raises((ConstraintError, ValueInvalidError)) as caught,
        writer.transaction(),
    ):
        writer.insert_many("log", ["n"], [(1,)])  # so that there was a change before
        writer.insert_many(table, ["a"], rows)
    assert caught.value.context.get("row") == number
    assert query_value(path, f"select count(*) from {table}") == (table in ("retained", "rolled_back"))


def test_batch_of_large_rows_is_limited_in_bytes():
    rows = [("x" * (BATCH_BYTES // 2),)] * 10
    assert [len(batch) for batch in split_rows(rows, 100)] == [3, 3, 3, 1]
    assert [len(batch) for batch in split_rows([("a",)] * 250, 100)] == [100, 100, 50]


def test_table_with_a_function_of_the_app_is_not_written(tmp_path):
    """Another function may compute other values than the app's."""
    path = build(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("regexp", 2, lambda _pattern, text: len(text), deterministic=True)
        connection.execute(
            "create table fees (id integer primary key, fee text, size generated always as (fee regexp 'x') stored)"
        )
        connection.execute("insert into fees (id, fee) values (1, 'four')")
    with closing(SQLiteWriter(path, "app/main")) as writer:
        with (
            pytest.raises(
                QueryFailedError, match="regexp, which is in the definition of table fees"
            ) as caught,
            writer.transaction(),
        ):
            writer.update("fees", {"fee": "x"}, [Condition("id", "=", 1)])
        assert "in the app" in caught.value.hint
        with pytest.raises(QueryFailedError, match="no such function: shine"):
            writer.connection.fetch("select shine(1)")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select * from fees").fetchall() == [(1, "four", 4)]
