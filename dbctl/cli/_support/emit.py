"""Output, confirmation, passwords, and progress of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import typer
from msgspec import structs

from dbctl import signals
from dbctl.cli._support.options import command_path, read_options
from dbctl.errors import (
    ConfirmationMissingError,
    ConfirmationWrongError,
    DeclinedError,
    FileFailedError,
    FileMissingError,
    KeyMissingError,
    UsageError,
    ValueInvalidError,
)
from dbctl.files import atomic
from dbctl.model import ChangeResult, DryRunResult, Plan, Secret
from dbctl.render import Format, build_blocks, escape, streams
from dbctl.render import progress as progress_bar
from dbctl.render import result as result_output
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from typer._click import Context

    from dbctl.services.app import App

#: Key in the context for the exit code of a command whose result was written.
EXIT_STATUS = "answered"

#: Key in the context for the function that receives the output, instead of standard output.
RECEIVER = "dbctl.receiver"
#: Key in the context for the digest of a plan that the user confirmed for a fleet; None: without a plan.
CONFIRMED_DIGEST = "dbctl.confirmed"

_WARNINGS = "dbctl.warnings"
_LONGEST_PASSWORD = 4096  # bytes; longer than any app allows, so that a wrong file is rejected
_TRIES = 3


class Operation(Protocol):
    """A prepared change: it can be planned and applied."""

    app: str  #: name of the app, which the user types to confirm if it is protected
    protected: bool

    def plan(self) -> Plan:
        """Return the plan of the change; reads only."""
        ...

    def apply(self, confirmed: str | None = None) -> object:
        """Apply the change in one transaction; ``confirmed`` is the digest of the plan that the user confirmed.

        Raises:
            PlanChangedError: the plan has changed since it was confirmed.
        """
        ...


def emit(
    ctx: typer.Context,
    result: object,
    *,
    status: int = 0,
    notes: Sequence[str] = (),
    app: App | None = None,
    target: str | None = None,
    instead_of_table: Format = Format.TABLE,
    columns_apply: bool = True,
) -> int:
    """Write ``result`` in the requested format and return ``status``.

    ``target`` is ``app/database`` for the envelope; default: the database of ``app`` that was used, or the target of the
    result. ``instead_of_table`` replaces the table format for results that other programs read. ``columns_apply`` is
    false if ``--columns`` and ``--excel-safe`` apply to exported data and not to the result.
    """
    progress_bar.stop()
    for text in notes:
        note(ctx, text)
    if not target:
        target = target_of(app) if app else _own_target(result)
    output = read_options(ctx).output_options
    if not columns_apply:
        output = structs.replace(output, columns=(), excel_safe=False)
    if output.format is Format.TABLE:
        output = structs.replace(output, format=instead_of_table)
    command_output = result_output.CommandOutput(
        command=command_path(ctx),
        result=result,
        status=int(status),
        target=target,
        warnings=collected_warnings(ctx),
    )
    # The result of a change is written even if a signal arrives.
    with signals.block_signals() if isinstance(result, ChangeResult) else nullcontext():
        if RECEIVER in ctx.meta:
            ctx.meta[RECEIVER](command_output)
        else:
            result_output.show(command_output, output)
        ctx.meta[EXIT_STATUS] = int(status)
        if isinstance(result, ChangeResult):
            signals.ignore_signals_until_exit()
    return int(status)


def target_of(app: App) -> str:
    """Return ``app/database`` for the first database that was used, or the app's name."""
    return app.target(app.used[0]) if app.used else app.name


def _own_target(result: object) -> str | None:
    """Return the target of a result or of its plan, if any."""
    target = getattr(result.plan if isinstance(result, DryRunResult) else result, "target", None)
    return target if isinstance(target, str) and target else None


def note(ctx: typer.Context, text: str) -> None:
    """Write a note to standard error, or to the ``warnings`` of the JSON object."""
    if read_options(ctx).output is Format.JSON:
        ctx.meta.setdefault(_WARNINGS, []).append(text)
    elif not read_options(ctx).quiet and sys.stderr.isatty():  # cron mails every line of output
        streams.remark(f"note: {text}")


