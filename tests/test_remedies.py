"""Remedies: each command that an error or a finding names is declared, with its options, and can be pasted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import dbctl
from dbctl.errors import (
    FleetSelectedError,
    Invocation,
    Remedy,
    RowNotFoundError,
    SettingMissingError,
    UndoMissingError,
    set_invocation,
)
from tools import reference

PACKAGE = Path(dbctl.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def list_remedies() -> Iterator[tuple[str, ast.Call]]:
    """Yield the place and the arguments of each remedy in the sources, of errors and of findings."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def list_commands() -> Iterator[tuple[str, str]]:
    for place, call in list_remedies():
        for argument in call.args[1::2]:
            if not place.startswith("services/checks/context.py"):  # its words are those of the checks
                yield place, ast.literal_eval(argument)


def parse_command(line: str) -> None:
    """Parse a command line with a value for each placeholder.

    Raises:
        TyperException: no such command or option is declared, or an argument is missing.
    """
    command = reference.add_common_options(reference.get_group(reference.app))
    arguments, context = shlex.split(re.sub(r"\{\w+\}|\b[A-Z]{2,}\b", "1", line)), None
    name = "dbctl"
    while True:
        context = command.make_context(name, arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize(("place", "line"), [*list_commands()])
def test_command_of_remedy_is_declared_with_its_options(place, line):
    parse_command(line)


@pytest.mark.parametrize(
    "line", ["backup lists", "backup list --repositories X", "transfer verify", "restore apply ID --tables x"]
)
def test_undeclared_command_is_found(line):
    with pytest.raises(Exception, match=r"(?i)no such|missing") as caught:
        parse_command(line)
    assert isinstance(caught.value, typer.TyperException)


def list_other_texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts that are neither docstrings nor parts of a remedy."""
    known = set[ast.AST]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            known.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
            known |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in known:
            yield node


def test_no_other_text_of_an_error_names_a_command():
    names = re.compile(rf"\bdbctl ({'|'.join(map(re.escape, reference.list_commands()))})\b")
    places = [
        f"{path.relative_to(PACKAGE)}:{text.lineno}: {text.value}"
        for path, tree in TREES.items()
        if path.is_relative_to(PACKAGE / "errors")
        for text in list_other_texts(tree)
        if names.search(text.value)
    ]
    assert not places


def test_commands_quote_names_with_spaces():
    assert RowNotFoundError(table="my rows", key="1", target="a/main").hint.endswith(
        "dbctl data rows 'my rows'"
    )
    assert FleetSelectedError(app="my app").hint.endswith("dbctl apps instances --app 'my app'")
    assert SettingMissingError(key="a b", target="a/main").hint == "List settings with: dbctl settings list"
    several = Remedy("", "backup delete {names}").write(facts={"names": ["a b", "c"]})
    assert several == "dbctl backup delete 'a b' c"


@pytest.fixture
def invocation() -> Iterator[None]:
    described = Invocation(config="--config /srv/my.toml", app="blog", others="--db logs")
    outer = set_invocation(lambda: described)
    yield
    set_invocation(outer)


@pytest.mark.usefixtures("invocation")
def test_commands_repeat_the_selection():
    selected = "--config /srv/my.toml --db logs --app"
    assert (
        UndoMissingError(app="shop", place="s3").hint
        == f"List backups with: dbctl backup list {selected} shop"
    )
    remedy = Remedy("Check", "apps check", "or write", "init DIR", "or run", "data rows a --db b --app c")
    assert remedy.write() == (
        f"Check: dbctl apps check {selected} blog; or write: dbctl init DIR --config /srv/my.toml;"
        " or run: dbctl data rows a --db b --app c --config /srv/my.toml"
    )
