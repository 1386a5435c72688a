"""Samples: what backups and ``status --record`` store, retention, growth, predictions, and wrong clocks."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from dbctl.cli.main import main
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.model import now
from dbctl.services import history
from dbctl.services.events import samples, store
from dbctl.services.events.samples import Sample, TableSample
from dbctl.services.history import predict_full_disk

CONFIG = "/etc/dbctl/dbctl.toml"
DAY = timedelta(days=1)
GIB = 1 << 30


def create_sample(at, *, rows=10, free_bytes=None, app="blog", table="posts", **fields):
    tables = {table: TableSample(rows=rows, bytes=rows * 100)}
    return Sample(
        app=app,
        database="main",
        taken_at=at,
        free_bytes=free_bytes,
        tables=tables,
        bytes=rows * 100,
        **fields,
    )


def create_series(*free_gib, start=None, step=DAY):
    """Return one sample per step, with the free space of a disk."""
    start = start or now() - step * len(free_gib)
    return [
        create_sample(start + step * index, free_bytes=int(free * GIB)) for index, free in enumerate(free_gib)
    ]


def read(folder, **selected):
    return samples.read_samples(folder, CONFIG, **selected)


def test_backup_and_status_record_rows_sizes_and_users(blog, answer):
    answer("backup", "create")
    answer("status", "--record")
    of_backup, of_status = read_config(blog)["blog", "main"]
    assert of_backup.tables == {"posts": TableSample(rows=3)}
    assert of_status.tables["posts"].rows == 3
    assert of_status.tables["posts"].bytes > 0
    size = (blog / "blog.db").stat().st_size
    assert [sample.bytes for sample in (of_backup, of_status)] == [size, size]
    assert 0 < of_status.free_bytes < of_status.disk_bytes


def read_config(folder):
    return samples.read_samples(folder / "state", str(folder / "dbctl.toml"))


def test_planned_backup_is_not_sampled(blog, answer):
    answer("backup", "create", "--dry-run")
    assert not read_config(blog)


def test_tables_that_cannot_be_counted_are_reported_and_not_recorded(blog, answer):
    with closing(sqlite3.connect(blog / "blog.db")) as connection, connection:
        rows = "with recursive n (i) as (select 10 union all select i + 1 from n where i < 5000) select i, i from n"
        connection.execute(f"insert into posts (id, title) {rows}")
        ((page,),) = connection.execute("select max(pageno) from dbstat where name = 'posts'")
    with (blog / "blog.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    response = answer("status", "--record", status=4)
    assert any("malformed" in text for text in response["warnings"])
    assert read_config(blog) == {}


def test_commands_without_record_write_no_sample(blog, answer):
    answer("status")
    answer("stats", "tables")
    assert not (blog / "state").exists()


@pytest.fixture
def blog(tmp_path, monkeypatch):
    """An app with one table, and a journal."""
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text); insert into posts values (1, 'a'), (2, 'b'), (3, 'c');"
        )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.parametrize("damage", ["newer", "corrupt", "directory", "off"])
def test_unusable_journal_fails_no_backup_and_no_status(damage, blog, answer, capsys, monkeypatch):
    journal = blog / "state" / store.FILE_NAME
    if damage == "directory":
        journal.mkdir(parents=True)
    else:
        answer("backup", "create")
    if damage == "newer":
        with closing(sqlite3.connect(journal)) as connection:
            connection.execute("pragma user_version = 99")
    elif damage == "corrupt":
        journal.write_bytes(b"no database" * 1000)
        for suffix in ("-wal", "-shm"):
            journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    elif damage == "off":
        monkeypatch.setenv("DBCTL_STATE", "off")
    capsys.readouterr()
    assert main(["backup", "create"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dbctl: ")]
    assert len(warnings) == (0 if damage == "off" else 1)
    assert len(answer("status", "--record")["warnings"]) >= 1


def test_damaged_sample_is_reported(tmp_path):
    samples.save_samples(tmp_path, CONFIG, [create_sample(now())])
    with store.EventStore(tmp_path).writing() as connection:
        connection.execute("update samples set record = 'x'")
    with pytest.raises(JournalCorruptError):
        read(tmp_path)


def test_damaged_time_of_a_sample_is_reported(tmp_path):
    times = [now() - 2 * DAY, now() - DAY]
    samples.save_samples(tmp_path, CONFIG, [create_sample(time) for time in times])
    with store.EventStore(tmp_path).writing() as connection:
        connection.execute("update samples set taken_at = 'x'")
    with pytest.raises(JournalCorruptError):
        samples.save_samples(tmp_path, CONFIG, [create_sample(now())])


def test_newer_journal_gets_no_sample(tmp_path):
    samples.save_samples(tmp_path, CONFIG, [create_sample(now())])
    with store.EventStore(tmp_path).writing() as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(JournalUnavailableError):
        samples.save_samples(tmp_path, CONFIG, [create_sample(now())])


def test_concurrent_writers_lose_no_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_SECONDS", 60)
    children = []
    for writer in range(4):
        if not (pid := os.fork()):
            for _ in range(10):
                samples.save_samples(tmp_path, CONFIG, [create_sample(now(), app=f"app{writer}")])
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert [len(series) for series in read(tmp_path).values()] == [10] * 4


def test_old_samples_become_hourly_daily_weekly():
    reference = datetime(2026, 11, 22, 12, tzinfo=UTC)
    times = [reference - timedelta(minutes=20) * index for index in range(3 * 24 * 1000)][::-1]
    rows = [(index, time.isoformat()) for index, time in enumerate(times)]
    surplus = set(samples.select_surplus(rows, reference))
    retained = [time for index, time in enumerate(times) if index not in surplus]
    ages = [reference - time for time in retained]
    assert sum(age <= samples.ALL for age in ages) == 2 * 24 * 3 + 1
    assert sum(samples.ALL < age <= samples.HOURLY for age in ages) in range(26 * 24 - 1, 26 * 24 + 2)
    assert sum(samples.HOURLY < age <= samples.DAILY for age in ages) in range(701, 704)
    assert sum(age > samples.DAILY for age in ages) in range(37, 42)
    assert samples.select_surplus([row for row in rows if row[0] not in surplus], reference) == []


def test_saving_thins_out_once_a_day(tmp_path):
    start = now() - 20 * DAY
    for index in range(40):
        samples.save_samples(tmp_path, CONFIG, [create_sample(start + timedelta(minutes=10) * index)])
    for day in range(1, 21):
        samples.save_samples(tmp_path, CONFIG, [create_sample(start + day * DAY)])
    (series,) = read(tmp_path).values()
    assert len(series) in range(6 + 20, 9 + 20)


def test_clock_in_the_far_future_deletes_no_sample(tmp_path):
    for index in range(30):
        samples.save_samples(tmp_path, CONFIG, [create_sample(now() - (30 - index) * DAY)])
    for year in range(5):
        samples.save_samples(tmp_path, CONFIG, [create_sample(now() + (3650 + year) * DAY)])
    (series,) = read(tmp_path).values()
    assert len(series) == 35
    assert len(samples.discard_wrong_times(series)) == 30


def test_times_that_contradict_the_order_are_ignored():
    start = now() - 100 * DAY
    right = [create_sample(start + index * DAY) for index in range(10)]
    wrong = [create_sample(datetime(1970, 1, 1, tzinfo=UTC)), create_sample(start + 50 * DAY)]
    mixed = [*right[:3], wrong[0], *right[3:6], wrong[1], *right[6:]]
    assert samples.discard_wrong_times(mixed) == right


def test_growth_is_the_difference_of_first_and_last_sample():
    start = now() - 20 * DAY
    series = [create_sample(start + index * DAY, rows=100 + 5 * index) for index in range(11)]
    measured = history.measure_growth({("blog", "main"): series}, start)
    (table,) = measured.tables
    assert (table.rows, table.rows_change, table.rows_per_day, table.bytes_per_day) == (150, 50, 5, 500)
    assert table.trend == [100 + 5 * index for index in range(11)]
    (database,) = measured.databases
    assert (database.bytes_change, database.bytes_per_day) == (5000, 500)


def test_shrinking_tables_have_negative_growth_and_dropped_ones_are_omitted():
    start = now() - 20 * DAY
    series = [
        create_sample(start, table="dropped"),
        create_sample(start + DAY, rows=100),
        create_sample(start + 3 * DAY, rows=50),
    ]
    measured = history.measure_growth({("blog", "main"): series}, start)
    assert [(table.table, table.rows_per_day) for table in measured.tables] == [("posts", -25)]


def test_samples_of_one_day_have_no_growth_per_day():
    series = [create_sample(now() - timedelta(hours=2)), create_sample(now(), rows=20)]
    (table,) = history.measure_growth({("blog", "main"): series}, now()).tables
    assert (table.rows_change, table.rows_per_day) == (10, None)


@pytest.mark.parametrize(
    ("free_gib", "state", "days"),
    [
        ([10, 9, 8, 7, 6, 5], "ok", 5.0),
        ([10, 9, 8, 7], "too-few-samples", None),
        ([5, 5, 5, 5, 5, 5], "not-filling", None),
        ([5, 6, 7, 8, 9, 10], "not-filling", None),
        ([9, 5, 9, 4, 9, 5], "no-trend", None),
        ([100 - index / 1000 for index in range(6)], "distant", None),
        ([0, 0, 0, 0, 0, 0], "not-filling", None),
    ],
)
def test_prediction_requires_a_trend(free_gib, state, days):
    forecast = predict_full_disk(create_series(*free_gib))
    assert (forecast.state, forecast.days_until_full) == (state, days)


def test_many_samples_of_one_day_allow_no_prediction():
    series = create_series(
        10, 9, 8, 7, 6, 5, step=timedelta(minutes=10), start=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert predict_full_disk(series).state == "too-few-samples"


def test_another_disk_allows_no_prediction():
    old = create_series(10, 9, 8, 7, 6, 5)
    moved = [*old, create_sample(now(), free_bytes=GIB, disk="/new")]
    assert predict_full_disk(moved).state == "too-few-samples"
    assert predict_full_disk([create_sample(now())]).state == "unknown"
