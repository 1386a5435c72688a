"""The folder and the user of a private server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from dbctl.extensions.recover.private_server import create_folder


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another user")
def test_folder_is_created_while_processes_end():
    parent = Path(tempfile.gettempdir())  # which any user can enter
    shell = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"])
    try:
        for _ in range(300):
            with create_folder(parent, 0) as folder:
                assert folder.data.stat().st_uid == folder.user
    finally:
        shell.kill()
        shell.wait()