def warn(ctx: typer.Context, text: str) -> None:
    """Write a warning to standard error, even without a terminal, or to the ``warnings`` of the JSON object."""
    if read_options(ctx).output is Format.JSON:
        ctx.meta.setdefault(_WARNINGS, []).append(text)
    else:
        streams.remark(f"dbctl: {text}")


def collected_warnings(ctx: Context | None) -> Sequence[str]:
    """Return the notes and warnings that the JSON object will contain."""
    return () if ctx is None else tuple(ctx.meta.get(_WARNINGS, ()))


def reset(ctx: Context, receive: Callable[[result_output.CommandOutput], None]) -> None:
    """Prepare a context for another run of its command, whose output ``receive`` gets."""
    for key in (_WARNINGS, CONFIRMED_DIGEST):
        ctx.meta.pop(key, None)
    ctx.meta[RECEIVER] = receive


def run_change(
    ctx: typer.Context,
    operation: Operation,
    *,
    dry_run: bool,
    plan: Plan | None = None,
    target: str | None = None,
    notes: Sequence[str] = (),
) -> int:
    """Apply an operation, or show its plan for a dry run; the user first confirms a plan that destroys data.

    ``plan`` is the plan of the operation, if the command has computed it already. ``target`` is ``app/database`` for the output; default: the target of the operation, if any. ``notes`` are written
    if the operation changed anything.

    Raises:
        ConfirmationMissingError: confirmation is required, and there is no terminal.
        ConfirmationWrongError: ``--confirm`` names another app.
        DeclinedError: the user declined.
        Abort: the input ended before an answer.
    """
    target = target or getattr(operation, "target", None)
    if dry_run:
        return emit(ctx, DryRunResult(plan=plan or operation.plan()), target=target)
    digest = _confirm(ctx, operation, plan)
    with signals.critical_result():
        result, status = operation.apply(digest), 0
        if isinstance(result, ChangeResult):
            status = result.exit_status
            for message in result.remarks:
                warn(ctx, message)
        is_changed = bool(getattr(result, "changed", True))
        return emit(ctx, result, status=status, target=target, notes=notes if is_changed else ())


def _confirm(ctx: typer.Context, operation: Operation, plan: Plan | None) -> str | None:
    """Return the digest of the plan that the user confirmed; None if no confirmation was required."""
    if CONFIRMED_DIGEST in ctx.meta:
        digest: str | None = ctx.meta[CONFIRMED_DIGEST]
        return digest
    options = read_options(ctx)
    if options.confirm and options.confirm != operation.app:
        raise ConfirmationWrongError(value=options.confirm, app=operation.app)
    if options.confirm or (options.yes and not operation.protected):
        return None
    plan = plan or operation.plan()
    if not plan.destructive or plan.is_empty:
        return None
    ask_confirmation(ctx, plan, word=operation.app if operation.protected else "yes")
    return plan.digest


def ask_confirmation(ctx: typer.Context, plan: Plan, *, word: str) -> None:
    """Show ``plan`` and ask for ``word``; ``y`` is accepted for ``yes``, but a name must be typed completely.

    Raises:
        ConfirmationMissingError: there is no terminal.
        DeclinedError: the user declined.
        Abort: the input ended before an answer.
    """
    protected = word != "yes"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        confirm_hint = (
            f"Confirm with --confirm {word}; {word} is protected, so --yes is not enough."
            if protected
            else "Confirm with --yes."
        )
        raise ConfirmationMissingError(title=plan.title, hint=f"Nothing was changed. {confirm_hint}")
    result_output.show_blocks(build_blocks(plan), color=read_options(ctx).color, terminal=True)
    question = f"{word} is protected, --yes is not enough. Type its name to continue: "
    sys.stderr.write(question if protected else "Continue? Type yes or no: ")
    sys.stderr.flush()
    with _end_line_on_interrupt():
        line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise typer.Abort
    reply = line.strip()
    if reply != word and (protected or reply.lower() not in {"y", "yes"}):
        raise DeclinedError(title=plan.title)


