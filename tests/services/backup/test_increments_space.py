"""Incremental backups on a file system that is almost full, full, or read-only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import File
from tests.services import larder_app
from tests.services.backup.test_increments import change, configure, create, make_incremental, read_delta
from tests.small_disk import fill

ROWS = 700


@pytest.fixture
def app(tmp_path, monkeypatch, disk):
    """Provide an app whose repository is on a small file system."""
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        values = ", ".join(f"({number}, '{number * 7919:0150}')" for number in range(ROWS))
        app.run(f"insert into much values {values}")
        make_incremental(app.folder, monkeypatch)
        (app.folder / "backups").symlink_to(disk)
        yield app


def leave_space(disk, size):
    """Leave this number of free bytes."""
    (disk / "filler").unlink(missing_ok=True)
    fill(disk, leave=size)


def restore(answer, app, backup, content):
    """Restore a backup from a repository on another disk, which has space for the safety backup, too."""
    change(app, 9)
    answer("backup", "copy", "--to", "spacious")
    answer("restore", "apply", backup["id"], "--repository", "spacious", "--yes")
    assert app.content() == content


def list_folder(disk):
    """Return the files of the repository, without locks and records of verifications."""
    return sorted(
        str(entry.relative_to(disk))
        for entry in disk.rglob("*")
        if not re.search("lock|verified", entry.name)
    )


@pytest.mark.parametrize("noticed", ["before", "while it is written"])
def test_difference_is_stored_without_space_for_its_base(answer, app, disk, monkeypatch, noticed):
    base, size = create(answer), app.path.stat().st_size
    change(app)
    # The copy of the database fits, and the content of the base does not.
    leave_space(disk, size * 7 // 5)
    content = app.content()
    with monkeypatch.context() as patch:
        if noticed != "before":  # as with a quota
            patch.setattr("dbctl.files.mounts.require_space", lambda *_words: None)
        backup = create(answer)
    assert read_delta(backup)["backup"] == base["id"]
    assert not read_delta(backup)["applied"]
    assert any(f"was not applied to {base['id']}" in remark for remark in backup["remarks"]), backup
    assert list_folder(disk) == sorted(
        ["filler", "larder"]
        + [f"larder/{item['id']}" for item in (base, backup)]
        + [f"larder/{item['id']}/manifest.json" for item in (base, backup)]
        + [f"larder/{item['id']}/{item['members'][0]['file']}" for item in (base, backup)]
    )
    (disk / "filler").unlink()
    answer("backup", "verify", "--deep")
    restore(answer, app, backup, content)


@pytest.mark.slow
def test_full_disk_leaves_earlier_backups(answer, app, disk, monkeypatch):
    """On a disk that stays full, no command loses or changes anything, and the next backup with space is a difference."""
    base = create(answer)
    change(app)
    content, backup = app.content(), create(answer)
    change(app, 2)
    changed, entries = app.content(), list_folder(disk)
    for free in (0, 4096, 8192, 50_000):
        leave_space(disk, free)
        for words in (
            ["backup", "create"],
            ["backup", "create", "--full"],
            ["restore", "apply", backup["id"], "--yes"],
            ["restore", "apply", backup["id"], "--to", str(disk / "copy.db")],
            ["backup", "verify", "--deep"],
            ["backup", "drill", backup["id"]],
        ):
            with monkeypatch.context() as patch:
                if free % 8192:  # the free space is known, or only the write fails
                    patch.setattr("dbctl.files.mounts.require_space", lambda *_words: None)
                result = answer(*words, status=None)
            assert not result["ok"], (free, result)
            code = result["error"]["code"] if result["error"] else result["data"]["findings"][0]["code"]
            assert code in ("insufficient-space", "disk-full", "temp-space-failed"), (words, result)
            assert [name for name in list_folder(disk) if name != "filler"] == entries, (free, words)
            assert app.content() == changed
        for words in (["list"], ["status"], ["show", backup["id"]], ["verify"]):
            assert answer("backup", *words)["ok"]
    (disk / "filler").unlink()
    assert read_delta(create(answer))["backup"] == base["id"]
    answer("backup", "verify", "--deep")
    restore(answer, app, backup, content)


def test_prune_makes_space_on_a_full_disk(answer, app, disk):
    create(answer)
    change(app)
    create(answer)
    full = create(answer, "--full")
    leave_space(disk, 0)
    answer("backup", "prune", "--keep-last", "1", "--yes")
    assert [item["id"] for item in answer("backup", "list")["data"]["items"]] == [full["id"]]


@pytest.mark.parametrize("state", ["read-only", "full", "no directory"])
def test_backup_without_state_is_full(answer, app, disk, monkeypatch, state):
    """The signature of a base cannot be written: the reason is reported, and each backup is complete."""
    folder = disk / "state"
    configure(app.folder, f'repository = "{app.folder / "plain"}"')
    text = (app.folder / "dbctl.toml").read_text()
    lines = [line for line in text.splitlines() if line != 'repository = "backups"']
    (app.folder / "dbctl.toml").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("DBCTL_STATE", str(folder))
    if state == "no directory":
        folder.mkdir()
        (folder / "signatures").write_text("")
    elif state == "full":
        (folder / "signatures").mkdir(parents=True)
        leave_space(disk, 0)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for number in range(2):
        change(app, number)
        content, backup = app.content(), create(answer)
        assert read_delta(backup) is None
        assert any("the next backup" in remark for remark in backup["remarks"]), backup
    answer("backup", "verify", "--deep")
    restore(answer, app, backup, content)


def test_unreadable_signatures_make_the_backup_full(answer, app):
    """A process that may not read the signatures stores a full backup, with the reason."""
    create(answer)
    change(app)
    folder = app.folder / "state" / "signatures"
    folder.chmod(0)
    try:
        words = [Path(sys.executable).with_name("dbctl"), "backup", "create", "-o", "json"]
        if not os.geteuid():  # root without its permission to read everything
            if shutil.which("setpriv") is None:
                pytest.skip("root reads every directory")
            words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
        output = subprocess.run(words, cwd=app.folder, capture_output=True, check=True).stdout
    finally:
        folder.chmod(0o700)
    backup = json.loads(output)["data"]
    assert read_delta(backup) is None
    assert any("has no signature of" in remark for remark in backup["remarks"]), backup
    assert any("the next backup" in remark for remark in backup["remarks"]), backup
    answer("backup", "verify", "--deep")


def test_backup_on_a_read_only_file_system_is_copied_and_not_changed(answer, app, disk):
    """As the kernel mounts a file system after an error of its disk."""
    oldest, _ = create(answer), create(answer, "--full")
    change(app)
    content, backup = app.content(), create(answer)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    before = list_folder(disk)
    for words in (
        ["backup", "create", "--full"],
        ["backup", "prune", "--keep-last", "1", "--yes"],
        ["backup", "delete", oldest["id"], "--yes"],
        ["restore", "apply", "latest", "--yes"],
    ):
        error = answer(*words, status=10)["error"]
        assert error["code"] == "repository-failed", error
    assert (list_folder(disk), app.content()) == (before, content)
    copy = app.folder / "copy.db"
    answer("restore", "apply", backup["id"], "--to", str(copy))
    assert File(copy).content() == content
