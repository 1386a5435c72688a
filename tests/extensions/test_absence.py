"""The core works without the packages of extensions, of which only the table remains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

import dbctl
from dbctl.extensions import registry

Dbctl: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "shop.db"
[apps.shop.backup]
repository = "backups"
[apps.vectors]
profile = "vectors.toml"
[apps.vectors.databases]
main = "lancedb:vectors"
"""
PROFILE = """\
schema = "dbctl.profile/1"
name = "vectors"
title = "Vectors"
[databases.main]
engines = ["lancedb"]
"""


@pytest.fixture
def bare(tmp_path: Path) -> Dbctl:
    """Return a function that runs a command of dbctl without any extension, in a folder with two apps."""
    core, source = tmp_path / "core/dbctl", Path(dbctl.__file__).parent
    names = {extension.name for extension in registry.BUILT_IN}
    (core / "extensions").mkdir(parents=True)
    for path in (*source.iterdir(), *(source / "extensions").iterdir()):
        if path.name != "extensions" and path.name not in names:
            (core / path.relative_to(source)).symlink_to(path)
    subprocess.run(
        ["sqlite3", tmp_path / "shop.db", "create table goods (id integer primary key)"], check=True
    )
    (tmp_path / "vectors").mkdir()
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    (tmp_path / "vectors.toml").write_text(PROFILE)
    environment = {**os.environ, "PYTHONPATH": str(core.parent), "DBCTL_STATE": "off", "COLUMNS": "300"}
    code = "from dbctl.__main__ import run; run()"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_engine_of_an_absent_extension_is_refused_with_those_that_exist(bare: Dbctl) -> None:
    for words in (["--app", "vectors"], ["--profile", "plain", "--url", "s3://bucket/vectors"]):
        refused = bare(*words, "stats", "tables")
        assert refused.returncode == 2
        assert "the engine lancedb is not supported by this installation of dbctl" in refused.stderr
        assert "Its extension is not installed. Supported: sqlite, postgresql, mysql." in refused.stderr


def test_configuration_and_other_apps_need_no_extension(bare: Dbctl) -> None:
    assert bare("config", "validate").returncode == 0
    assert bare("apps", "show", "chat-lancedb").returncode == 0
    assert "goods" in bare("--app", "shop", "stats", "tables").stdout
    assert bare("--app", "shop", "backup", "create").returncode == 0
    assert bare("--app", "shop", "doctor").returncode == 0


def test_status_reports_the_database_of_an_absent_engine_with_the_others(bare: Dbctl) -> None:
    status = bare("status", "-o", "json")
    states = {row["app"]: row["state"] for row in json.loads(status.stdout)["data"]["items"]}
    assert states == {"shop": "ok", "vectors": "not-supported"}
