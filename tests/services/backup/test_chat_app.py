"""Backups of an app in two places, SQLite and LanceDB: taken together, and brought back together."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lancedb
import pyrage
import pytest

from dbctl.cli.main import main
from dbctl.engines.lancedb.backup import swap
from dbctl.errors import BusyError, Exit, FileMissingError, NotSupportedError, RestoreFailedError
from dbctl.files import temp
from dbctl.model import Findings
from dbctl.services.backup import create, verify
from dbctl.services.backup.create import Creation
from dbctl.services.integrity import check
from dbctl.services.restore.copy import Copying
from dbctl.services.restore.preview import preview
from dbctl.services.restore.restore_test import Drilling
from dbctl.url import parse
from tests import storage
from tests.engines import lance
from tests.services import chat_app, promptvault_app
from tests.services.flashpoint_app import caught

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path):
    return chat_app.settle(tmp_path / "app")


def kept(path):
    return [one for one in swap.left(chat_app.vectors(path)) if not swap.waits(one)]


# Together ----------------------------------------------------------------------------------------------------------


def test_a_backup_holds_both_and_a_restore_brings_both_back_with_the_same_nearest(path):
    before, near = chat_app.state(path), chat_app.nearest(path)
    made = promptvault_app.create(path)
    assert [(one.database, one.file) for one in made.members] == [
        ("chat", f"chat_{made.id}.db.gz"),
        ("vectors", f"lancedb_{made.id}.tar.gz"),
    ]
    # What comes last is held before the first is written, and not when its turn comes.
    first, last = made.members
    written = promptvault_app.folder_of(path, made) / first.file
    assert last.taken_at.timestamp() < written.stat().st_mtime
    assert [one.rows for one in made.members] == [{"messages": 30}, {lance.TABLE: 30}]
    chat_app.say(path, range(100, 120))
    chat_app.unsay(path, 3)
    after = chat_app.state(path)
    done = promptvault_app.apply(path, made.id)
    assert [(one.database, one.way) for one in done.databases] == [
        ("chat", "in place"),
        ("vectors", "swapped"),
    ]
    assert chat_app.state(path) == before
    assert chat_app.nearest(path) == near
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    promptvault_app.undo(path)
    assert chat_app.state(path) == after


def test_a_safety_backup_whose_retained_folder_is_gone_is_reported_as_gone(path):
    promptvault_app.create(path)
    first, second = promptvault_app.apply(path).safety_backup, promptvault_app.apply(path).safety_backup
    items = {one.id: one for one in promptvault_app.listed(path).page.items}
    assert (items[first].verified_at, items[second].note) == (None, "")
    assert promptvault_app.codes(promptvault_app.verified(path)) == ["retained-gone"]


def test_a_safety_backup_of_the_same_second_as_one_that_is_gone_keeps_what_it_replaces_all_the_same(
    path, monkeypatch
):
    """A clock that was set back may give a name twice."""
    made, before = promptvault_app.create(path), chat_app.state(path)
    chat_app.say(path, range(100, 120))
    monkeypatch.setattr(create, "now", lambda: made.created_at + timedelta(hours=1))
    first = promptvault_app.apply(path, made.id)
    shutil.rmtree(promptvault_app.folder_of(path, first.safety_backup))
    chat_app.say(path, range(200, 210))
    between = chat_app.state(path)
    second = promptvault_app.apply(path, made.id)
    assert second.safety_backup == first.safety_backup
    assert chat_app.state(path) == before
    promptvault_app.undo(path)
    assert chat_app.state(path) == between


def test_what_is_lost_comes_back(path):
    before, made = chat_app.state(path), promptvault_app.create(path)
    shutil.rmtree(chat_app.vectors(path))
    promptvault_app.lose(path)
    done = promptvault_app.apply(path, made.id)
    assert [one.way for one in done.databases] == ["new", "new"]
    assert chat_app.state(path) == before


def housed(path):
    """Move both into a folder of their own, as the app has them; return the path of the SQLite file."""
    data = path.with_name("data")
    data.mkdir(mode=0o750)
    config = path.with_name("dbctl.toml")
    for name in ("chat.db", "lancedb"):
        path.with_name(name).rename(data / name)
        config.write_text(config.read_text().replace(f'"{name}"', f'"data/{name}"'))
    return data / "chat.db"


def test_what_is_lost_with_its_whole_folder_comes_back_and_the_plan_says_so(path):
    there = housed(path)
    path.parent.chmod(0o751)
    before, made = chat_app.state(there), promptvault_app.create(path)
    shutil.rmtree(there.parent)
    with promptvault_app.opened(path) as (app, repository):
        steps = promptvault_app.restoring(app, repository, made.id).plan().steps
    assert [one for one in steps if "directory" in one] == [
        f"make the directory {there.parent}, which is missing"
    ]
    promptvault_app.apply(path, made.id)
    assert chat_app.state(there) == before
    assert there.parent.stat().st_mode & 0o777 == 0o751


def test_where_more_than_the_folder_is_missing_nothing_is_made(path):
    """It may be a disk that is not mounted."""
    there = housed(path)
    made, config = promptvault_app.create(path), path.with_name("dbctl.toml")
    shutil.rmtree(there.parent)
    config.write_text(config.read_text().replace("data/", "disk/data/"))
    error = caught(FileMissingError, lambda: promptvault_app.apply(path, made.id))
    assert error.facts["path"] == path.with_name("disk")
    assert not path.with_name("disk").exists()


def test_what_was_unpacked_by_a_restore_that_was_killed_is_told_unless_it_is_in_use(path, capsys):
    def told():
        main(["--config", str(path.with_name("dbctl.toml")), "doctor", "-o", "json"])
        findings = json.loads(capsys.readouterr().out)["data"]["findings"]
        return [(one["target"], one["hint"]) for one in findings if one["code"] == "left-behind"]

    place = chat_app.vectors(path)
    with temp.folder(place.parent, swap.new(place)) as used:
        assert told() == []
    used.mkdir()
    (used / "half").write_bytes(b"x")
    half = swap.beside(place, f"{swap.KEPT}20260101_000000{swap.PARTIAL}")
    half.mkdir()
    assert told() == [("talk/vectors", f"rm -r {half} {used}")]


def test_a_damaged_folder_is_kept_as_it_is_and_replaced(path):
    before, made = chat_app.state(path), promptvault_app.create(path)
    for one in chat_app.vectors(path).rglob("*.manifest"):
        one.write_bytes(b"none")
    promptvault_app.apply(path, made.id)
    assert chat_app.state(path) == before
    (beside,) = kept(path)
    assert next(beside.rglob("*.manifest")).read_bytes() == b"none"


def test_one_of_both_alone(path):
    before, made = chat_app.state(path), promptvault_app.create(path)
    chat_app.say(path, range(100, 110))
    after = chat_app.state(path)
    promptvault_app.apply(path, made.id, only="vectors")
    assert chat_app.state(path) == (after[0], before[1])
    promptvault_app.undo(path)
    assert chat_app.state(path) == after
    promptvault_app.apply(path, made.id, only="chat")
    assert chat_app.state(path) == (before[0], after[1])


def test_where_the_vectors_cannot_be_unpacked_nothing_is_replaced(path):
    made = promptvault_app.create(path)
    chat_app.say(path, range(100, 110))
    after = chat_app.state(path)
    with promptvault_app.opened(path) as (app, repository):
        work = promptvault_app.restoring(app, repository, made.id)
        vectors = work._members[1]
        told = dict.fromkeys(vectors.digests, "0" * 64)
        work._members[1] = vectors.__class__(
            **{
                name: told if name == "digests" else getattr(vectors, name)
                for name in vectors.__struct_fields__
            }
        )
        caught(RestoreFailedError, work.apply)
    assert chat_app.state(path) == after
    assert not list(swap.left(chat_app.vectors(path)))
    assert [one.kind for one in promptvault_app.listed(path).page.items] == ["backup"]


@pytest.mark.parametrize("engine", ["", "lancedb:"])
def test_a_copy_beside_is_found_by_its_address_also_where_only_its_path_was_given(path, tmp_path, engine):
    before, made = chat_app.state(path), promptvault_app.create(path)
    to = {"chat": parse(str(tmp_path / "other.db")), "vectors": parse(f"{engine}{tmp_path / 'other'}")}
    with promptvault_app.opened(path) as (app, repository):
        keys = promptvault_app.keys_of(app)
        done = Copying(app, repository, repository.find(made.id), to, keys, timeout=1).apply()
    table = lancedb.connect(tmp_path / "other").open_table(lance.TABLE)
    assert sorted(table.search().to_arrow().column("message_id").to_pylist()) == before[1]
    assert f"vectors=lancedb:{tmp_path / 'other'}" in done.use
    assert chat_app.state(path) == before


def test_a_preview_counts_both_now_and_then(path):
    made = promptvault_app.create(path)
    chat_app.say(path, range(100, 110))
    with promptvault_app.opened(path) as (app, repository):
        told = preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app), deep=True)
    found = {
        (one.database, table.table): (table.now, table.then) for one in told.databases for table in one.tables
    }
    assert found == {("chat", "messages"): (40, 30), ("vectors", lance.TABLE): (40, 30)}
    assert [(one.way, one.schema) for one in told.databases] == [("in place", "same"), ("swapped", "same")]


def test_a_preview_asks_for_no_deeper_look_where_there_is_nothing_to_compare(path):
    made = promptvault_app.create(path)
    with promptvault_app.opened(path) as (app, repository):
        told = preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app)).brief()
    assert not [one for one in told if "settings" in one]


def test_the_plan_of_a_folder_that_is_missing_lets_nothing_change_places(path):
    made = promptvault_app.create(path)
    shutil.rmtree(chat_app.vectors(path))
    with promptvault_app.opened(path) as (app, repository):
        steps = promptvault_app.restoring(app, repository, made.id).plan().steps
    assert f"unpack beside {chat_app.vectors(path)}, read it whole, and give it that name" in steps


# Proven ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["zstd", "none"])
def test_a_backup_of_both_is_verified_drilled_and_compared_with_what_is_live(path, compress):
    made = promptvault_app.create(path, compress=compress)
    with promptvault_app.opened(path) as (app, repository):
        keys = promptvault_app.keys_of(app)
        drilled = Drilling(app, repository, keys).drill(lambda _bytes: None)
        assert [(one.database, one.sound, one.rows) for one in drilled.databases] == [
            ("chat", True, 30),
            ("vectors", True, 30),
        ]
        assert drilled.databases[1].digests == 1
        checked = verify.verify(app, repository, [made.id], deep=True, keys=keys, live=True)
    assert checked.status == Exit.OK
    assert not list(swap.left(chat_app.vectors(path)))


def test_an_encrypted_pair_comes_back_and_nothing_of_it_stood_there_unencrypted(tmp_path):
    own = pyrage.x25519.Identity.generate()
    key = tmp_path / "key.txt"
    key.write_text(f"{own}\n")
    key.chmod(0o600)
    more = f'encrypt = {{ recipients = ["{own.to_public()}"], identity_file = "{key}" }}'
    path = chat_app.settle(tmp_path / "app", more=more)
    made = promptvault_app.create(path)
    assert [Path(one.file).suffix for one in made.members] == [".age", ".age"]
    assert [one.digests for one in made.members] == [{}, {}]
    chat_app.say(path, range(100, 110))
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    promptvault_app.apply(path, made.id)
    assert chat_app.state(path) == chat_app.both(range(30))


def test_backups_of_both_in_storage_come_back_and_are_drilled(path, tmp_path, monkeypatch):
    (tmp_path / "staging").mkdir(mode=0o700)
    bucket = storage.given_to(monkeypatch, tmp_path / "staging")
    file = path.with_name("dbctl.toml")
    file.write_text(
        file.read_text().replace('repository = "backups"', f'repository = "s3://{bucket.name}/off"')
    )
    made = promptvault_app.create(path)
    chat_app.say(path, range(100, 110))
    after = chat_app.state(path)
    with promptvault_app.opened(path) as (app, repository):
        drilled = Drilling(app, repository, promptvault_app.keys_of(app)).drill(lambda _bytes: None)
    assert [one.sound for one in drilled.databases] == [True, True]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    promptvault_app.apply(path, made.id)
    assert chat_app.state(path) == chat_app.both(range(30))
    promptvault_app.undo(path)
    assert chat_app.state(path) == after


# Without -----------------------------------------------------------------------------------------------------------

#: Runs dbctl where the packages that read tables are not installed.
WITHOUT = """
import sys
for name in ("lancedb", "pyarrow"):
    sys.modules[name] = None
