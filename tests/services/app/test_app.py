"""Which database a command works on."""

from __future__ import annotations

import pytest

from tests.profiles.test_larder import PROFILE
from tests.shapes.flashpoint_web import sixth_app_db


@pytest.mark.parametrize("arguments", [("stats", "overview"), ("maintain", "vacuum"), ("users", "list")])
def test_url_without_name_is_never_ignored(arguments, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    sixth_app_db(tmp_path / "one.db")
    sixth_app_db(tmp_path / "other.db")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "one.db"\n'
    )
    before = (tmp_path / "one.db").stat().st_mtime_ns
    result = answer("--url", "other.db", *arguments, status=5)
    assert result["error"]["code"] == "database-unknown"
    assert (tmp_path / "one.db").stat().st_mtime_ns == before
    answer("--url", "pantry=other.db", *arguments)
