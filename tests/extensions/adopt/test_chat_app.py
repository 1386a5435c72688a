"""Backup files of two databases that the script of an app created: listed, verified, adopted and restored as one set."""

from __future__ import annotations

import os
import shutil
import subprocess

import lancedb
import pytest

from dbctl.errors.backup import AlreadyAdoptedError, FileNotRestorableError
from dbctl.errors.databases import SameFileError
from dbctl.services.backup import named_files
from tests.engines import lance
from tests.extensions.adopt.test_files import adopt, apply, find_backups, verify_files
from tests.extensions.lancedb import chat_app
from tests.services import promptvault_app
from tests.services.flashpoint_app import catch_error

TIMESTAMP = "20250119_140530"
#: The commands of the app's backup script, and those of its restore script that copy the live databases.
SCRIPT = f"""
set -e
sqlite3 chat.db ".backup foreign/chat_{TIMESTAMP}.db" && gzip foreign/chat_{TIMESTAMP}.db
tar -czf foreign/lancedb_{TIMESTAMP}.tar.gz lancedb
mkdir foreign/pre_restore_{TIMESTAMP}
cp chat.db foreign/pre_restore_{TIMESTAMP}/chat.db
cp -r lancedb foreign/pre_restore_{TIMESTAMP}/lancedb
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC-2")
    path = chat_app.create_app(tmp_path / "app")
    (path.parent / "foreign").mkdir()
    subprocess.run(["sh", "-c", SCRIPT], cwd=path.parent, check=True)
    for entry in (path.parent / "foreign").rglob("*"):
        entry.chmod(entry.stat().st_mode & ~0o022)
    chat_app.add_messages(path, range(100, 110))
    chat_app.delete_message(path, 3)
    return path


def foreign_file(path, name):
    return path.parent / "foreign" / name


CHAT, VECTORS, SAFETY_COPY = (
    f"chat_{TIMESTAMP}.db.gz",
    f"lancedb_{TIMESTAMP}.tar.gz",
    f"pre_restore_{TIMESTAMP}",
)


@pytest.mark.parametrize("name", [CHAT, VECTORS, SAFETY_COPY])
def test_any_file_of_a_set_restores_both_databases(path, name):
    after = chat_app.read_keys(path)
    result = apply(path, foreign_file(path, name))
    assert [(database.database, database.rows) for database in result.databases] == [
        ("chat", 30),
        ("vectors", 30),
    ]
    assert chat_app.read_keys(path) == chat_app.expected_keys(range(30))
    promptvault_app.undo_restore(path)
    assert chat_app.read_keys(path) == after


def test_one_database_of_a_set_is_restored_alone(path):
    after = chat_app.read_keys(path)
    apply(path, foreign_file(path, CHAT), only="chat")
    assert chat_app.read_keys(path) == (chat_app.expected_keys(range(30))[0], after[1])
    promptvault_app.undo_restore(path)
    foreign_file(path, VECTORS).unlink()
    with (
        promptvault_app.open_repository(path) as (_app, repository),
        named_files.stage_backup(repository, foreign_file(path, CHAT), trial=False) as (staged, _),
    ):
        assert staged.manifest.databases == ["chat"]
        assert any("no copy of vectors with the same time" in remark for remark in staged.remarks)


def test_a_set_is_verified_and_adopted_as_one_backup(path):
    (valid,) = [
        finding for finding in verify_files(path, foreign_file(path, CHAT)) if finding.code == "file-valid"
    ]
    assert "messages 30" in valid.message
    assert f"{lance.TABLE} 30" in valid.message
    (adopted,) = adopt(path, foreign_file(path, CHAT), foreign_file(path, VECTORS)).adopted
    assert adopted.databases == ["chat", "vectors"]
    assert [member.file.rpartition("_")[0][:7] for member in adopted.members] == ["chat_20", "lancedb"]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    catch_error(AlreadyAdoptedError, lambda: adopt(path, foreign_file(path, VECTORS)))
    promptvault_app.apply_restore(path, adopted.id)
    assert chat_app.read_keys(path) == chat_app.expected_keys(range(30))


def test_folder_of_a_script_is_adopted_as_a_whole(path):
    for name in (CHAT, VECTORS):  # a run of the script without changes
        shutil.copy(foreign_file(path, name), foreign_file(path, name.replace("20250119", "20250121")))
    script = SCRIPT.replace(TIMESTAMP, "20250120_140530")  # the messages have changed
    subprocess.run(["sh", "-c", script], cwd=path.parent, check=True)
    for entry in (path.parent / "foreign").rglob("*"):
        entry.chmod(entry.stat().st_mode & ~0o022)
    foreign_file(path, "notes.txt").write_text("moved to the other disk")
    result = adopt(path, path.parent / "foreign")
    assert [(backup.databases, f"{backup.created_at:%m-%d}") for backup in result.adopted] == [
        (["chat", "vectors"], "01-19"),
        (["chat", "vectors"], "01-20"),
    ]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    assert any("20250121_140530.db.gz is already in the repository" in text for text in result.remarks)
    assert adopt(path, path.parent / "foreign").adopted == []  # nothing is new
    (path.parent / "empty").mkdir()
    catch_error(FileNotRestorableError, lambda: adopt(path, path.parent / "empty"))


def test_interrupted_copy_is_restored_at_its_last_complete_version(path):
    folder = foreign_file(path, SAFETY_COPY)
    table = lancedb.connect(folder / "lancedb").open_table(lance.TABLE)
    table.add([lance.create_row(50)])
    data = folder / "lancedb" / f"{lance.TABLE}.lance" / "data"
    max(data.iterdir(), key=lambda entry: entry.stat().st_mtime_ns).unlink()
    with (
        promptvault_app.open_repository(path) as (_app, repository),
        named_files.stage_backup(repository, folder, trial=False) as (staged, _),
    ):
        assert staged.manifest.members[1].rows == {lance.TABLE: 30}
        assert any("is incomplete" in remark for remark in staged.remarks)


def test_live_vector_folder_is_rejected(path):
    catch_error(SameFileError, lambda: apply(path, chat_app.vector_folder(path)))


def test_files_of_a_set_are_listed_with_their_databases(path):
    shutil.copytree(path.parent / "foreign", path.parent / "backups", dirs_exist_ok=True)
    databases = {os.path.basename(backup.path): list(backup.databases) for backup in find_backups(path)}  # noqa: PTH119
    assert databases[CHAT] == ["chat"]
    assert databases[VECTORS] == ["vectors"]
    assert databases[SAFETY_COPY] == ["chat", "vectors"]
    assert chat_app.vector_folder(path).name not in databases
