"""Context of the checks of one database: its configuration, findings, and commands for hints."""

from __future__ import annotations

from dbctl.config import Selection
from dbctl.errors import Remedy
from dbctl.model import Finding, Severity
from dbctl.services.app import App

#: The only hint that is not a command, because the admin must choose the new location.
MOVE_HINT = "Stop the app, move the database to its own directory on a local disk, and change the path in the app and in dbctl.toml."


class CheckContext:
    """One database of a selected app."""

    def __init__(self, app: App, selection: Selection, database: str) -> None:
        self.app, self.database = app, database
        self.section, self.target = app.database(database), app.target(database)
        self._selection = selection

    @property
    def is_writable(self) -> bool:
        """Whether dbctl may write the database."""
        return self.section.mode == "read-write" and not self.app.find_replica(self.database)

    @property
    def read_risk(self) -> str:
        """The confidential content of the database, for messages; empty if none is known."""
        section = self.app.profile.users
        if section is None or self.app.resolve_database(section) != self.database:
            return "it contains keys or passwords" if self.section.secret else ""
        return "it contains password hashes" if section.password else "it contains the users of the app"

    def create_finding(self, severity: Severity, code: str, message: str, hint: str = "") -> Finding:
        """Return a finding about the database; ``hint`` is a command line."""
        return Finding(self.target, severity, code, message, hint)

    def command(self, *arguments: str) -> str:
        """Return the command line that runs dbctl with these arguments for the app."""
        return Remedy("", "{words}").write(self.app.name, {"words": arguments})
