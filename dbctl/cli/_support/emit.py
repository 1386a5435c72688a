"""Output, confirmation, passwords, and progress of commands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, Protocol

import typer
from msgspec import structs

from dbctl import progress, signals
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import OutputFailedError, report_file_errors
from dbctl.errors.usage import (
    ConfirmationMissingError,
    ConfirmationWrongError,
    DeclinedError,
    KeyMissingError,
    UsageError,
    ValueInvalidError,
)
from dbctl.files import atomic
from dbctl.model import ChangeResult, DryRunResult, Findings, Plan, Secret
from dbctl.render import result as result_output
from dbctl.render import streams, tables
from dbctl.render.streams import Format, ProgressMode, supports_color, supports_drawing
from dbctl.render.tables import build_blocks
from dbctl.render.text import escape
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.services.app.app import App


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
    session: Session,
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
    for text in (*notes, *progress.notes):
        note(session, text)
    progress.notes.clear()
    if not target:
        target = app.target() if app else _own_target(result)
    output = session.output_options
    if not columns_apply:
        output = structs.replace(output, columns=(), excel_safe=False)
    if output.format is Format.TABLE:
        output = structs.replace(output, format=instead_of_table)
    command_output = result_output.CommandOutput(
        command=session.words,
        result=result,
        status=int(status),
        target=target,
        warnings=tuple(session.warnings),
        findings=findings,
        find_config=partial(_find_config, session),
        has_closing_line=closes,
        seconds=time.monotonic() - session.started,
    )
    if session.run:
        session.run.receive_output(command_output)
    if isinstance(result, ChangeResult):  # it is written even if a signal arrives
        signals.ignore_signals_until_exit()
    if session.receive:
        session.receive(command_output)
    else:
        try:
            result_output.show(command_output, output)
            streams.flush()
        except (BrokenPipeError, OutputFailedError):
            _report_lost_output(session, result)
            raise
    session.exit_status = int(status)
    return int(status)


def _report_lost_output(session: Session, result: object) -> None:
    """Write to standard error what was changed, and what is lost because the result could not be written."""
    if isinstance(result, ChangeResult) and result.lost_output:
        text = f"{result_output.closing_line(result)}. {result.lost_output()}"
        if session.run:
            session.run.add_warning(text)
        streams.remark(f"dbctl: {text}", "due")


def _find_config(session: Session) -> Path | None:
    """Return the configuration that the command read; None without one."""
    from dbctl.config import loader
    from dbctl.config.sections import Selection

    options = session.options
    with suppress(DbctlError):
        return None if options.url else loader.config_path(Selection(config=options.config))
    return None


def _own_target(result: object) -> str | None:
    target = getattr(result.plan if isinstance(result, DryRunResult) else result, "target", None)
    return target if isinstance(target, str) and target else None


def note(session: Session, text: str) -> None:
    """Write a note to standard error, or to the ``warnings`` of the JSON object."""
    if session.options.output is Format.JSON:
        session.warnings.append(text)
    elif not session.options.quiet:
        streams.remark(f"note: {text}", "dim")


def cache_notes(app: App, values: str, cache: str) -> list[str]:
    """Return the note that a running app may use old ``values`` for a while; ``cache`` is the duration or the end, or empty."""
    if not cache:
        return []
    period = f"for up to {cache}" if cache[0].isdigit() else f"until {cache.removeprefix('until ')}"
    return [f"a running {app.profile.title} may use the old {values} {period}"]


def warn(session: Session, text: str) -> None:
    """Write a warning to standard error, even without a terminal, or to the ``warnings`` of the JSON object."""
    if session.run:
        session.run.add_warning(text)
    if session.options.output is Format.JSON:
        session.warnings.append(text)
    else:
        streams.remark(f"dbctl: {text}", "due")


def run_change(
    session: Session,
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
    if action := session.action:
        from dbctl.cli._support import hooks
    if dry_run:
        plan = plan or operation.plan()
        for text in action.describe_programs(is_empty=plan.is_empty) if action else ():
            note(session, f"would run {text}")
        from dbctl.services.app.change import Change

        proof = operation.describe_proof() if isinstance(operation, Change) else ""
        return emit(
            session,
            DryRunResult(plan=plan),
            status=Exit.PARTIAL if plan.failed else Exit.OK,
            target=operation.target,
            notes=[f"{session.spec.name} is {proof}"] if proof else (),
        )
    digest = _confirm(session, operation, plan)
    session.started = time.monotonic()
    with signals.critical_result():
        if action:
            result = hooks.apply_operation(session, action, operation, digest, plan)
        else:
            result = operation.apply(digest)
        status = 0
        if isinstance(result, ChangeResult):
            status = result.exit_status
            for message in result.remarks:
                warn(session, message)
            for message in result.notes:
                note(session, message)
        is_changed = not isinstance(result, ChangeResult) or result.effect is not None
        findings = getattr(result, "all_findings", None)
        if action:
            findings = hooks.combine_findings(action, findings, result)
            status = status or hooks.find_status(action)
        return emit(
            session,
            result,
            status=status,
            target=operation.target,
            notes=notes if is_changed else (),
            findings=findings,
        )


def _confirm(session: Session, operation: Operation, plan: Plan | None) -> str | None:
    """Return the digest of the plan that the user confirmed, or ``UNASKED``; None if no confirmation is required."""
    if session.is_confirmed:
        return session.confirmed_digest
    options = session.options
    if options.confirm and options.confirm != operation.app:
        raise ConfirmationWrongError(value=options.confirm, app=operation.app)
    if options.confirm or (options.yes and not operation.protected):
        return None
    from dbctl.services.app.change import UNASKED, Change

    if isinstance(operation, Change) and not plan and not operation.may_destroy():
        return UNASKED
    plan = plan or operation.plan()
    if not plan.destructive or plan.is_empty:
        return UNASKED if isinstance(operation, Change) else None
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
    tables.write_remarks(build_blocks(plan))
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
    session: Session,
    activity: str = "",
    total: progress.Total = None,
    *,
    unit: str = "",
    threaded: bool = True,
) -> Iterator[Callable[[float], None]]:
    """Show the progress of the command after half a second; yields ``advance(n)``.

    Args:
        session: the session of the command.
        activity: the name of the work, such as ``copying``.
        total: the amount of work in ``unit``, if known.
        unit: bytes, or a noun in the plural.
        threaded: false if the command forks processes and calls ``dbctl.progress.poll``.
    """
    if session.run and activity:
        session.run.begin_stage(activity)
    if progress.current:
        (work,) = progress.current
        work.measure(activity, total, unit)
        yield work.advance
        return
    options, work = session.options, progress.Work(session.spec.name)
    if activity or unit:
        work.measure(activity, total, unit)
    can_draw = not options.quiet and supports_drawing(sys.stderr)
    display = None
    if options.progress is ProgressMode.JSON or (options.progress is ProgressMode.AUTO and can_draw):
        from dbctl.render.progress import create_display

        display = create_display(work, options.progress, color=supports_color(sys.stderr), threaded=threaded)

    def report() -> None:
        from dbctl.render.progress import write_report

        write_report(work, is_drawn=can_draw and display is not None)

    signals.reporters[:] = [report]
    try:
        with progress.track(work, display):
            yield work.advance
    finally:
        signals.reporters.clear()


_LONGEST_PASSWORD = 4096  # bytes; longer than any app allows, so that a wrong file is rejected
_TRIES = 3


class PasswordSource(NamedTuple):
    """The source of a password: one of the fields, or by default a prompt; never an argument."""

    stdin: bool = False
    file: Path | None = None
    generate: bool = False


def read_password(session: Session, source: PasswordSource, *, confirm: bool = True) -> Secret:
    """Return a password; on a terminal the user types it without echo, twice with ``confirm``.

    Raises:
        UsageError: several sources, or none and no terminal.
        BrokenPipeError: nothing can read a generated password.
        ValueInvalidError: it is empty, too long or not UTF-8, or the two entries differ.
    """
    if sum(map(bool, source)) > 1:
        raise UsageError(detail="pass only one of --password-stdin, --password-file and --generate")
    if source.generate:
        streams.require_reader()
        from dbctl.profiles.passwords import new_password

        return new_password()
    if source.stdin:
        return _decode_password(sys.stdin.buffer.readline(_LONGEST_PASSWORD + 2))
    if source.file is not None:
        return _decode_password(_read_first_line(session, source.file))
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
    return _decode_password(_read_hidden(f"Passphrase of {escape(target)}: "))


def _read_hidden(question: str) -> bytes:
    """Return what the user types, without echo."""
    import getpass

    try:
        with progress.pause(), end_line_on_interrupt():
            return getpass.getpass(question).encode(errors="surrogateescape")
    except EOFError as error:
        raise typer.Abort from error


def _prompt_password(*, confirm: bool) -> Secret:
    for _ in range(_TRIES):
        password = _read_hidden("Password: ")
        if not confirm or _read_hidden("Repeat password: ") == password:
            return _decode_password(password)
        streams.remark("The passwords differ; try again.")
    raise ValueInvalidError(name="password", value="***", reason="the repeated password differs")


def _read_first_line(session: Session, file: Path) -> bytes:
    with report_file_errors(file, kind="password file"), atomic.open_named(file) as opened:
        if os.fstat(opened.fileno()).st_mode & 0o077:
            note(session, f"other users can read {file}; run chmod 600 {quote(str(file))}")
        return opened.readline(_LONGEST_PASSWORD + 2)


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
