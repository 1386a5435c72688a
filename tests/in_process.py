"""Run commands in this process: starting a process takes ten times as long as most commands run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from dbctl.cli.main import main

ROOT = Path(__file__).parents[1]
#: Of commands whose output must not depend on the user who runs the tests.
CLEAN_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "DBCTL_STATE": "off",
    "PYTHONPATH": str(ROOT),
    "LANG": "C.UTF-8",
}


def run_command(
    words: Sequence[str | Path], *, environment: Mapping[str, str], cwd: Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run ``dbctl`` with a working directory, an environment and an input, like a new process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    saved_environment, saved_stdin = dict(os.environ), sys.stdin
    new_environment = {"DBCTL_STATE": "off"} | dict(environment)
    os.environ.clear()
    os.environ.update(new_environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            status = main([str(word) for word in words])
    finally:
        sys.stdin = saved_stdin
        os.environ.clear()
        os.environ.update(saved_environment)
    for stream in (out, err):
        stream.flush()
    return subprocess.CompletedProcess(words, status, out.buffer.getvalue(), err.buffer.getvalue())
