"""Programs of a server's makers: what they are given to know."""

from __future__ import annotations

import sys

from dbctl.files.subprocesses import version_told


def test_a_program_that_is_asked_for_its_version_gets_no_secret_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-programs")
    program = tmp_path / "pg_dump"
    program.write_text(f"#!{sys.executable}\nimport os\nprint('pg_dump 15', *os.environ.values())\n")
    program.chmod(0o700)
    answer = version_told(program)
    assert answer.startswith("pg_dump 15")
    assert "not-for-programs" not in answer
