"""A LanceDB with a table that cannot be opened, or whose folder is elsewhere: commands about the other tables work."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import lancedb
import pytest

from tests.engines import lance
from tests.engines.lance import TABLE


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", "off")
    (tmp_path / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "lancedb:vectors"\n[apps.shop.backup]\nrepository = "backups"\n'
    )
    lance.create_table(tmp_path / "vectors", range(5))
    lancedb.connect(tmp_path / "vectors").create_table("notes", [{"id": 1, "text": "first"}])
    return tmp_path


def damage_manifest(table):
    (path,) = (table / "_versions").glob("*.manifest")
    path.write_bytes(path.read_bytes()[:-20])


def move_away(table):
    table.rename(table.with_name("moved"))
    table.symlink_to(table.with_name("unmounted"))


def lose_versions(table):
    shutil.rmtree(table / "_versions")


def lose_manifests(table):
    for path in (table / "_versions").iterdir():
        path.unlink()


@pytest.mark.parametrize("damage", [damage_manifest, move_away, lose_versions, lose_manifests])
def test_other_tables_of_a_damaged_one_are_usable(shop, damage, answer):
    damage(shop / f"vectors/{TABLE}.lance")
    for command in (("schema", "show"), ("stats", "tables")):
        result = answer(*command, status=12)
        assert [item["table"] for item in result["data"]["items"]] == ["notes"]
        assert TABLE in str(result["warnings"])
    assert answer("data", "rows", "notes")["data"]["total"] == 1
    answer("data", "add", "notes", "id=2", "text=second")
    answer("maintain", "optimize", "--table", "notes", "--yes")
    assert answer("data", "rows", "notes")["data"]["total"] == 2
    for command in (
        ("data", "rows", TABLE),
        ("stats", "overview"),
        ("integrity", "check"),
        ("backup", "create"),
    ):
        answer(*command, status=4)


def test_missing_newest_version_is_reported_and_never_written_over(shop, answer):
    answer("data", "add", "notes", "id=2", "text=second")
    answer("backup", "create")
    lancedb.connect(shop / "vectors").open_table(TABLE).add([lance.create_row(9)])
    versions = shop / f"vectors/{TABLE}.lance/_versions"
    min(versions.glob("*.manifest")).unlink()  # the library opens the one before
    assert "version 2 is missing" in str(answer("data", "rows", TABLE)["warnings"])
    for command in (("status", "--check"), ("doctor",), ("stats", "overview")):
        assert "version 2 is missing" in str(answer(*command, status=4)), command
    answer("data", "add", "notes", "id=3", "text=third")
    delete = ("data", "delete", TABLE, "--filter", "role=user", "--yes")
    for command in (delete, ("maintain", "optimize", "--yes")):
        error = answer(*command, status=4)["error"]
        assert "version 2 is missing" in error["message"]
    hint = versions / "latest_version_hint.json"
    assert str(hint) in error["hint"]
    shutil.copytree(shop / "vectors", shop / "damaged")
    hint.unlink()
    answer(*delete)
    answer("integrity", "check")
    shutil.rmtree(shop / "vectors")
    (shop / "damaged").rename(shop / "vectors")
    answer("restore", "apply", "latest", "--yes")
    answer(*delete)
    answer("integrity", "check")


def test_table_whose_creation_was_not_completed_is_no_part_of_a_backup(shop, answer):
    (shop / "vectors/half.lance/data").mkdir(parents=True)
    (shop / "vectors/half.lance/data/x.lance").write_bytes(b"cut")
    result = answer("backup", "create")
    assert "half.lance has no version and was skipped" in str(result["warnings"])
    assert result["data"]["members"][0]["rows"] == {TABLE: 5, "notes": 1}


def test_restore_of_a_damaged_database_is_reverted(shop, answer):
    answer("backup", "create")
    answer("data", "add", "notes", "id=2", "text=second")
    damage_manifest(shop / f"vectors/{TABLE}.lance")
    answer("restore", "apply", "latest", "--yes")
    assert answer("data", "rows", "notes")["data"]["total"] == 1
    assert TABLE in str(answer("restore", "undo", "--yes")["data"])
    assert answer("data", "rows", "notes")["data"]["total"] == 2
    answer("data", "rows", TABLE, status=4)


def test_table_whose_folder_is_a_link_is_backed_up(shop, answer):
    table = shop / f"vectors/{TABLE}.lance"
    table.rename(shop / "other-disk")
    table.symlink_to(shop / "other-disk")
    (member,) = answer("backup", "create")["data"]["members"]
    assert member["rows"] == {TABLE: 5, "notes": 1}
    answer("backup", "verify", "--deep")
    warning = f"warning: replace the linked {TABLE}.lance with folders on the disk of "
    assert warning in str(answer("restore", "apply", "latest", "--dry-run")["data"]["plan"]["steps"])
    answer("restore", "apply", "latest", "--yes")
    assert answer("data", "rows", TABLE)["data"]["total"] == 5
    assert not table.is_symlink()
    assert warning not in str(answer("restore", "apply", "latest", "--dry-run")["data"]["plan"]["steps"])


def test_files_behind_a_link_are_not_missing(shop, answer):
    data = shop / f"vectors/{TABLE}.lance/data"
    data.rename(shop / "other-disk")
    data.symlink_to(shop / "other-disk")
    answer("integrity", "check")
    (member,) = answer("backup", "create")["data"]["members"]
    assert member["rows"] == {TABLE: 5, "notes": 1}
    (shop / "other-disk").rename(shop / "unmounted")
    answer("integrity", "check", status=4)


def close_versions(folder):
    (folder / f"{TABLE}.lance/_versions").chmod(0o700)


def close_other_folder(folder):
    (folder / "notes").mkdir(mode=0o700)


def add_folder_of_the_file_system(folder):
    (folder / "lost+found").mkdir(mode=0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is another user than the owner")
@pytest.mark.parametrize(
    ("change", "status"), [(close_versions, 10), (close_other_folder, 10), (add_folder_of_the_file_system, 0)]
)
def test_folder_that_the_user_may_not_read_is_reported(answer, monkeypatch, change, status):
    monkeypatch.setenv("DBCTL_STATE", "off")
    commands = [("stats", "overview"), ("status",), ("backup", "create", "--repository", "backups")]
    if change is close_versions:
        commands += [("schema", "show"), ("integrity", "check")]
    with tempfile.TemporaryDirectory(
        prefix="dbctl-user-", dir="/tmp"
    ) as name:  # that of the tests is closed to others
        folder = Path(name)
        monkeypatch.chdir(folder)
        lance.create_table(folder / "vectors", range(5))
        options = ("--profile", "plain", "--url", "main=lancedb:vectors")
        for command in commands:
            answer(*command, *options)  # also loads what another user may be unable to read
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        change(folder / "vectors")
        os.chown(folder / f"vectors/{TABLE}.lance/_versions", 0, 0)
        os.seteuid(65534)
        try:
            for command in commands:
                answer(*command, *options, status=status)
        finally:
            os.seteuid(0)
