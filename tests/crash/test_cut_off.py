"""After a crash during a write of the app, the next command uses the last committed state."""

import sqlite3
import subprocess
import sys
from contextlib import closing

from tests.services import flashpoint_app
from tests.services.flashpoint_app import run_statements

CRASH = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma cache_size = 1")
c.execute("begin immediate")
c.execute("update users set email = hex(randomblob(3000))")
os._exit(9)
"""


def test_next_command_reads_committed_state(tmp_path):
    path = flashpoint_app.create_app(tmp_path, "deployed")
    run_statements(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("select id, email from users").fetchall()
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False)
    journal = path.with_name("user.db-journal")
    assert journal.stat().st_size
    process = subprocess.run(
        [sys.executable, "-m", "dbctl", "users", "list"], cwd=tmp_path, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert not journal.exists()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select id, email from users").fetchall() == before