from dbctl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without(path, *words):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(path.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_without_the_package_the_files_are_copied_counted_and_brought_back_and_that_is_said(path):
    before = chat_app.state(path)
    assert "not installed" in without(path, "backup", "create")
    (made,) = promptvault_app.listed(path).page.items
    with promptvault_app.opened(path) as (_, repository):
        member = repository.find(made.id).members[1]
    assert (member.rows, member.digests, member.schema) == ({lance.TABLE: 30}, {}, "")
    assert "not installed" in member.facts["remarks"]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []  # with it, it can be read whole
    chat_app.say(path, range(100, 110))
    without(path, "restore", "apply", made.id, "--yes")
    assert chat_app.state(path) == before


def test_vectors_in_storage_are_left_out_and_that_is_said(path):
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace('"lancedb"', '"s3://bucket/vectors"'))
    made = promptvault_app.create(path)
    assert [one.database for one in made.members] == ["chat"]
    (left,) = made.left_out
    assert (left.database, "storage" in left.reason) == ("vectors", True)
    assert any("vectors is not in the backup" in one for one in made.remarks)
    with promptvault_app.opened(path, only="vectors") as (app, repository):
        caught(NotSupportedError, lambda: Creation(app, repository, timeout=1).apply())


def test_two_restores_at_once_take_turns(path):
    made = promptvault_app.create(path)
    with (
        promptvault_app.opened(path) as (app, repository),
        lance.writer(chat_app.vectors(path)).lock("a test"),
    ):
        app.timeout = 0.1
        caught(BusyError, promptvault_app.restoring(app, repository, made.id).apply)
        assert isinstance(check.check(app).findings, Findings)


