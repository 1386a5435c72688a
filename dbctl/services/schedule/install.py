"""Install the units of systemd: write changed files, remove those of jobs that no longer exist, start the timers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dbctl.errors.connection import FileFailedError
from dbctl.errors.operations import TimersFailedError, UnitForeignError
from dbctl.errors.usage import PlanChangedError
from dbctl.files import limited_program
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Plan, Struct
from dbctl.services.schedule.units import APP_MARK, PREFIX, Unit

SYSTEM_FOLDER = Path("/etc/systemd/system")
#: The folder exists if systemd manages this machine.
RUNNING = Path("/run/systemd/system")
#: Every user can read units; they have no secrets.
_MODE = 0o644
_SECONDS, _MAX_BYTES = 120, 1 << 20


class UnitsInstalled(ChangeResult, frozen=True, kw_only=True):
    """Result of ``schedule systemd --install``."""

    folder: str
    written: Sequence[str]  #: changed files
    removed: Sequence[str]
    unchanged: int
    started: bool  #: whether systemd has started the timers

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        counts = {"removed": len(self.removed), "unchanged": self.unchanged}
        return Effect("wrote", "unit", count=len(self.written), place=f"to {self.folder}", counts=counts)

    @property
    def changed(self) -> int:
        """The number of files that were written or removed."""
        return len(self.written) + len(self.removed)


class UnitChanges(Struct, frozen=True, kw_only=True):
    """The differences between the jobs and the installed units."""

    written: Sequence[Unit]
    removed: Sequence[str]
    unchanged: int


class InstallUnits:
    """A planned ``schedule systemd --install``."""

    app, protected, target = "schedule", False, ""

    def __init__(
        self, units: Sequence[Unit], *, mark: str, apps: Sequence[str], folder: Path | None, user_units: bool
    ) -> None:
        """Select the folder.

        Args:
            units: of the jobs of the apps.
            mark: the line that units of the configuration have.
            apps: the selected apps, of which the units of other jobs are removed.
            folder: instead of the folder of systemd; the timers are not started.
            user_units: they are for the service manager of the user.
        """
        self._units, self._mark, self._apps, self._user_units = units, mark, apps, user_units
        self._is_active = folder is None and RUNNING.is_dir()
        self.folder = folder or (find_user_folder() if user_units else SYSTEM_FOLDER)

    def plan(self) -> Plan:
        """Return the files to write and to remove; reads only.

        Raises:
            UnitForeignError: a file has the name of a unit, and was not written for this configuration.
        """
        changes = self._compare()
        steps = [f"write {unit.name}" for unit in changes.written]
        steps += [f"remove {name}" for name in changes.removed]
        return Plan(title="Install timers", target=str(self.folder), steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> UnitsInstalled:
        """Write the units, and start the timers if they are in the folder of a running systemd.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was written.
            UnitForeignError: as ``plan``; nothing was written.
            FileFailedError: a file cannot be written; the next call writes the others.
            TimersFailedError: systemd did not start the timers.
        """
        if confirmed is not None and self.plan().digest != confirmed:
            raise PlanChangedError(target=self.folder)
        changes = self._compare()
        self._create_folder()
        for unit in changes.written:
            with write_atomically(self.folder / unit.name, mode=_MODE, replace=True, follow=False) as file:
                file.write(unit.text)
                os.fchmod(file.fileno(), _MODE)
        self._disable([name for name in changes.removed if name.endswith(".timer")])
        for name in changes.removed:
            (self.folder / name).unlink(missing_ok=True)
        self._start()
        return UnitsInstalled(
            folder=str(self.folder),
            written=[unit.name for unit in changes.written],
            removed=changes.removed,
            unchanged=changes.unchanged,
            started=self._is_active,
        )

    @property
    def start_command(self) -> str:
        """The commands that start the timers; empty if ``apply`` starts them."""
        scope = " --user" if self._user_units else ""
        timers = " ".join(f"'{unit.name}'" for unit in self._units if unit.schedule)
        command = f"systemctl{scope} daemon-reload && systemctl{scope} enable --now {timers}"
        return "" if self._is_active else command

    def _compare(self) -> UnitChanges:
        written = list[Unit]()
        for unit in self._units:
            text = read_unit(self.folder / unit.name)
            if text and self._mark not in text.splitlines():
                raise UnitForeignError(
                    path=self.folder / unit.name, config=self._mark.partition("=")[2] or "this"
                )
            if text != unit.text:
                written.append(unit)
        names = {unit.name for unit in self._units}
        marks = {f"{APP_MARK}{app}" for app in self._apps}
        removed = [
            path.name
            for path in list_unit_files(self.folder)
            if path.name not in names and _is_marked(read_unit(path), self._mark, marks)
        ]
        return UnitChanges(written=written, removed=removed, unchanged=len(self._units) - len(written))

    def _create_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileFailedError(path=self.folder, reason=error.strerror or str(error)) from error

    def _disable(self, timers: Sequence[str]) -> None:
        if self._is_active and timers:
            self._run("disable", "--now", *timers)

    def _start(self) -> None:
        if self._is_active:
            self._run("daemon-reload")
            self._run("enable", "--now", *(unit.name for unit in self._units if unit.schedule))

    def _run(self, action: str, *arguments: str) -> None:
        words = ["systemctl", *(["--user"] if self._user_units else []), action, *arguments]
        try:
            limited_program.run(words, seconds=_SECONDS, max_bytes=_MAX_BYTES)
        except limited_program.ProgramFailedError as error:
            raise TimersFailedError(action=action, reason=error) from error


def find_user_folder() -> Path:
    """Return the folder of a user's units."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(configured or Path.home() / ".config", "systemd/user")


def list_unit_files(folder: Path) -> list[Path]:
    """Return the files with names of dbctl's units, sorted; none if there is no such folder."""
    return sorted(
        path for kind in ("service", "timer") for path in folder.glob(f"{PREFIX}*.{kind}") if path.is_file()
    )


def read_unit(path: Path) -> str:
    """Return the text of a unit; empty if it does not exist.

    Raises:
        FileFailedError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


def _is_marked(text: str, mark: str, app_marks: set[str]) -> bool:
    lines = text.splitlines()
    return mark in lines and not app_marks.isdisjoint(lines)
