"""The command line: words in, exit status out; every failure ends here."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import os
import sys
import traceback
from collections.abc import Sequence
from errno import EDQUOT, EIO, ENAMETOOLONG, ENOSPC
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import get_group

from dbctl import __version__, signals
from dbctl.cli._lazy import Root
from dbctl.cli._support.emit import ANSWERED, warnings_of
from dbctl.cli._support.options import asked_command, asked_format, asked_verbose, command_words, share
from dbctl.errors import DbctlError, Exit, OutputFailedError, StoppedError, UsageError
from dbctl.render import failure, streams
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from typer._click import Command, Context

SHOWN_OF_NAME = 60  #: characters of a file name that is too long

app = typer.Typer(
    name="dbctl",
    cls=Root,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:  # the signature is Typer's
    if wanted:
        streams.write(f"dbctl {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Operate the databases of self-hosted applications.

    The options below may stand before or after the name of any command.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dbctl`` with ``argv`` and return its exit status; nothing else in dbctl exits."""
    words = list(sys.argv[1:] if argv is None else argv)
    signals.begin()
    try:
        streams.prepare()
        status = _Run(words).status()
        streams.flush()
    except BrokenPipeError:  # the reader has what it wanted, as in ``| head``
        streams.discard()
        return Exit.BROKEN_PIPE
    except OutputFailedError as error:
        streams.discard()
        return failure.show(error, asked_format(words, ""))
    return status


class _Run:
    """One run of the command line, with what is known about it when it fails."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._ctx: Context | None = None

    def status(self) -> int:  # noqa: PLR0911 - one per way to end
        """Run, show what failed, return the exit status.

        Raises:
            OutputFailedError: standard output takes no more.
            BrokenPipeError: the reader of standard output went away.
        """
        try:
            return self._invoke()
        except (BrokenPipeError, OutputFailedError):
            raise
        except DbctlError as error:
            return self._failed(error)
        except typer.Exit as error:
            return error.exit_code
        except typer.TyperException as error:
            return self._refused(error)
        except Interrupted as error:
            if self._ctx and ANSWERED in self._ctx.meta:  # it was over
                return int(self._ctx.meta[ANSWERED])
            stopped = StoppedError(by=error)
            stopped.hint = error.hint or stopped.hint
            return self._failed(stopped, status=error.exit_status)
        except (
            KeyboardInterrupt,
            typer.Abort,
        ) as error:  # Abort: the input ended where an answer was awaited
            by = "the input ended" if isinstance(error, typer.Abort) else "SIGINT"
            return self._failed(StoppedError(by=by), status=130)
        except Exception as error:  # noqa: BLE001 - the one broad catch: a fault of dbctl itself
            return self._faulty(error)

    def _invoke(self) -> int:
        command = _root_command()
        # not ``main`` of the command: it turns a closed pipe into an exit of its own
        with command.make_context("dbctl", list(self._words)) as ctx:
            self._ctx = ctx
            status = command.invoke(ctx)
        return status if isinstance(status, int) else 0

    def _failed(
        self, error: DbctlError, *, status: int | None = None, command: Sequence[str] | None = None
    ) -> int:
        return failure.show(
            error,
            asked_format(self._words, os.environ.get("DBCTL_OUTPUT", "")),
            asked_command(self._ctx) if command is None else command,
            status=status,
            warnings=warnings_of(self._ctx),
        )

    def _refused(self, error: typer.TyperException) -> int:
        """Answer a refusal of the parser; no words at all get the help, on standard error."""
        ctx = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            if not asked_format(self._words, os.environ.get("DBCTL_OUTPUT", "")).structured:
                sys.stderr.write(error.format_message() + "\n")
                return Exit.USAGE
            detail = "a command is missing"
        else:
            detail = " ".join(error.format_message().split()).rstrip(".")  # some come in several lines
        return self._failed(UsageError(detail=detail), command=None if ctx is None else command_words(ctx))

    def _faulty(self, error: Exception) -> int:
        if asked_verbose(self._ctx) or not {"-v", "--verbose"}.isdisjoint(self._words):
            traceback.print_exc()  # without local variables: they may hold secrets
        if isinstance(error, OSError) and error.errno in {ENOSPC, EIO, EDQUOT} and error.filename is None:
            raise OutputFailedError(reason=error.strerror) from error  # help goes past our own writer
        if isinstance(error, OSError) and error.errno == ENAMETOOLONG and error.filename:
            name = os.fsdecode(error.filename)
            return self._failed(UsageError(detail=f"{name[:SHOWN_OF_NAME]}…: {error.strerror}"))
        if isinstance(error, OSError) and error.filename is None and error.strerror:
            detail = error.strerror
        else:
            detail = f"{type(error).__name__}{_place(error)}"
        return self._failed(DbctlError(detail=detail))


@cache
def _root_command() -> "Command":
    """Make the command tree, once: a process that runs several commands reads each one's parameters once."""
    return share(get_group(app))


def _place(error: BaseException) -> str:
    """Return where in dbctl ``error`` arose; no values, which may be secret."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}dbctl{os.sep}" in frame.filename
    ]
    return f" at {ours[-1].filename.rpartition(os.sep)[2]}:{ours[-1].lineno}" if ours else ""
