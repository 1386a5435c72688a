"""``backup create``, ``backup prune`` and ``restore apply`` that are killed, stopped, or not alone: old or new, never half."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.services import people, vault
from tests.services.people import rows, run
from tests.services.test_cleanup import many_plays

ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
KILLS = 300 if os.environ.get("DBCTL_TORTURE") else 6
SECONDS = 60 if os.environ.get("DBCTL_TORTURE") else 3


@pytest.fixture(params=["wal", "delete"])
def path(request, tmp_path):
    path = vault.settle(tmp_path / "app", "deployed")
    run(path, f"pragma journal_mode = {request.param}")
    many_plays(path, 20_000)
    return path


def begin(path, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", *words, "-o", "json"],
        cwd=path.parent,
        env=CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out) if out else err


def folders(path):
    root = path.parent / "backups" / "fp"
    return {one.name for one in root.iterdir() if one.is_dir()} if root.is_dir() else set()


def wait_until(process, happened):
    while process.poll() is None and not happened():
        time.sleep(0.001)


def test_a_kill_in_the_middle_of_a_backup_leaves_earlier_ones_and_no_half_one(path):
    first = vault.create(path)
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    cut = 0
    for _ in range(KILLS):
        before = folders(path)
        process = begin(path, "backup", "create")
        wait_until(process, lambda before=before: folders(path) != before)
        time.sleep(chance.random() * 0.08)
        process.kill()
        end(process)
        listed = vault.listed(path)
        cut += len(listed.incomplete)
        assert first.id in [one.id for one in listed.page.items]
        assert vault.codes(vault.verified(path)) in ([], ["backup-incomplete"])
        status, told = end(begin(path, "backup", "create"))
        assert status == 0, told
        status, told = end(begin(path, "backup", "prune", "--keep-last", "3", "--yes"))
        assert (status, told["data"]["leftovers"]) == (0, list(listed.incomplete)), told
        first = vault.listed(path).page.items[0]
        assert not vault.listed(path).incomplete
    assert cut  # else no kill came in time


def test_a_kill_in_the_middle_of_a_restore_leaves_the_old_rows_or_the_new(path):
    new = vault.content(path)
    vault.create(path)
    run(
        path,
        "delete from user_game_plays where id % 2",
        "update users set email = username || '@old.example'",
    )
    old = vault.content(path)
    chance = random.Random(8)  # noqa: S311 - as above
    seen = {"old": 0, "new": 0}
    for _ in range(KILLS):
        before = folders(path)
        process = begin(path, "restore", "apply", "latest", "--yes")
        wait_until(
            process,
            lambda before=before: any(
                (path.parent / "backups/fp" / one / "manifest.json").exists()
                for one in folders(path) - before
            ),
        )
        time.sleep(chance.random() * 0.05)
        process.kill()
        end(process)
        assert rows(path, "pragma integrity_check") == [("ok",)]
        now = vault.content(path)
        assert now in (old, new)
        seen["old" if now == old else "new"] += 1
        if now == new:  # the safety backup has the old rows, and undo brings them back
            status, told = end(begin(path, "restore", "undo", "--yes"))
            assert status == 0, told
        assert vault.content(path) == old
        assert vault.codes(vault.verified(path)) in ([], ["backup-incomplete"])
    status, told = end(begin(path, "restore", "apply", "latest", "--yes"))
    assert status == 0, told
    assert vault.content(path) == new
    print(seen)


def test_a_kill_in_the_middle_of_pruning_leaves_whole_backups(path):
    chance = random.Random(9)  # noqa: S311 - as above
    for _ in range(KILLS):
        for _ in range(4):
            last = vault.create(path)
        process = begin(path, "backup", "prune", "--keep-last", "1", "--yes")
        held = folders(path)
        wait_until(process, lambda held=held: folders(path) != held)
        time.sleep(chance.random() * 0.004)
        process.kill()
        end(process)
        assert set(vault.codes(vault.verified(path))) <= {"backup-incomplete"}
        assert vault.listed(path).page.items[0].id == last.id
        status, told = end(begin(path, "backup", "prune", "--keep-last", "1", "--yes"))
        assert status == 0, told
        assert folders(path) == {last.id}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("words", [("backup", "create"), ("restore", "apply", "latest", "--yes")])
def test_a_signal_ends_it_and_leaves_nothing_of_it(path, words, number):
    vault.create(path)
    vault.spoil(path)
    held, before = people.content(path), folders(path)
    process = begin(path, *words)
    wait_until(process, lambda: folders(path) != before)
    process.send_signal(number)
    status, told = end(process)
    if status == 0:
        pytest.fail("the signal came too late; make the database larger")
    assert (status, told["error"]["code"]) == (128 + number, "interrupted")
    assert folders(path) == before
    assert people.content(path) == held
    assert not list(path.parent.glob("user.db-journal"))


def test_two_at_once_make_two_backups(path):
    both = [begin(path, "backup", "create", "--timeout", "60") for _ in range(3)]
    answers = [end(process) for process in both]
    assert [status for status, _ in answers] == [0, 0, 0], answers
    assert len({told["data"]["id"] for _, told in answers}) == 3
    assert vault.codes(vault.verified(path)) == []


# Not alone -------------------------------------------------------------------------------------------------------

#: Moves money about in one transaction, so that the sum stays, and counts its commits.
WRITER = """
import sqlite3, sys, time, random
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
me, n = int(sys.argv[2]), 0
print(flush=True)
while True:
    c.execute("begin immediate")
    a, b = random.sample(range(100), 2)
    c.execute("update bank set cents = cents - 1 where id = ?", (a,))
    c.execute("update bank set cents = cents + 1 where id = ?", (b,))
    c.execute("update done set n = n + 1 where id = ?", (me,))
    c.execute("commit")
    time.sleep(0.002)
