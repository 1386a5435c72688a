"""The command tree as data: what completion files are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from msgspec import structs
from typer.core import TyperGroup, TyperOption
from typer.main import get_group

from dbctl.cli._support.options import share, shared_names
from dbctl.cli.main import app
from dbctl.model import Value
from dbctl.profiles import loader

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter


_PROFILES = [loader.load(name) for name in loader.names()]
#: What some arguments and values of options can be, by the word that stands for them in the help, as far as it does not
#: depend on a configuration.
KNOWN: Mapping[str, Sequence[str]] = {
    "[PROFILE]": loader.names(),
    "PROFILE": loader.names(),
    "REPORT": sorted({report.name for profile in _PROFILES for report in profile.report}),
    "RULE": sorted({rule.name for profile in _PROFILES for rule in profile.cleanup}),
    "WHAT": sorted({search.name for profile in _PROFILES for search in profile.search}),
}


class Slot(Value, frozen=True, kw_only=True):
    """An option, or one positional argument."""

    names: Sequence[str] = ()  #: empty: positional
    help: str = ""
    takes_value: bool = True
    kind: str = "any"  #: any, file, directory
    choices: Sequence[str] = ()
    many: bool = False

    @property
    def completes(self) -> str:
        """What completes a value: ``@file``, ``@directory``, or words; empty: nothing does."""
        return f"@{self.kind}" if self.kind != "any" else " ".join(self.choices)


class Node(Value, frozen=True, kw_only=True):
    """One command or group."""

    path: str  #: words with blanks between; empty: dbctl itself
    children: Sequence[tuple[str, str]] = ()  #: name and help
    options: Sequence[Slot] = ()  #: its own, without those of every command
    arguments: Sequence[Slot] = ()


def tree() -> tuple[Sequence[Node], Sequence[Slot]]:
    """Return every command, and the options that all of them take."""
    root = share(get_group(app))
    nodes = [
        _adopting(node, root)
        for node in _walk(root, root.make_context("dbctl", [], resilient_parsing=True), "")
    ]
    common = [_slot(param) for param in root.params if param.name in shared_names()]
    common.append(Slot(names=("--help", "-h"), help="Show the help.", takes_value=False))
    return nodes, common


def _adopting(node: Node, root: Command) -> Node:
    """Give a command the group below it, which the root finds by two words: ``search index``."""
    known = getattr(root, "commands", {})
    own = [
        (name.split()[1], _describe(child))
        for name, child in known.items()
        if name.split()[:-1] == [node.path]
    ]
    return structs.replace(node, children=[*node.children, *own]) if own else node


def _walk(command: Command, ctx: Context, path: str) -> Iterator[Node]:
    own = [
        param
        for param in command.params
        if param.name not in shared_names() and not getattr(param, "hidden", False)
    ]
    children: list[tuple[str, Command]] = []
    if isinstance(command, TyperGroup):
        named = ((name, command.get_command(ctx, name)) for name in command.list_commands(ctx))
        children = [(name, child) for name, child in named if child is not None and not child.hidden]
    yield Node(
        path=path,
        children=[(name, _describe(child)) for name, child in children if " " not in name],
        options=[_slot(param) for param in own if isinstance(param, TyperOption)],
        arguments=[_slot(param) for param in own if not isinstance(param, TyperOption)],
    )
    for name, child in children:
        yield from _walk(child, ctx, f"{path} {name}".strip())


def _describe(command: Command) -> str:
    first = " ".join((command.short_help or "").split()).partition(". ")[0].removesuffix(".")
    return shorten(first, 70, placeholder="…")


def _slot(param: Parameter) -> Slot:
    option = isinstance(param, TyperOption)
    metavar, kind = str(getattr(param, "metavar", "") or ""), getattr(param.type, "name", "")
    known = metavar if option else param.human_readable_name
    choices = KNOWN.get(known, getattr(param.type, "choices", ()))
    return Slot(
        names=[*param.opts, *param.secondary_opts] if option else (),
        help=str(getattr(param, "help", "") or "").rstrip("."),
        takes_value=not getattr(param, "is_flag", False),
        kind="directory"
        if kind == "directory" or metavar == "DIR"
        else "file"
        if kind in {"path", "file", "filename"} or metavar == "FILE"
        else "any",
        choices=[str(getattr(choice, "value", choice)) for choice in choices],
        many=param.nargs == -1,
    )
