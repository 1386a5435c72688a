"""The folder for temporary files of recoveries, and an app whose server is copied and logged by dbctl."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.recover.primary import STORED_CONFIGURATION, Primary


@pytest.fixture(autouse=True)
def temp_folder(monkeypatch, tmp_path):
    """Use a folder of this test for temporary files, which the user of a private server can enter."""
    with tempfile.TemporaryDirectory(prefix="dbctl-test-", dir=servers.data_folder()) as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(params=["installed", pytest.param("newer", marks=pytest.mark.slow)])
def each_version(request, monkeypatch):
    """Run a test with the installed PostgreSQL, and with a newer one."""
    if request.param == "newer":
        servers.postgresql()  # otherwise it would be started with the newer programs, for all tests
        programs = request.getfixturevalue("newer_programs")
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("DBCTL_TEST_POSTGRESQL_BINARIES", str(programs))


@pytest.fixture
def primary():
    """Start a server without an archive, and with a table of sales."""
    with servers.own_postgresql() as server:
        primary = Primary(server)
        yield primary
        primary.end()


@pytest.fixture
def shop(primary, tmp_path, monkeypatch):
    (tmp_path / "dbctl.toml").write_text(STORED_CONFIGURATION.format(url=primary.server.url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return primary
