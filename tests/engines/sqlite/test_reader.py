"""Reading changes no files, and never returns half of a concurrent write."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.dumps import DumpRequest
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.errors.connection import (
    BusyError,
    CorruptError,
    DatabaseMissingError,
    InterruptedWriteError,
    NotADatabaseError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import NotSupportedError, ValueInvalidError

ROOT = os.geteuid() == 0
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
as_other_user = pytest.mark.skipif(not ROOT, reason="only root can become another user")


def build(path: Path, mode: str = "wal", rows: int = 3) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("pragma synchronous = off")
        connection.execute("create table t (id integer primary key, a text)")
        connection.execute("begin")
        connection.executemany("insert into t values (?, ?)", ((n, f"row {n}") for n in range(rows)))
        connection.execute("commit")
    return path


def run_and_kill(path: Path, *statements: str) -> None:
    """Run statements in a process that ends without closing the connection."""
    code = "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s)\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(path), *statements], check=False).returncode == 9


def read_state(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        entry.name: (entry.stat().st_mtime_ns, entry.stat().st_mode, entry.read_bytes())
        for entry in directory.iterdir()
    } | {".": (directory.stat().st_mtime_ns, directory.stat().st_mode, b"")}


def read(path: Path, **options: float) -> int:
    with closing(SQLiteReader(path, "app/user", **options)) as reader:
        reader.tables()
        reader.references("t")
        reader.select("t", ["a"], [Condition("a", "contains", "row")])
        return reader.count("t")


# Unchanged files ----------------------------------------------------------------------------------------------------------


def test_old_sqlite_is_refused(tmp_path, monkeypatch):
    file = build(tmp_path / "app.db")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(NotSupportedError, match=r"SQLite 3\.34\.1, which this Python uses"):
        SQLiteReader(file, "app/user")


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_reading_changes_no_content_times_or_names(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    initial = read_state(tmp_path)
    assert read(path) == 3
    assert read_state(tmp_path) == initial


def test_empty_wal_is_not_changed(tmp_path):
    path = build(tmp_path / "app.db")
    (tmp_path / "app.db-wal").touch()
    initial = read_state(tmp_path)
    assert read(path) == 3
    assert read_state(tmp_path) == initial


def test_symbolic_link_is_resolved_to_find_side_files(tmp_path):
    (tmp_path / "real").mkdir()
    path = build(tmp_path / "real" / "app.db")
    run_and_kill(path, "insert into t values (77, 'row in the wal')")
    (tmp_path / "link.db").symlink_to(path)
    assert read(tmp_path / "link.db") == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.db", "real"]


@pytest.mark.parametrize("name", ["a?mode=rwc&b#c%41.db", "a b.db", "ä\u202e.db", "\udcff.db"])
def test_special_characters_in_a_file_name_are_literal(tmp_path, name):
    path = build(tmp_path / "app.db").rename(tmp_path / name)
    initial = read_state(tmp_path)
    assert read(path) == 3
    assert read_state(tmp_path) == initial
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        writer.delete("t", [])
    assert read(Path(f"/{path}")) == 0


def test_rows_only_in_the_wal_are_read(tmp_path):
    path = build(tmp_path / "app.db")
    run_and_kill(path, "insert into t values (77, 'row in the wal')")
    initial = read_state(tmp_path)
    assert initial["app.db-wal"][2]
    assert read(path) == 4
    final = read_state(tmp_path)
    assert [final[name] for name in ("app.db", "app.db-wal")] == [
        initial[name] for name in ("app.db", "app.db-wal")
    ]


def test_interrupted_write_is_neither_read_nor_rolled_back(tmp_path):
    path = build(tmp_path / "app.db", "delete", rows=3000)
    run_and_kill(path, "pragma cache_size = 3", "begin immediate", "update t set a = 'half'")
    initial = read_state(tmp_path)
    assert "app.db-journal" in initial
    with pytest.raises(InterruptedWriteError) as caught:
        read(path)
    assert caught.value.exit_status == 10
    assert read_state(tmp_path) == initial
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert writer.count("t", [Condition("a", "=", "half")]) == 0
    assert read(path) == 3000


@contextmanager
def make_read_only(directory: Path):
    """Make a directory readable but not writable for other users."""
    for entry in directory.iterdir():
        entry.chmod(0o444)
    for folder in (directory, *directory.parents):
        if (
            folder != folder.parent
            and folder.stat().st_uid == os.getuid()
            and not folder.stat().st_mode & 0o001
        ):
            folder.chmod(0o755)
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)


#: All imports run before the privileges are dropped, because only root may be able to read Python's files.
READ = """
import os, sys
from pathlib import Path
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.errors.base import DbctlError
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    print(SQLiteReader(Path(sys.argv[1]), "app/user").count("t"))
except DbctlError as error:
    print(error.code, error, error.hint)
