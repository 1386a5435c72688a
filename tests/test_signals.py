"""Signals that come at a bad moment."""

from __future__ import annotations

import subprocess
import sys

CLEARED_AWAY = """
import os, signal
from dbctl import signals as interrupt

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]

interrupt.listen()
Last()
try:
    interrupt.check()
except interrupt.Interrupted as ended:
    print(ended)
"""


def test_a_signal_while_an_object_is_cleared_away_is_heard_and_prints_nothing() -> None:
    result = subprocess.run([sys.executable, "-c", CLEARED_AWAY], capture_output=True, text=True, check=True)
    assert result.stdout == "SIGTERM\n"
    assert result.stderr == ""
