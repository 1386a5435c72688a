"""Temporary private folders."""

from __future__ import annotations

import pytest

from dbctl.files import temp


@pytest.mark.parametrize("prefix", [".app.db-", ".app[1]*.db-"])
def test_folders_of_killed_processes_are_removed(tmp_path, prefix):
    abandoned, other = tmp_path / f"{prefix}0badcafe", tmp_path / ".app1.db-0badcafe"
    abandoned.mkdir()
    other.mkdir()
    with temp.folder(tmp_path, prefix) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, other.name}
    assert [path.name for path in tmp_path.iterdir()] == [other.name]
