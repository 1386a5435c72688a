"""The root of the command tree, which imports a group only when the command line names it."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from typer._click import Command
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info

from dbctl import signals
from dbctl.cli._support.emit import RECEIVER
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import RUN, add_common_options, current_command, leaf_context, logs_run
from dbctl.render import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typer._click import Context, HelpFormatter
    from typer.core import TyperOption

    from dbctl.spec import CommandSpec

#: Modules of ``dbctl.cli`` that define an ``app``, by the section of the help, with their help, so that the help of dbctl
#: imports none of them.
SECTIONS = {
    "Set up": {
        "init": "Find an app's databases and write dbctl.toml.",
        "config": "Keys of the configuration: values, meaning, errors.",
        "apps": "Configured apps and their profiles.",
        "profiles": "Draft profiles of apps, and list them.",
        "demo": "Create a sample deployment.",
    },
    "Inspect": {
        "status": "State of every database, one line each.",
        "report": "Growth, activity, backups, findings: also as a page.",
        "doctor": "Check whether a deployment is safe to operate.",
        "integrity": "Check and repair the consistency of databases.",
        "stats": "Statistics: sizes, rows, indexes, connections, reports.",
        "search": "Search the app's content.",
        "search all": "Find a word in every text column of every database.",
        "search semantic": "Semantic search (vector similarity).",
        "search index": "Full-text and vector indexes of searches.",
        "search vectors": "Vectors of semantic search.",
    },
    "Change": {
        "users": "Users of the app.",
        "roles": "Roles and their permissions.",
        "settings": "Settings of the app, and of one user.",
        "sessions": "User sessions, and cleanup of expired rows.",
        "data": "Rows of any table: list, edit, query, export, import.",
        "undo": "Revert a recorded change of users, roles, settings or rows.",
    },
    "Back up": {
        "backup": "Create, list, verify, drill, copy and prune backups.",
        "restore": "Restore a backup, or salvage a damaged database.",
    },
    "Schema": {
        "schema": "Schemas: describe tables, draw a diagram, compare.",
        "migrate": "Schema migrations.",
        "maintain": "Vacuum, analyze and reindex databases.",
        "transfer": "Move a database to another engine or server.",
    },
    "Automate": {
        "schedule": "Timers, crontab lines and manifests of scheduled jobs.",
        "metrics": "Metrics of databases, backups and runs for Prometheus.",
        "runs": "Journal of runs: which command ran when, and its result.",
        "audit": "Audit log: who changed which rows, and whether it is intact.",
        "notify": "Notifications: test channels, send what is overdue.",
        "completions": "Shell completion.",
        "man": "Man pages.",
        "support": "Write an archive for a bug report, without secrets.",
        "version": "Versions of dbctl, drivers and client programs.",
        "help": "Help about a topic, or a command.",
    },
}
GROUPS = {name: text for commands in SECTIONS.values() for name, text in commands.items()}
EXAMPLES = {
    "dbctl init /srv/blog": "Write a configuration for an app.",
    "dbctl status": "Show the state of every database.",
    "dbctl backup create": "Back up the databases, and verify the copies.",
    "dbctl users set-password ann": "Set the password of a user.",
}

#: Entries of ``GROUPS`` that are commands, not groups.
COMMANDS = frozenset(
    {
        "init",
        "demo",
        "doctor",
        "help",
        "metrics",
        "report",
        "search",
        "search all",
        "search semantic",
        "status",
        "support",
        "undo",
        "version",
    }
)

#: By a command of other programs: the commands of dbctl, of which a group has at most one.
SYNONYMS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("add", "new", "insert"), ("create", "import")),
    **dict.fromkeys(("remove", "rm", "del", "drop"), ("delete",)),
    **dict.fromkeys(("ls", "all"), ("list", "show")),
    **dict.fromkeys(("get", "describe", "info"), ("show", "get")),
    **dict.fromkeys(("edit", "modify", "change"), ("update", "set")),
    **dict.fromkeys(("run", "start", "now"), ("create", "apply", "up")),
    **dict.fromkeys(("check", "test"), ("verify", "check", "validate")),
    **dict.fromkeys(("disable", "block", "ban"), ("deactivate",)),
    **dict.fromkeys(("enable",), ("activate",)),
    **dict.fromkeys(("passwd", "password", "reset-password"), ("set-password",)),
    **dict.fromkeys(("apply", "migrate", "upgrade"), ("up",)),
    **dict.fromkeys(("rollback", "downgrade"), ("down", "undo")),
}
LATEST = "latest"
#: A name that more groups have, such as list, means none of them.
MAX_EQUIVALENTS = 3


class _ColoredHelp(Command):
    """A command whose help has colors on a terminal."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        option = super().get_help_option(ctx)
        if option:
            option.callback = _print_help
        return option


