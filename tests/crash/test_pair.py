"""SQLite and LanceDB of one app, backed up and restored as one: killed, failed, and while both are written."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import lancedb
import pytest

from dbctl.services.integrity import check
from dbctl.services.integrity.interrupted_restore import CODE
from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.crash.forge import Moments
from tests.crash.test_every_call import KINDS, Tries
from tests.services import chat_app, flashpoint_app, promptvault_app

ONCE = [kind for kind in KINDS if kind[0] != "fail on"]


@pytest.fixture
def path(tmp_path):
    return chat_app.settle(tmp_path / "app")


def spoil(path):
    """Change both databases; return what both hold then."""
    chat_app.say(path, range(100, 120))
    chat_app.unsay(path, 3)
    return chat_app.state(path)


def said(path):
    """Return whether a check says that a restore was cut off."""
    with promptvault_app.opened(path) as (app, _):
        return CODE in promptvault_app.codes(check.check(app).findings)


def left(path):
    """Return what dbctl has left beside the databases."""
    names = (one.name for one in path.parent.iterdir() if one.is_dir() and ".dbctl-" in one.name)
    return sorted(name for name in names if ".dbctl-new-" not in name)  # which whoever unpacks next removes


def done(path, *words):
    status, told = forge.done(path.parent, *words)
    assert status == 0, told
    return told["data"]


def cut_between(path, apply, old):
    """Kill a restore when SQLite has committed, and before the folders change places."""
    forge.want_faults()
    about = path.with_name("chat.db-shm")  # the last that is done to this file is done in between
    counting = forge.begin(path.parent, *apply, "-o", "json", fault=("count", 0, 0), below=about)
    assert forge.end(counting)[0] == 0
    done(path, "restore", "undo", "--yes")
    assert chat_app.state(path) == old
    job = forge.begin(path.parent, *apply, "-o", "json", fault=("kill", counting.calls, 0), below=about)
    forge.end(job)


@pytest.mark.parametrize("then", ["undo", "again"][: figure(1, 2)])
def test_a_kill_between_the_two_databases_is_told_and_the_next_restore_brings_both_to_one_side(path, then):
    new, kept = chat_app.state(path), promptvault_app.create(path)
    old, apply = spoil(path), ("restore", "apply", kept.id, "--yes")
    cut_between(path, apply, old)
    assert chat_app.state(path) == (new[0], old[1])
    assert said(path)
    done(path, *(("restore", "undo", "--yes") if then == "undo" else apply))
    assert chat_app.state(path) == (old if then == "undo" else new)
    assert not said(path)
    if then == "again":
        done(path, "restore", "undo", "--yes")
        assert chat_app.state(path) == (new[0], old[1])  # which was there before that restore


def test_once_a_cut_off_restore_is_undone_the_next_undo_means_the_one_before_it_and_no_mixture(path):
    new, kept = chat_app.state(path), promptvault_app.create(path)
    old = spoil(path)
    cut_between(path, ("restore", "apply", kept.id, "--yes"), old)
    done(path, "restore", "undo", "--yes")
    assert chat_app.state(path) == old
    done(path, "restore", "undo", "--yes")
    assert chat_app.state(path) == new  # to which the restore before, itself an undo, had put an end


def test_once_the_first_restore_was_cut_off_and_undone_there_is_nothing_to_undo(path):
    kept = promptvault_app.create(path)
    old = spoil(path)
    cut_between(path, ("restore", "apply", kept.id, "--yes"), old)
    for one in promptvault_app.listed(path).page.items[1:]:  # all that came before the one that was cut off
        if one.id != kept.id:
            shutil.rmtree(promptvault_app.folder_of(path, one.id))
    done(path, "restore", "undo", "--yes")
    status, told = forge.done(path.parent, "restore", "undo", "--yes")
    assert (status, told["error"]["code"]) == (5, "undone-already")
    assert chat_app.state(path) == old


def test_whichever_call_of_a_restore_falls_both_databases_are_old_or_new_or_it_is_told(path):
    forge.want_faults()
    new, kept = chat_app.state(path), promptvault_app.create(path)
    old = spoil(path)
    tries, seen = Tries(path, ("restore", "apply", kept.id, "--yes")), Counter()
    for one in tries.each("pair", 1, ONCE):
        now = chat_app.state(path)
        mixed = now not in (old, new)
        seen["mixed" if mixed else "old" if now == old else "new"] += 1
        if one.killed:
            one.holds(not mixed or said(path), "mixed, and nobody says so")
        else:
            one.holds(now == (new if one.well else old), "not what it says")
            one.holds(not said(path), "said of what was not cut off")
            one.holds(len(left(path)) == one.well, f"left: {left(path)}")
        if mixed:
            status, told = forge.done(path.parent, "restore", "undo", "--yes")
            one.holds(status == 0 and chat_app.state(path) == old, f"undone: {told}")
        status, told = forge.done(path.parent, *tries.words)
        one.holds(status == 0 and chat_app.state(path) == new, f"the next restore: {told}")
        one.holds(not said(path) and len(left(path)) == 1, f"left: {left(path)}")
        wrong = set(promptvault_app.codes(promptvault_app.verified(path, deep=False)))
        one.holds(wrong <= {"backup-incomplete", "retained-gone"}, f"verify: {wrong}")
    print(dict(seen))
    tries.over()


def test_undo_survives_a_kill_at_every_call_on_the_folder_that_it_brings_back(path):
    """Each call before it is done, and at night half-way, too; undo again must bring the folder back."""
    forge.want_faults()
    kept = promptvault_app.create(path)
    old = spoil(path)
    done(path, "restore", "apply", kept.id, "--yes")
    (folder,) = left(path)
    undo, saved = ("restore", "undo", "--yes", "-o", "json"), path.parent.with_name("saved")
    shutil.copytree(path.parent, saved)
    counting = forge.begin(path.parent, *undo, fault=("count", 0, 0), below=path.with_name(folder))
    assert forge.end(counting)[0] == 0
    assert counting.calls > 2, "no call on the folder is seen"
    for kind in ("kill", "kill half-way")[: figure(1, 2)]:
        for call in range(1, counting.calls + 1):
            shutil.rmtree(path.parent)
            shutil.copytree(saved, path.parent)
            job = forge.begin(path.parent, *undo, fault=(kind, call, 0), below=path.with_name(folder))
            forge.end(job)
            status, told = forge.done(path.parent, "restore", "undo", "--yes")
            if status == 5:  # the one that was killed had done everything
                assert told["error"]["code"] in ("undone-already", "backup-missing"), told
            else:
                assert status == 0, (kind, call, told)
            assert chat_app.state(path) == old, (kind, call)


def test_a_kill_at_any_moment_of_a_backup_of_both_leaves_them_as_they_were_and_no_half_one_listed(path):
    before, kept = chat_app.state(path), promptvault_app.create(path)
    begun = time.monotonic()
    done(path, "backup", "create")
    at = Moments(chance("create pair"), time.monotonic() - begun)
    for _ in range(figure(1, 200)):
        job = forge.begin(path.parent, "backup", "create", "-o", "json")
        at.strike(job)
        forge.end(job)
        assert chat_app.state(path) == before
        assert not left(path)  # what is read is held open, so that nothing stands beside it
        assert set(promptvault_app.codes(promptvault_app.verified(path, deep=False))) <= {"backup-incomplete"}
        told = done(path, "backup", "prune", "--keep-last", "1", "--yes")
        assert kept.id not in told["leftovers"]
    at.over()


def test_a_kill_at_any_moment_of_a_restore_of_both_leaves_a_pair_or_says_that_it_is_none(path):
    new, kept = chat_app.state(path), promptvault_app.create(path)
    old = spoil(path)
    apply = ("restore", "apply", kept.id, "--yes")
    begun = time.monotonic()
    done(path, *apply)
    at, seen = Moments(chance("restore pair"), time.monotonic() - begun), Counter()
    done(path, "restore", "undo", "--yes")
    for _ in range(figure(1, 200)):
        job = forge.begin(path.parent, *apply, "-o", "json")
        at.strike(job)
        forge.end(job)
        now = chat_app.state(path)
        mixed = now not in (old, new)
        assert not mixed or said(path)
        seen["mixed" if mixed else "old" if now == old else "new"] += 1
        if now == old:
            done(path, *apply)
            assert chat_app.state(path) == new
        done(path, "restore", "undo", "--yes")
        assert chat_app.state(path) == old
        assert not said(path)
        for one in promptvault_app.listed(path).page.items:
            if one.id != kept.id:
                shutil.rmtree(promptvault_app.folder_of(path, one.id))
    print(dict(seen))
    at.over()


# Not alone -------------------------------------------------------------------------------------------------------

#: Writes batches of ten, deletes some whole, compacts, and removes every version but the newest.
VECTORS = """
import datetime, random, sys, time, warnings
import lancedb
warnings.simplefilter("ignore")
table = lancedb.connect(sys.argv[1]).open_table("batches")
print(flush=True)
number = 0
while True:
    number += 1
    table.add([{"batch": number, "vector": [random.random()] * 8} for _ in range(10)])
    if number % 3 == 0:
        table.delete(f"batch = {random.randint(1, number)}")
    if number % 5 == 0:
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
"""
#: Moves money about, so that the sum stays.
MESSAGES = """
import random, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print(flush=True)
while True:
    c.execute("begin immediate")
    a, b = random.sample(range(100), 2)
    c.execute("update bank set cents = cents - 1 where id = ?", (a,))
    c.execute("update bank set cents = cents + 1 where id = ?", (b,))
    c.execute("commit")
