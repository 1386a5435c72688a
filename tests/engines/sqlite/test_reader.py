"""Reading leaves no trace, and never shows half of what somebody else writes meanwhile."""

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

from dbctl.engines.contract import Condition
from dbctl.engines.sqlite.reader import CLOCK_TICK_NS, SQLiteReader
from dbctl.engines.sqlite.writer import SQLiteWriter
from dbctl.errors import (
    BusyError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    NotADatabaseError,
    ReadOnlyError,
    UnreachableError,
    ValueInvalidError,
)

ROOT = os.geteuid() == 0
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
as_nobody = pytest.mark.skipif(not ROOT, reason="only root can become another user")


def build(path: Path, mode: str = "wal", rows: int = 3) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("pragma synchronous = off")
        connection.execute("create table t (id integer primary key, a text)")
        connection.execute("begin")
        connection.executemany("insert into t values (?, ?)", ((n, f"row {n}") for n in range(rows)))
        connection.execute("commit")
    return path


def killed(path: Path, *statements: str) -> None:
    """Run statements in a process that then dies without closing anything."""
    code = "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s)\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(path), *statements], check=False).returncode == 9


def trace(directory: Path) -> dict[str, tuple[int, int, bytes]]:
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


# No trace ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_reading_changes_no_byte_no_time_and_no_name(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    before = trace(tmp_path)
    assert read(path) == 3
    assert trace(tmp_path) == before


def test_an_empty_wal_is_left_as_it_is(tmp_path):
    path = build(tmp_path / "app.db")
    (tmp_path / "app.db-wal").touch()
    before = trace(tmp_path)
    assert read(path) == 3
    assert trace(tmp_path) == before


def test_a_link_is_followed_to_where_the_side_files_are(tmp_path):
    (tmp_path / "real").mkdir()
    path = build(tmp_path / "real" / "app.db")
    killed(path, "insert into t values (77, 'row in the wal')")
    (tmp_path / "link.db").symlink_to(path)
    assert read(tmp_path / "link.db") == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.db", "real"]


@pytest.mark.parametrize("name", ["a?mode=rwc&b#c%41.db", "a b.db", "ä\u202e.db", "\udcff.db"])
def test_any_file_name_opens_that_file_and_no_other(tmp_path, name):
    path = build(tmp_path / "app.db").rename(tmp_path / name)
    before = trace(tmp_path)
    assert read(path) == 3
    assert trace(tmp_path) == before
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        writer.delete("t", [])
    assert read(Path(f"/{path}")) == 0


def test_rows_that_are_only_in_the_wal_are_seen(tmp_path):
    path = build(tmp_path / "app.db")
    killed(path, "insert into t values (77, 'row in the wal')")
    before = trace(tmp_path)
    assert before["app.db-wal"][2]
    assert read(path) == 4
    after = trace(tmp_path)
    assert [after[name] for name in ("app.db", "app.db-wal")] == [
        before[name] for name in ("app.db", "app.db-wal")
    ]


def test_what_a_cut_off_write_left_is_neither_read_nor_rolled_back(tmp_path):
    path = build(tmp_path / "app.db", "delete", rows=3000)
    killed(path, "pragma cache_size = 3", "begin immediate", "update t set a = 'half'")
    before = trace(tmp_path)
    assert "app.db-journal" in before
    with pytest.raises(CutOffWriteError) as caught:
        read(path)
    assert caught.value.exit_status == 10
    assert trace(tmp_path) == before
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert writer.count("t", [Condition("a", "=", "half")]) == 0
    assert read(path) == 3000


@contextmanager
def forbidden(directory: Path):
    """Make a directory that another user may look into and not write."""
    for entry in directory.iterdir():
        entry.chmod(0o444)
    for above in (directory, *directory.parents):
        if above != above.parent and above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
            above.chmod(0o755)
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)


#: Everything is imported before the rights are gone, for Python itself may lie where only root looks.
READ = """
import os, sys
from pathlib import Path
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.errors import DbctlError
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    print(SQLiteReader(Path(sys.argv[1]), "app/user").count("t"))
except DbctlError as error:
    print(error.code, error, error.hint)
"""


def read_as_nobody(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=False, env=ENV
    )
    assert not done.stderr
    return done.stdout.strip()


@as_nobody
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_user_reads_in_a_directory_that_he_may_not_write(tmp_path, mode):
    path = build(tmp_path / "app.db", mode)
    with forbidden(tmp_path):
        before = trace(tmp_path)
        assert read_as_nobody(path) == "3"
        assert trace(tmp_path) == before


@as_nobody
def test_a_wal_with_rows_in_a_read_only_place_says_what_to_do(tmp_path):
    path = build(tmp_path / "app.db")
    killed(path, "insert into t values (77, 'row in the wal')")
    (tmp_path / "app.db-shm").unlink()
    with forbidden(tmp_path):
        told = read_as_nobody(path)
    assert told.startswith("unreachable app/user cannot be opened")
    assert "copy the file together with its -wal" in told


