"""Options that every command accepts, before or after its name, and options that several groups share."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_params_convertors_ctx_param_name_from_function

from dbctl.model import Struct
from dbctl.render.streams import ColorChoice, Format, ProgressMode
from dbctl.spec import DEFAULT_TIMEOUT, CommandSpec

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter
    from typer.core import TyperArgument


#: Processes of a fleet.
MAX_JOBS = 256
_LARGEST = 2**63 - 1  # the largest integer of databases
_DIGITS = len(str(_LARGEST))
EPILOG = "Options of every command (--app, --db, -o, …): dbctl help options."


def argument(metavar: str, help_text: str) -> Any:
    return typer.Argument(metavar=metavar, help=help_text)


def option(name: str, metavar: str, help_text: str, parser: Callable[[str], object] | None = None) -> Any:
    """Return an option with a value."""
    return typer.Option(name, metavar=metavar, help=help_text, parser=parser)


def flag(name: str, help_text: str) -> Any:
    """Return an option without a value: ``--all``, or ``--public/--no-public``."""
    return typer.Option(name, help=help_text)


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise typer.BadParameter(
            f"{text!r} is not a timeout; write seconds, such as 5 or 0.5 (0 fails immediately)"
        )
    return seconds


def parse_count(text: str, minimum: int) -> int:
    """Parse a whole number of at least ``minimum``."""
    digits = str(text)
    value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else -1
    if not minimum <= value <= _LARGEST:
        raise typer.BadParameter(f"{text!r} is not a whole number from {minimum} to {_LARGEST}")
    return value


#: Parse a whole number of at least 0, and of at least 1.
parse_natural, parse_positive = partial(parse_count, minimum=0), partial(parse_count, minimum=1)


def _parse_jobs(text: str) -> int:
    jobs = parse_count(text, 1)
    if jobs > MAX_JOBS:
        raise typer.BadParameter(f"{text!r} is more than {MAX_JOBS}")
    return jobs


#: The value of ``--log-file`` for the journal of systemd.
JOURNALD = "journald"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """Levels of log records."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class CommonOptions(Struct, frozen=True, kw_only=True):
    """The options that every command accepts: their declarations, and in an instance their values."""

    config: Annotated[
        str,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="DBCTL_CONFIG",
            help="Read this configuration (default: ./dbctl.toml, then the user's, then the system's).",
        ),
    ] = ""
    app: Annotated[
        str,
        typer.Option(
            "--app",
            metavar="NAME",
            envvar="DBCTL_APP",
            help="Select an app; required if several are configured.",
        ),
    ] = ""
    db: Annotated[str, option("--db", "NAME", "Select a database by its name in the profile.")] = ""
    profile: Annotated[
        str, option("--profile", "NAME", "Use this profile with --url, without a configuration.")
    ] = ""
    url: Annotated[
        list[str] | None, option("--url", "[NAME=]URL", "Set the address of a database; repeatable.")
    ] = None
    replica: Annotated[
        bool, flag("--replica", "Read from the configured replicas; commands that write are refused.")
    ] = False
    output: Annotated[
        Format,
        typer.Option(
            "--output",
            "-o",
            envvar="DBCTL_OUTPUT",
            metavar="FORMAT",
            help=f"Select the output format: {', '.join(Format)}.",
        ),
    ] = Format.TABLE
    columns: Annotated[str, option("--columns", "A,B", "Show only these columns, in this order.")] = ""
    excel_safe: Annotated[
        bool, flag("--excel-safe", "Prefix text that a spreadsheet would execute with ' (csv and tsv).")
    ] = False
    template: Annotated[
        str,
        option(
            "--template",
            "TEXT",
            "Print each row as this text: '{login}\\t{role}', with filters '{bytes:size}' and '{created_at:age}'.",
        ),
    ] = ""
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Omit notes, progress and the closing line on standard error."),
    ] = False
    progress: Annotated[
        ProgressMode,
        option(
            "--progress",
            "MODE",
            "Show progress on standard error: auto (on a terminal), json (lines for programs) or none.",
        ),
    ] = ProgressMode.AUTO
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an internal error.")
    ] = False
    wide: Annotated[
        bool, flag("--wide", "Show complete values on a terminal, as cards if they do not fit.")
    ] = False
    color: Annotated[
        ColorChoice, option("--color", "WHEN", f"Use colors and bold text: {', '.join(ColorChoice)}.")
    ] = ColorChoice.AUTO
    no_color: Annotated[
        bool, flag("--no-color", "The same as --color never, or NO_COLOR in the environment.")
    ] = False
    no_pager: Annotated[
        bool, flag("--no-pager", "Never show output that is longer than the terminal in a pager.")
    ] = False
    log_file: Annotated[
        str,
        typer.Option(
            "--log-file",
            metavar="FILE",
            envvar="DBCTL_LOG_FILE",
            help="Append a log of the run to this file; journald sends it to the journal of systemd.",
        ),
    ] = ""
    log_format: Annotated[
        LogFormat,
        typer.Option("--log-format", envvar="DBCTL_LOG_FORMAT", help="Select the format of the log file."),
    ] = LogFormat.TEXT
    log_level: Annotated[
        LogLevel,
        typer.Option(
            "--log-level", envvar="DBCTL_LOG_LEVEL", help="Log only records of this level or above."
        ),
    ] = LogLevel.INFO
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Confirm a destructive command without a prompt.")
    ] = False
    confirm: Annotated[
        str, option("--confirm", "NAME", "Confirm it for a protected app, by the app's name.")
    ] = ""
    trust_clock: Annotated[
        bool, flag("--trust-clock", "Delete by age even if rows, backups or files contradict the clock.")
    ] = False
    acting_as: Annotated[
        str,
        option(
            "--acting-as",
            "LOGIN",
            "Record this user of the app as author of changes, in the audit log and where the app stores authors.",
        ),
    ] = ""
    timeout: Annotated[
        float,
        option(
            "--timeout",
            "SECONDS",
            "Wait this long for a lock or a server; 0 fails immediately. Above 5, also until a server accepts connections.",
            _parse_seconds,
        ),
    ] = DEFAULT_TIMEOUT
    jobs: Annotated[
        int | None,
        option(
            "--jobs",
            "N",
            "Fleet: process N instances at the same time; default: as configured, or one per processor.",
            _parse_jobs,
        ),
    ] = None
    canary: Annotated[
        int | None,
        option(
            "--canary",
            "N",
            "Fleet: change and verify N instances before the others; default: 1 for migrate up.",
            parse_natural,
        ),
    ] = None
    max_failures: Annotated[
        int | None,
        option(
            "--max-failures",
            "N",
            "Fleet: start no instance after N failures; 0: no limit, the default except for migrate up (10).",
            parse_natural,
        ),
    ] = None
    resume: Annotated[
        bool, flag("--resume", "Fleet: skip the instances that the last run of the command completed.")
    ] = False


