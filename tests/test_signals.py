"""Signals that arrive where Python suppresses or replaces exceptions."""

from __future__ import annotations

import signal
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


IMPORT_SCRIPT = """
import functools, os, signal, sys
set_name = functools.cached_property.__set_name__

def interrupt(self, owner, name):
    if owner.__module__ == "dbctl.engines.contract.database":
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]
    set_name(self, owner, name)

functools.cached_property.__set_name__ = interrupt
sys.argv = ["dbctl", "data", "rows", "t", "--profile=plain", "--url=main=absent.db"]
from dbctl.__main__ import run
run()
"""


def test_signal_during_the_creation_of_a_class_is_no_internal_error() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_SCRIPT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 128 + signal.SIGTERM
    assert "internal error" not in result.stderr


LIBRARY_SCRIPT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "datetime":  # msgspec imports it while it is imported, and drops an exception
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)

assert "datetime" not in sys.modules
sys.meta_path.insert(0, Finder())
sys.argv = ["dbctl", "data", "rows", "t", "--profile=plain", "--url=main=absent.db"]
from dbctl.__main__ import run
run()
"""


def test_signal_during_the_import_of_a_library_crashes_no_command() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LIBRARY_SCRIPT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stderr == ""
