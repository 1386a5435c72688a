"""Rate limit of backups, with a fake clock."""

import pytest

from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.files import temp
from dbctl.files.temp import CATCH_UP_SECONDS, RateLimiter
from tests.services.flashpoint_app import create_app, run_statements


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    fake_clock = Clock()
    monkeypatch.setattr(temp, "time", fake_clock)
    return fake_clock


def test_rate_is_not_exceeded(clock):
    start = clock.now
    limiter = RateLimiter(1000)
    for call_count in range(1, 51):
        limiter(500)
        assert 500 * call_count <= 1000 * (clock.now - start + CATCH_UP_SECONDS)
    assert clock.now - start == pytest.approx(25 - CATCH_UP_SECONDS)


def test_idle_time_does_not_increase_later_rate(clock):
    limiter = RateLimiter(1000)
    clock.now += 3600
    start = clock.now
    limiter(5000)
    assert clock.now - start == pytest.approx(5 - CATCH_UP_SECONDS)


@pytest.mark.parametrize(
    ("mode", "compress", "stages"),
    [("wal", "gzip", 2), ("wal", "none", 1), ("delete", "gzip", 1), ("delete", "none", 0)],
)
def test_each_backup_stage_has_full_rate(tmp_path, monkeypatch, answer, clock, mode, compress, stages):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, f"pragma journal_mode = {mode}")
    run_statements(path, "create table filling as select randomblob(3000000) as filling")
    run_statements(path, "pragma wal_checkpoint(truncate)")
    monkeypatch.chdir(path.parent)
    start, rate = clock.now, 100_000
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
    expected = max(0, stages * path.stat().st_size / rate - CATCH_UP_SECONDS * bool(stages))
    assert clock.now - start == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("mode", "waits"), [("wal", False), ("delete", True)])
def test_copy_blocks_writers_in_delete_mode_only(tmp_path, mode, waits):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, f"pragma journal_mode = {mode}")
    db = SQLiteReader(path, "app/user", timeout=1)
    try:
        assert db.dumps.blocks_writers() is waits
    finally:
        db.close()


def test_invalid_limit_is_refused(tmp_path, monkeypatch, answer):
    path = create_app(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    for value in ("0", "-1", "5X", "1.5M", "", "9" * 13):
        answer("backup", "create", "--repository", "kept", f"--limit-rate={value}", status=2)
    backup = answer("backup", "create", "--repository", "kept", "--limit-rate", "1G")["data"]
    assert answer("backup", "verify", backup["id"], "--repository", "kept")["data"]["findings"] == []
