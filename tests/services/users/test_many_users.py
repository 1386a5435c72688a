"""Commands that change few of many users do not read the others."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.in_process import run_command
from tests.services.flashpoint_app import copy_configured_deployment, run_statements

USERS = 20_000
ADD_USERS = f"""
with recursive numbers(n) as (select 1000 union all select n + 1 from numbers where n < {USERS})
insert into users (id, username, email, password_hash, role_id) select n, 'user' || n, n || '@example.org', '!', 3 from numbers
"""


def measure_undo(folder: Path, words: Sequence[str]) -> int:
    """Run a command and undo it; return the bytes that the undo allocated at most."""
    environment = {"HOME": str(folder), "DBCTL_STATE": str(folder / "state")}

    def run(*arguments: str) -> str:
        result = run_command(arguments, environment=environment, cwd=folder)
        assert result.returncode == 0, result.stderr
        return result.stdout

    run(*words)
    (item,) = json.loads(run("audit", "list", "--limit", "1", "-o", "json"))["data"]["items"]
    tracemalloc.start()
    try:
        run("undo", str(item["operation"]), "--yes")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "words", [["users", "set-role", "demo", "moderator"], ["settings", "set", "auth.maxLoginAttempts", "9"]]
)
def test_undo_reads_only_the_users_that_it_changes(words: Sequence[str], tmp_path: Path) -> None:
    copy_configured_deployment(tmp_path)
    few = measure_undo(tmp_path, words)
    run_statements(tmp_path / "backend/user.db", ADD_USERS)
    # Each user that is read needs about a kilobyte.
    assert measure_undo(tmp_path, words) - few < 50 * USERS