# From nothing ------------------------------------------------------------------------------------------------------

#: Writes rows of the app's table anew as they are, compacts, and removes every version but the newest.
VECTORS = """
import datetime, sys, warnings
import lancedb
warnings.simplefilter("ignore")
table = lancedb.connect(sys.argv[1]).open_table("chat_embeddings")
names = table.search().select(["message_id"]).limit(1000).to_arrow().column("message_id").to_pylist()
print(flush=True)
for turn in range(10**9):
    name = names[turn % len(names)]
    table.update(f"message_id = '{name}'", {"message_id": name})
    if turn % 5 == 0:
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
"""
CHAT = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print(flush=True)
while True:
    c.execute("update users set last_active = datetime('now')")
"""


@contextmanager
def written(code, place):
    words = [sys.executable, "-c", code, str(place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as writer:
        try:
            writer.stdout.readline()
            yield
            assert writer.poll() is None
        finally:
            writer.kill()


def test_from_nothing_to_a_sample_its_backup_under_writers_its_loss_and_back_with_the_same_nearest(
    tmp_path, capsys
):
    app, config = tmp_path / "app", ["--config", str(tmp_path / "app" / "dbctl.toml")]
    chat, vectors = app / "data" / "chat.db", app / "data" / "lancedb"

    def done(*words):
        assert main([*words, *config, "-o", "json"]) == 0
        return json.loads(capsys.readouterr().out)["data"]

    def nearest():
        """Return the ten nearest of a hundred; those that are as far as the eleventh come in any order."""
        table, told = lancedb.connect(vectors).open_table("chat_embeddings"), []
        for number in range(100):
            draw = random.Random(number)  # noqa: S311 - no secret
            found = table.search([draw.gauss(0, 1) for _ in range(768)]).limit(11).to_list()
            far = max(one["_distance"] for one in found)
            told.append(
                sorted((one["_distance"], one["message_id"]) for one in found if one["_distance"] < far)
            )
        return told

    assert main(["demo", "chat-lancedb", str(app), "--messages", "150", "--quiet"]) == 0
    capsys.readouterr()
    before = nearest()
    with written(VECTORS, vectors), written(CHAT, chat):
        made = done("backup", "create")
    assert timedelta(seconds=made["taken_within"]) < timedelta(seconds=1)
    promptvault_app.lose(chat)
    shutil.rmtree(vectors)
    done("restore", "apply", made["id"], "--yes")
    assert done("integrity", "cross-check")["findings"] == []
    assert nearest() == before
