"""``dbctl help`` prints topics, and the help of each command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dbctl
from dbctl.cli import help as help_command
from dbctl.cli._catalog import read_catalog
from dbctl.cli.main import main
from dbctl.errors.base import Exit, load_registry
from dbctl.render.reports import read_subjects
from dbctl.services.migrations.lint_rules import LINT_RULES
from tools import reference


@pytest.mark.needs_extension("reach", "recover")
def test_every_variable_of_the_environment_is_described():
    code = "\n".join(path.read_text(encoding="utf-8") for path in Path(dbctl.__file__).parent.rglob("*.py"))
    names = set(re.findall(r"(?:environ(?:\.get\(|\[)|_base_folder\()\"([A-Z_]+)\"", code)) | set(
        re.findall(r"envvar=\"([A-Z_]+)\"", code)
    )
    assert names == {name for name in help_command.ENVIRONMENT if name not in ("AWS_…", "NAME_FILE")}


def test_every_exit_code_is_described():
    assert set(help_command.EXIT_CODES) == set(Exit)


@pytest.mark.parametrize("topic", help_command.TOPICS)
def test_topic_fits_in_a_terminal(topic, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["help", topic]) == 0
    text = capsys.readouterr().out
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 80


def test_options_are_those_that_every_command_accepts(capsys):
    main(["help", "options"])
    text = capsys.readouterr().out
    for name in ("--version", "--help", "--app", "--timeout", "--yes"):
        assert name in text


@pytest.mark.parametrize(
    "words", ["", "users", "users set-role", "search", "search index", "search index build"]
)
def test_help_of_a_command_is_that_of_its_option(words, capsys):
    assert main(["help", *words.split()]) == 0
    text = capsys.readouterr().out
    assert main([*words.split(), "--help"]) == 0
    assert text == capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "title", "fact"),
    [
        (
            "search-index-stale",
            "Finding of search index check, doctor (warning):",
            "dbctl search index build",
        ),
        ("drops-table", "Finding of migrate lint (warning):", "allow-data-loss"),
        ("busy", "Error, exit code 11:", "--timeout"),
        ("file-missing", "Finding of backup verify, backup drill (error):", "Error, exit code 5:"),
    ],
)
def test_code_is_explained(code, title, fact, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["help", code]) == 0
    text = capsys.readouterr().out
    assert title in text.splitlines()
    assert fact in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_code_hides_a_topic_or_a_command():
    codes = {code for subject in read_subjects() for entry in subject.entries for code in entry.codes}
    codes |= {*load_registry(), *LINT_RULES}
    assert not codes & {*help_command.TOPICS, *read_catalog().groups}


@pytest.mark.parametrize(
    "words", [["nix"], ["users", "nix"], ["users", "list", "nix"], ["options", "nix"], [""]]
)
def test_unknown_topic_is_reported(words, answer):
    assert answer("help", *words, status=5)["error"]["code"] == "help-topic-missing"


@pytest.mark.slow
@pytest.mark.needs_extension("demo")
def test_first_steps_are_commands(start, tmp_path):
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    process = start(environment=environment, cwd=tmp_path)
    assert (process.returncode, process.stdout, process.stderr.count("\n")) == (2, "", 3)
    for words in re.findall(r":  +dbctl (.+)$", process.stderr, re.MULTILINE):
        line = words.replace("DIR", "sample").split()
        assert start(*line, environment=environment, cwd=tmp_path).returncode in (0, 5)
    (tmp_path / "dbctl.toml").touch()
    assert "Usage:" in start(environment=environment, cwd=tmp_path).stderr


def test_every_group_is_in_one_section():
    root = dict(reference.command_helps())[""]
    listed = re.findall(r"^  (\S+(?: \S+)?)  +\S", root.partition("Examples:")[0], re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(read_catalog().groups)
