"""Output, confirmation, passwords, and progress of commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer
from msgspec import structs

from dbctl import progress, signals
from dbctl.cli._support.options import RUN, command_path, read_options
from dbctl.errors import (
    ConfirmationMissingError,
    ConfirmationWrongError,
    DbctlError,
    DeclinedError,
)
from dbctl.model import ChangeResult, DryRunResult, Findings, Plan
from dbctl.render import (
    Format,
    ProgressMode,
    build_blocks,
    drawing,
    streams,
    supports_color,
    supports_drawing,
)
from dbctl.render import result as result_output
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from typer._click import Context

    from dbctl.services.app import App

#: Key in the context for the exit code of a command whose result was written.
EXIT_STATUS = "dbctl.exit_status"

#: Key in the context for the function that receives the output, instead of standard output.
RECEIVER = "dbctl.receiver"
#: Key in the context for the digest of a plan that the user confirmed for a fleet; None: without a plan.
CONFIRMED_DIGEST = "dbctl.confirmed"

#: Key in the context for the start of the command, or of the change that was confirmed.
STARTED = "dbctl.started"

#: Key in the context for the action with hooks that the command performs.
ACTION = "dbctl.action"
#: Key in the context for the records of hooks.
HOOK_RUNS = "dbctl.hooks"
#: Key in the context for the id of the run of a fleet in the journal.
RUN_ID = "dbctl.run_id"
#: The end of the audit log after a change of an instance, ``SEQUENCE:HASH``.
ANCHOR = "dbctl.anchor"

_WARNINGS = "dbctl.warnings"


class Operation(Protocol):
    """A prepared change: it can be planned and applied."""

    app: str  #: name of the app, which the user types to confirm if it is protected
    protected: bool
    target: str  #: what it changes, in messages; empty: the result names it

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
    findings: Findings | None = None,
    closes: bool = True,
) -> int:
    """Write ``result`` in the requested format and return ``status``.

    ``target`` is ``app/database`` for the envelope; default: the database of ``app`` that was used, or the target of the
    result. ``instead_of_table`` replaces the table format for results that other programs read. ``columns_apply`` is
    false if ``--columns`` and ``--excel-safe`` apply to exported data and not to the result, ``closes`` if the result has no
    closing line. ``findings`` are those of a result that is not ``Findings`` itself.
    """
    progress.stop()
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
        findings=findings,
        config=_find_config(ctx) if output.format.is_report else None,
        has_closing_line=closes,
        seconds=time.monotonic() - ctx.meta[STARTED],
    )
    if RUN in ctx.meta:
        ctx.meta[RUN].receive_output(command_output)
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


def _find_config(ctx: typer.Context) -> Path | None:
    """Return the configuration that the command read; None without one."""
    from dbctl.config import Selection, loader

    options = read_options(ctx)
    with suppress(DbctlError):
        return None if options.url else loader.config_path(Selection(config=options.config))
    return None


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
    elif not read_options(ctx).quiet:
        streams.remark(f"note: {text}", "dim")


def warn(ctx: typer.Context, text: str) -> None:
    """Write a warning to standard error, even without a terminal, or to the ``warnings`` of the JSON object."""
    if RUN in ctx.meta:
        ctx.meta[RUN].add_warning(text)
    if read_options(ctx).output is Format.JSON:
        ctx.meta.setdefault(_WARNINGS, []).append(text)
    else:
        streams.remark(f"dbctl: {text}", "due")


def collected_warnings(ctx: Context | None) -> Sequence[str]:
    """Return the notes and warnings that the JSON object will contain."""
    return () if ctx is None else tuple(ctx.meta.get(_WARNINGS, ()))


def reset(ctx: Context, receive: Callable[[result_output.CommandOutput], None]) -> None:
    """Prepare a context for another run of its command, whose output ``receive`` gets."""
    if RUN in ctx.meta:
        ctx.meta[RUN_ID] = ctx.meta[RUN].id
    for key in (_WARNINGS, CONFIRMED_DIGEST, RUN, HOOK_RUNS, ANCHOR):
        ctx.meta.pop(key, None)
    ctx.meta[RECEIVER] = receive


def run_change(
    ctx: typer.Context,
    operation: Operation,
    *,
    dry_run: bool,
    plan: Plan | None = None,
    notes: Sequence[str] = (),
) -> int:
    """Apply an operation, or show its plan for a dry run; the user first confirms a plan that destroys data.

    ``plan`` is the plan of the operation, if the command has computed it already. ``notes`` are written if the operation
    changed anything.

    Raises:
        ConfirmationMissingError: confirmation is required, and there is no terminal.
        ConfirmationWrongError: ``--confirm`` names another app.
        DeclinedError: the user declined.
        Abort: the input ended before an answer.
    """
    has_hooks = ACTION in ctx.meta
    if has_hooks:
        from dbctl.cli._support import hooks
    if dry_run:
        plan = plan or operation.plan()
        if has_hooks:
            hooks.note_programs(ctx, plan)
        return emit(ctx, DryRunResult(plan=plan), target=operation.target)
    digest = _confirm(ctx, operation, plan)
    ctx.meta[STARTED] = time.monotonic()
    with signals.critical_result():
        result = hooks.apply_operation(ctx, operation, digest, plan) if has_hooks else operation.apply(digest)
        status = 0
        if isinstance(result, ChangeResult):
            status = result.exit_status
            for message in result.remarks:
                warn(ctx, message)
            for message in result.notes:
                note(ctx, message)
        is_changed = not isinstance(result, ChangeResult) or result.effect is not None
        findings = getattr(result, "all_findings", None)
        if has_hooks:
            findings = hooks.combine_findings(ctx, findings, result)
            status = status or hooks.find_status(ctx)
        return emit(
            ctx,
            result,
            status=status,
            target=operation.target,
            notes=notes if is_changed else (),
            findings=findings,
        )


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
    with progress.pause():
        ask_confirmation(plan, word=operation.app if operation.protected else "yes")
    return plan.digest


def ask_confirmation(plan: Plan, *, word: str) -> None:
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
    drawing.write_remarks(build_blocks(plan))
    question = f"{word} is protected, --yes is not enough. Type its name to continue: "
    sys.stderr.write(question if protected else "Continue? Type yes or no: ")
    sys.stderr.flush()
    with end_line_on_interrupt():
        line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise typer.Abort
    reply = line.strip()
    if reply != word and (protected or reply.lower() not in {"y", "yes"}):
        raise DeclinedError(title=plan.title)


@contextmanager
def end_line_on_interrupt() -> Iterator[None]:
    """End the line of a prompt before a message about a signal is written."""
    try:
        yield
    except Interrupted:
        sys.stderr.write("\n")
        raise


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


@contextmanager
def show_progress(
    ctx: typer.Context,
    activity: str = "",
    total: progress.Total = None,
    *,
    unit: str = "",
    threaded: bool = True,
) -> Iterator[Callable[[float], None]]:
    """Show the progress of the command after half a second; yields ``advance(n)``.

    Args:
        ctx: the context of the command.
        activity: the name of the work, such as ``copying``.
        total: the amount of work in ``unit``, if known.
        unit: bytes, or a noun in the plural.
        threaded: false if the command forks processes and calls ``dbctl.progress.poll``.
    """
    if RUN in ctx.meta and activity:
        ctx.meta[RUN].begin_stage(activity)
    if work := progress.current_work():
        work.measure(activity, total, unit)
        yield work.advance
        return
    options, work = read_options(ctx), progress.Work(" ".join(command_path(ctx)))
    work.measure(activity, total, unit)
    can_draw = not options.quiet and supports_drawing(stream_is_terminal=sys.stderr.isatty())
    display = None
    if options.progress is ProgressMode.JSON or (options.progress is ProgressMode.AUTO and can_draw):
        from dbctl.render import create_display

        display = create_display(work, options.progress, color=supports_color(sys.stderr), threaded=threaded)

    def report() -> None:
        from dbctl.render import write_report

        write_report(work, is_drawn=can_draw and display is not None)

    signals.set_reporter(report)
    try:
        with progress.track(work, display):
            yield work.advance
    finally:
        signals.set_reporter(None)
