"""The app's own files beside its databases: packed as one file of a backup, proven with it, and left alone by a restore."""

from __future__ import annotations

import os
import shlex
import tarfile
from pathlib import Path

import pytest

from dbctl.profiles.model import Backup
from tests.services import promptvault_app
from tests.services.flashpoint_app import template

PROFILE = """
schema = "dbctl.profile/1"
name = "keys"
title = "Keys"
[databases.user]
engines = ["sqlite"]
find = ["user.db"]
[backup]
extra = [".env", "auth/", "data/*.json", "nothing/", "*.db"]
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """An app in a folder of its own, with its configuration beside that."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "app"
    (place / "auth/session one").mkdir(parents=True)
    (place / "data").mkdir()
    (place / ".env").write_text("SECRET=1\n")
    (place / "auth/session one/key").write_bytes(os.urandom(5 << 20))
    (place / "auth/link").symlink_to("session one/key")
    os.mkfifo(place / "auth/pipe")
    (place / "data/rules.json").write_text("{}")
    (place / "data/other.txt").write_text("no part of it")
    (place / "user.db").write_bytes(template("deployed").read_bytes())
    Path("keys.toml").write_text(PROFILE)
    return place


@pytest.fixture
def ask(answer, app):
    answer("init", "./keys.toml", "app", "--app", "keys")

    def run(*words, status=0):
        told = answer(*words, status=status)
        return told["error"] or told["data"]

    return run


def packed():
    (file,) = Path("backups").rglob("files_*.tar.gz")
    return file


def test_they_are_one_file_of_the_backup_that_only_its_owner_reads(ask, app):
    made = ask("backup", "create")
    assert made["databases"] == ["user"]
    assert [(one["form"], one["database"]) for one in made["members"]] == [("dump", "user"), ("files", "")]
    assert packed().stat().st_mode & 0o777 == 0o600
    with tarfile.open(packed()) as archive:
        # the database is copied by its engine; to open it here would end the locks on it
        assert sorted(archive.getnames()) == [".env", "auth/link", "auth/session one/key", "data/rules.json"]
        assert archive.getmember("auth/link").issym()
        assert (
            archive.extractfile("auth/session one/key").read() == (app / "auth/session one/key").read_bytes()
        )
    assert 'directory = "app"' in Path("dbctl.toml").read_text()


def test_the_plan_tells_of_them_and_writes_nothing(ask):
    plan = ask("backup", "create", "--dry-run")["plan"]
    assert "pack 4 files of the app (.env, auth/, data/" in plan["steps"][1]
    assert not Path("backups").exists()


def test_a_backup_of_one_database_has_none(ask):
    assert len(ask("backup", "create", "--db", "user")["members"]) == 1


def test_they_are_proven_with_the_backup(ask):
    ask("backup", "create")
    assert ask("backup", "verify", "--deep")["findings"] == []
    raw = bytearray(packed().read_bytes())
    raw[-20] ^= 1
    packed().chmod(0o600)
    packed().write_bytes(raw)
    (found,) = ask("backup", "verify", status=4)["findings"]
    assert (found["target"], found["code"]) == ("keys", "file-changed")


def test_a_restore_leaves_them_alone_and_says_how_they_come_back(ask, app):
    ask("backup", "create")
    (app / ".env").write_text("SECRET=2\n")
    done = ask("restore", "apply", "latest", "--yes")
    (found,) = [one for one in done["findings"] if one["code"] == "files-left"]
    assert (app / ".env").read_text() == "SECRET=2\n"
    ask(*shlex.split(found["hint"].partition(" unpacks")[0])[1:])
    assert Path("DIR/.env").read_text() == "SECRET=1\n"


def test_a_person_is_told_how_many_they_are_and_the_line_that_brings_them_back(ask, app):
    assert promptvault_app.create(Path("app")).brief()["files"] == "4 files"
    (note,) = [one for one in promptvault_app.apply(Path("app")).brief()["notes"] if "own files" in one]
    line = note.rpartition("; ")[2].partition(" unpacks")[0]
    ask(*shlex.split(line)[1:])
    assert Path("DIR/.env").read_text() == "SECRET=1\n"


def test_they_are_unpacked_into_a_folder_of_their_own_but_for_links(ask, app):
    made = ask("backup", "create")
    plan = ask("restore", "files", made["id"], "--to", "out", "--dry-run")["plan"]
    assert "4 files" in plan["steps"][0]
    assert not Path("out").exists()
    done = ask("restore", "files", "latest", "--to", "out")
    assert (done["source"], done["files"]) == (made["id"], 3)
    assert [one.partition(" -> ")[0] for one in done["left_out"]] == ["auth/link"]
    for name in (".env", "auth/session one/key", "data/rules.json"):
        assert Path("out", name).read_bytes() == (app / name).read_bytes()
    ask("restore", "files", "latest", "--to", "out", status=6)


def test_they_are_not_unpacked_from_a_file_that_was_changed(ask):
    ask("backup", "create")
    packed().chmod(0o600)
    packed().write_bytes(packed().read_bytes()[:-20])
    ask("restore", "files", "latest", "--to", "out", status=4)
    ask("restore", "files", "--file", str(packed()), "--to", "out", status=4)
    assert not Path("out").exists()


def test_any_archive_is_unpacked_safely_and_nothing_else_is(ask):
    Path("folder").mkdir()
    Path("folder/table.lance").write_text("rows")
    for mode, name in (("w:gz", "lancedb.backup.tar.gz"), ("w", "lancedb.tar")):
        with tarfile.open(name, mode) as archive:
            archive.add("folder")
        ask("restore", "files", "--file", name, "--to", f"from-{name}")
        assert Path(f"from-{name}/folder/table.lance").read_text() == "rows"
        ask("restore", "apply", "--file", name, "--yes", status=2)
    ask("restore", "files", "--file", "dbctl.toml", "--to", "out", status=2)
    ask("restore", "files", "--file", "nothing.tar", "--to", "out", status=5)
    ask("restore", "files", "--to", "out", status=2)
    made = ask("backup", "create", "--db", "user")
    ask("restore", "files", made["id"], "--to", "out", status=5)
    assert not Path("out").exists()


def test_a_file_that_cannot_be_read_leaves_no_backup(ask, app, monkeypatch):
    opened = Path.open

    def refusing(path, *words, **named):  # root may read everything, so the system's answer is made up
        if path.name == ".env" and words[:1] == ("rb",):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *words, **named)

    monkeypatch.setattr(Path, "open", refusing)
    assert ask("backup", "create", status=1)["code"] == "file-failed"
    monkeypatch.undo()
    monkeypatch.chdir(app.parent)
    assert ask("backup", "list")["items"] == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../other", "a/../../b", ""])
def test_a_profile_cannot_reach_out_of_the_app(path):
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"extra": [path]}, Backup)
