"""The core without the packages of all extensions, of which only the table remains: every command of the core has the same result."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from dbctl.extensions import registry
from tests.cli import test_reference as sample
from tests.examples import find_extension
from tests.extensions.absence import ALL, Remainder
from tests.in_process import ROOT
from tools import reference

Dbctl: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

#: Modules of the package ``dbctl.extensions`` itself.
OWN = {"__init__.py", "base.py", "installed.py", "names.txt", "registry.py", "__pycache__"}
#: Durations, ages, words with a number, an identifier or a generated password, and the width of columns, which differ from run to run.
VARIABLE = re.compile(
    r"just now|[0-9]+ \w+ ago|[0-9.]+ m?s\b|\S*[0-9]\S*|(?<=password )\S+|\b[A-Za-z0-9_-]{16,}\b|[\s─]+"
)
#: The line whose result names an index that only an extension builds: the rows are the same, the note about the index is not.
WITH_INDEX = "search {search} {word}"
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


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Remainder:
    return Remainder(tmp_path_factory.mktemp("core") / "path", *ALL)


@pytest.fixture
def bare(tmp_path: Path, core: Remainder) -> Dbctl:
    """Return a function that runs a command without any extension, in a folder with two apps."""
    schema = "create table goods (id integer primary key); create view cheap as select id from goods"
    subprocess.run(["sqlite3", tmp_path / "shop.db", schema], check=True)
    (tmp_path / "vectors").mkdir()
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    (tmp_path / "vectors.toml").write_text(PROFILE)
    return lambda *words: core.run(*words, cwd=tmp_path, environment={"COLUMNS": "300"})


def list_core_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines that need no extension."""
    return [line for line in lines if find_extension(line) is None and line != WITH_INDEX]


@pytest.mark.slow
def test_all_commands_of_the_core_have_the_same_results(core: Remainder, tmp_path: Path) -> None:
    deployment = sample.create_deployment(tmp_path / "document")
    lines = list_core_lines([*sample.EXAMPLES])
    words = [sample.split_line(line, deployment) for line in lines]
    whole = Remainder(tmp_path / "all").run_lines(words, deployment, tmp_path / "whole")
    alone = core.run_lines(words, deployment, tmp_path / "alone")
    differences = [
        f"{line}\n{first}\n{second}"
        for line, first, second in zip(lines, whole, alone, strict=True)
        if [VARIABLE.sub(" ", str(part)) for part in first]
        != [VARIABLE.sub(" ", str(part)) for part in second]
    ]
    assert not differences, "\n\n".join(differences)


def test_help_lists_no_command_of_an_absent_extension(core: Remainder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lines = [["help"], ["data", "--help"], ["backup", "--help"], ["metrics"], ["metrcs"]]
    results = core.run_lines(lines, tmp_path / "empty", tmp_path / "run")
    assert [status for status, _, _ in results] == [0, 0, 0, 2, 2]
    groups = [f"{words[0]} " if words[-1] == "--help" else "" for words in lines]
    # "backup copy" is a command of the core, "copy" is none
    pages = [(group, out + err) for group, (_, out, err) in zip(groups, results, strict=True)]
    pages.append(("", core.run("--help", cwd=tmp_path).stdout))  # which a whole dbctl prints from a file
    text = "".join(page for _, page in pages)
    assert "no such command 'metrics'" in text
    assert "did you mean 'metrics'" not in text
    pattern = re.compile(r"^  ([a-z]+(?: [a-z]+)?)  ", re.MULTILINE)
    listed = [f"{group}{name}" for group, page in pages for name in pattern.findall(page)]
    assert "users" in listed
    absent = {name for extension in registry.BUILT_IN for name in (*extension.groups, *extension.commands)}
    assert not absent & {*listed}
    assert "Prometheus" not in text


@pytest.mark.slow
def test_hints_name_no_command_of_an_absent_extension(core: Remainder, tmp_path: Path) -> None:
    for words in [], ["status"], ["help", "config-missing"], ["help", "profiles"]:
        shown = core.run(*words, cwd=tmp_path, environment={"HOME": str(tmp_path), "COLUMNS": "300"})
        text = " ".join((shown.stdout + shown.stderr).split())
        assert "dbctl profiles list" in text if "profiles" in words else "dbctl init DIR" in text
        assert not re.search(r"dbctl (demo|profiles draft)", text)


def test_unknown_app_is_recognized_without_a_draft(bare: Dbctl) -> None:
    written = bare("init", "shop.db", "--app", "other", "--dry-run")
    assert written.returncode == 0
    assert "shop.db: 1 table; it belongs to no known app: profile plain." in written.stdout + written.stderr
    assert "profiles draft" not in written.stdout + written.stderr


def test_every_extension_is_installed() -> None:
    assert [*registry.list_absent()] == []
    folders = {path.name for path in (ROOT / "dbctl/extensions").iterdir()} - OWN
    assert folders == {extension.name for extension in registry.BUILT_IN}
    declared = {word for extension in registry.BUILT_IN for word in (*extension.groups, *extension.commands)}
    commands = {*reference.read_specs()}
    assert all(any(f"{name} ".startswith(f"{word} ") for name in commands) for word in declared)


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