def read_options(ctx: "Context", spec: CommandSpec) -> CommonOptions:
    values = ctx.meta[_VALUES]
    if "timeout" not in values[_EXPLICIT]:
        values["timeout"] = spec.timeout
    output = Format.TEMPLATE if values["template"] else Format(values["output"])
    if output is Format.TEMPLATE and not values["template"]:
        raise typer.BadParameter("it requires --template TEXT", param_hint="'-o template'")
    return CommonOptions(
        **{name: values[name] for name in CommonOptions.__struct_fields__}
        | {"output": output, "progress": ProgressMode(values["progress"])}
    )


def override_options(ctx: "Context", **values: object) -> None:
    """Replace values of common options, for a command that runs on one instance of a fleet."""
    ctx.meta[_VALUES].update(values)


#: The keys of ``Context.meta``, for what the parser finds before there is a session: the values of common options, the context of the
#: last parsed command, and the words after its name.
_VALUES = "dbctl.options"
COMMAND = "dbctl.command"
WORDS = "dbctl.words"
_EXPLICIT = "names of the options of the command line"
#: The options that select the format, and the formats of commands with findings.
_OF_FORMAT = ("output", "template")
_REPORTS = frozenset(output for output in Format if output.is_report)


class _InheritedOption(TyperOption):
    """A common option after the name of a group or a command: the root has processed its default and its environment variable.

    Every group and command has all of them. To process them at each level would make parsing half as slow again.
    """

    def handle_parse_result(
        self, ctx: "Context", opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        # whether a command supports the format is known where the command is parsed
        if opts.get(self.name or "") is None and self.name not in _OF_FORMAT:
            return None, args
        return super().handle_parse_result(ctx, opts, args)


def add_common_options(command: "Command", *, is_root: bool = True) -> "Command":
    """Add the common options to ``command`` and its subcommands; ``dbctl help options`` lists them."""
    from typer.core import TyperCommand

    command.params.extend(_common_parameters(hidden=not is_root))
    if isinstance(command, (TyperCommand, TyperGroup)):
        command.rich_markup_mode = None  # rich doubles the time of --help
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            add_common_options(child, is_root=False)
    if not is_root:
        command.epilog = EPILOG
        command.short_help = (command.help or "").partition("\n\n")[0]  # not shortened, because lists wrap it
    return command


@cache
def _common_parameters(*, hidden: bool) -> Sequence["TyperArgument | TyperOption"]:
    """Return the common parameters; parsed once, because parsing their annotations takes as long as a query."""
    if hidden:
        params = [copy(param) for param in _common_parameters(hidden=False)]
        for param in params:
            param.__class__ = _InheritedOption
    else:
        params = get_params_convertors_ctx_param_name_from_function(CommonOptions)[0]
    for param in params:
        param.expose_value, param.callback, param.hidden = False, _store_value, hidden
    return params


def common_parameter_names() -> frozenset[str]:
    """Return the names of the parameters that every command has."""
    return frozenset(param.name or "" for param in _common_parameters(hidden=False))


def _store_value(ctx: "Context", param: "Parameter", value: object) -> object:
    """Store an option: the command line overrides the environment, a later value an earlier one; URLs accumulate.

    A format that the command does not support is refused when each option that selects it is stored.
    """
    values = ctx.meta.setdefault(_VALUES, {})  # one dict for the whole chain of contexts
    ctx.meta[COMMAND] = ctx
    name = param.name or ""
    source = ctx.get_parameter_source(name)
    is_explicit = source is not None and source.name == "COMMANDLINE"
    if is_explicit and isinstance(value, str) and not value.strip() and name != "template":
        raise typer.BadParameter("it is empty", ctx=ctx, param=param)  # as ``ObservedCommand.invoke``
    if name == "url":
        values[name] = [*values.get(name, ()), *(value if isinstance(value, (list, tuple)) else ())]
    elif is_explicit or name not in values:
        values[name] = value
    explicit = values.setdefault(_EXPLICIT, set())
    if is_explicit:
        explicit.add(name)
    template, output = values.get("template"), values.get("output", Format.TABLE)
    if name in _OF_FORMAT and template:
        from dbctl.cli._support.formats import check_template

        check_template(ctx, template, explicit_output=output if "output" in explicit else None)
    elif name in _OF_FORMAT and output in _REPORTS and not hasattr(ctx.command, "commands"):
        from dbctl.cli._support.formats import require_findings

        require_findings(ctx, Format(output))
    return value


def command_path(ctx: "Context") -> tuple[str, ...]:
    """Return the names of the groups and the command of ``ctx``, without the program."""
    words: list[str] = []
    while ctx.parent is not None:
        words[:0] = (ctx.info_name or "").split()
        ctx = ctx.parent
    return tuple(words)


def current_command(ctx: "Context | None") -> tuple[str, ...]:
    """Return the path of the last parsed command, or an empty tuple."""
    return command_path(ctx.meta[COMMAND]) if ctx and COMMAND in ctx.meta else ()


def is_verbose(ctx: "Context | None") -> bool:
    return ctx is not None and bool(ctx.meta.get(_VALUES, {}).get("verbose"))
