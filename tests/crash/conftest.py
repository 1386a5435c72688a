"""Crash tests are slow: each kills, interrupts or starves many processes."""

import os
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parent) + os.sep


def pytest_collection_modifyitems(items):
    for item in items:
        if str(item.path).startswith(FOLDER):  # of all tests; comparing paths takes 0.3 s
            item.add_marker(pytest.mark.slow)
