"""Backups that are kept to a pace, by a clock that nobody waits for."""

import pytest

from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.files import rate_limit
from dbctl.files.rate_limit import HASTE, Pace
from tests.services.flashpoint_app import run, settle


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(rate_limit, "time", made)
    return made


def test_so_many_bytes_a_second_are_told_and_no_more(clock):
    begun = clock.now
    work = Pace(1000)
    for number in range(1, 51):
        work(500)
        assert 500 * number <= 1000 * (clock.now - begun + HASTE)
    assert clock.now - begun == pytest.approx(25 - HASTE)


def test_time_in_which_nothing_was_done_is_not_made_good_for_by_haste(clock):
    work = Pace(1000)
    clock.now += 3600
    begun = clock.now
    work(5000)
    assert clock.now - begun == pytest.approx(5 - HASTE)


@pytest.mark.parametrize(
    ("mode", "compress", "stages"),
    [("wal", "gzip", 2), ("wal", "none", 1), ("delete", "gzip", 1), ("delete", "none", 0)],
)
def test_each_stage_that_reads_a_database_has_the_whole_rate(
    tmp_path, monkeypatch, answer, clock, mode, compress, stages
):
    path = settle(tmp_path / "app", "deployed")
    run(path, f"pragma journal_mode = {mode}")
    run(path, "create table filling as select randomblob(3000000) as filling")
    run(path, "pragma wal_checkpoint(truncate)")
    monkeypatch.chdir(path.parent)
    begun, rate = clock.now, 100_000
    answer(
        "backup",
        "create",
        "--repository",
        "kept",
        "--db",
        "user",
        "--limit-rate",
        str(rate),
        "--compress",
        compress,
    )
    wanted = max(0, stages * path.stat().st_size / rate - HASTE * bool(stages))
    assert clock.now - begun == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(("mode", "waits"), [("wal", False), ("delete", True)])
def test_writers_wait_for_the_copy_of_a_file_in_delete_mode_alone(tmp_path, mode, waits):
    path = settle(tmp_path / "app", "deployed")
    run(path, f"pragma journal_mode = {mode}")
    db = SQLiteReader(path, "app/user", timeout=1)
    try:
        assert db.holds_up() is waits
    finally:
        db.close()


def test_a_limit_is_a_number_of_bytes(tmp_path, monkeypatch, answer):
    path = settle(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    for wrong in ("0", "-1", "5X", "1.5M", "", "9" * 13):
        answer("backup", "create", "--repository", "kept", f"--limit-rate={wrong}", status=2)
    made = answer("backup", "create", "--repository", "kept", "--limit-rate", "1G")["data"]
    assert answer("backup", "verify", made["id"], "--repository", "kept")["data"]["findings"] == []