"""


def read_as_other_user(path: Path) -> str:
    process = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=False, env=ENV
    )
    assert not process.stderr
    return process.stdout.strip()


@as_other_user
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_other_user_reads_in_a_read_only_directory(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    with make_read_only(tmp_path):
        initial = read_state(tmp_path)
        assert read_as_other_user(path) == "3"
        assert read_state(tmp_path) == initial


@as_other_user
def test_wal_in_a_read_only_directory_is_reported_with_a_hint(tmp_path):
    path = build(tmp_path / "app.db")
    run_and_kill(path, "insert into t values (77, 'row in the wal')")
    (tmp_path / "app.db-shm").unlink()
    with make_read_only(tmp_path):
        output = read_as_other_user(path)
    assert output.startswith("unreachable cannot open app/user")
    assert "Copy the file together with its -wal" in output


@as_other_user
def test_other_user_reads_the_wal_of_a_running_app(tmp_path):
    path = build(tmp_path / "app.db")
    run_and_kill(path, "insert into t values (77, 'row in the wal')")
    with make_read_only(tmp_path):
        assert read_as_other_user(path) == "4"


@pytest.mark.skipif(not ROOT, reason="only root can mount")
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_read_only_mount_is_read_and_refuses_writers(tmp_path, mode):
    build(tmp_path / "app.db", mode)
    if subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)
        assert read(tmp_path / "app.db") == 3
        with pytest.raises(ReadOnlyError, match="is mounted read-only") as caught:
            SQLiteWriter(tmp_path / "app.db", "app/user")
        assert "owner" not in caught.value.hint
        with pytest.raises(UnreachableError, match="Read-only file system"):
            SQLiteWriter(tmp_path / "new.db", "app/user", OpenOptions(create={}))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Concurrent changes --------------------------------------------------------------------------------------------------

BANK = """
import sqlite3, sys, random
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
c.execute("pragma synchronous = off")
print("ready", flush=True)
while True:
    source, target = random.sample(range(200), 2)
    c.execute("begin immediate")
    c.execute("update bank set sum = sum - 7, filler = hex(randomblob(300)) where id = ?", (source,))
    c.execute("update bank set sum = sum + 7 where id = ?", (target,))
    c.execute("commit")
