"""``transfer run`` and ``transfer switch`` that are killed: the next run continues, and nothing is lost."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest

from tests import servers
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.extensions.transfer.conftest import create_source

pytestmark = pytest.mark.slow
ROWS = 20_000
#: Codes of a full disk: SQLite reports it as an error of a file if the file is shared memory.
FULL = ("disk-full", "file-failed")
KILLS = choose_count(3, 70)


@pytest.fixture
def source(tmp_path):
    path = create_source(tmp_path / "source.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute(
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)"
            " insert into person (id, mail, note) select 'x' || i, 'x' || i, 'row' || char(10) || i from n",
            [ROWS],
        )
        db.commit()
    return path


@contextmanager
def open_destination(engine, folder):
    if engine == "sqlite":
        yield str(folder / "destination.db")
    else:
        create = servers.postgresql_schema if engine == "postgresql" else servers.mysql_database
        with create() as url:
            yield servers.text(url)


def run_command(source, *words):
    """Return the exit code of a command, and its error."""
    job = forge.start(source.parent, "--url", f"main={source}", "transfer", *words, "-o", "json")
    out, _ = job.communicate()
    return job.returncode, json.loads(out)["error"]


def kill_after(source, seconds, *words):
    """Start a command, kill it after a time, and return whether it was still running."""
    job = forge.start(source.parent, "--url", f"main={source}", "transfer", *words)
    time.sleep(seconds)
    was_running = job.poll() is None
    job.send_signal(signal.SIGKILL)
    job.communicate()
    return was_running


def change_rows(source, rng: random.Random):
    """Change some rows, as an app that runs during the copy."""
    with closing(sqlite3.connect(source)) as db:
        number = rng.randrange(1, ROWS)
        db.execute("update person set note = ? where id = ?", [rng.random(), f"x{number}"])
        db.execute("delete from person where id = ?", [f"x{number + 1}"])
        db.execute("insert into person (id, mail) values (?, ?)", [f"new{rng.random()}", f"{rng.random()}"])
        db.commit()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_killed_transfer_continues(tmp_path, source, engine):
    rng, kills = create_rng(f"transfer {engine}"), 0
    while kills < KILLS:
        with open_destination(engine, tmp_path) as destination:
            for _ in range(2):
                kills += kill_after(source, rng.uniform(0, 1.0), "run", "--to", destination)
                change_rows(source, rng)
            status, error = run_command(source, "run", "--to", destination)
            assert status == 0, json.dumps(error)
            change_rows(source, rng)
            for _ in range(2):
                kills += kill_after(source, rng.uniform(0, 1.0), "switch", "--yes", "--to", destination)
            status, error = run_command(source, "switch", "--yes", "--to", destination)
            # a killed switch may have ended the transfer
            assert status == 0 or (status, error["code"]) == (5, "transfer-missing")
            assert run_command(source, "verify", "--to", destination) == (0, None)
            # The source refuses writes after a switch; the next round changes its rows.
            assert run_command(source, "switch", "--unlock") == (0, None)
        for path in tmp_path.glob("destination.db*"):
            path.unlink()


def test_full_disk_of_the_destination(tmp_path, source):
    destination = str(tmp_path / "destination.db")
    words = ("--url", f"main={source}", "transfer", "run", "--to", destination)
    before = source.read_bytes()
    for limit in (20_000, 300_000, 1_000_000):
        status, result = forge.run(tmp_path, *words, limit=limit)
        assert status == 1
        assert result["error"]["code"] in FULL
    assert forge.run(tmp_path, *words)[0] == 0
    assert run_command(source, "verify", "--to", destination) == (0, None)
    assert source.read_bytes() == before


def test_full_disk_of_the_source(tmp_path, source):
    """Side files of the source cannot be created; the rows are in the file itself."""
    words = ("--url", f"main={source}", "transfer", "run", "--to")
    with servers.postgresql_schema() as url:
        status, result = forge.run(tmp_path, *words, servers.text(url), limit=20_000)
        assert status == 0 or result["error"]["code"] in FULL
        assert forge.run(tmp_path, *words, servers.text(url))[0] == 0
