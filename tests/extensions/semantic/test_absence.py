"""dbctl without the package of this extension: its sections are ignored, and ``doctor`` names them."""

from __future__ import annotations

import json

import pytest

from tests.extensions.absence import Remainder

CONFIGURATION = """\
[apps.shop]
profile = "shop.toml"
databases.main = "shop.db"
[apps.shop.embedder]
kind = "nothing that exists"
"""
PROFILE = """\
schema = "dbctl.profile/1"
name = "shop"
title = "Shop"
[databases.main]
engines = ["sqlite"]
[semantic]
anything = 3
"""


@pytest.fixture(scope="module")
def remainder(tmp_path_factory: pytest.TempPathFactory) -> Remainder:
    return Remainder(tmp_path_factory.mktemp("remainder") / "dbctl", "semantic")


@pytest.mark.slow
def test_sections_of_the_absent_extension_are_ignored_and_reported(tmp_path, remainder):
    (tmp_path / "shop.db").touch()
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    (tmp_path / "shop.toml").write_text(PROFILE)
    for words in (["config", "validate"], ["stats", "tables"], ["apps", "check"]):
        process = remainder.run(*words, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    doctor = json.loads(remainder.run("doctor", "-o", "json", cwd=tmp_path).stdout)
    absent = [item for item in doctor["data"]["findings"] if item["code"] == "extension-absent"]
    messages = [item["message"] for item in absent]
    assert len(messages) == 2
    assert "the section semantic of the profile has no effect" in messages[0]
    assert "the section embedder has no effect" in messages[1]


def test_built_in_profile_with_the_section_lacks_only_its_feature(tmp_path, remainder):
    shown = json.loads(remainder.run("apps", "show", "chat-lancedb", "-o", "json", cwd=tmp_path).stdout)
    assert "user settings" in shown["data"]["features"]
    assert "semantic search" not in shown["data"]["features"]


def test_commands_are_absent_and_other_indexes_remain(tmp_path, remainder):
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    (tmp_path / "shop.toml").write_text(PROFILE)
    (tmp_path / "shop.db").touch()
    assert "search vectors" not in remainder.run("help", cwd=tmp_path).stdout
    refused = remainder.run("search", "index", "status", "semantic", cwd=tmp_path)
    assert refused.returncode in (2, 3), refused.stdout
    assert "Traceback" not in refused.stderr
