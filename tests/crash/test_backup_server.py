"""Backups and restores on a server that are killed or stopped at any moment: old or new, never half, and reachable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from dbctl.engines.mysql import locks
from tests import databases, servers
from tests.crash.figures import chance, figure, tries
from tests.crash.forge import Moments
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_mysql import MORE, others

ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
KILLS = figure(4, 100)
TRIGGERS = "select count(*) from information_schema.triggers where trigger_schema = database()"
#: Sessions of dbctl that are in the database, or hold what its name is changed under.
SESSIONS = {
    "postgresql": """select count(*) from pg_stat_activity where application_name ~ '^dbctl' and (datname = '{name}'
or pid in (select l.pid from pg_locks l where l.classid = 'pg_database'::regclass
  and l.objid in (select d.oid from pg_database d where starts_with(d.datname, '{name}'))))""",
    "mysql": """select count(*) from information_schema.processlist where id <> connection_id()
and (db = '{name}' or id = is_used_lock('{lock}'))""",
}


@pytest.fixture(params=["postgresql", "postgresql schema", "mysql"])
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        many = (
            "values " + ", ".join(f"({n}, '{sha256(b'%d' % n).hexdigest()}')" for n in range(1, 60_001))
            if request.param == "mysql"
            else "select n, md5(n::text) from generate_series(1, 60000) n"
        )
        made.run("create table much (id int primary key, text text)", f"insert into much {many}")
        yield made


def begin(pantry, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", *words, "-o", "json"],
        cwd=pantry.folder,
        env={**CLEAN, "TMPDIR": str(pantry.folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out) if out else err


def outlived(pantry):
    """Wait until what a killed dbctl had started has ended, too: what it was told already, it may still do.

    That is its programs, and what a server does for it. While MySQL renames tables, its catalogue lists some of them or
    none; whoever asks for one by its name waits, and gets it.
    """
    mark, deadline = os.fsencode(pantry.folder), time.monotonic() + 60
    while any(mark in _words_of(one) for one in Path("/proc").iterdir() if one.name.isdigit()) or _sessions(
        pantry
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _sessions(pantry):
    """Return how many sessions of dbctl may still change what is under the name."""
    name = pantry.own.path
    asked = SESSIONS[pantry.engine].format(name=name, lock=locks.exchange(locks.name_of(name)))
    server = servers.mysql() if pantry.engine == "mysql" else servers.postgresql()  # in which no name changes
    ((found,),) = databases.of(servers.text(server)).rows(asked)
    return found


def _words_of(process):
    """Return the command and the environment of another process; nothing of one that has ended, or is somebody else's."""
    if int(process.name) == os.getpid():
        return b""
    try:
        return b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return b""


def folders(pantry):
    root = pantry.folder / "backups" / "larder"
    return {one.name for one in root.iterdir() if one.is_dir()} if root.is_dir() else set()


def wait_until(process, happened):
    while process.poll() is None and not happened():
        time.sleep(0.001)


def whole(pantry, before):
    root = pantry.folder / "backups/larder"
    return any((root / one / "manifest.json").exists() for one in folders(pantry) - before)


def test_a_kill_in_the_middle_of_a_backup_leaves_earlier_ones_and_no_half_one(pantry):
    first = promptvault_app.create(pantry.path)
    at, cut = Moments(chance("create on a server"), 0.2), set()
    for _ in tries(KILLS, cut):
        before = folders(pantry)
        process = begin(pantry, "backup", "create")
        wait_until(process, lambda before=before: folders(pantry) != before)
        at.strike(process)
        end(process)
        listed = promptvault_app.listed(pantry.path)
        cut.update(listed.incomplete)
        assert first.id in [one.id for one in listed.page.items]
        assert set(promptvault_app.codes(promptvault_app.verified(pantry.path, deep=False))) <= {
            "backup-incomplete"
        }
    status, told = end(begin(pantry, "backup", "create"))
    assert status == 0, told
    status, told = end(begin(pantry, "backup", "prune", "--keep-last", "9", "--yes"))
    assert (status, len(told["data"]["leftovers"])) == (0, len(cut)), told
    assert not list(pantry.folder.glob("dbctl-secret-*"))


def test_a_kill_in_the_middle_of_a_restore_leaves_the_old_rows_or_the_new_under_the_name(pantry):
    new = pantry.content()
    promptvault_app.create(pantry.path)
    pantry.spoil()
    old = pantry.content()
    at, seen = Moments(chance("restore on a server"), 2.0), {"old": 0, "new": 0}
    for _ in range(KILLS):
        before = folders(pantry)
        process = begin(pantry, "restore", "apply", "latest", "--yes")
        wait_until(process, lambda before=before: whole(pantry, before))
        at.strike(process)
        end(process)
        outlived(pantry)
        now = pantry.content()
        assert now in (old, new)
        seen["old" if now == old else "new"] += 1
        if now == new:
            status, told = end(begin(pantry, "restore", "undo", "--yes"))
            assert status == 0, told
        assert pantry.content() == old
    status, told = end(begin(pantry, "restore", "apply", "latest", "--yes"))
    assert status == 0, told
    assert pantry.content() == new
    status, told = end(begin(pantry, "restore", "undo", "--yes"))
    assert status == 0, told
    assert pantry.content() == old
    assert not [one for one in pantry.databases() if "_dbctl_new" in one]
    assert not list(pantry.folder.glob("dbctl-secret-*"))
    print(seen)
    at.over()


def test_a_kill_while_tables_change_places_and_undo_brings_back_also_what_is_no_table(tmp_path):
    """Views, triggers and routines of MySQL, which no rename takes along."""
    at = Moments(chance("exchange of tables"), 0.25)
    with larder_app.settled("mysql", tmp_path / "app") as pantry:
        pantry.run(*MORE)
        told, new = others(pantry), pantry.content()
        promptvault_app.create(pantry.path)
        pantry.spoil()
        old = pantry.content()
        for _ in range(figure(2, 100)):
            process = begin(pantry, "restore", "apply", "latest", "--yes")
            wait_until(process, lambda: pantry.rows(TRIGGERS) == [(0,)])
            at.strike(process)
            end(process)
            outlived(pantry)
            assert pantry.content() in (old, new)
            status, answer = end(begin(pantry, "restore", "undo", "--yes"))
            assert status == 0, answer
            assert (pantry.content(), others(pantry)) == (old, told)
    at.over()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [("backup", "create"), ("restore", "apply", "latest", "--yes")])
def test_a_signal_ends_it_and_leaves_nothing_of_it(pantry, words, number):
    promptvault_app.create(pantry.path)
    pantry.spoil()
    held, ended = pantry.content(), set()
    for _ in tries(1, ended):  # again where it came too late
        before, names = folders(pantry), pantry.databases()
        process = begin(pantry, *words)
        wait_until(process, lambda before=before: folders(pantry) != before)
        process.send_signal(number)
        status, told = end(process)
        if status:
            ended.add(status)
        elif words[0] == "restore":
            promptvault_app.undo(pantry.path)
    assert (status, told["error"]["code"]) == (128 + number, "interrupted")
    assert folders(pantry) == before
    assert pantry.content() == held
    assert not list(pantry.folder.glob("dbctl-secret-*"))
    assert pantry.databases() == names
