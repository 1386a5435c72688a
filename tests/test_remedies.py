"""Remedies: each command that an error or a finding names is declared, with its options, and can be pasted."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

import dbctl
from dbctl.cli.main import create_root
from dbctl.errors.backup import UndoMissingError
from dbctl.errors.base import Invocation, Remedy, invocations, load_registry
from dbctl.errors.databases import RowNotFoundError
from dbctl.errors.usage import FleetSelectedError
from dbctl.errors.users import SettingMissingError
from tests.examples import is_installed
from tools import reference

PACKAGE = Path(dbctl.__file__).parent


# Not when the module is loaded: every worker loads it.
@cache
def find_names() -> str:
    """Return a pattern of the names of all commands."""
    return "|".join(map(re.escape, sorted(reference.list_commands(), key=len, reverse=True)))


@cache
def read_sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def list_remedies() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each remedy: of the error classes, and in the sources."""
    for error in load_registry().values():
        yield from ((error.code, text) for text in (error.remedy, error.default_hint))
    # only the sources that can have a remedy are parsed
    for path, source in read_sources().items():
        for node in ast.walk(ast.parse(source)) if "Remedy(" in source else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                if isinstance(node.args[0], ast.Constant):
                    yield place, node.args[0].value
                else:  # the remedy of an error class
                    assert isinstance(node.args[0], ast.Attribute), f"{place} is no literal"


def list_described_commands() -> Iterator[tuple[str, str]]:
    """Yield the commands in the descriptions of findings, and in the texts of the built-in profiles."""
    codes = (PACKAGE / "render/codes.toml").read_text(encoding="utf-8")
    yield from (("codes.toml", line) for line in re.findall(r"`dbctl ([^`]+)`", codes))
    for path in sorted((PACKAGE / "profiles/builtin").glob("*.toml")):
        for text in list_texts(tomllib.loads(path.read_text(encoding="utf-8"))):
            yield from ((path.name, line) for line in re.findall(rf"dbctl ((?:{find_names()})\b[^;]*)", text))


