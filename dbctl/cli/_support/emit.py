"""What every command does besides its own work: answer, ask, read passwords and names, show progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer
from msgspec import structs

from dbctl import signals
from dbctl.cli._support.options import call, command_words
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
from dbctl.model import Done, Plan, Planned, Secret
from dbctl.render import Format, blocks, escape, streams
from dbctl.render import progress as bar
from dbctl.render import result as answer
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from typer._click import Context

#: Where a context keeps the exit status of an answer that was given.
ANSWERED = "answered"

_WARNINGS = "dbctl.warnings"
_LONGEST_PASSWORD = 4096  # bytes; no app takes as many, and a wrong file ends here
_TRIES = 3


class Prepared(Protocol):
    """A change that is ready: its plan can be shown, and it can be applied."""

    app: str  #: the name of the app, which a protected one wants typed
    protected: bool

    def plan(self) -> Plan:
        """Return what would be done; reads only."""
        ...

    def apply(self, seen: str | None = None) -> object:
        """Do it, in one transaction; ``seen`` is the digest of the plan that a person agreed to.

        Raises:
            PlanChangedError: what would be done is no longer what was seen.
        """
        ...


def emit(
    ctx: typer.Context,
    result: object,
    *,
    status: int = 0,
    notes: Sequence[str] = (),
    target: str | None = None,
    instead_of_table: Format = Format.TABLE,
    picked: bool = True,
) -> int:
    """Show ``result`` in the form that was asked for and return ``status``.

    ``target`` is ``app/database`` for the envelope; without it, the result's own ``target`` where it has one.
    ``instead_of_table`` is for what is made to be read again by a program. ``picked``: whether ``--columns`` and
    ``--excel-safe`` are about the result, and not about what it tells of.
    """
    bar.end()
    for text in notes:
        note(ctx, text)
    told = result.plan if isinstance(result, Planned) else result
    own = getattr(told, "target", None)
    look = call(ctx).look if picked else structs.replace(call(ctx).look, columns=(), excel_safe=False)
    # What is done is told, whatever comes meanwhile.
    with signals.unheard() if isinstance(result, Done) else nullcontext():
        answer.show(
            answer.Answer(
                command=command_words(ctx),
                result=result,
                status=int(status),
                target=target or (own if isinstance(own, str) else None),
                warnings=warnings_of(ctx),
            ),
            structs.replace(look, format=instead_of_table) if look.format is Format.TABLE else look,
        )
        ctx.meta[ANSWERED] = int(status)
        if isinstance(result, Done):
            signals.over()
    return int(status)


def note(ctx: typer.Context, text: str) -> None:
    """Remark on what is being done: on standard error, or among the ``warnings`` of the JSON object."""
    if call(ctx).output is Format.JSON:
        ctx.meta.setdefault(_WARNINGS, []).append(text)
    elif not call(ctx).quiet and sys.stderr.isatty():  # cron mails whatever is said
        streams.remark(f"note: {text}")


def warn(ctx: typer.Context, text: str) -> None:
    """Say what went wrong beside the answer: also to cron, or among the ``warnings`` of the JSON object."""
    if call(ctx).output is Format.JSON:
        ctx.meta.setdefault(_WARNINGS, []).append(text)
    else:
        streams.remark(f"dbctl: {text}")


def warnings_of(ctx: Context | None) -> Sequence[str]:
    """Return the remarks that wait for the JSON object."""
    return () if ctx is None else tuple(ctx.meta.get(_WARNINGS, ()))


def change(
    ctx: typer.Context, prepared: Prepared, *, target: str | None = None, notes: Sequence[str] = ()
) -> int:
    """Apply ``prepared``, or show its plan with ``--dry-run``; what destroys data is agreed to first.

    ``target`` is ``app/database`` for the answer; ``notes`` are remarks on what was done, where anything was.

    Raises:
        ConfirmationMissingError: it would have to ask, and there is no terminal.
        ConfirmationWrongError: ``--confirm`` names another app.
        DeclinedError: the answer was no.
        Abort: the input ended where the answer was awaited.
    """
    if ctx.params.get("dry_run"):
        return emit(ctx, Planned(plan=prepared.plan()), target=target)
    seen = _agreed(ctx, prepared)
    with signals.telling():
        return _emit_done(ctx, prepared.apply(seen), target=target, notes=notes)


def _agreed(ctx: typer.Context, prepared: Prepared) -> str | None:
    """Return the digest of the plan that was agreed to; None where nobody had to be asked."""
    said = call(ctx)
    if said.confirm and said.confirm != prepared.app:
        raise ConfirmationWrongError(given=said.confirm, app=prepared.app)
    if said.confirm or (said.yes and not prepared.protected):
        return None
    plan = prepared.plan()
    if not plan.destructive or plan.empty:
        return None
    _agree(ctx, plan, word=prepared.app if prepared.protected else "yes")
    return plan.digest


def _emit_done(ctx: typer.Context, result: object, *, target: str | None, notes: Sequence[str]) -> int:
    changed, status = bool(getattr(result, "changed", True)), 0
    if isinstance(result, Done):
        status = result.exit_status
        for text in result.remarks:
            warn(ctx, text)
    return emit(ctx, result, status=status, target=target, notes=notes if changed else ())


def _agree(ctx: typer.Context, plan: Plan, *, word: str) -> None:
    """Show ``plan`` and ask for ``word``; ``yes`` may be shortened to ``y``, a name may not."""
    protected = word != "yes"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        instead = (
            f"--confirm {word} answers it; {word} is protected, --yes is not enough."
            if protected
            else "--yes answers it."
        )
        raise ConfirmationMissingError(title=plan.title, instead=f"Nothing was changed. {instead}")
    answer.picture(blocks(plan), color=call(ctx).color, terminal=True)
    asked = f"{word} is protected, --yes is not enough. Type its name to do this: "
    sys.stderr.write(asked if protected else "Do this? Type yes or no: ")
    sys.stderr.flush()
    with _own_line():
        line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise typer.Abort
    typed = line.strip()
    if typed != word and (protected or typed.lower() not in {"y", "yes"}):
        raise DeclinedError(title=plan.title)


@contextmanager
def _own_line() -> Iterator[None]:
    """Let what is said about a signal begin on a line of its own, not behind the question."""
    try:
        yield
    except Interrupted:
        sys.stderr.write("\n")
        raise


def read_password(
    ctx: typer.Context,
    *,
    stdin: bool,
    file: Path | None,
    generate: bool,
    confirm: bool = True,
) -> tuple[Secret, bool]:
    """Return a password and whether dbctl made it up; never from an argument.

    From a terminal it is typed, twice with ``confirm``, without being shown.

    Raises:
        UsageError: more than one source, or none and no terminal.
        ValueInvalidError: it is empty, too long or not UTF-8, or was typed differently the second time.
    """
    if (stdin, file is not None, generate).count(True) > 1:
        raise UsageError(detail="give one of --password-stdin, --password-file and --generate")
    if generate:
        from dbctl.profiles import new_password

        return new_password(), True
    if stdin:
        return _password(sys.stdin.buffer.readline(_LONGEST_PASSWORD + 2)), False
    if file is not None:
        return _password(_first_line(ctx, file)), False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(detail="a password is needed: --password-stdin, --password-file FILE or --generate")
    return _typed(confirm=confirm), False


def ask_secret(what: str) -> Secret:
    """Ask on the terminal for the passphrase that opens ``what``, without showing it.

    Raises:
        KeyMissingError: there is no terminal.
        Abort: the input ended.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise KeyMissingError(what=what, reason="nobody is here to type its passphrase")
    import getpass

    bar.end()
    try:
        with _own_line():
            return _password(
                getpass.getpass(f"Passphrase of {escape(what)}: ").encode(errors="surrogateescape")
            )
    except EOFError as error:
        raise typer.Abort from error


