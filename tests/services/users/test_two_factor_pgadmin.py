"""After ``users reset-2fa``, a running pgAdmin 4 asks for the password alone, and the user registers again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import external_tools, servers
from tests.databases import empty_database

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("two_factor_pgadmin.py")
LOGIN = "ann@example.org"


def test_user_of_pgadmin_signs_in_without_code_and_registers_again(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packages = external_tools.pgadmin()
    if packages is None:
        servers.skip_or_fail("pip cannot install pgAdmin 4")
    (data := tmp_path / "data").mkdir()
    with empty_database("sqlite", tmp_path / "pgadmin4.db") as db:
        address = db.url.partition("?")[0]
        command = [sys.executable, str(SCRIPT), str(data), address]
        environment = {**os.environ, "PYTHONPATH": str(packages), "HOME": str(tmp_path)}
        errors = (tmp_path / "errors").open("w")
        with errors, subprocess.Popen(command, env=environment, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as app:  # fmt: skip

            def step(*names: str) -> list[str]:
                """Do steps in the running app, and return the result of each."""
                assert app.stdin
                assert app.stdout
                print(*names, sep="\n", file=app.stdin)
                return [app.stdout.readline().strip() for _ in names]

            def read_factors() -> tuple[bool, dict[str, int]]:
                state = answer("users", "show", LOGIN, *options)["data"]["second_factor"]
                return state["required"], state["factors"]

            options = ["--profile", "pgadmin4", "--url", f"main={db.url}"]
            assert step("create", "sign-in", "enrol", "sign-in-wrong-code", "sign-in-code", "session") == ["created", "in", "enrolled", "code", "in", "in"]  # fmt: skip
            assert read_factors() == (True, {"totp": 1, "email": 0})
            data = answer("users", "reset-2fa", LOGIN, *options)["data"]
            assert (data["removed"], data["ended_sessions"]) == ({"totp": 1, "email": 0}, 0)
            assert read_factors() == (False, {"totp": 0, "email": 0})
            # the statement about sessions: they are files of the app, and continue
            assert data["signed_in_for"] == "a day"
            assert step("session", "sign-in") == ["in", "in"]
            assert step("enrol", "sign-in-wrong-code", "sign-in-code") == ["enrolled", "code", "in"]  # fmt: skip
            app.stdin.close()
