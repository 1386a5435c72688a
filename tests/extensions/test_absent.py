"""The core without its extensions: every command of the core has the same result."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dbctl.extensions import registry
from tests.cli import test_reference as sample
from tools import reference

ROOT = Path(__file__).parents[2]
#: Modules of the package ``dbctl.extensions`` itself.
OWN = {"__init__.py", "base.py", "installed.py", "registry.py", "__pycache__"}
#: Durations, words with a number, an identifier or a generated password, and the width of columns, which differ from run to run.
VARIABLE = re.compile(r"[0-9.]+ m?s\b|\S*[0-9]\S*|(?<=password )\S+|\b[A-Za-z0-9_-]{16,}\b|[\s─]+")


#: Lines whose result names an index that only an extension builds: the rows are the same, the note about the index is not.
WITH_INDEX = {"search {search} {word}", "search index check"}


def list_core_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines whose commands belong to no extension."""
    names = {name for extension in registry.BUILT_IN for name in (*extension.groups, *extension.commands)}
    core = [line for line in lines if not any(f"{line} ".startswith(f"{name} ") for name in names)]
    return [line for line in core if line not in WITH_INDEX]


def run_lines(root: Path, deployment: Path, folder: Path, lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Run command lines with the package ``dbctl`` in ``root``."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(ROOT)])}
    words = [sys.executable, "-P", Path(__file__).with_name("run_lines.py"), deployment, folder]
    process = subprocess.run(
        words, input=json.dumps(lines), env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    results: list[list[str]] = json.loads(process.stdout.replace(f"{root}/dbctl/", "ROOT/dbctl/"))
    return results


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with dbctl without its extensions."""
    root = tmp_path_factory.mktemp("core")
    shutil.copytree(ROOT / "dbctl", root / "dbctl", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (root / "dbctl/extensions").iterdir():
        if path.name not in OWN:
            shutil.rmtree(path)
    for name in ("migrations", "completions", "man"):
        (root / name).symlink_to(ROOT / name)
    return root


def test_all_commands_of_the_core_have_the_same_results(core: Path, tmp_path: Path) -> None:
    deployment = sample.create_deployment(tmp_path / "document")
    lines = list_core_lines([*sample.EXAMPLES])
    words = [sample.split_line(line, deployment) for line in lines]
    whole = run_lines(ROOT, deployment, tmp_path / "whole", words)
    alone = run_lines(core, deployment, tmp_path / "alone", words)
    differences = [
        f"{line}\n{first}\n{second}"
        for line, first, second in zip(lines, whole, alone, strict=True)
        if [VARIABLE.sub(" ", str(part)) for part in first]
        != [VARIABLE.sub(" ", str(part)) for part in second]
    ]
    assert not differences, "\n\n".join(differences)


def test_help_lists_no_command_of_an_absent_extension(core: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lines = [["help"], ["data", "--help"], ["backup", "--help"], ["metrics"], ["metrcs"]]
    results = run_lines(core, tmp_path / "empty", tmp_path / "run", lines)
    assert [status for status, _, _ in results] == [0, 0, 0, 2, 2]
    text = "".join(out + err for _, out, err in results)
    assert "no such command 'metrics'" in text
    assert "did you mean 'metrics'" not in text
    listed = [*re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", text, re.MULTILINE)]
    assert "users" in listed
    assert not {*registry.list_absent()} & {*listed}
    assert "Prometheus" not in text


def test_every_extension_is_installed() -> None:
    assert [*registry.list_absent()] == []
    folders = {path.name for path in (ROOT / "dbctl/extensions").iterdir()} - OWN
    assert folders == {extension.name for extension in registry.BUILT_IN}
    declared = {word for extension in registry.BUILT_IN for word in (*extension.groups, *extension.commands)}
    commands = {*reference.read_specs()}
    assert all(any(f"{name} ".startswith(f"{word} ") for name in commands) for word in declared)
