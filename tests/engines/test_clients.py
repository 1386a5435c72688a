"""Client programs of servers: their environment."""

from __future__ import annotations

import sys

from dbctl.files.subprocesses import read_version


def test_version_query_does_not_pass_secrets_to_the_program(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-programs")
    program = tmp_path / "pg_dump"
    program.write_text(f"#!{sys.executable}\nimport os\nprint('pg_dump 15', *os.environ.values())\n")
    program.chmod(0o700)
    output = read_version(program)
    assert output.startswith("pg_dump 15")
    assert "not-for-programs" not in output
