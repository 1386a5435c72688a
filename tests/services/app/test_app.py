"""Selection of the database of a command."""

from __future__ import annotations

import pytest

from tests.profiles.test_larder import PROFILE
from tests.shapes.flashpoint_web import larder_db


@pytest.mark.parametrize("arguments", [("stats", "overview"), ("maintain", "vacuum"), ("users", "list")])
def test_url_without_database_name_is_not_ignored(arguments, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    larder_db(tmp_path / "one.db")
    larder_db(tmp_path / "other.db")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "one.db"\n'
    )
    before = (tmp_path / "one.db").stat().st_mtime_ns
    result = answer("--url", "other.db", *arguments, status=5)
    assert result["error"]["code"] == "database-unknown"
    assert (tmp_path / "one.db").stat().st_mtime_ns == before
    answer("--url", "pantry=other.db", *arguments)
