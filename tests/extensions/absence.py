"""Run dbctl without the packages of some extensions: from a folder with links to all other files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.in_process import CLEAN_ENVIRONMENT, ROOT


class Remainder:
    """dbctl without some extensions."""

    def __init__(self, folder: Path, *absent: str) -> None:
        """Create the folder ``folder``."""
        self._folder = folder
        _link(ROOT / "dbctl", folder / "dbctl", {"extensions"})
        _link(ROOT / "dbctl/extensions", folder / "dbctl/extensions", set(absent))

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


def _link(source: Path, folder: Path, omitted: set[str]) -> None:
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in {*omitted, "__pycache__"}:
            (folder / path.name).symlink_to(path)
