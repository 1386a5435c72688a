"""Signals that arrive in a destructor."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal
from dbctl import signals

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]

signals.install_handlers()
Last()
try:
    signals.raise_if_interrupted()
except signals.Interrupted as error:
    print(error)
"""


def test_signal_in_destructor_is_reported_without_message() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert result.stdout == "SIGTERM\n"
    assert result.stderr == ""
