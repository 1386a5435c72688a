"""The folder for temporary files of recoveries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests import servers


@pytest.fixture(autouse=True)
def temp_folder(monkeypatch, tmp_path):
    """Use a folder of this test for temporary files, which the user of a private server can enter."""
    with tempfile.TemporaryDirectory(prefix="dbctl-test-", dir=servers.data_folder()) as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
