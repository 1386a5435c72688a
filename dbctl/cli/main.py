"""The entry point: parse arguments, run the command, report every failure, return the exit code."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import typer
from typer.core import TyperOption

from dbctl import __version__, progress, signals
from dbctl.cli._support.group import Root, find_spec
from dbctl.cli._support.options import add_common_options, command_path, current_command, is_verbose
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import FileMissingError, OutputFailedError, StoppedError
from dbctl.errors.usage import ConfigMissingError, FleetSelectedError, UsageError, ValueInvalidError
from dbctl.render import streams
from dbctl.render.streams import ColorChoice, Format
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from typer._click import Command, Context

    from dbctl.cli._support.session import Session

#: The help of dbctl.
HELP = """Operate the databases of self-hosted applications.

Help about a command: dbctl COMMAND --help. Options of every command: dbctl help options."""
#: The text that ``dbctl`` prints without arguments and without a configuration.
FIRST_STEPS = """\
No configuration found. Write one for an app:  dbctl init DIR
Try dbctl with a sample deployment:            dbctl demo flashpoint-web DIR
List all commands:                             dbctl help
"""

_OTHER_FOLDER = "Nothing was changed. Run the command in a folder that exists: cd /"


def _print_version(_ctx: "Context", _option: object, requested: bool) -> None:
    if requested:
        streams.write(f"dbctl {__version__}\n")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dbctl`` with ``argv`` and return its exit code; no other function exits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    signals.reset_signals()
    run = _Run(arguments)
    try:
        status = run.show(run.run)
        signals.ignore_signals_until_exit()
    except Interrupted as error:  # a second signal ends the process, so this is the only one
        status = run.show(partial(run.report_interrupt, error))
    session = run.session
    if session and session.run:  # the run is recorded or logged; signals are ignored
        session.run.finish(status, run.error)
    return status


class _Run:
    """One run of the command line, with the context for its error messages."""

    def __init__(self, arguments: list[str]) -> None:
        self._words = arguments
        self._ctx: Context | None = None
        self.error: DbctlError | None = None  #: that ended the command

    @property
    def session(self) -> "Session | None":
        """The session; None: no command was invoked."""
        return self._ctx.obj if self._ctx else None

    def show(self, step: Callable[[], int]) -> int:
        """Run a step that writes output, flush the output, and return the exit code."""
        try:
            status = step()
            streams.finish()
        except BrokenPipeError:  # the reader closed the pipe, as in ``| head``
            streams.discard()
            status = Exit.BROKEN_PIPE
        except OutputFailedError as error:
            streams.discard()
            from dbctl.render import envelope

            self.error, status = error, envelope.show(error, _requested_format(self._words, ""))
        return status

    def run(self) -> int:
        """Run the command, report a failure, and return the exit code.

        Raises:
            OutputFailedError: standard output cannot be written.
            BrokenPipeError: the reader of standard output closed it.
        """
        streams.prepare(_requested_color(self._words))
        try:
            try:
                os.getcwd()  # noqa: PTH109 - commands resolve paths when they have already changed something
            except OSError as error:  # another process has removed it
                raise FileMissingError(kind="working directory", path=".", hint=_OTHER_FOLDER) from error
            command = create_root()
            # not ``main`` of the command, which turns a closed pipe into its own exit
            with command.make_context("dbctl", list(self._words)) as self._ctx:
                try:
                    status = command.invoke(self._ctx)
                except FleetSelectedError as error:
                    from dbctl.services.fleet.instances import load_function

                    status = load_function("fleet_runner", error)(self._ctx.obj, error)
            return status if isinstance(status, int) else 0
        except (BrokenPipeError, OutputFailedError):
            raise
        except DbctlError as error:
            return self._report_failure(error)
        except typer.Exit as error:
            return error.exit_code
        except typer.TyperException as error:
            return self._report_usage_error(error)
        except (KeyboardInterrupt, typer.Abort) as error:
            # Abort: the input ended before an answer.
            cause = "the input ended" if isinstance(error, typer.Abort) else "SIGINT"
            return self._report_failure(StoppedError(signal=cause), status=130)
        except Exception as error:  # noqa: BLE001 - the only broad catch: an internal error
            return self._report_internal_error(error)

    def report_interrupt(self, error: Interrupted) -> int:
        """Report that a signal ended the command, unless it has ended; return the exit code."""
        if self.session and self.session.exit_status is not None:
            return self.session.exit_status
        stopped = StoppedError(signal=error)
        stopped.hint = error.hint or stopped.hint
        return self._report_failure(stopped, status=error.exit_status)

    def _report_failure(
        self, error: DbctlError, *, status: int | None = None, command: Sequence[str] | None = None
    ) -> int:
        self.error, session = error, self.session
        from dbctl.render import envelope

        if session:
            from dbctl.cli._support.emit import note

            for text in progress.notes:
                note(session, text)
            progress.notes.clear()

        path = current_command(self._ctx) if command is None else command
        if error.hint.endswith(UsageError.default_hint):
            name = " ".join(["dbctl", *path])
            own = f"List the arguments and options with: {name} --help"
            error.hint = error.hint.removesuffix(UsageError.default_hint) + own
        elif (spec := find_spec(self._ctx)) and not spec.recorded:
            # a command that changes nothing; a signal can arrive before its name is read
            error.hint = error.hint.removeprefix(ValueInvalidError.remedy).lstrip()
        return envelope.show(
            error,
            _requested_format(self._words, os.environ.get("DBCTL_OUTPUT", "")),
            path,
            status=status,
            warnings=tuple(session.warnings) if session else (),
        )

    def _report_usage_error(self, error: typer.TyperException) -> int:
        """Report a usage error of the parser; without arguments, write the help, or the first steps, to standard error."""
        ctx = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            if not _requested_format(self._words, os.environ.get("DBCTL_OUTPUT", "")).structured:
                is_unconfigured = ctx is not None and ctx.parent is None and not _has_configuration()
                from dbctl.cli._catalog import omit_absent
                from dbctl.render.tables import color_help

                text = omit_absent(FIRST_STEPS) if is_unconfigured else error.format_message() + "\n"
                sys.stderr.write(color_help(text, sys.stderr))
                return Exit.USAGE
            detail = "a command is missing"
        else:
            detail = " ".join(error.format_message().split()).rstrip(".")  # some messages have several lines
        name, candidates = getattr(error, "option_name", ""), getattr(error, "possibilities", None) or ()
        if candidates:
            detail = f"no such option {name!r}"
        return self._report_failure(
            UsageError(detail=detail, name=name, candidates=candidates),
            command=None if ctx is None else command_path(ctx),
        )

    def _report_internal_error(self, error: Exception) -> int:
        # Python 3.11 replaces a signal that arrives while a class is created.
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__
        if is_verbose(self._ctx) or not {"-v", "--verbose"}.isdisjoint(self._words):
            traceback.print_exc()  # without local variables, which may contain secrets
        from dbctl.errors.operations import describe_internal_error

        return self._report_failure(describe_internal_error(error))


def _has_configuration() -> bool:
    from dbctl.config import loader
    from dbctl.config.sections import Selection

    try:
        loader.config_path(Selection())
    except ConfigMissingError:
        return False
    return True


@cache
def create_root() -> "Command":
    """Create the command tree once per process, so that the parameters of a command are read once."""
    version = TyperOption(
        param_decls=["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Show the version.",
    )
    root = Root(
        name="dbctl",
        params=[version],
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    return add_common_options(root)


def _requested_color(arguments: Sequence[str]) -> ColorChoice:
    """Return the requested colors without the parser, so that a usage error also has them; the last option counts."""
    choice, remaining = ColorChoice.AUTO, iter(arguments)
    for argument in remaining:
        if argument == "--":
            break
        name, has_value, value = argument.partition("=")
        if argument == "--no-color":
            choice = ColorChoice.NEVER
        elif name == "--color":
            text = value if has_value else next(remaining, "")
            choice = ColorChoice(text) if text in set(ColorChoice) else choice
    return choice


def _requested_format(arguments: Sequence[str], environment: str) -> Format:
    """Return the requested format without the parser, so that a usage error also has this format."""
    requested, remaining = environment, iter(arguments)
    for argument in remaining:
        if argument == "--":
            break
        name, has_value, value = argument.partition("=")
        if name == "--output":
            requested = value if has_value else next(remaining, "")
        elif short := re.fullmatch(r"-[hnqvy]*o(.*)", argument, re.DOTALL):
            requested = short[1] or next(remaining, "")
    return Format(requested) if requested in set(Format) else Format.TABLE