@contextmanager
def _end_line_on_interrupt() -> Iterator[None]:
    """End the line of a prompt before a message about a signal is written."""
    try:
        yield
    except Interrupted:
        sys.stderr.write("\n")
        raise


class PasswordSource(NamedTuple):
    """The source of a password: one of the fields, or by default a prompt; never an argument."""

    stdin: bool = False
    file: Path | None = None
    generate: bool = False


def read_password(ctx: typer.Context, source: PasswordSource, *, confirm: bool = True) -> Secret:
    """Return a password; on a terminal the user types it without echo, twice with ``confirm``.

    Raises:
        UsageError: several sources, or none and no terminal.
        ValueInvalidError: it is empty, too long or not UTF-8, or the two entries differ.
    """
    if sum(map(bool, source)) > 1:
        raise UsageError(detail="pass only one of --password-stdin, --password-file and --generate")
    if source.generate:
        from dbctl.profiles import new_password

        return new_password()
    if source.stdin:
        return _decode_password(sys.stdin.buffer.readline(_LONGEST_PASSWORD + 2))
    if source.file is not None:
        return _decode_password(_read_first_line(ctx, source.file))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        detail = "a password is required: --password-stdin, --password-file FILE or --generate"
        raise UsageError(detail=detail)
    return _prompt_password(confirm=confirm)


def ask_secret(target: str) -> Secret:
    """Prompt for the passphrase of ``target`` without echo.

    Raises:
        KeyMissingError: there is no terminal.
        Abort: the input ended.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise KeyMissingError(target=target, reason="there is no terminal to type its passphrase")
    import getpass

    progress_bar.stop()
    try:
        with _end_line_on_interrupt():
            return _decode_password(
                getpass.getpass(f"Passphrase of {escape(target)}: ").encode(errors="surrogateescape")
            )
    except EOFError as error:
        raise typer.Abort from error


def _prompt_password(*, confirm: bool) -> Secret:
    import getpass

    for _ in range(_TRIES):
        try:
            with _end_line_on_interrupt():
                password = getpass.getpass("Password: ")
                repetition = getpass.getpass("Repeat password: ") if confirm else password
        except EOFError as error:
            raise typer.Abort from error
        if password == repetition:
            return _decode_password(password.encode(errors="surrogateescape"))
        streams.remark("The passwords differ; try again.")
    raise ValueInvalidError(name="password", value="***", reason="the repeated password differs")


def _read_first_line(ctx: typer.Context, file: Path) -> bytes:
    try:
        with atomic.open_named(file) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                note(ctx, f"other users can read {file}; run chmod 600 {file}")
            return opened.readline(_LONGEST_PASSWORD + 2)
    except FileNotFoundError as error:
        raise FileMissingError(kind="password file", path=file) from error
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error


def _decode_password(line: bytes) -> Secret:
    """Decode a password; only the end of the line is removed, because spaces belong to the password."""
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = password.decode()
    except UnicodeDecodeError as error:
        raise ValueInvalidError(name="password", value="***", reason="it is not UTF-8") from error
    if not password:
        raise ValueInvalidError(name="password", value="***", reason="it is empty")
    if len(password) > _LONGEST_PASSWORD:
        raise ValueInvalidError(
            name="password", value="***", reason=f"it is longer than {_LONGEST_PASSWORD} bytes"
        )
    return Secret(text)


def read_logins(arguments: Sequence[str]) -> list[str]:
    """Return the logins of the arguments without duplicates; ``-`` reads them from standard input, one per line."""
    names: list[str] = []
    for argument in arguments:
        if argument == "-":
            lines = (line.decode(errors="surrogateescape").strip() for line in sys.stdin.buffer)
            names.extend(name for name in lines if name)
        else:
            names.append(argument)
    return list(dict.fromkeys(names))


def show_progress(
    ctx: typer.Context, label: str, total: progress_bar.Total
) -> AbstractContextManager[Callable[[float], None]]:
    """Show a progress bar on a terminal after two seconds; yields ``advance(n)``."""
    return progress_bar.progress(label, total, color=read_options(ctx).color, quiet=read_options(ctx).quiet)