def list_texts(value: object) -> Iterator[str]:
    """Yield the texts of a profile."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from list_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from list_texts(item)


@cache
def read_remedies() -> list[tuple[str, str]]:
    return [*list_remedies()]


def list_commands() -> Iterator[tuple[str, str]]:
    """Yield the place and the line of each command that a remedy or a description names."""
    for place, text in read_remedies():
        yield from ((place, line) for line in text.split("`")[1::2])
    yield from list_described_commands()


def parse_command(line: str) -> None:
    """Parse a command line with a value for each placeholder.

    Raises:
        TyperException: no such command or option is declared, or an argument is missing.
    """
    line = re.sub(r" (ACTION|\{action\}) ", " set-role ", line)  # one of its choices
    command = create_root()
    arguments, context = shlex.split(re.sub(r"\{\w+\}|\b[A-Z]{2,}\b", "1", line)), None
    name = "dbctl"
    while True:
        context = command.make_context(name, arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


def find_problem(line: str) -> str:
    """Return why a command line cannot be parsed, or an empty text."""
    try:
        parse_command(line)
    except typer.TyperException as error:
        return error.format_message()
    return ""


def test_commands_of_remedies_are_declared_with_their_options() -> None:
    lines = {line: place for place, line in list_commands() if is_installed(line)}
    assert len(lines) > 100
    problems = {
        f"{place}: {line}": problem for line, place in lines.items() if (problem := find_problem(line))
    }
    assert problems == {}


def test_command_ends_a_remedy_or_is_followed_by_another() -> None:
    for place, text in read_remedies():
        texts = text.split("`")[::2]
        assert all(not following or following.startswith("; ") for following in texts[1:]), (place, text)
        assert all(not before or before.endswith(": ") for before in texts[:-1]), (place, text)


@pytest.mark.parametrize(
    "line", ["backup lists", "backup list --repositories X", "transfer verify", "restore apply ID --tables x"]
)
def test_undeclared_command_is_found(line):
    assert re.search(r"(?i)no such|missing", find_problem(line))


def list_other_texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts that are neither docstrings nor help of options; commands of remedies do not have ``dbctl``."""
    known = set[ast.AST]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            known.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            known |= set(ast.walk(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("argument", "flag", "option"):
            known |= {text for argument in node.args for text in ast.walk(argument)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in known:
            yield node


#: Texts that are no hints: help, and comments in files that dbctl writes.
OTHER_TEXTS = {
    "cli/_support/group.py",
    "cli/help.py",
    "cli/main.py",
    "cli/_support/options.py",
    "extensions/demo/definition.py",
    "extensions/lancedb/restore.py",
    "engines/mysql/restore.py",
    "engines/postgresql/restore.py",
    "extensions/transfer/portable/write_lock.py",  # a server repeats it
    "profiles/model/cleanup.py",  # as hints in the files of profiles
    "extensions/reports/page.py",
    "extensions/reports/sections.py",
    "extensions/schedule/cron.py",
    "extensions/schedule/units.py",
    "extensions/notify/dispatch.py",
    "services/setup/init.py",
    "services/support/bundle.py",
}


def test_no_other_text_names_a_command():
    # only the sources that can have such a text, of one literal or several, are parsed
    named = re.compile(rf"\bdbctl[\s\\\"'f]+({find_names()})\b")
    places = [
        f"{path.relative_to(PACKAGE)}:{text.lineno}: {text.value}"
        for path, source in read_sources().items()
        if str(path.relative_to(PACKAGE)) not in OTHER_TEXTS and named.search(source)
        for text in list_other_texts(ast.parse(source))
        if re.search(rf"\bdbctl ({find_names()})\b", text.value)
    ]
    assert not places


@pytest.fixture
def no_invocation() -> Iterator[None]:
    """Without the app that the threads of another test in this process may have opened last."""
    invocations.append(Invocation)
    yield
    invocations.pop()


@pytest.mark.usefixtures("no_invocation")
def test_commands_quote_names_with_spaces():
    assert RowNotFoundError(table="my rows", key="1", target="a/main").hint.endswith(
        "dbctl data rows 'my rows'"
    )
    assert FleetSelectedError(app="my app").hint.endswith("dbctl apps instances --app 'my app'")
    assert SettingMissingError(key="a b", target="a/main").hint == "List settings with: dbctl settings list"
    several = Remedy("`backup delete {names}`").write(facts={"names": ["a b", "c"]})
    assert several == "dbctl backup delete 'a b' c"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("data rows {name}", "dbctl data rows --app blog -- -my"),
        ("data rows {dash}", "dbctl data rows 'a -- b' --app blog"),
        ("data set {other} KEY {name}=TIME", "dbctl data set a KEY --app blog -- -my=TIME"),
        ("users set-role {name} {other} --demote-to ROLE", "dbctl users set-role --demote-to ROLE --app blog -- -my a"),
        ("profiles learn {names} --to {other}", "dbctl profiles learn set-role --login x --to a --app blog"),
        ("users set-role {ids} {other}", "dbctl users set-role --id 2 --id 3 a --app blog"),
        ("users activate --id {name}", "dbctl users activate --id -my --app blog"),
    ],
)  # fmt: skip
def test_names_are_no_options(text, line):
    facts = {
        "name": "-my",
        "other": "a",
        "dash": "a -- b",
        "names": ["set-role", "--login", "x"],
        "ids": ["--id", "2", "--id", "3"],
    }
    assert Remedy(f"`{text}`").fill(Invocation(app="blog"), "", facts) == line
    assert find_problem(line.removeprefix("dbctl ")) == ""


@pytest.fixture
def invocation() -> Iterator[None]:
    described = Invocation(
        config="--config /srv/my.toml", app="blog", others="--url logs=/srv/a.db", database="--db logs"
    )
    invocations.append(lambda: described)
    yield
    invocations.pop()


@pytest.mark.usefixtures("invocation")
def test_commands_repeat_the_selection():
    selected = "--config /srv/my.toml --url logs=/srv/a.db --db logs --app"
    for app in ("blog", "blog/first"):
        hint = UndoMissingError(app=app, place="s3").hint
        assert hint == f"List backups with: dbctl backup list {selected} {app}"
    remedy = Remedy("Check: `apps check`; or write: `init DIR`; or run: `data rows a --db b --app c`")
    assert remedy.write() == (
        f"Check: dbctl apps check {selected} blog; or write: dbctl init DIR --config /srv/my.toml;"
        " or run: dbctl data rows a --db b --app c --config /srv/my.toml"
    )


@pytest.mark.usefixtures("invocation")
def test_commands_about_profiles_select_the_app_if_they_read_its_database():
    assert Remedy("`profiles learn set-role --to P`").write() == (
        "dbctl profiles learn set-role --to P --config /srv/my.toml --url logs=/srv/a.db --db logs --app blog"
    )
    assert Remedy("`profiles list`").write() == "dbctl profiles list --config /srv/my.toml"


def test_commands_repeat_the_repository_only_if_they_have_the_option():
    remedy = Remedy(
        "`backup list`; `restore undo`; `restore recover --to X`; `users list`; `backup verify --repository Z`"
    )
    described = Invocation(app="blog", options=dict.fromkeys(("backup", "restore"), "--repository B"))
    assert remedy.fill(described, "shop", {}).count("--repository") == 1
    assert remedy.fill(described, "blog", {}) == (
        "dbctl backup list --repository B --app blog; dbctl restore undo --repository B --app blog;"
        " dbctl restore recover --to X --app blog; dbctl users list --app blog; dbctl backup verify --repository Z --app blog"
    )


@pytest.mark.parametrize(
    ("option", "group", "own"),
    [("--migrations M", "migrate", "--migrations Z"), ("--id 7", "settings", "--id 8")],
)
def test_commands_repeat_an_option_of_their_group(option, group, own):
    remedy = Remedy(f"`{group} list`; `{group} set {own}`; `users list`")
    described = Invocation(app="blog", options={group: option})
    assert option not in remedy.fill(described, "shop", {})
    assert remedy.fill(described, "blog", {}) == (
        f"dbctl {group} list {option} --app blog; dbctl {group} set {own} --app blog; dbctl users list --app blog"
    )


@pytest.mark.usefixtures("invocation")
def test_comparison_with_other_databases_is_not_of_one_database():
    hint = Remedy("Compare with: `integrity cross-check`; and: `integrity check`").write()
    options = "--config /srv/my.toml --url logs=/srv/a.db"
    assert hint == (
        f"Compare with: dbctl integrity cross-check {options} --app blog; and: dbctl integrity check {options} --db logs --app blog"
    )


@pytest.mark.usefixtures("invocation")
def test_commands_for_another_app_have_no_address_or_database_of_the_selected_one():
    hint = UndoMissingError(app="shop", place="s3").hint
    assert hint == "List backups with: dbctl backup list --config /srv/my.toml --app shop"


@pytest.mark.parametrize(
    ("text", "absent", "left"),
    [
        ("Write one with: `init DIR`; or try: `demo x DIR`", "demo", "Write one with: dbctl init DIR"),
        ("Nothing changed. Salvage it with: `restore recover --to X`", "restore recover", "Nothing changed."),
        ("Stop it, and restore; without a backup: `restore recover`", "restore recover", "Stop it, and restore"),
        ("Adopt it: `backup adopt {x}`; or apply: `restore apply`", "backup adopt", "Apply: dbctl restore apply"),
        ("Salvage it with: `restore recover`", "restore recover", ""),
        ("List them with: `restore list`", "restore recover", "List them with: dbctl restore list"),
    ],
)  # fmt: skip
def test_absent_command_is_omitted_with_its_introduction(text, absent, left):
    assert Remedy(text).fill(Invocation(absent=["transfer", absent]), "", {"x": "a"}) == left