"""


@pytest.fixture
def bank(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table bank (id integer primary key, sum integer, filler text)")
        rows = ((number, 100, "x" * 600) for number in range(200))
        connection.executemany("insert into bank values (?, ?, ?)", rows)
    return path


@contextmanager
def profile_opening(event, act):
    """Run ``act`` at each event of the functions that examine the file while a reader opens it."""

    def profile(frame, seen, _):
        caller = frame.f_back.f_code.co_name if frame.f_back else ""
        is_step = frame.f_code.co_name in ("_read_file_state", "_has_no_journal")
        if seen == event and is_step and caller == "open":
            act()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_change_that_begins_while_the_file_is_opened_is_read_as_a_whole(bank):
    writer = sqlite3.connect(bank, isolation_level=None, check_same_thread=False)
    writer.execute("pragma cache_size = 10")  # pages are written before the commit

    def finish():
        writer.execute("update bank set sum = sum + 7 where id >= 100")
        writer.execute("commit")

    commits = []

    def begin():
        if not commits:
            writer.execute("begin immediate")
            writer.execute("update bank set sum = sum - 7 where id < 100")
            commits.append(threading.Timer(0.3, finish))
            commits[0].start()

    with closing(writer), closing(SQLiteReader(bank, "app/user")) as reader:
        writer.execute("update bank set filler = '' where id = 0")  # the reader opens the file again
        with profile_opening("return", begin):
            rows = reader.connection.fetch("select sum from bank")
        commits[0].join()
    assert sum(row[0] for row in rows) == 20_000


def test_file_that_changes_at_each_tick_is_read_with_locks(bank):
    """Within one tick of the file's clock, a further change could leave the same time."""
    with profile_opening("call", lambda: os.utime(bank)), closing(SQLiteReader(bank, "app/user")) as reader:
        assert not reader.connection.is_unlocked
        assert reader.count("bank") == 200


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_result_is_one_snapshot_during_commits(tmp_path, mode):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("pragma synchronous = off")
        connection.execute("create table bank (id integer primary key, sum integer, filler text)")
        connection.executemany(
            "insert into bank values (?, 100, hex(randomblob(300)))", ((n,) for n in range(200))
        )
    with subprocess.Popen(
        [sys.executable, "-c", BANK, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            sums, fillers = set(), set()
            end = time.monotonic() + 1.5
            long_reader = SQLiteReader(path, "app/user")
            while time.monotonic() < end:
                with closing(SQLiteReader(path, "app/user")) as reader:
                    for reader_in_turn in (reader, long_reader):
                        rows = reader_in_turn.select("bank", ["sum", "filler"])
                        sums.add((len(rows), sum(row[0] for row in rows)))
                        fillers.add(hash(tuple(rows)))
            long_reader.close()
        finally:
            writer.kill()
    assert sums == {(200, 20_000)}
    assert len(fillers) > 3


def test_replaced_file_is_detected(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.count("t") == 3
        build(tmp_path / "new.db", rows=9)
        (tmp_path / "new.db").replace(path)
        assert reader.count("t") == 9
        with closing(sqlite3.connect(tmp_path / "other.db")) as other:
            other.execute("create table u (b)")
        (tmp_path / "other.db").replace(path)
        assert list(reader.tables()) == ["t"] or reader.query("select count(*) from u") == [(0,)]
        assert list(reader.tables()) == ["u"]
        path.unlink()
        with pytest.raises(DatabaseMissingError):
            reader.count("u")


def test_result_is_read_again_after_a_replacement(tmp_path):
    path = build(tmp_path / "app.db", rows=20_000)
    build(tmp_path / "new.db", rows=5)
    slow_sql = "select count(*) from t a, (select id from t limit 1500) b where a.id >= 0"
    with closing(SQLiteReader(path, "app/user")) as reader:
        swap = threading.Timer(0.1, (tmp_path / "new.db").replace, (path,))
        swap.start()
        start = time.monotonic()
        rows = reader.query(slow_sql)
        swap.join()
    assert time.monotonic() - start > 0.1
    assert rows == [(25,)]


def test_commits_in_the_wal_are_seen_between_reads(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.count("t") == 3
        with closing(sqlite3.connect(path, isolation_level=None)) as app:
            app.execute("insert into t values (77, 'new')")
            assert (tmp_path / "app.db-wal").stat().st_size
            assert reader.count("t") == 4
            app.execute("alter table t add column b")
            assert reader.count("t") == 4


def test_two_changes_in_one_clock_tick_are_detected(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    for number in range(20):
        with closing(sqlite3.connect(path)) as app, app:
            app.execute("update t set a = ?", (f"first {number}",))
        with closing(SQLiteReader(path, "app/user")) as reader:
            later = tmp_path / f"later {number}"
            later.touch()
            assert later.stat().st_mtime_ns > path.stat().st_mtime_ns
            with closing(sqlite3.connect(path)) as app, app:
                app.execute("update t set a = ?", (f"second {number}",))
            assert reader.count_by("t", "a") == {f"second {number}": 3}


def test_reader_keeps_the_locks_of_a_writer_in_the_process(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    code = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None).execute('begin immediate')"
    command = [sys.executable, "-c", code, str(path)]
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as unlocked:
            assert unlocked.execute("select count(*) from t").fetchone() == (3,)
        assert read(path) == 3
        assert b"database is locked" in subprocess.run(command, capture_output=True, check=False).stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_exclusively_locked_file_raises_busy_after_the_timeout(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with (
        closing(SQLiteReader(path, "app/user", timeout=0.3)) as reader,
        closing(sqlite3.connect(path, isolation_level=None)) as app,
    ):
        app.execute("begin exclusive")
        app.execute("delete from t where id = 1")
        start = time.monotonic()
        with pytest.raises(BusyError, match=r"waited 0\.3 s"):
            reader.count("t")
        assert time.monotonic() - start >= 0.3
        app.execute("commit")
        assert reader.count("t") == 2


def test_dump_has_no_uncommitted_rows_of_an_app_without_journal_file(tmp_path):
    """A journal in memory has no file, and the app writes pages before the commit."""
    path, dump = build(tmp_path / "app.db", "delete", rows=5000), tmp_path / "dump.db"
    with (
        closing(SQLiteReader(path, "app/user", timeout=0.1)) as reader,
        closing(sqlite3.connect(path, isolation_level=None)) as app,
    ):
        app.execute("pragma journal_mode = memory")
        app.execute("pragma cache_size = 1")
        app.execute("begin")
        app.execute("update t set a = 'uncommitted'")
        with pytest.raises(BusyError):
            reader.dumps.dump(DumpRequest(dump))
        assert not dump.exists()
        app.execute("rollback")
        reader.dumps.dump(DumpRequest(dump))
    with closing(sqlite3.connect(dump)) as copy:
        assert copy.execute("select count(*) from t where a = 'uncommitted'").fetchone() == (0,)


def test_uncommitted_pages_of_an_app_without_journal_file_are_no_damage(tmp_path):
    path = build(tmp_path / "app.db", "delete", rows=5000)
    with (
        closing(SQLiteReader(path, "app/user", timeout=0.1)) as reader,
        closing(sqlite3.connect(path, isolation_level=None)) as app,
    ):
        app.execute("pragma journal_mode = memory")
        app.execute("pragma cache_size = 1")
        app.execute("begin")
        app.execute("update t set a = hex(randomblob(300)) where id % 3 = 0")
        app.execute("delete from t where id % 7 = 0")
        with pytest.raises(BusyError):
            reader.checks.find_damage()
        app.execute("rollback")
        assert reader.checks.find_damage() == []


# Invalid databases -----------------------------------------------------------------------------------------------------


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "a zeroed page": content[:4096] + bytes(4096) + content[8192:],
            "50 bytes": content[:50],
            "text": b"this is not a database, but it is long enough" * 50,
            "garbage after the header": content[:100] + b"\xff" * (len(content) - 100),
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("truncated", CorruptError),
        ("a zeroed page", CorruptError),
        ("50 bytes", CorruptError),
        ("garbage after the header", CorruptError),
        ("text", NotADatabaseError),
    ],
)
@pytest.mark.parametrize("open_class", [SQLiteReader, SQLiteWriter])
def test_damaged_and_foreign_files_have_different_errors(tmp_path, kind, error, open_class):
    path = build(tmp_path / "app.db", "delete", rows=2000)
    damage(path, kind)
    initial = read_state(tmp_path)
    with pytest.raises(error) as caught, closing(open_class(path, "app/user")) as connection:
        connection.select("t", ["a"])
    assert caught.value.exit_status == 4
    assert read_state(tmp_path) == initial


def test_empty_file_is_a_database_without_tables(tmp_path):
    (tmp_path / "app.db").touch()
    initial = read_state(tmp_path)
    with closing(SQLiteReader(tmp_path / "app.db", "app/user")) as reader:
        assert reader.tables() == {}
    assert read_state(tmp_path) == initial


@pytest.mark.parametrize("open_class", [SQLiteReader, SQLiteWriter])
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gone.db", DatabaseMissingError, "file not found"),
        ("gone/app.db", DatabaseMissingError, "file not found"),
        (".", UnreachableError, "is a directory"),
        ("fifo", UnreachableError, "not a regular file"),
        ("loop", UnreachableError, "symbolic links"),
        ("file/app.db", UnreachableError, "Not a directory"),
        ("x" * 300, UnreachableError, "too long"),
        ("a\0b", ValueInvalidError, "NUL"),
    ],
)
def test_invalid_path_is_refused_and_nothing_is_created(tmp_path, open_class, name, error, message):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    initial = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        open_class(tmp_path / name, "app/user")
    assert sorted(tmp_path.iterdir()) == initial


@as_other_user
def test_unreadable_file_is_reported(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with make_read_only(tmp_path):
        path.chmod(0o600)
        assert read_as_other_user(path).startswith("unreachable cannot open app/user")


# Times, through an index ---------------------------------------------------------------------------------------------

FORMS = [
    lambda time: time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    lambda time: time.strftime("%Y-%m-%d %H:%M:%S"),
    lambda time: (time + timedelta(hours=14)).strftime("%Y-%m-%dT%H:%M:%S+14:00"),
    lambda time: (time - timedelta(hours=12)).strftime("%Y-%m-%d %H:%M:%S-12:00"),
    lambda time: time.strftime("%Y-%m-%d"),
    lambda time: time.timestamp(),
    lambda time: int(time.timestamp()),
    lambda time: int(time.timestamp() * 1000),
    lambda time: str(int(time.timestamp())),
    lambda time: str(int(time.timestamp() * 1000)),
]
UTC_TIMES = st.just(UTC)
TIMES = st.datetimes(datetime(2001, 9, 10), datetime(2033, 5, 1), timezones=UTC_TIMES)  # noqa: DTZ001 - hypothesis adds the timezone
NEAR_TIMES = st.datetimes(datetime(2024, 5, 30), datetime(2024, 6, 3), timezones=UTC_TIMES)  # noqa: DTZ001 - hypothesis adds the timezone
STORED_VALUES = st.builds(lambda form, time: form(time), st.sampled_from(FORMS), st.one_of(TIMES, NEAR_TIMES))
OLD_VALUES = st.builds(
    lambda form, time: form(time),
    st.sampled_from(FORMS[:6]),
    st.datetimes(datetime(1000, 1, 1), datetime(2300, 1, 1), timezones=UTC_TIMES),  # noqa: DTZ001 - hypothesis adds the timezone
)
ODD_VALUES = st.sampled_from(
    [None, "", "soon", "9", "-1", -5, 0, 9e999, b"2024", "2004", "3", ":", "9999-12-31 00:00"]
)


@given(
    st.lists(st.one_of(STORED_VALUES, OLD_VALUES, ODD_VALUES), max_size=6),
    NEAR_TIMES,
    st.sampled_from(["text", "integer", "datetime", ""]),
)
def test_indexed_time_search_equals_full_scan(tmp_path_factory, values, timestamp, declared_type):
    path = tmp_path_factory.mktemp("times") / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table t (id integer primary key, at {declared_type})")
        connection.execute("create index i on t (at)")
        connection.executemany("insert into t (at) values (?)", ((value,) for value in values))
    with closing(SQLiteReader(path, "app/user")) as reader:
        for op in ("<", "<="):
            where = [Condition("at", op, timestamp)]
            assert reader.exists("t", where, timeout=timedelta(minutes=1)) is (reader.count("t", where) > 0)


def test_time_search_uses_the_index(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (id integer primary key, at text)")
        connection.execute("create index i on t (at)")
        connection.executemany(
            "insert into t (at) values (?)", (("2024-06-01T00:00:00.000Z",) for _ in range(50_000))
        )
    where = [Condition("at", "<", datetime(2024, 1, 1, tzinfo=UTC))]
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.exists("t", where, timeout=timedelta(0)) is False
        assert reader.exists("t", [*where, Condition("id", ">", 0)], timeout=timedelta(0)) is None
