"""The app's own files: archived and verified with a backup, not changed by a restore of databases."""

from __future__ import annotations

import os
import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.connection import DiskFullError, FileFailedError
from dbctl.profiles.model.profile import Backup
from dbctl.services.backup.app_files import find_files
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import Repository
from dbctl.services.restore.source import open_live_source
from tests.observed_progress import observe_progress
from tests.services import promptvault_app
from tests.services.flashpoint_app import template
from tests.small_disk import mount_disk

UNPRIVILEGED_ID = 65534

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
    """An app in a subfolder of the folder with its configuration."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "app"
    (folder / "auth/session one").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / ".env").write_text("SECRET=1\n")
    (folder / "auth/session one/key").write_bytes(os.urandom(5 << 20))
    (folder / "auth/link").symlink_to("session one/key")
    os.mkfifo(folder / "auth/pipe")
    (folder / "data/rules.json").write_text("{}")
    (folder / "data/other.txt").write_text("not included")
    (folder / "user.db").write_bytes(template("deployed").read_bytes())
    Path("keys.toml").write_text(PROFILE)
    return folder


@pytest.fixture
def run_cli(answer, app):
    answer("init", "./keys.toml", "app", "--app", "keys")

    def run(*words, status=0):
        result = answer(*words, status=status)
        return result["error"] or result["data"]

    return run


def find_archive():
    (file,) = Path("backups").rglob("files_*.tar.gz")
    return file


def test_app_files_are_one_private_archive(run_cli, app):
    backup = run_cli("backup", "create")
    assert backup["databases"] == ["user"]
    assert [(member["form"], member["database"]) for member in backup["members"]] == [
        ("dump", "user"),
        ("files", ""),
    ]
    assert find_archive().stat().st_mode & 0o777 == 0o600
    with tarfile.open(find_archive()) as archive:
        # user.db is not archived: reading it as a file would release the SQLite locks of this process
        assert sorted(archive.getnames()) == [".env", "auth/link", "auth/session one/key", "data/rules.json"]
        assert archive.getmember("auth/link").issym()
        assert (
            archive.extractfile("auth/session one/key").read() == (app / "auth/session one/key").read_bytes()
        )
    assert 'directory = "app"' in Path("dbctl.toml").read_text()


def test_archive_of_the_app_is_extracted_whatever_its_content(run_cli, app):
    (app / "auth/session one/key").unlink()  # random
    nested = app / "auth" / "/".join(["folder"] * 100)
    nested.mkdir(parents=True)
    (nested / "key").write_text("deep")
    os.truncate(
        os.open(app / "auth/zeros", os.O_CREAT | os.O_WRONLY), 70 << 20
    )  # of which nothing remains compressed
    run_cli("backup", "create")
    run_cli("restore", "files", "latest", "--to", "DIR")
    assert Path("DIR/auth/zeros").stat().st_size == 70 << 20
    assert (Path("DIR") / nested.relative_to(app) / "key").read_text() == "deep"
    error = run_cli("restore", "files", "--file", str(find_archive()), "--to", "other", status=6)
    assert error["code"] == "decompression-limit"  # another program may have written it


def test_folder_and_file_that_are_links_are_archived_with_their_content(run_cli, app, tmp_path):
    (tmp_path / "disk/nested").mkdir(parents=True)
    (tmp_path / "disk/nested/upload").write_text("upload")
    (tmp_path / "disk/link").symlink_to("nested")
    (app / ".env").rename(tmp_path / "settings")
    (app / ".env").symlink_to(tmp_path / "settings")
    (app / "nothing").symlink_to(tmp_path / "disk")
    run_cli("backup", "create")
    left_out = run_cli("restore", "files", "latest", "--to", "DIR")["left_out"]
    assert {name.partition(" -> ")[0] for name in left_out} == {"auth/link", "nothing/link"}
    assert Path("DIR/.env").read_text() == "SECRET=1\n"
    assert Path("DIR/nothing/nested/upload").read_text() == "upload"


@pytest.mark.parametrize("names", ['"auth/", "auth/link/"', '"auth/link/", "auth/"'])
def test_link_that_is_named_in_a_named_folder_is_extracted_with_its_content(run_cli, app, names):
    (app / "auth/link").unlink()
    (app / "auth/link").symlink_to("session one")
    Path("keys.toml").write_text(PROFILE.replace('"auth/"', names))
    run_cli("backup", "create")
    assert run_cli("restore", "files", "latest", "--to", "DIR")["left_out"] == []
    assert Path("DIR/auth/link/key").read_bytes() == Path("DIR/auth/session one/key").read_bytes()


def test_backups_in_a_folder_of_the_app_are_not_in_backups(run_cli, app):
    config = Path("dbctl.toml")
    config.write_text(config.read_text().replace('repository = "backups"', 'repository = "app/auth/backups"'))
    first, second = (run_cli("backup", "create") for _ in range(2))
    third = run_cli("backup", "create", "--repository", "app/auth/others")
    run_cli("backup", "create", "--repository", "app/auth/others")
    counts = [backup["members"][1]["facts"]["files"] for backup in (first, second, third)]
    assert counts == ["4"] * 3
    with tarfile.open(max(Path().rglob("app/auth/others/**/files_*.tar.gz"))) as archive:
        assert len(archive.getnames()) == 4


def test_link_to_a_disk_that_is_not_mounted_is_no_missing_folder(run_cli, app):
    (app / "nothing").symlink_to("/mnt/missing")
    assert "nothing" in run_cli("backup", "create", status=1)["message"]
    assert not list(Path().rglob("manifest*"))


def test_missing_directory_is_no_app_without_files(run_cli):
    config = Path("dbctl.toml")
    config.write_text(config.read_text().replace('directory = "app"', 'directory = "unmounted"'))
    error = run_cli("backup", "create", status=5)
    assert error["code"] == "file-missing"
    assert "backup create --db NAME" in error["hint"]
    run_cli("backup", "create", "--db", "user")  # needs no files
    with promptvault_app.open_repository(Path("user.db")) as (app, _repository):
        keys = promptvault_app.create_keys(app)
        with open_live_source(app, keys, RolePolicy()) as source:  # for a copy of the databases
            assert [member.form for member in source.manifest.members] == ["dump"]


def test_backup_without_the_files_of_earlier_ones_is_reported(run_cli, app):
    *_, larger = [run_cli("backup", "create") for _ in range(3)]
    shutil.rmtree(app / "auth")
    (app / "auth").mkdir()  # whose disk is not mounted
    (app / ".env").unlink()
    backup = run_cli("backup", "create")
    (remark,) = backup["remarks"]
    assert f"backup {backup['id']} has 1 app file, 75% fewer" in remark
    run_cli("backup", "create", "--db", "user")  # has none
    (app / "data/rules.json").unlink()
    config = Path("dbctl.toml")
    config.write_text(
        config.read_text().replace("[apps.keys.backup]", "[apps.keys.backup]\nmax_shrink = 0.9")
    )
    error = run_cli("backup", "create", status=4)
    assert error["code"] == "backup-shrunken"
    assert run_cli("backup", "show", larger["id"])["pin"]["by"] == "dbctl"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("pattern", ["auth/", "auth/locked/key", "auth/locked/*.json"])
def test_folder_that_cannot_be_read_is_no_empty_folder(pattern):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "auth/locked").mkdir(parents=True)
        (folder / "auth/locked").chmod(0o700)
        os.seteuid(UNPRIVILEGED_ID)
        try:
            with pytest.raises(FileFailedError, match="auth/locked"):
                list(find_files(folder, [pattern]))
        finally:
            os.seteuid(0)


def test_further_name_of_a_file_is_extracted_as_a_file(run_cli, app):
    os.link(app / ".env", app / "auth/same")
    run_cli("backup", "create")
    run_cli("restore", "files", "latest", "--to", "DIR")
    assert Path("DIR/auth/same").read_text() == Path("DIR/.env").read_text() == "SECRET=1\n"


def test_plan_lists_app_files_and_writes_nothing(run_cli):
    plan = run_cli("backup", "create", "--dry-run")["plan"]
    assert "archive 4 files of the app (.env, auth/, data/" in plan["steps"][1]
    assert not Path("backups").exists()


def test_backup_of_one_database_excludes_app_files(run_cli):
    assert len(run_cli("backup", "create", "--db", "user")["members"]) == 1


def test_app_files_are_verified(run_cli):
    run_cli("backup", "create")
    assert run_cli("backup", "verify", "--deep")["findings"] == []
    raw = bytearray(find_archive().read_bytes())
    raw[-20] ^= 1
    find_archive().chmod(0o600)
    find_archive().write_bytes(raw)
    (finding,) = run_cli("backup", "verify", status=4)["findings"]
    assert (finding["target"], finding["code"]) == ("keys", "file-changed")


@pytest.mark.usefixtures("run_cli")
@pytest.mark.parametrize("place", ["repository", "temporary folder"])
def test_full_disk_is_reported_by_its_place_and_leaves_nothing(app, tmp_path, monkeypatch, place):
    key = app / "auth/session one/key"
    key.write_bytes(b"")
    with mount_disk(tmp_path / "small", "6m") as small, mount_disk(tmp_path / "large", "60m") as large:
        disk = small if place == "repository" else large
        if place == "temporary folder":
            monkeypatch.setattr(tempfile, "tempdir", str(small))
        with (
            promptvault_app.open_repository(tmp_path / "any") as (opened, _repository),
            # after the check of the space
            observe_progress(lambda _bytes: key.write_bytes(os.urandom(8 << 20))),
            pytest.raises(DiskFullError) as caught,
        ):
            CreateBackup(Repository(opened, str(disk / "backups"))).apply()
        assert str(small) in str(caught.value)
        assert [path for path in disk.rglob("*") if path.is_file() and path.name != ".dbctl-lock"] == []


def test_restore_leaves_app_files_and_prints_extract_command(run_cli, app):
    run_cli("backup", "create")
    (app / ".env").write_text("SECRET=2\n")
    result = run_cli("restore", "apply", "latest", "--yes")
    (app_files_finding,) = [
        finding for finding in result["findings"] if finding["code"] == "app-files-unchanged"
    ]
    assert (app / ".env").read_text() == "SECRET=2\n"
    run_cli(*shlex.split(app_files_finding["hint"].partition(": ")[2])[1:])
    assert Path("DIR/.env").read_text() == "SECRET=1\n"


def test_summaries_contain_file_count_and_extract_command(run_cli, app):
    assert promptvault_app.create_app_backup(Path("app")).closing.details[-1] == "4 files"
    (note,) = [entry for entry in promptvault_app.apply_restore(Path("app")).notes if "own files" in entry]
    line = note.rpartition("; ")[2].partition(": ")[2]
    run_cli(*shlex.split(line)[1:])
    assert Path("DIR/.env").read_text() == "SECRET=1\n"


def test_app_files_are_extracted_except_links(run_cli, app):
    backup = run_cli("backup", "create")
    plan = run_cli("restore", "files", backup["id"], "--to", "out", "--dry-run")["plan"]
    assert "4 files" in plan["steps"][0]
    assert not Path("out").exists()
    result = run_cli("restore", "files", "latest", "--to", "out")
    assert (result["source"], result["files"]) == (backup["id"], 3)
    assert [omitted.partition(" -> ")[0] for omitted in result["left_out"]] == ["auth/link"]
    for name in (".env", "auth/session one/key", "data/rules.json"):
        assert Path("out", name).read_bytes() == (app / name).read_bytes()
    run_cli("restore", "files", "latest", "--to", "out", status=6)


def test_modified_archive_is_not_extracted(run_cli):
    run_cli("backup", "create")
    find_archive().chmod(0o600)
    find_archive().write_bytes(find_archive().read_bytes()[:-20])
    run_cli("restore", "files", "latest", "--to", "out", status=4)
    run_cli("restore", "files", "--file", str(find_archive()), "--to", "out", status=4)
    assert not Path("out").exists()


def test_only_archives_are_extracted(run_cli):
    Path("folder").mkdir()
    Path("folder/table.lance").write_text("rows")
    for mode, name in (("w:gz", "lancedb.backup.tar.gz"), ("w", "lancedb.tar")):
        with tarfile.open(name, mode) as archive:
            archive.add("folder")
        run_cli("restore", "files", "--file", name, "--to", f"from-{name}")
        assert Path(f"from-{name}/folder/table.lance").read_text() == "rows"
        run_cli("restore", "apply", "--file", name, "--yes", status=2)
    Path("notes.json").write_text("[]")
    run_cli("restore", "files", "--file", "notes.json", "--to", "out", status=2)
    run_cli("restore", "files", "--file", "nothing.tar", "--to", "out", status=5)
    run_cli("restore", "files", "--to", "out", status=2)
    backup = run_cli("backup", "create", "--db", "user")
    run_cli("restore", "files", backup["id"], "--to", "out", status=5)
    assert not Path("out").exists()


def test_unreadable_app_file_leaves_no_backup(run_cli, app, monkeypatch):
    real_open = Path.open

    def refuse_env_file(path, *args, **options):  # simulated, because root can read all files
        if path.name == ".env" and args[:1] == ("rb",):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse_env_file)
    assert run_cli("backup", "create", status=1)["code"] == "file-failed"
    monkeypatch.undo()
    monkeypatch.chdir(app.parent)
    assert run_cli("backup", "list")["items"] == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../other", "a/../../b", ""])
def test_profile_cannot_include_files_outside_the_app(path):
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"extra": [path]}, Backup)
