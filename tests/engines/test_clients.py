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


def test_version_of_an_unchanged_program_is_read_once(tmp_path):
    program, log = tmp_path / "pg_dump", tmp_path / "log"
    for version in ("15", "16.1"):
        program.write_text(f"#!/bin/sh\necho {version} | tee -a {log}\n")
        program.chmod(0o700)
        assert [read_version(program) for _ in range(2)] == [f"{version}\n"] * 2
    assert log.read_text() == "15\n16.1\n"