@as_nobody
def test_while_the_app_runs_another_user_sees_what_is_in_its_wal(tmp_path):
    path = build(tmp_path / "app.db")
    killed(path, "insert into t values (77, 'row in the wal')")
    with forbidden(tmp_path):
        assert read_as_nobody(path) == "4"


@pytest.mark.skipif(not ROOT, reason="only root can mount")
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_read_only_mount_is_read_and_refuses_a_writer(tmp_path, mode):
    build(tmp_path / "app.db", mode)
    if subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)
        assert read(tmp_path / "app.db") == 3
        with pytest.raises(ReadOnlyError, match="may not be written"):
            SQLiteWriter(tmp_path / "app.db", "app/user")
        with pytest.raises(UnreachableError, match="Read-only file system"):
            SQLiteWriter(tmp_path / "new.db", "app/user", create={})
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# What changes meanwhile ----------------------------------------------------------------------------------------------

BANK = """
import sqlite3, sys, random
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
c.execute("pragma synchronous = off")
print("ready", flush=True)
while True:
    one, two = random.sample(range(200), 2)
    c.execute("begin immediate")
    c.execute("update bank set sum = sum - 7, filler = hex(randomblob(300)) where id = ?", (one,))
    c.execute("update bank set sum = sum + 7 where id = ?", (two,))
    c.execute("commit")
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_answer_is_one_moment_while_another_process_commits(tmp_path, mode):
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
            kept = SQLiteReader(path, "app/user")
            while time.monotonic() < end:
                with closing(SQLiteReader(path, "app/user")) as reader:
                    for one in (reader, kept):
                        rows = one.select("bank", ["sum", "filler"])
                        sums.add((len(rows), sum(row[0] for row in rows)))
                        fillers.add(hash(tuple(rows)))
            kept.close()
        finally:
            writer.kill()
    assert sums == {(200, 20_000)}
    assert len(fillers) > 3


def test_a_file_that_was_replaced_is_noticed(tmp_path):
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


def test_an_answer_during_which_the_file_was_replaced_is_thrown_away_and_read_again(tmp_path):
    path = build(tmp_path / "app.db", rows=20_000)
    build(tmp_path / "new.db", rows=5)
    slow = "select count(*) from t a, (select id from t limit 1500) b where a.id >= 0"
    with closing(SQLiteReader(path, "app/user")) as reader:
        swap = threading.Timer(0.1, (tmp_path / "new.db").replace, (path,))
        swap.start()
        begun = time.monotonic()
        rows = reader.query(slow)
        swap.join()
    assert time.monotonic() - begun > 0.1
    assert rows == [(25,)]


def test_what_another_commits_into_the_wal_between_two_answers_is_seen(tmp_path):
    path = build(tmp_path / "app.db")
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.count("t") == 3
        with closing(sqlite3.connect(path, isolation_level=None)) as app:
            app.execute("insert into t values (77, 'new')")
            assert (tmp_path / "app.db-wal").stat().st_size
            assert reader.count("t") == 4
            app.execute("alter table t add column b")
            assert reader.count("t") == 4


def test_two_changes_within_one_tick_of_the_clock_are_told_apart(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    for number in range(20):
        with closing(sqlite3.connect(path)) as app, app:
            app.execute("update t set a = ?", (f"first {number}",))
        with closing(SQLiteReader(path, "app/user")) as reader:
            assert time.time_ns() - path.stat().st_mtime_ns >= CLOCK_TICK_NS
            with closing(sqlite3.connect(path)) as app, app:
                app.execute("update t set a = ?", (f"second {number}",))
            assert reader.tally("t", "a") == {f"second {number}": 3}


def test_a_reader_beside_a_writer_of_the_same_process_leaves_its_locks_alone(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    writes = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None).execute('begin immediate')"
    other = [sys.executable, "-c", writes, str(path)]
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as unlocked:
            assert unlocked.execute("select count(*) from t").fetchone() == (3,)
        assert read(path) == 3
        assert b"database is locked" in subprocess.run(other, capture_output=True, check=False).stderr
    assert subprocess.run(other, capture_output=True, check=False).returncode == 0


def test_a_file_that_somebody_has_locked_whole_is_waited_for_and_then_given_up(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with (
        closing(SQLiteReader(path, "app/user", timeout=0.3)) as reader,
        closing(sqlite3.connect(path, isolation_level=None)) as app,
    ):
        app.execute("begin exclusive")
        app.execute("delete from t where id = 1")
        begun = time.monotonic()
        with pytest.raises(BusyError, match=r"waited 0\.3 s"):
            reader.count("t")
        assert time.monotonic() - begun >= 0.3
        app.execute("commit")
        assert reader.count("t") == 2


# What is no sound database ---------------------------------------------------------------------------------------------


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "a zeroed page": whole[:4096] + bytes(4096) + whole[8192:],
            "50 bytes": whole[:50],
            "text": b"this is no database at all, but it is long enough" * 50,
            "garbage behind the header": whole[:100] + b"\xff" * (len(whole) - 100),
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("truncated", CorruptError),
        ("a zeroed page", CorruptError),
        ("50 bytes", CorruptError),
        ("garbage behind the header", CorruptError),
        ("text", NotADatabaseError),
    ],
)
@pytest.mark.parametrize("opening", [SQLiteReader, SQLiteWriter])
def test_a_damaged_file_is_told_from_one_that_is_no_database(tmp_path, kind, error, opening):
    path = build(tmp_path / "app.db", "delete", rows=2000)
    damage(path, kind)
    before = trace(tmp_path)
    with pytest.raises(error) as caught, closing(opening(path, "app/user")) as opened:
        opened.select("t", ["a"])
    assert caught.value.exit_status == 4
    assert trace(tmp_path) == before


def test_an_empty_file_is_a_database_without_tables(tmp_path):
    (tmp_path / "app.db").touch()
    before = trace(tmp_path)
    with closing(SQLiteReader(tmp_path / "app.db", "app/user")) as reader:
        assert reader.tables() == {}
    assert trace(tmp_path) == before


@pytest.mark.parametrize("opening", [SQLiteReader, SQLiteWriter])
@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("gone.db", DatabaseMissingError, "there is no file"),
        ("gone/app.db", DatabaseMissingError, "there is no file"),
        (".", UnreachableError, "is a directory"),
        ("fifo", UnreachableError, "no regular file"),
        ("loop", UnreachableError, "symbolic links"),
        ("file/app.db", UnreachableError, "Not a directory"),
        ("x" * 300, UnreachableError, "too long"),
        ("a\0b", ValueInvalidError, "NUL"),
    ],
)
def test_what_cannot_be_a_database_is_refused_at_once_and_nothing_is_made(
    tmp_path, opening, name, error, said
):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=said):
        opening(tmp_path / name, "app/user")
    assert sorted(tmp_path.iterdir()) == before


@as_nobody
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = build(tmp_path / "app.db", "delete")
    with forbidden(tmp_path):
        path.chmod(0o600)
        assert read_as_nobody(path).startswith("unreachable app/user cannot be opened")


# Times, through an index ---------------------------------------------------------------------------------------------

FORMS = [
    lambda one: one.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    lambda one: one.strftime("%Y-%m-%d %H:%M:%S"),
    lambda one: (one + timedelta(hours=14)).strftime("%Y-%m-%dT%H:%M:%S+14:00"),
    lambda one: (one - timedelta(hours=12)).strftime("%Y-%m-%d %H:%M:%S-12:00"),
    lambda one: one.strftime("%Y-%m-%d"),
    lambda one: one.timestamp(),
    lambda one: int(one.timestamp()),
    lambda one: int(one.timestamp() * 1000),
    lambda one: str(int(one.timestamp())),
    lambda one: str(int(one.timestamp() * 1000)),
]
UTC_TIMES = st.just(UTC)
MOMENTS = st.datetimes(datetime(2001, 9, 10), datetime(2033, 5, 1), timezones=UTC_TIMES)  # noqa: DTZ001 - they get one
NEAR = st.datetimes(datetime(2024, 5, 30), datetime(2024, 6, 3), timezones=UTC_TIMES)  # noqa: DTZ001 - as above
STORED = st.builds(lambda form, one: form(one), st.sampled_from(FORMS), st.one_of(MOMENTS, NEAR))
OLD = st.builds(
    lambda form, one: form(one),
    st.sampled_from(FORMS[:6]),
    st.datetimes(datetime(1000, 1, 1), datetime(2300, 1, 1), timezones=UTC_TIMES),  # noqa: DTZ001 - as above
)
ODD = st.sampled_from(
    [None, "", "soon", "9", "-1", -5, 0, 9e999, b"2024", "2004", "3", ":", "9999-12-31 00:00"]
)


@given(
    st.lists(st.one_of(STORED, OLD, ODD), max_size=6),
    NEAR,
    st.sampled_from(["text", "integer", "datetime", ""]),
)
def test_a_time_looked_for_through_an_index_is_found_exactly_where_reading_every_row_finds_it(
    tmp_path_factory, values, moment, declared
):
    path = tmp_path_factory.mktemp("times") / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table t (id integer primary key, at {declared})")
        connection.execute("create index i on t (at)")
        connection.executemany("insert into t (at) values (?)", ((value,) for value in values))
    with closing(SQLiteReader(path, "app/user")) as reader:
        for op in ("<", "<="):
            where = [Condition("at", op, moment)]
            assert reader.has("t", where, within=timedelta(minutes=1)) is (reader.count("t", where) > 0)


def test_a_time_before_a_moment_is_looked_for_in_the_index_and_not_in_every_row(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (id integer primary key, at text)")
        connection.execute("create index i on t (at)")
        connection.executemany(
            "insert into t (at) values (?)", (("2024-06-01T00:00:00.000Z",) for _ in range(50_000))
        )
    where = [Condition("at", "<", datetime(2024, 1, 1, tzinfo=UTC))]
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert reader.has("t", where, within=timedelta(0)) is False
        assert reader.has("t", [*where, Condition("id", ">", 0)], within=timedelta(0)) is None
