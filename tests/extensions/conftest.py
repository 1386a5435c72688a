"""The toy distribution, as a user installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extensions import third_party


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the toy, and return the folder in which it is installed."""
    return third_party.install_toy(tmp_path_factory.mktemp("toy"))
