"""Run dbctl without the packages of some extensions: from a folder with links to all other files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.extensions import registry
from tests.in_process import CLEAN_ENVIRONMENT, ROOT

#: All extensions of dbctl itself.
ALL = tuple(extension.name for extension in registry.BUILT_IN)


class Remainder:
    """dbctl without some extensions."""

    def __init__(self, folder: Path, *absent: str) -> None:
        """Create the folder ``folder``."""
        self._folder = folder
        _link(ROOT / "dbctl", folder / "dbctl", {"extensions"})
        _link(ROOT / "dbctl/extensions", folder / "dbctl/extensions", set(absent))
        for name in ("completions", "man", "migrations"):
            (folder / name).symlink_to(ROOT / name)

    def run(
        self, *words: str, cwd: Path, environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [sys.executable, "-m", "dbctl", *words],
            cwd=cwd,
            env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(self._folder)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def run_lines(
        self, lines: Sequence[Sequence[str]], deployment: Path, folder: Path
    ) -> list[tuple[int, str, str]]:
        """Run command lines in one process, each in a new copy of a deployment, and return their status, output and messages.

        Paths of modules of dbctl begin with ``ROOT``.
        """
        folder.mkdir()
        process = subprocess.run(
            [sys.executable, "-P", Path(__file__).with_name("run_lines.py"), deployment, folder],
            input=json.dumps(lines),
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(self._folder), str(ROOT)])},
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=True,
        )
        output = process.stdout.replace(f"{self._folder}/dbctl/", "ROOT/dbctl/")
        return [(status, out, err) for status, out, err in json.loads(output)]


def _link(source: Path, folder: Path, omitted: set[str]) -> None:
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in {*omitted, "__pycache__"}:
            (folder / path.name).symlink_to(path)
