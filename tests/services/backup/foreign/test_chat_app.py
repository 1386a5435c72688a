"""What an app's own script left of its two databases: found, tried, adopted and brought back together."""

from __future__ import annotations

import os
import shutil
import subprocess

import lancedb
import pytest

from dbctl.errors import AdoptedAlreadyError, SameFileError
from dbctl.services.backup.foreign import detect
from tests.engines import lance
from tests.services import chat_app, promptvault_app
from tests.services.backup.foreign.test_files import adopt, apply, tried
from tests.services.backup.foreign.test_files import found as foreign
from tests.services.flashpoint_app import caught

STAMP = "20250119_140530"
#: What the app's script does, and what its restore keeps first.
SCRIPT = f"""
set -e
sqlite3 chat.db ".backup left/chat_{STAMP}.db" && gzip left/chat_{STAMP}.db
tar -czf left/lancedb_{STAMP}.tar.gz lancedb
mkdir left/pre_restore_{STAMP}
cp chat.db left/pre_restore_{STAMP}/chat.db
cp -r lancedb left/pre_restore_{STAMP}/lancedb
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC-2")
    path = chat_app.settle(tmp_path / "app")
    (path.parent / "left").mkdir()
    subprocess.run(["sh", "-c", SCRIPT], cwd=path.parent, check=True)
    for one in (path.parent / "left").rglob("*"):
        one.chmod(one.stat().st_mode & ~0o022)
    chat_app.say(path, range(100, 110))
    chat_app.unsay(path, 3)
    return path


def left(path, name):
    return path.parent / "left" / name


CHAT, VECTORS, BEFORE = f"chat_{STAMP}.db.gz", f"lancedb_{STAMP}.tar.gz", f"pre_restore_{STAMP}"


@pytest.mark.parametrize("name", [CHAT, VECTORS, BEFORE])
def test_whichever_of_both_is_named_both_come_back_and_can_be_undone(path, name):
    after = chat_app.state(path)
    done = apply(path, left(path, name))
    assert [(one.database, one.rows) for one in done.databases] == [("chat", 30), ("vectors", 30)]
    assert chat_app.state(path) == chat_app.both(range(30))
    promptvault_app.undo(path)
    assert chat_app.state(path) == after


def test_one_of_both_alone_comes_back_where_that_is_asked_for_or_the_other_is_missing(path):
    after = chat_app.state(path)
    apply(path, left(path, CHAT), only="chat")
    assert chat_app.state(path) == (chat_app.both(range(30))[0], after[1])
    promptvault_app.undo(path)
    left(path, VECTORS).unlink()
    with (
        promptvault_app.opened(path) as (app, repository),
        detect.staged(app, repository, left(path, CHAT), trial=False) as (told, _),
    ):
        assert told.manifest.databases == ["chat"]
        assert any("no copy of vectors of the same time" in one for one in told.remarks)


def test_both_are_tried_and_adopted_as_one_of_their_local_time(path):
    (told,) = [one for one in tried(path, left(path, CHAT)) if one.code == "file-sound"]
    assert "messages 30" in told.message
    assert f"{lance.TABLE} 30" in told.message
    (made,) = adopt(path, left(path, CHAT), left(path, VECTORS)).adopted
    assert made.databases == ["chat", "vectors"]
    assert [one.file.rpartition("_")[0][:7] for one in made.members] == ["chat_20", "lancedb"]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    caught(AdoptedAlreadyError, lambda: adopt(path, left(path, VECTORS)))
    promptvault_app.apply(path, made.id)
    assert chat_app.state(path) == chat_app.both(range(30))


def test_what_was_packed_while_it_was_written_is_taken_at_its_newest_whole_version(path):
    folder = left(path, BEFORE)
    table = lancedb.connect(folder / "lancedb").open_table(lance.TABLE)
    table.add([lance.row(50)])
    data = folder / "lancedb" / f"{lance.TABLE}.lance" / "data"
    max(data.iterdir(), key=lambda one: one.stat().st_mtime_ns).unlink()
    with (
        promptvault_app.opened(path) as (app, repository),
        detect.staged(app, repository, folder, trial=False) as (told, _),
    ):
        assert told.manifest.members[1].rows == {lance.TABLE: 30}
        assert any("is not whole" in one for one in told.remarks)


def test_the_live_folder_is_refused_as_a_file_of_its_own(path):
    caught(SameFileError, lambda: apply(path, chat_app.vectors(path)))


def test_files_of_both_are_listed(path):
    shutil.copytree(path.parent / "left", path.parent / "backups", dirs_exist_ok=True)
    found = {os.path.basename(one.path): list(one.databases) for one in foreign(path)}  # noqa: PTH119 - a name
    assert found[CHAT] == ["chat"]
    assert found[VECTORS] == ["vectors"]
    assert found[BEFORE] == ["chat", "vectors"]
    assert chat_app.vectors(path).name not in found
