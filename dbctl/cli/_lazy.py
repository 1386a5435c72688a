"""The root of the command tree: groups are imported when they are named."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING

from typer.core import TyperGroup
from typer.main import get_command_from_info, get_command_name

from dbctl.cli._support.options import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer import Typer
    from typer._click import Command, Context, HelpFormatter
    from typer.models import CommandInfo

#: Modules of ``dbctl.cli``, each with an ``app``, and what the help of dbctl says of them without loading one.
GROUPS = {
    "init": "Find an app's databases and write dbctl.toml.",
    "demo": "Build sample data to try dbctl on.",
    "apps": "Configured apps and what dbctl knows of them.",
    "status": "How every database stands, in one line each.",
    "doctor": "What to know before trusting a deployment.",
    "users": "Users of the app.",
    "roles": "Roles and their permissions.",
    "settings": "Settings of the app, and of one user.",
    "migrate": "Migrations of the schema.",
    "backup": "Backups: make, list, verify, drill, adopt, copy, prune.",
    "restore": "Bring a backup back, undo that, or read a damaged database.",
    "integrity": "Whether the databases are sound and agree.",
    "stats": "Figures: room, rows, indexes, connections, locks, reports.",
    "maintain": "Look after databases; end what sessions do.",
    "sessions": "Sessions of users, and rows that have had their day.",
    "schedule": "What is to be done by itself.",
    "search": "Search the app's content.",
    "search all": "A word in every text of every database.",
    "search semantic": "Rows by what they mean.",
    "search index": "The index behind a search.",
    "search vectors": "The vectors behind a search by meaning.",
    "data": "Rows of any table: look, mend, ask, export, import.",
    "completions": "Completion of words for the shell.",
}

#: Those that are a command of their own and no group.
COMMANDS = frozenset({"init", "demo", "doctor", "search", "search all", "search semantic", "status"})


class LazyGroup(TyperGroup):
    """A group that makes a member when it is named: a command's parameters take as long as a query."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Return the words that name the members."""

    @abstractmethod
    def make(self, name: str) -> Command:
        """Make the member ``name``."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        return list(self.names())

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002 - as above
        if cmd_name not in self.commands and cmd_name in self.names():
            self.add_command(share(self.make(cmd_name), top=False), cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        word = args[0]
        if word not in self.names():
            from difflib import get_close_matches

            near = get_close_matches(word, self.names())
            ctx.fail(f"no such command {word!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)


class Root(LazyGroup):
    """``dbctl`` itself: the members are modules, and its help loads none of them."""

    def names(self) -> Sequence[str]:
        return list(GROUPS)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        both = " ".join(args[:2])
        if (
            len(args) > 1 and both in self.names()
        ):  # a group below a command: the command's argument is no such word
            return both, self.get_command(ctx, both), args[2:]
        return super().resolve_command(ctx, args)

    def make(self, name: str) -> Command:
        app = import_module(f"dbctl.cli.{name.replace(' ', '_')}").app
        return _command(app.registered_commands[0]) if name in COMMANDS else Group(name, app)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))


class Group(LazyGroup):
    """One module's commands."""

    def __init__(self, name: str, app: Typer) -> None:
        super().__init__(name=name, help=GROUPS[name], no_args_is_help=True, rich_markup_mode=None)
        self._infos = {
            info.name or get_command_name(info.callback.__name__): info
            for info in app.registered_commands
            if info.callback
        }

    def names(self) -> Sequence[str]:
        return list(self._infos)

    def make(self, name: str) -> Command:
        return _command(self._infos[name])


def _command(info: CommandInfo) -> Command:
    return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
