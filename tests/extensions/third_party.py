"""A distribution that extends dbctl: its wheel, and commands in a process that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.in_process import ROOT, run_command

TOY = Path(__file__).parent / "toy"


def install_toy(folder: Path) -> Path:
    """Build the wheel of the toy in a folder, and return the folder in which it is installed."""
    source = shutil.copytree(TOY, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], check=True
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "installed", wheel], check=True)
    return folder / "installed"


def run_dbctl(cwd: Path, installed: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command; ``installed``: a folder with distributions. Without one, the command runs in this process."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", "COLUMNS": "100"}
    if installed is None:
        done = run_command(words, environment=environment, cwd=cwd)
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, installed]))
    return subprocess.run(
        [sys.executable, "-m", "dbctl", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
