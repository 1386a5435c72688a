"""The command tree as data, for completion files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, get_args, get_type_hints

from msgspec import structs
from typer.core import TyperGroup, TyperOption

from dbctl.cli._catalog import read_catalog
from dbctl.cli._support.options import common_parameter_names
from dbctl.cli.help import TOPICS
from dbctl.cli.main import create_root
from dbctl.extensions import registry
from dbctl.model import Struct

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter


def _list_channels() -> Mapping[str, Sequence[str]]:
    """Return the choices of the argument with a channel, which no command has without the extension ``notify``."""
    if all(extension.name != "notify" for extension in registry.list_built_in()):
        return {}
    from dbctl.extensions.notify.section import ChannelSection, NotifyConfig

    kinds = {name: get_args(hint) for name, hint in get_type_hints(NotifyConfig).items()}
    names = [
        name
        for name, arguments in kinds.items()
        if any(isinstance(kind, type) and issubclass(kind, ChannelSection) for kind in arguments)
    ]
    return {"[CHANNEL]": ["ping", *names]}


#: Values of arguments that do not depend on a configuration, by their placeholder in the help.
CHOICES: Mapping[str, Sequence[str]] = {
    **_list_channels(),
    "[PAGE]": ["dbctl", "dbctl.toml", *(name.replace(" ", "-") for name in read_catalog().groups)],
    "[TOPIC|COMMAND|CODE]": [*TOPICS, *(name for name in read_catalog().groups if " " not in name)],
}
#: Live values (``KINDS`` of ``dbctl.services.completion``) of arguments and options: the beginning of the path of the command,
#: the placeholder in the help or the name of the option, and the kinds. The first that matches applies.
LIVE: Sequence[tuple[str, str, str]] = (
    ("", "--app", "apps"),
    ("", "--confirm", "apps"),
    ("", "--db", "databases"),
    ("", "--profile", "profiles"),
    ("", "--acting-as", "logins"),
    ("", "--category", "categories"),
    ("", "--table", "tables"),
    ("users create", "LOGIN", ""),  # a new name
    ("roles create", "ROLE", ""),
    ("demo", "[PROFILE]", "profiles"),
    ("init", "PROFILE", "profiles"),
    ("apps show", "[PROFILE]", "profiles"),
    ("", "LOGIN", "logins"),
    ("", "[LOGIN]...", "logins"),
    ("", "LOGIN... ROLE", "logins,roles"),
    ("", "[USER] PERMISSION", "logins,permissions"),
    ("", "FIELD=VALUE", "fields="),
    ("", "ROLE", "roles"),
    ("", "[ROLE]", "roles"),
    ("", "[ROLE] PERMISSION...", "roles,permissions"),
    ("", "PERMISSION", "permissions"),
    ("settings", "KEY", "settings"),
    ("", "TABLE", "tables"),
    ("", "[TABLE] FILE", "tables"),
    ("data", "--sort", "columns"),
    ("", "COLUMN=VALUE", "columns="),
    ("", "[COLUMN=VALUE]...", "columns="),
    ("", "[KEY]... COLUMN=VALUE...", "columns="),
    ("", "COLUMN=TYPE", "columns="),
    ("", "COLUMN=NAME", "columns="),
    ("", "COLUMN=TABLE.COLUMN", "columns="),
    ("data", "COLUMN", "columns"),
    ("migrate", "COLUMN", "columns"),
    ("", "REPORT", "reports"),
    ("", "RULE", "rules"),
    ("", "SEARCH", "searches"),
    ("", "[SEARCH]", "searches"),
    ("backup", "[ID]", "backups"),
    ("backup", "[ID]...", "backups"),
    ("backup", "ID...", "backups"),
    ("backup", "[ID|PATH]...", "backups"),
    ("restore", "[ID]", "backups"),
    ("restore", "FILE|ID", "backups"),
    ("demo", "--variant", ""),
    ("", "--variant", "variants"),
    ("migrate", "--to", "migrations"),
    ("migrate", "--allow-data-loss", "migrations"),
    ("migrate", "NAME...", "migrations"),
    ("migrate", "[NAME]...", "migrations"),
)


class Slot(Struct, frozen=True, kw_only=True):
    """An option, or one positional argument."""

    names: Sequence[str] = ()  #: empty: positional
    help: str = ""
    takes_value: bool = True
    kind: str = "any"  #: any, file, directory
    choices: Sequence[str] = ()
    live: str = ""  #: kinds of ``LIVE``, separated by commas
    repeatable: bool = False

    @property
    def completion(self) -> str:
        """Completions of a value: ``@file``, ``@directory``, ``@option:KINDS``, ``@argument:KINDS``, or words; empty for none."""
        if self.live:
            return f"@{'option' if self.names else 'argument'}:{self.live}"
        return f"@{self.kind}" if self.kind != "any" else " ".join(self.choices)


class Node(Struct, frozen=True, kw_only=True):
    """One command or group."""

    path: str  #: names of groups and command, separated by spaces; empty: dbctl itself
    children: Sequence[tuple[str, str]] = ()  #: name and help
    options: Sequence[Slot] = ()  #: without the common options
    arguments: Sequence[Slot] = ()


def build_tree() -> tuple[Sequence[Node], Sequence[Slot]]:
    """Return all commands, and the common options."""
    root = create_root()
    nodes = [
        _add_nested_groups(node, root)
        for node in _walk(root, root.make_context("dbctl", [], resilient_parsing=True), "")
    ]
    common = [_slot(param, "") for param in root.params if param.name in common_parameter_names()]
    common.append(Slot(names=("--help", "-h"), help="Show the help.", takes_value=False))
    return nodes, common


def _add_nested_groups(node: Node, root: Command) -> Node:
    """Add a group that is nested in a command to its children, such as ``search index``."""
    commands = getattr(root, "commands", {})
    nested = [
        (name.split()[1], _describe(commands[name]))
        for name in read_catalog().groups
        if name in commands and name.split()[:-1] == [node.path]
    ]
    return structs.replace(node, children=[*node.children, *nested]) if nested else node


def _walk(command: Command, ctx: Context, path: str) -> Iterator[Node]:
    params = [
        param
        for param in command.params
        if not (isinstance(param, TyperOption) and param.name in common_parameter_names())
        and not getattr(param, "hidden", False)
    ]
    children: list[tuple[str, Command]] = []
    if isinstance(command, TyperGroup):
        commands_ = ((name, command.get_command(ctx, name)) for name in command.list_commands(ctx))
        children = [(name, child) for name, child in commands_ if child is not None and not child.hidden]
    yield Node(
        path=path,
        children=[(name, _describe(child)) for name, child in children if " " not in name],
        options=[_slot(param, path) for param in params if isinstance(param, TyperOption)],
        arguments=[_slot(param, path) for param in params if not isinstance(param, TyperOption)],
    )
    for name, child in children:
        yield from _walk(child, ctx, f"{path} {name}".strip())


def _describe(command: Command) -> str:
    sentence = " ".join((command.short_help or "").split()).partition(". ")[0].removesuffix(".")
    return shorten(sentence, 70, placeholder="…")


def _find_live(path: str, keys: Sequence[str]) -> str:
    return next((kinds for start, key, kinds in LIVE if path.startswith(start) and key in keys), "")


def _slot(param: Parameter, path: str) -> Slot:
    option = isinstance(param, TyperOption)
    metavar, kind = str(getattr(param, "metavar", "") or ""), getattr(param.type, "name", "")
    placeholder = metavar if option else param.human_readable_name
    choices = CHOICES.get(placeholder, getattr(param.type, "choices", ()))
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
        live=_find_live(path, [placeholder, *(param.opts if option else ())]),
        repeatable=param.nargs == -1,
    )
