"""The app Club on each engine, and commands on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.databases import empty_database
from tests.extensions.copies.club import open_club
from tests.in_process import CLEAN_ENVIRONMENT, run_command

ENGINES = ("sqlite", "postgresql", "mysql")


@pytest.fixture(params=ENGINES)
def club(request, tmp_path):
    with open_club(request.param, tmp_path / "app") as database:
        yield database


@pytest.fixture
def destination(club, tmp_path):
    with empty_database(club.engine, tmp_path / "copy.db") as database:
        yield database


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command of Club and returns its JSON."""

    def run_json(*words: str | Path, stdin: bytes = b"") -> dict:
        done = run_command(
            [*words, "-o", "json"], environment=CLEAN_ENVIRONMENT, cwd=tmp_path / "app", stdin=stdin
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return run_json