def _print_help(ctx: Context, _option: object, requested: bool) -> None:
    if requested and not ctx.resilient_parsing:
        from dbctl.render import color_help

        streams.write(color_help(ctx.get_help(), sys.stdout) + "\n")
        ctx.exit()


class ObservedCommand(_ColoredHelp, TyperCommand):
    """A command whose run is recorded in the journal or logged, if that applies."""

    def invoke(self, ctx: Context) -> object:
        # The instances of a fleet are part of one run.
        if RECEIVER not in ctx.meta:
            records = read_spec(ctx).recorded and not ctx.params.get("dry_run")
            if records or logs_run(ctx):
                from dbctl.cli._support.runs import ObservedRun

                with signals.defer_signals():  # between the record and the context that finishes it
                    ctx.meta[RUN] = ObservedRun(leaf_context(ctx), is_recorded=records)
                signals.raise_if_interrupted()
                ctx.meta[RUN].notify_begin()
        return super().invoke(ctx)


def read_spec(ctx: Context) -> CommandSpec:
    """Return the declaration of the command of ``ctx``, which is no group."""
    spec: CommandSpec = ctx.command.callback.spec  # type: ignore[union-attr]  # Typer copies the attributes of a function
    return spec


def find_spec(ctx: Context | None) -> CommandSpec | None:
    """Return the declaration of the last parsed command; None: none was parsed, or it is a group."""
    if ctx is None or not current_command(ctx):
        return None
    return getattr(leaf_context(ctx).command.callback, "spec", None)


class LazyGroup(_ColoredHelp, TyperGroup):
    """A group that creates a command on first use, because parsing its parameters takes as long as a query."""

    loaders: Mapping[str, Callable[[], Command]] = {}  #: by the name of the command

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        return list(self.loaders)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002 - the signature is Typer's
        if cmd_name not in self.commands and cmd_name in self.loaders:
            self.add_command(add_common_options(self.loaders[cmd_name](), is_root=False), cmd_name)
        return self.commands.get(cmd_name)

    def find_equivalents(self, word: str) -> list[str]:
        """Return the commands that a word from the vocabulary of other programs means in this group."""
        if word == LATEST or word.replace("_", "", 1).isdecimal():  # the id of a backup
            return [f"{self.name} {name} {word}" for name in ("apply", "show") if name in self.loaders][:1]
        return [f"{self.name} {name}" for name in SYNONYMS.get(word, ()) if name in self.loaders][:1]

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        # A group nested in a command, such as search index; no search has the name of a nested group.
        if len(args) > 1 and (nested_name := " ".join(args[:2])) in self.loaders:
            return nested_name, self.get_command(ctx, nested_name), args[2:]
        word = args[0]
        if word not in self.loaders:
            from dbctl.errors import suggest_question

            suggestion = " or ".join(map(repr, self.find_equivalents(word)))
            question = (
                f" (did you mean {suggestion}?)" if suggestion else suggest_question(word, self.loaders)
            )
            ctx.fail(f"no such command {word!r}{question}")
        return super().resolve_command(ctx, args)


class Root(LazyGroup):
    """``dbctl`` itself: each command or group is a module, and the help imports none of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.loaders = {name: partial(_load_module, name) for name in GROUPS}

    def find_equivalents(self, word: str) -> list[str]:
        """Return the commands of groups that have this name, unless it is the name of many."""
        groups = [load() for name, load in self.loaders.items() if name not in COMMANDS]
        paths = [f"{group.name} {word}" for group in groups if word in getattr(group, "loaders", ())]
        return paths if len(paths) <= MAX_EQUIVALENTS else []

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - the signature is Typer's
        width = max(map(len, GROUPS))
        for section, commands in {**SECTIONS, "Examples": EXAMPLES}.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write only the commands; ``dbctl help options`` lists the options."""
        self.format_commands(ctx, formatter)


def load_group(name: str) -> Group:
    """Return the commands of a module of ``dbctl.cli``."""
    group: Group = import_module(f"dbctl.cli.{name.replace(' ', '_')}").GROUP
    return group


def _load_module(name: str) -> Command:
    """Return the command of a module, or the group of its commands."""
    loaders: dict[str, Callable[[], Command]] = {}
    for info in load_group(name).infos:
        info.cls = ObservedCommand
        loaders[info.name or name] = partial(
            get_command_from_info, info, pretty_exceptions_short=True, rich_markup_mode=None
        )
    if name in COMMANDS:
        return next(iter(loaders.values()))()
    group = LazyGroup(name=name, help=GROUPS[name], no_args_is_help=True, rich_markup_mode=None)
    group.loaders = loaders
    return group