"""
#: Reads again and again, and tells what no moment of the database ever held.
READER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print(flush=True)
looks = 0
while True:
    c.execute("begin")
    total, number = c.execute("select sum(cents), count(*) from bank").fetchone()
    marks = c.execute("select count(distinct mark) from marks").fetchone()
    c.execute("commit")
    looks += 1
    if (total, number) != (100000, 100) or marks != (1,):
        print("torn", total, number, marks, flush=True)
        sys.exit(1)
"""


@contextmanager
def beside(code, *words):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)], stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        yield child
    finally:
        child.kill()
        out, _ = child.communicate()
        assert not out, out


def bank(path):
    run(
        path,
        "create table bank (id integer primary key, cents integer)",
        "create table done (id integer primary key, n integer)",
        "create table marks (id integer primary key, mark integer)",
        "with recursive n(n) as (select 0 union all select n + 1 from n where n < 99) insert into bank select n, 1000 from n",
        "insert into done values (0, 0), (1, 0), (2, 0), (3, 0)",
        "with recursive n(n) as (select 0 union all select n + 1 from n where n < 999) insert into marks select n, 0 from n",
    )


def test_trap_a_copied_file_is_torn_and_every_check_may_call_it_sound_so_backups_hold_the_invariant(path):
    bank(path)
    counts = dict.fromkeys(range(4), 0)
    with beside(WRITER, path, 0), beside(WRITER, path, 1), beside(WRITER, path, 2), beside(WRITER, path, 3):
        until = time.monotonic() + SECONDS
        made = []
        while time.monotonic() < until or len(made) < 3:
            made.append(vault.create(path, timeout=60))
    for one in [vault.plain_of(path, one) for one in made]:
        assert rows(one, "select sum(cents), count(*) from bank") == [(100_000, 100)]
        assert rows(one, "pragma integrity_check") == [("ok",)]
        for number, done in rows(one, "select id, n from done"):
            assert done >= counts[number]  # what a writer was told is committed stays in every later backup
            counts[number] = done
    assert sum(counts.values()) > 0


def test_a_restore_under_a_live_reader_and_writer_is_seen_by_both_as_old_or_new(path):
    bank(path)
    vault.create(path)
    run(path, "update marks set mark = 1")
    with beside(WRITER, path, 0), beside(READER, path) as reader:
        for _ in range(20 if os.environ.get("DBCTL_TORTURE") else 3):
            vault.apply(path, timeout=60)
            assert reader.poll() is None
            with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as app:
                app.execute("update marks set mark = mark + 1")
    assert rows(path, "select sum(cents) from bank") == [(100_000,)]
    assert rows(path, "pragma integrity_check") == [("ok",)]
