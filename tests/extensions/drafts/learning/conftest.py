"""Fixtures of tests that learn from demonstrations."""

from __future__ import annotations

import io
import sys

import pytest

from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.extensions.drafts.learning.running_app import postgresql_app, private_temp, running_app, sqlite_app  # noqa: F401 - fixtures


@pytest.fixture
def learn(answer, monkeypatch):
    """Run ``profiles learn`` on the pair of an app, and return its JSON."""

    def run(app, number, profile, *words, engine="sqlite", status=0):
        pair = find_pair(app, number, engine)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((pair.password or "").encode())))
        return answer(*pair.words, "--to", str(profile), *words, status=status)

    return run
