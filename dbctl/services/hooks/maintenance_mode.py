"""The maintenance mode of an app: turned on and off by programs, and recorded so that a killed dbctl leaves a trace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import BusyError
from dbctl.errors.operations import (
    MaintenanceNotConfiguredError,
    MaintenanceOffError,
    MaintenanceOnError,
    MaintenanceStateError,
)
from dbctl.files import atomic, lock
from dbctl.model import JSON_ERRORS, ChangeResult, Effect, Finding, Plan, Struct, now
from dbctl.services.hooks.program import (
    HookContext,
    Program,
    describe_failure,
    require_trusted_programs,
    run_program,
)

if TYPE_CHECKING:
    from dbctl.config.model import App


#: The folder of the records, in the directory for state.
FOLDER = "maintenance"
STATE_OFF = "off"


class MaintenanceState(Struct, frozen=True, kw_only=True):
    """The record of an app that is in maintenance mode."""

    app: str
    #: ``user``: ``apps maintenance on`` turned it on, and no action turns it off
    owner: Literal["run", "user"]
    command: str
    run_id: int | None = None
    pid: int
    host: str
    since: datetime


class MaintenanceMode:
    """The programs of the maintenance mode of an app, and its record."""

    def __init__(self, app: App, context: HookContext, *, timeout: float) -> None:
        """Run nothing; ``timeout`` is how many seconds to wait for another run that has the app in maintenance mode.

        Raises:
            MaintenanceNotConfiguredError: it has no programs.
            ConfigUntrustedError: other users may write one that root would run.
        """
        if app.maintenance_mode is None:
            raise MaintenanceNotConfiguredError(app=app.name)
        self._app, self._context, self._timeout = app, context, timeout
        self._settings = app.maintenance_mode
        require_trusted_programs([self._settings.on, self._settings.off])
        self._path = _locate_state(app)
        self._locks = ExitStack()
        self._may_be_on = False

    def begin(self) -> str:
        """Turn it on; return why the record is missing, or nothing.

        It stays as it is if a user has turned it on.

        Raises:
            BusyError: another run has the app in maintenance mode.
            MaintenanceOnError: the program failed; ``end`` must be called nevertheless.
        """
        problem = self._lock()
        state = _read_state(self._path)
        if state and state.owner == "user":
            return problem
        self._may_be_on = True
        problem = problem or self._write_state("run")
        self._run("on")
        return problem

    def end(self) -> None:
        """Turn it off if ``begin`` turned it on, or tried to; not interrupted by a signal.

        Raises:
            MaintenanceOffError: the program failed; the record remains.
        """
        try:
            if self._may_be_on:
                self._may_be_on = False
                self._turn_off()
        finally:
            self._locks.close()

    def change(self, *, is_on: bool) -> str:
        """Turn it on or off for a user; return why the record is missing, or nothing.

        Raises:
            BusyError: a run has the app in maintenance mode.
            MaintenanceOnError, MaintenanceOffError: the program failed.
        """
        with self._locks:
            problem = self._lock()
            if not is_on:
                self._turn_off()
                return ""
            problem = problem or self._write_state("run")  # after a failure it may be on: the record remains
            self._run("on")
            return problem or self._write_state("user")

    def _turn_off(self) -> None:
        self._run("off")
        if self._path:
            with suppress(OSError):
                self._path.unlink()

    def _run(self, name: Literal["on", "off"]) -> None:
        """Run a program.

        Raises:
            MaintenanceOnError, MaintenanceOffError: it failed.
        """
        command = self._settings.on if name == "on" else self._settings.off
        # A program that starts the app must end, also at a signal, and the app must continue.
        program = Program(
            command, self._settings.timeout, is_interruptible=name == "on", ends_children=name == "on"
        )
        record = run_program(self._context, name, program)
        if record.reason:
            facts = {"app": self._app.name, "program": record.program, "reason": describe_failure(record)}
            if name == "off":
                raise MaintenanceOffError(**facts)
            raise MaintenanceOnError(**facts, **self._context.output_facts)

    def _lock(self) -> str:
        """Lock the record; return why that is not possible, or nothing."""
        if self._path is None:
            return ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._locks.enter_context(
                lock.exclusive(
                    _locate_lock(self._path),
                    f"the maintenance mode of {self._app.name}",
                    self._context.command,
                    timeout=self._timeout,
                    to_error=self._create_error,
                )
            )
        except BusyError:
            raise
        except OSError as error:
            return str(self._create_error(error.strerror or str(error)))
        except MaintenanceStateError as error:
            return str(error)
        return ""

    def _write_state(self, owner: Literal["run", "user"]) -> str:
        """Record that it is on; return why that is not possible, or nothing."""
        if self._path is None:
            return ""
        state = MaintenanceState(
            app=self._app.name,
            owner=owner,
            command=self._context.command,
            run_id=self._context.run_id,
            pid=os.getpid(),
            host=os.uname().nodename,
            since=now(),
        )
        try:
            with atomic.write_atomically(self._path, replace=True, follow=False) as file:
                file.write(msgspec.json.encode(state).decode())
        except DbctlError as error:
            return str(self._create_error(str(error)))
        return ""

    def _create_error(self, reason: str) -> MaintenanceStateError:
        return MaintenanceStateError(app=self._app.name, path=self._path, reason=reason)


class MaintenanceChanged(ChangeResult, frozen=True, kw_only=True):
    """Result of ``apps maintenance``."""

    app: str
    is_on: bool
    warning: str = ""

    @property
    def effect(self) -> Effect | None:
        return Effect(f"turned {'on' if self.is_on else 'off'}", "maintenance mode", place=f"of {self.app}")

    @property
    def remarks(self) -> list[str]:
        return [self.warning] if self.warning else []


class ChangeMaintenanceMode:
    """Turn the maintenance mode of an app on or off, until the user changes it again."""

    protected = False

    def __init__(self, app: App, context: HookContext, *, is_on: bool, timeout: float) -> None:
        """Raise as ``MaintenanceMode``."""
        self.app = self.target = app.name
        self._configured, self._is_on = app, is_on
        self._mode = MaintenanceMode(app, context, timeout=timeout)

    def plan(self) -> Plan:
        """Return the program that ``apply`` runs."""
        settings = self._configured.maintenance_mode
        command = (settings.on if self._is_on else settings.off) if settings else ("",)
        word = "on" if self._is_on else "off"
        return Plan(
            title=f"Turn the maintenance mode {word}", target=self.app, steps=[f"run {command[0]}"], rows={}
        )

    def apply(self, confirmed: str | None = None) -> MaintenanceChanged:
        """Run the program; raises as ``MaintenanceMode.change``."""
        del confirmed  # nothing is deleted, so no confirmation is required
        warning = self._mode.change(is_on=self._is_on)
        return MaintenanceChanged(app=self.app, is_on=self._is_on, warning=warning)


def find_leftover(app: App) -> Iterator[Finding]:
    """Yield a finding if the app may still be in maintenance mode, because dbctl was killed or the program failed."""
    path = _locate_state(app) if app.maintenance_mode else None
    if path is None or _read_state(path) is None or lock.is_held(_locate_lock(path)):
        return
    state = _read_state(path)  # a run that has ended since then deleted it
    if state and state.owner == "run":
        run = f"{state.command} (run {state.run_id})" if state.run_id else state.command
        yield Finding(
            app.name,
            "error",
            "maintenance-mode-left-on",
            f"it may still be in maintenance mode: {run} of {state.since:%Y-%m-%d %H:%M} UTC did not turn it off",
            Remedy("End it with: `apps maintenance off`").write(app.name),
        )


def _locate_state(app: App) -> Path | None:
    """Return the file that records the maintenance mode of an app; None without a directory for state."""
    from dbctl.config.environment import app_state_folder

    folder = app_state_folder(app)
    if folder is None:
        return None
    key = hashlib.sha256(f"{app.folder}\0{app.name}".encode(errors="surrogateescape")).hexdigest()[:16]
    return folder / FOLDER / f"{key}.json"


def _locate_lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _read_state(path: Path | None) -> MaintenanceState | None:
    """Return the record; None if there is none, or if it cannot be read."""
    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=MaintenanceState)
    except (OSError, *JSON_ERRORS):
        return None
