"""Every command on an app with a custom profile, as JSON and as table; each result must match its schema."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.services.events.changes.operations import OperationFilter, list_operations
from tests import examples
from tests.cli import closings, larders, test_reference
from tools import reference

#: Commands whose tables ``test_reference`` tests.
TABLES_TESTED = {reference.find_spec(line).name for line in test_reference.EXAMPLES}
#: Exit codes on servers that differ from those on SQLite.
SERVER_STATUSES: dict[tuple[str, str], set[int]] = {
    ("backup create --table members", "postgresql"): {0},
    ("backup create --table members", "mysql"): {0},
    ("stats locks --waiting", "postgresql"): {0},
    ("stats locks --waiting", "mysql"): {0},
    ("stats connections", "postgresql"): {0},
    ("stats connections", "mysql"): {0},
    ("stats slow --limit 20", "postgresql"): {0, 2},
    ("stats slow --limit 20", "mysql"): {0, 2},
    ("restore apply latest --to copy.db", "postgresql"): {2},
    ("restore apply latest --to copy.db", "mysql"): {2},
    ("copy --to {db}=copy.db --dry-run", "postgresql"): {10},
    ("copy --to {db}=copy.db --dry-run", "mysql"): {10},
    ("restore recover", "postgresql"): {2},
    ("restore recover", "mysql"): {2},
    ("restore recover --force --to salvaged.db", "postgresql"): {2},
    ("restore recover --force --to salvaged.db", "mysql"): {2},
    ("maintain vacuum", "mysql"): {2},
    ("maintain vacuum --dry-run", "mysql"): {2},
    ("maintain checkpoint", "mysql"): {2},
    ("maintain wal", "postgresql"): {2},
    ("maintain wal", "mysql"): {2},
    ("maintain wal --off", "postgresql"): {2},
    ("maintain wal --off", "mysql"): {2},
    ("maintain cancel 1 --yes", "postgresql"): {5},
    ("maintain cancel 1 --yes", "mysql"): {5},
}


def expected_statuses(line, engine):
    return SERVER_STATUSES.get((line, engine), {larders.expected_status(line)})


@pytest.fixture(scope="module")
def deployments(request, tmp_path_factory):
    deployments = larders.create_deployments(request.param, tmp_path_factory.mktemp("larder"))
    yield deployments
    deployments.close()


@pytest.fixture
def words(deployments, line, tmp_path, monkeypatch, capsys):
    """Make a deployment the working directory; return the arguments of the line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDITOR", "true")
    # Not below the files that a dry run must not change: readers of a journal register in its memory.
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path.with_name(f"{tmp_path.name}-state")))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    is_unable = expected_statuses(line, deployments.engine) == {larders.UNABLE}
    with deployments.deploy(tmp_path / "larder", line, is_unable=is_unable) as options:
        for needed in larders.list_needs(line):
            assert main(larders.split_line(needed, options)) == 0
        capsys.readouterr()
        yield larders.split_line(line, options)


@pytest.mark.parametrize("deployments", ["sqlite"], indirect=True)
@pytest.mark.parametrize("line", larders.EXAMPLES)
def test_every_command_runs_on_app_with_custom_profile(line, deployments, words, capsys):
    check_command(line, deployments.engine, words, capsys)


def is_about_engine(line):
    """Whether a command opens the database, so that its result can depend on the engine: it is not refused because of the profile."""
    if any((line, engine) in SERVER_STATUSES for engine in ("postgresql", "mysql")):
        return True
    return larders.expected_status(line) != larders.UNABLE and not line.startswith(larders.OFFLINE_COMMANDS)


def mark_slow_line(line):
    """Mark a command whose deployment needs backups of its own: creating them takes longer than all else."""
    return pytest.param(line, marks=pytest.mark.slow) if line.startswith(larders.RESTORING_COMMANDS) else line


@pytest.mark.parametrize(
    "deployments", ["postgresql", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("line", [mark_slow_line(line) for line in larders.EXAMPLES if is_about_engine(line)])
def test_every_command_runs_on_server(line, deployments, words, capsys):
    check_command(line, deployments.engine, words, capsys)


def check_command(line, engine, words, capsys):
    status = main([*words, "-o", "json"])
    output = capsys.readouterr()
    assert larders.SECRET not in output.out + output.err
    answer = json.loads(output.out)
    assert status in expected_statuses(line, engine), answer
    if status == larders.UNABLE:
        assert answer["error"]["code"] in {
            "feature-missing",
            "not-supported",
            "sessions-unlisted",
            "notify-not-configured",
            "encryption-not-configured",
        }
    test_reference.validate(answer)
    closing_lines = closings.read_closing_lines(output.err)
    if not answer["error"] and closings.has_closing_line(line):
        assert len(closing_lines) == 1, output.err
    for text in closing_lines:
        assert not closings.find_wrong_figures(text, answer["data"]), (text, answer["data"])


@pytest.mark.parametrize("deployments", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "line", [line for line in larders.EXAMPLES if reference.find_spec(line).name not in TABLES_TESTED]
)
def test_every_other_command_writes_table_and_at_most_one_closing_line(line, words, capsys):
    status = main(words)
    output = capsys.readouterr()
    assert status == larders.expected_status(line), output.err
    assert "\x1b" not in output.out
    closing_lines = closings.read_closing_lines(output.err)
    if closings.has_closing_line(line) and not status:
        assert len(closing_lines) == 1, output.err
    assert len(closing_lines) <= 1, output.err


def accepts_dry_run(line):
    return any(
        "--dry-run" in text and f"{line} ".startswith(f"{command} ")
        for command, text in reference.command_helps()
    )


def read_files(folder):
    """Return the content of every file except locks, which readers write: lock files, and shared memory of SQLite."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".dbctl-lock" and not path.name.endswith("-shm")
    }


def count_operations():
    """Return the number of operations in the audit log."""
    return list_operations(Path(os.environ["DBCTL_STATE"]), OperationFilter(limit=1)).total


@pytest.mark.parametrize("deployments", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "line",
    [line for line in larders.EXAMPLES if not larders.expected_status(line) and "--dry-run" not in line and accepts_dry_run(line)],
)  # fmt: skip
def test_quiet_dry_run_changes_no_file_and_is_no_operation(words, tmp_path, capsys):
    before, operations = read_files(tmp_path), count_operations()
    assert main([*words, "--dry-run", "--quiet"]) == 0
    assert read_files(tmp_path) == before
    assert count_operations() == operations
    assert not capsys.readouterr().err


def test_every_command_is_tested():
    # The first requires programs, and is tested in test_hooks; the next ones read standard input, and the last have tests of their own.
    untested = {
        "apps maintenance", "users check-password", "mcp", "backup log", "backup recover", "profiles learn", "profiles prove",
    }  # fmt: skip
    untested &= reference.read_specs().keys()
    assert examples.list_untested(larders.EXAMPLES) == untested, "add an example of the command on larder"