def _typed(*, confirm: bool) -> Secret:
    import getpass

    for _ in range(_TRIES):
        try:
            with _own_line():
                first = getpass.getpass("Password: ")
                again = getpass.getpass("Once more: ") if confirm else first
        except EOFError as error:
            raise typer.Abort from error
        if first == again:
            return _password(first.encode(errors="surrogateescape"))
        streams.remark("The two differ; try again.")
    raise ValueInvalidError(what="password", value="***", reason="it was typed differently the second time")


def _first_line(ctx: typer.Context, file: Path) -> bytes:
    try:
        with atomic.named(file) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                note(ctx, f"{file} may be read by others; chmod 600 it")
            return opened.readline(_LONGEST_PASSWORD + 2)
    except FileNotFoundError as error:
        raise FileMissingError(what="password file", path=file) from error
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error


def _password(line: bytes) -> Secret:
    """Take a password from its line; only the line's end is cut off, blanks belong to the password."""
    raw = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueInvalidError(what="password", value="***", reason="it is not UTF-8") from error
    if not raw:
        raise ValueInvalidError(what="password", value="***", reason="it is empty")
    if len(raw) > _LONGEST_PASSWORD:
        raise ValueInvalidError(
            what="password", value="***", reason=f"it is longer than {_LONGEST_PASSWORD} bytes"
        )
    return Secret(text)


def read_logins(words: Sequence[str]) -> list[str]:
    """Return the names that were typed; ``-`` stands for those on standard input, one per line. Each comes once."""
    names: list[str] = []
    for word in words:
        if word == "-":
            lines = (line.decode(errors="surrogateescape").strip() for line in sys.stdin.buffer)
            names.extend(name for name in lines if name)
        else:
            names.append(word)
    return list(dict.fromkeys(names))


def progress(
    ctx: typer.Context, label: str, total: bar.Total
) -> AbstractContextManager[Callable[[float], None]]:
    """Show how far long work has come, on a terminal and after two seconds; gives ``advance(n)``."""
    return bar.progress(label, total, color=call(ctx).color, quiet=call(ctx).quiet)
