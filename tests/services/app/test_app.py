"""Which database a command works on."""

from __future__ import annotations

import pytest

from tests.profiles.test_larder import PROFILE
from tests.shapes.flashpoint_web import sixth_app_db


@pytest.mark.parametrize("words", [("stats", "overview"), ("maintain", "vacuum"), ("users", "list")])
def test_an_address_without_a_name_is_never_passed_over_for_what_is_configured(
    words, tmp_path, monkeypatch, answer
):
    monkeypatch.chdir(tmp_path)
    sixth_app_db(tmp_path / "one.db")
    sixth_app_db(tmp_path / "other.db")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{PROFILE}"\n[apps.larder.databases]\npantry = "one.db"\n'
    )
    before = (tmp_path / "one.db").stat().st_mtime_ns
    result = answer("--url", "other.db", *words, status=5)
    assert result["error"]["code"] == "database-unknown"
    assert (tmp_path / "one.db").stat().st_mtime_ns == before
    answer("--url", "pantry=other.db", *words)
