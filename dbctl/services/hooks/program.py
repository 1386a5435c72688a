"""Run one program of the configuration: its variables, its limits, and the record of its end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbctl import signals
from dbctl.errors.base import DbctlError, Remedy
from dbctl.files import limited_program
from dbctl.model import Finding, Struct
from dbctl.services.events.runs import HookRun
from dbctl.units import parse_duration

if TYPE_CHECKING:
    from dbctl.config.model import App


#: The variables of a hook; those of an outer dbctl are not passed on.
PREFIX = "DBCTL_HOOK_"
#: Bytes of the output of a program that the journal stores.
MAX_OUTPUT_BYTES = 8 << 10
CHANGE = Remedy("Install it, or change {key}; its place is in the list of: `config show`")
#: The hint about the output of a program, for ``HookContext.output_facts``.
OUTPUT = Remedy("Its output is in the journal: `runs show {run}`")
#: Maximum seconds of a program after a signal, because a supervisor kills dbctl soon.
SECONDS_AFTER_SIGNAL = 30.0
#: Characters of a variable; the kernel refuses longer environments.
MAX_VALUE = 4096


class HookContext(Struct, frozen=True, kw_only=True):
    """Facts about the command that the programs of an app receive."""

    app: str  #: its name, or ``FLEET/INSTANCE``
    folder: Path  #: the working directory
    action: str  #: ``backup``, ``restore``, ``migrate``, ``cleanup``; ``maintenance`` without an action
    command: str  #: ``backup create``
    run_id: int | None = None  #: in the journal
    config: str = ""  #: the path of the configuration
    directory: Path  #: where the app is installed
    report: Callable[[HookRun], None]  #: receives the record of each program

    @property
    def output_facts(self) -> Mapping[str, object]:
        """Facts for an error: where the output of the programs is; none if it is not recorded."""
        return {"hint": OUTPUT, "run": self.run_id} if self.run_id else {}


class Program(NamedTuple):
    """A program and how it is run."""

    command: Sequence[str]
    timeout: str
    is_interruptible: bool = True  #: whether a signal ends it
    ends_children: bool = True  #: whether its child processes end with it


def run_program(
    context: HookContext, name: str, program: Program, variables: Mapping[str, str] = {}
) -> HookRun:
    """Run a program, report its record as that of the hook ``name``, and return it.

    ``variables`` are further ones for the program, without their prefix.

    Raises:
        Interrupted: a signal was received, outside ``block_signals``.
    """
    seconds, begin = parse_duration(program.timeout).total_seconds(), time.monotonic()
    if signals.pending_signal() and program.is_interruptible:
        seconds = min(seconds, SECONDS_AFTER_SIGNAL)
    result = None
    try:
        result = limited_program.run_logged(
            program.command,
            seconds=seconds,
            max_bytes=MAX_OUTPUT_BYTES,
            environment=_create_environment(context, name, variables),
            folder=context.folder,
            ends_at_signal=program.is_interruptible,
            ends_children=program.ends_children,
        )
    finally:  # also if a signal ended it
        result = result or limited_program.LoggedProgram("it was ended by a signal")
        record = HookRun(
            app=context.app,
            hook=name,
            program=program.command[0],
            reason=result.reason,
            exit_code=result.status,
            duration=round(time.monotonic() - begin, 3),
            output=result.output.decode(errors="replace"),
            output_bytes=result.output_bytes,
        )
        context.report(record)
    return record


def describe_failure(record: HookRun) -> str:
    """Return why a program failed, with the last line of its output."""
    lines = record.output.strip().splitlines()
    return f"{record.reason}: {lines[-1].strip()[:200]}" if lines else record.reason


def _create_environment(context: HookContext, name: str, variables: Mapping[str, str]) -> dict[str, str]:
    values = {
        "NAME": name,
        "APP": context.app,
        "ACTION": context.action,
        "COMMAND": context.command,
        "RUN_ID": str(context.run_id or ""),
        "CONFIG": context.config,
        "DIRECTORY": str(context.directory),
        **variables,
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    return inherited | {f"{PREFIX}{key}": _clean(value) for key, value in values.items()}


def _clean(value: str) -> str:
    """Return a text that can be the value of a variable."""
    text = value.replace("\0", "")[:MAX_VALUE]
    try:
        return os.fsdecode(text.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # half of a character, which no file name has
        return text.encode(errors="replace").decode()


def require_trusted_programs(commands: Iterable[Sequence[str]]) -> None:
    """Refuse programs that root would run although other users may write them.

    Raises:
        ConfigUntrustedError: a file, or one of its folders, belongs to another user, or others may write it.
    """
    if os.geteuid() == 0:
        for program in {command[0] for command in commands if "/" in command[0]}:
            if os.path.exists(program):  # noqa: PTH110 - Path.exists raises without permission
                from dbctl.config.sections import require_trusted

                require_trusted(Path(program))


def find_unusable_programs(app: App) -> Iterator[Finding]:
    """Yield the programs of an app that cannot be started, or that root refuses to start."""
    commands = {
        f"hooks.{action}.{name}": command
        for action, section in app.hooks.items()
        for name, command in section.list_programs().items()
    }
    if mode := app.maintenance_mode:
        commands |= {"maintenance_mode.on": mode.on, "maintenance_mode.off": mode.off}
    for key, command in commands.items():
        if shutil.which(command[0]) is None:
            yield Finding(
                app.name,
                "error",
                "hook-program-missing",
                f"{key}: {command[0]} does not exist, or is not executable",
                CHANGE.write(app.name, facts={"key": key}),  # also of [defaults]
            )
        try:
            require_trusted_programs([command])
        except DbctlError as error:
            yield Finding(app.name, "error", error.code, str(error), error.hint)
