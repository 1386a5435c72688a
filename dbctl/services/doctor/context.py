"""One database under examination, and how findings about it are made."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from dbctl.config import Selection
from dbctl.model import Finding, Severity
from dbctl.services.app import App, command_line

#: What no command can do, because it takes a place that only the admin knows.
MOVE = "Stop the app, move the database to a directory of its own on a disk of this machine, and tell app and dbctl.toml where."


class Subject:
    """One database of an app that was chosen by ``said``."""

    def __init__(self, app: App, said: Selection, database: str) -> None:
        self.app, self.database = app, database
        self.told, self.target = app.database(database), app.target(database)
        self._said = said

    @property
    def written(self) -> bool:
        """Whether dbctl may write it at all; else it is its owner's business."""
        return self.told.mode == "read-write"

    @property
    def holds(self) -> str:
        """What is in it that nobody but its owner should read, in words; empty: nothing is known to be."""
        told = self.app.profile.users
        if told is None or (told.database or self.app.main()) != self.database:
            return "it holds keys or passwords" if self.told.secret else ""
        return "it holds password hashes" if told.password else "it holds who uses the app"

    def finding(self, severity: Severity, code: str, message: str, hint: str = "") -> Finding:
        """Return a finding about it; ``hint`` is a command line."""
        return Finding(target=self.target, severity=severity, code=code, message=message, hint=hint)

    def dbctl(self, *words: str) -> str:
        """Return the line that calls dbctl with ``words`` for this database's app."""
        return shlex.join(command_line.remedy(self._said, self.app.configured, *words))


def line_of(owner: int, words: Sequence[str]) -> str:
    """Return the command line that does ``words`` with the rights of ``owner``."""
    mine = os.geteuid() in (0, owner)
    return shlex.join(words if mine else ["sudo", *words])


def amount(count: int) -> str:
    """Return a number of bytes as a message tells it."""
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / (1 << 10):.0f} KiB"
