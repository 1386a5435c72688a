"""Options that every command takes, wherever on the line they stand, and those that several groups share."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import math
import os
import re
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from typer.main import get_params_convertors_ctx_param_name_from_function

from dbctl.model import Value, Window
from dbctl.render import Format, Look

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter
    from typer.core import TyperArgument, TyperOption

_LARGEST = 2**63 - 1  # what databases count with
_DIGITS = len(str(_LARGEST))
EPILOG = "Options of every command (--app, --db, -o, …): dbctl --help."


class Call(Value, frozen=True, kw_only=True):
    """What the options of every command said."""

    config: str
    app: str
    db: str
    profile: str
    url: Sequence[str]
    output: Format
    columns: str  #: names with commas between
    excel_safe: bool
    quiet: bool
    verbose: bool
    no_color: bool
    yes: bool
    confirm: str
    trust_clock: bool
    acting_as: str  #: the login of the user on whose behalf changes are made
    timeout: float  #: seconds to wait for a lock or a server; 0 fails at once

    @property
    def color(self) -> bool:
        """Whether colours are welcome; any text in NO_COLOR says no."""
        return not (self.no_color or os.environ.get("NO_COLOR"))

    @property
    def look(self) -> Look:
        """The form in which the answer is wanted."""
        return Look(
            format=self.output,
            columns=[name for name in map(str.strip, self.columns.split(",")) if name],
            excel_safe=self.excel_safe,
            color=self.color,
            quiet=self.quiet,
        )


def call(ctx: typer.Context) -> Call:
    """Return what the shared options said, wherever on the line they stood."""
    said = ctx.meta[_SAID]
    return Call(**{name: said[name] for name in Call.__struct_fields__} | {"output": Format(said["output"])})


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise typer.BadParameter(
            f"{text!r} is no time to wait; give seconds, such as 5 or 0.5 (0 fails at once)"
        )
    return seconds


def whole(text: str, least: int) -> int:
    """Read a whole number of at least ``least``."""
    digits = str(text)
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else -1
    if not least <= number <= _LARGEST:
        raise typer.BadParameter(f"{text!r} is not a whole number from {least} to {_LARGEST}")
    return number


def _limit(text: str) -> int:
    return whole(text, 1)


def _offset(text: str) -> int:
    return whole(text, 0)


def _options(  # an option each
    config: Annotated[
        str,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="DBCTL_CONFIG",
            help="Configuration to read (else ./dbctl.toml, then the user's, then the system's).",
        ),
    ] = "",
    app: Annotated[
        str,
        typer.Option(
            "--app",
            metavar="NAME",
            envvar="DBCTL_APP",
            help="App to work on; needed where several are configured.",
        ),
    ] = "",
    db: Annotated[
        str, typer.Option("--db", metavar="NAME", help="Database to work on, by its role in the profile.")
    ] = "",
    profile: Annotated[
        str,
        typer.Option("--profile", metavar="NAME", help="Profile to use with --url, without a configuration."),
    ] = "",
    url: Annotated[
        list[str], typer.Option("--url", metavar="[NAME=]URL", help="Where a database is; repeatable.")
    ] = [],  # noqa: B006 - never called
    output: Annotated[
        Format, typer.Option("--output", "-o", envvar="DBCTL_OUTPUT", help="Form of the answer.")
    ] = Format.TABLE,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Only these columns, in this order.")
    ] = "",
    excel_safe: Annotated[
        bool,
        typer.Option("--excel-safe", help="csv and tsv: put ' before text that a spreadsheet would run."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No remarks and no progress on standard error.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show where a fault of dbctl itself arose.")
    ] = False,
    no_color: Annotated[
        bool,
        typer.Option("--no-color", help="No colours and no bold; NO_COLOR in the environment says the same."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Answer the question of a destructive command with yes.")
    ] = False,
    confirm: Annotated[
        str,
        typer.Option("--confirm", metavar="NAME", help="Answer it for a protected app, by the app's name."),
    ] = "",
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock",
            help="Delete by age also where rows, backups and files contradict the clock.",
        ),
    ] = False,
    acting_as: Annotated[
        str,
        typer.Option(
            "--acting-as",
            metavar="LOGIN",
            help="User of the app whom records of a change name in place of dbctl.",
        ),
    ] = "",
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            parser=_seconds,
            metavar="SECONDS",
            help="How long to wait for a lock or a server; 0 fails at once.",
        ),
    ] = 5.0,
) -> None:
    """Hold the parameters for ``share``; never called."""


DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan and change nothing.")]
#: Of the commands that make a schema, or compare with one.
Shape: TypeAlias = Annotated[
    str,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="The app's shape that an empty database gets, where there are several.",
    ),
]
Limit: TypeAlias = Annotated[
    int, typer.Option("--limit", parser=_limit, metavar="N", help="At most so many rows.")
]
Offset: TypeAlias = Annotated[
    int, typer.Option("--offset", parser=_offset, metavar="N", help="Rows to skip first.")
]
Sort: TypeAlias = Annotated[
    str,
    typer.Option(
        "--sort", metavar="COLUMN", help="Column to sort by; -COLUMN or COLUMN:desc for descending."
    ),
]


def window(limit: int | None, offset: int, sort: str) -> Window:
    """Return the part of a list that was asked for; ``COLUMN:desc`` and ``-COLUMN`` mean the same."""
    column, _, direction = sort.partition(":")
    if direction not in {"", "asc", "desc"} or (":" in sort and not direction):
        raise typer.BadParameter(f"{sort!r}: after the colon stands asc or desc", param_hint="'--sort'")
    descending = (direction == "desc") != column.startswith("-")
    column = column.removeprefix("-")
    if sort and not column:
        raise typer.BadParameter(f"{sort!r} names no column", param_hint="'--sort'")
    return Window(limit=limit, offset=offset, sort="-" + column if descending else column)


_SAID = "dbctl.said"
_COMMAND = "dbctl.command"


def share(command: "Command", *, top: bool = True) -> "Command":
    """Give ``command`` and all below it the options of every command; only the top shows them in its help."""
    from typer.core import TyperCommand, TyperGroup

    command.params.extend(_shared(hidden=not top))
    if isinstance(command, (TyperCommand, TyperGroup)):
        command.rich_markup_mode = None  # rich would double the time of --help
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            share(child, top=False)
    if not top:
        command.epilog = EPILOG
        command.short_help = (command.help or "").partition("\n\n")[0]  # whole: the lists wrap it
    return command


@cache
def _shared(*, hidden: bool) -> Sequence["Parameter"]:
    params = [copy(param) for param in _made()]
    for param in params:
        param.expose_value, param.callback = False, _remember
        param.hidden = hidden
    return params


@cache
def _made() -> Sequence["TyperArgument | TyperOption"]:
    """Make the shared parameters, once: reading their annotations takes as long as a query."""
    params, _, _ = get_params_convertors_ctx_param_name_from_function(_options)
    return params


def shared_names() -> frozenset[str]:
    """Return the parameters that every command has."""
    return frozenset(param.name or "" for param in _shared(hidden=False))


def _remember(ctx: "Context", param: "Parameter", value: object) -> object:
    """Keep what was said last: typed words beat the environment, later ones earlier; URLs add up."""
    said = ctx.meta.setdefault(_SAID, {})  # one dict for the whole chain of contexts
    ctx.meta[_COMMAND] = command_words(ctx)
    name = param.name or ""
    source = ctx.get_parameter_source(name)
    typed = source is not None and source.name == "COMMANDLINE"
    if name == "url" and isinstance(value, (list, tuple)):
        said[name] = (*said.get(name, ()), *value)
    elif typed or name not in said:
        said[name] = value
    return value


def command_words(ctx: "Context") -> tuple[str, ...]:
    """Return the words that name the command of ``ctx``, without the program's."""
    words: list[str] = []
    while ctx.parent is not None:
        words[:0] = (ctx.info_name or "").split()
        ctx = ctx.parent
    return tuple(words)


def asked_command(ctx: "Context | None") -> tuple[str, ...]:
    """Return the command that was on its way when something failed."""
    return () if ctx is None else tuple(ctx.meta.get(_COMMAND, ()))


def asked_verbose(ctx: "Context | None") -> bool:
    """Return whether traces are wanted, as far as the words were read."""
    return ctx is not None and bool(ctx.meta.get(_SAID, {}).get("verbose"))


def asked_format(words: Sequence[str], environment: str) -> Format:
    """Return the form asked for, read without parsing, so that a refusal of the parser comes in that form too."""
    asked, rest = environment, iter(words)
    for word in rest:
        if word == "--":
            break
        name, has_value, value = word.partition("=")
        if name == "--output":
            asked = value if has_value else next(rest, "")
        elif short := re.fullmatch(r"-[hnqvy]*o(.*)", word, re.DOTALL):
            asked = short[1] or next(rest, "")
    return Format(asked) if asked in set(Format) else Format.TABLE
