"""The command tree: the commands of a module, declared above their functions, and the root, which imports a module only when the command line names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

import typer
from typer._click import Command  # noqa: PLC2701 - typer includes its own click under this name
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from dbctl import signals
from dbctl.cli._support.options import COMMAND, EPILOG, WORDS, add_common_options
from dbctl.errors.base import invocations, suggest_question
from dbctl.render import streams
from dbctl.spec import DEFAULT_TIMEOUT, CommandSpec, F, Fleet, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typer._click import Context, HelpFormatter
    from typer.core import TyperOption


#: Sections of the help of dbctl, in its order.
Section = Literal["Set up", "Inspect", "Change", "Back up", "Schema", "Automate"]
SECTIONS: tuple[Section, ...] = get_args(Section)


class Group:
    """A group of commands, or a single command that has no group."""

    def __init__(
        self,
        name: str,
        *,
        section: Section | None = None,
        position: int = 0,
        help: str = "",  # noqa: A002 - as the option
        all_apps: bool = False,
        checks_profile: bool = True,
    ) -> None:
        """Create an empty group; its module has the same name, with ``_`` for each blank.

        ``section``, ``position`` in it and ``help`` are those of the help of dbctl; without a section, the commands of the module
        are included in another group. ``all_apps`` and ``checks_profile`` apply to each of its commands; see ``CommandSpec``.
        """
        self.name, self.section, self.position, self.help = name, section, position, help
        self._all_apps, self._checks_profile = all_apps, checks_profile
        self.infos: list[CommandInfo] = []
        self.specs: list[CommandSpec] = []

    def command(
        self,
        name: str = "",
        *,
        answers: Callable[[], tuple[Any, ...]],
        writes: Write | None = None,
        action: str = "",
        reads_log: bool = False,
        recorded: bool | None = None,
        only_answers: bool = True,
        has_plan: bool = True,
        findings: bool = False,
        fleet: Fleet | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Callable[[F], F]:
        """Add a function as command ``name`` of this group, or as the command of the group's name; see ``CommandSpec``.

        ``has_plan``: False: it has a ``--dry-run`` that answers otherwise. ``recorded``: by default, a command that writes is recorded.
        """

        def declare(function: F) -> F:
            spec = CommandSpec(
                name=f"{self.name} {name}".rstrip(),
                answers=answers,
                has_plan=has_plan and "dry_run" in function.__annotations__,
                writes=writes,
                action=action,
                reads_log=reads_log,
                recorded=writes is not None if recorded is None else recorded,
                only_answers=only_answers,
                findings=findings,
                fleet=fleet,
                all_apps=self._all_apps,
                checks_profile=self._checks_profile,
                timeout=timeout,
            )
            function.spec = spec  # type: ignore[attr-defined]
            # Typer passes a context to the parameter with this annotation.
            function.__annotations__["session"] = typer.Context

            @wraps(function)
            def run(*, session: typer.Context, **arguments: Any) -> Any:
                return function(session=session.find_root().obj, **arguments)

            # Since Python 3.14, wraps passes on the function that evaluates the annotations: without the context.
            run.__annotations__ = function.__annotations__
            self.infos.append(CommandInfo(name=name or self.name, callback=run))
            self.specs.append(spec)
            return function

        return declare

    def include(self, other: Group) -> None:
        """Add the commands of another module."""
        self.infos += other.infos
        self.specs += other.specs


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
        from dbctl.render.tables import color_help

        streams.write(color_help(ctx.get_help(), sys.stdout) + "\n")
        ctx.exit()


class ObservedCommand(_ColoredHelp, TyperCommand):
    """A command whose run is recorded in the journal or logged, if that applies."""

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        # The formatter does not wrap a paragraph that begins with \b, so examples can be copied.
        shown = "".join(f"  {example.text}\n" for example in read_spec(ctx).examples if example.shown)
        self.epilog = f"\b\nExamples:\n{shown}\n{EPILOG}" if shown else EPILOG
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: Context) -> object:
        # parsed again, because the parser keeps only the last value of an option, which silently replaces the others
        _, _, order = self.make_parser(ctx).parse_args(list(ctx.meta.get(WORDS, ())))
        for parameter in self.params:
            # of the common options, which select apps and databases; an alias may have another option as its default
            has_one_value = not (
                parameter.expose_value or parameter.multiple or parameter.type.name == "boolean"
            )
            # scripts add the format to words that may contain another one
            if has_one_value and parameter.name != "output" and order.count(parameter) > 1:
                raise typer.BadParameter("it is passed several times", ctx=ctx, param=parameter)
            # the value of an unset variable of a script: it must not select what the command uses without the option
            is_required = parameter.required and parameter.param_type_name == "option"
            is_checked = (
                is_required or parameter.default == "" or parameter.type.name in {"path", "directory"}
            )
            # the common options, which this command does not receive, are checked where they are stored
            is_checked = is_checked and parameter.expose_value
            if is_checked and not str(ctx.params.get(parameter.name or "", "-")).strip():
                source = ctx.get_parameter_source(parameter.name or "")
                if source is not None and source.name == "COMMANDLINE":
                    raise typer.BadParameter("it is empty", ctx=ctx, param=parameter)
        root = ctx.find_root()
        if root.obj is None:  # the instances of a fleet have their own sessions, as parts of one run
            from dbctl.cli._support.session import Session

            session = root.obj = Session(ctx)
            invocations.append(session.describe_invocation)
            ctx.call_on_close(invocations.pop)
            records = session.spec.recorded or os.environ.get("DBCTL_RECORD") == "all"
            records = records and not ctx.params.get("dry_run")
            records = records and bool(session.journal.folder or session.journal.observes_runs)
            if records or session.options.log_file:
                from dbctl.cli._support.runs import ObservedRun

                with signals.defer_signals():  # between the record and the session that finishes it
                    session.run = ObservedRun(session, is_recorded=records)
                signals.raise_if_interrupted()
                session.run.observe_begin()
            spec = session.spec
            if (spec.writes or spec.reads_log) and (app := session.find_routed_app()) is not None:
                from dbctl.extensions import registry

                place = registry.find_place("forward_command")
                status = registry.load(place)(session, app) if place else None
                if status is not None:
                    return status
        return super().invoke(ctx)


def read_spec(ctx: Context) -> CommandSpec:
    """Return the declaration of the command of ``ctx``, which is no group."""
    spec: CommandSpec = ctx.command.callback.spec  # type: ignore[union-attr]  # Typer copies the attributes of a function
    return spec


def find_spec(ctx: Context | None) -> CommandSpec | None:
    """Return the declaration of the last parsed command; None: none was parsed, or it is a group."""
    if ctx is None or COMMAND not in ctx.meta:
        return None
    return getattr(ctx.meta[COMMAND].command.callback, "spec", None)


class LazyGroup(_ColoredHelp, TyperGroup):
    """A group that creates a command on first use, because parsing its parameters takes as long as a query."""

    loaders: Mapping[str, Callable[[], Command]] = {}  #: by the name of the command

    def join_extensions(self, *, only_usable: bool = False) -> None:
        """Add the commands that extensions add to this group; only for a name that the group lacks, or to list all."""
        from dbctl.extensions import registry

        places = registry.list_commands(str(self.name), only_usable=only_usable)
        joined = {name: partial(_create_joined, place, name) for name, place in places.items()}
        self.loaders = {**self.loaders, **joined}

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        self.join_extensions(only_usable=True)
        return list(self.loaders)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002 - the signature is Typer's
        if cmd_name not in self.loaders:
            self.join_extensions()
        if cmd_name not in self.commands and cmd_name in self.loaders:
            self.add_command(add_common_options(self.loaders[cmd_name](), is_root=False), cmd_name)
        return self.commands.get(cmd_name)

    def find_equivalents(self, word: str) -> list[str]:
        """Return the commands that a word from the vocabulary of other programs means in this group."""
        if word == LATEST or word.replace("_", "", 1).isdecimal():  # the id of a backup
            return [f"{self.name} {name} {word}" for name in ("apply", "show") if name in self.loaders][:1]
        return [f"{self.name} {name}" for name in SYNONYMS.get(word, ()) if name in self.loaders][:1]

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        word, words = args[0], args[1:]
        command = self.get_command(ctx, word)
        # A group nested in a command, such as search index; no search has the name of a nested group.
        is_single = ctx.parent is None and len(args) > 1 and not isinstance(command, LazyGroup)
        if is_single and (nested := self.get_command(ctx, " ".join(args[:2]))):
            command, words = nested, args[2:]
        if command is None:
            suggestion = " or ".join(map(repr, self.find_equivalents(word)))
            question = (
                f" (did you mean {suggestion}?)"
                if suggestion
                else suggest_question(word, self.list_commands(ctx))
            )
            ctx.fail(f"no such command {word!r}{question}")
        ctx.meta[WORDS] = tuple(words)
        return command.name, command, words


class Root(LazyGroup):
    """``dbctl`` itself: each command or group is a module, which is imported only if the command line names it."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        from dbctl.cli._catalog import read_catalog

        return list(read_catalog().groups)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in self.commands and (group := find_group(cmd_name)):
            self.loaders = {**self.loaders, cmd_name: partial(create_command, group)}
        return super().get_command(ctx, cmd_name)

    def find_equivalents(self, word: str) -> list[str]:
        """Return the commands of groups that have this name, unless it is the name of many."""
        from dbctl.cli._catalog import read_catalog

        paths = [f"{name} {word}" for name, group in read_catalog().groups.items() if word in group.commands]
        return paths if len(paths) <= MAX_EQUIVALENTS else []

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - the signature is Typer's
        from dbctl.cli._catalog import read_catalog

        catalog = read_catalog()
        width = max(map(len, catalog.groups))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, group in catalog.groups.items():
            sections.setdefault(group.section, []).append((name.ljust(width), group.help))
        for section, rows in {**sections, "Examples": [*catalog.examples.items()]}.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write only the commands; ``dbctl help options`` lists the options."""
        self.format_commands(ctx, formatter)


def find_group(name: str) -> Group | None:
    """Return the commands of the module of ``dbctl.cli``, or of an extension, with this name; None: there are none."""
    module = f"dbctl.cli.{name.replace(' ', '_')}"
    if not name.replace(" ", "").isalpha():
        return None
    try:
        group: Group | None = getattr(import_module(module), "GROUP", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        from dbctl.extensions import registry

        place = registry.find_group(name)
        group = registry.load(f"{place}:GROUP") if place else None
    return group if group and group.name == name else None


def create_command(group: Group) -> Command:
    """Return the command of a group that is a single one, or the group of its commands."""
    loaders: dict[str, Callable[[], Command]] = {}
    for info in group.infos:
        info.cls = ObservedCommand
        loaders[info.name or group.name] = partial(
            get_command_from_info, info, pretty_exceptions_short=True, rich_markup_mode=None
        )
    if group.name in loaders:  # a single command
        return loaders[group.name]()
    command = LazyGroup(name=group.name, help=group.help, no_args_is_help=True, rich_markup_mode=None)
    command.loaders = loaders
    return command


def _create_joined(place: str, name: str) -> Command:
    from dbctl.extensions import registry

    # the module has a group of the same name, with the joined commands alone
    joined: Any = create_command(registry.load(f"{place}:GROUP"))
    command: Command = joined.loaders[name]()
    return command