"""


@contextmanager
def beside(code, place):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(place)], stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        yield
        assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


def test_backups_of_both_while_both_are_written_hold_one_moment_of_each(path, tmp_path):
    with flashpoint_app.sqlite3.connect(path) as bank:
        bank.execute("create table bank (id integer primary key, cents integer)")
        bank.executemany("insert into bank values (?, 1000)", [(one,) for one in range(100)])
    bank.close()
    rows = [{"batch": 0, "vector": [0.0] * 8} for _ in range(10)]
    lancedb.connect(chat_app.vectors(path)).create_table("batches", rows)
    seen, until = set(), time.monotonic() + figure(1, 60)
    with beside(VECTORS, chat_app.vectors(path)), beside(MESSAGES, path):
        while time.monotonic() < until or len(seen) < 2:
            made = promptvault_app.create(path)
            seen.add(made.members[-1].facts["version of batches"])
            folder = promptvault_app.folder_of(path, made)
            there = Path(tmp_path, "there")
            there.mkdir()
            for one in folder.glob("*.tar.gz"):
                subprocess.run(["tar", "-xzf", one, "-C", there], check=True)
            found = lancedb.connect(there / "lancedb").open_table("batches").search().to_arrow()
            assert set(Counter(found.column("batch").to_pylist()).values()) == {10}
            plain = there / "chat.db"
            with next(folder.glob("chat_*.db.gz")).open("rb") as packed, plain.open("wb") as unpacked:
                subprocess.run(["gunzip", "-c"], stdin=packed, stdout=unpacked, check=True)
            assert flashpoint_app.rows(plain, "select sum(cents), count(*) from bank") == [(100_000, 100)]
            shutil.rmtree(there)
            shutil.rmtree(folder)
    print(len(seen), "versions")


# No room ---------------------------------------------------------------------------------------------------------


def test_where_either_does_not_fit_both_stay_as_they_are_and_nothing_of_it_stays(path):
    """A limit on the size of files stands for the full disk, as for SQLite alone."""
    new, kept = chat_app.state(path), promptvault_app.create(path)
    old = spoil(path)
    largest = max(one.stat().st_size for one in path.parent.rglob("*") if one.is_file())
    sizes = [2500, 3500, 4096, 9000, 12_500, largest - 1]  # in which the answer fits, which is a file, too
    for size in sorted(chance("pair limits").sample(sizes, figure(2, len(sizes)))):
        job = forge.begin(path.parent, "backup", "create", "-o", "json", limit=size)
        status, told = forge.end(job)
        assert status in (0, 1, 10), told
        assert chat_app.state(path) == old
        job = forge.begin(path.parent, "restore", "apply", kept.id, "--yes", "-o", "json", limit=size)
        status, told = forge.end(job)
        assert status in (0, 1, 10, 12), told
        assert chat_app.state(path) == (new if status == 0 else old), told
        assert not said(path)
        assert len(left(path)) == (status == 0)
        if status == 0:
            done(path, "restore", "undo", "--yes")
            for one in left(path):
                shutil.rmtree(path.with_name(one))
        assert set(promptvault_app.codes(promptvault_app.verified(path, deep=False))) <= {"backup-incomplete"}
