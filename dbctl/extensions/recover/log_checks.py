"""The checks of ``doctor`` of a server whose log is stored: what it retains until the next ``backup log``, its timeline and its clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from dbctl.engines.contract.checks import EngineFinding
from dbctl.errors.backup import RepositoryMissingError
from dbctl.errors.base import Remedy
from dbctl.extensions.recover.log_backup import name_reader
from dbctl.model import Finding, now
from dbctl.services.app.evidence.subjects import Subject, check, require
from dbctl.services.backup.log_range import find_newest_log
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository

#: The difference of two clocks from which it is reported: a moment is one of the clock of the server.
MAX_DIFFERENCE = timedelta(seconds=5)


_STORE = Remedy("`backup log --db {database}`")
_COPY = Remedy(
    "Store the log with: `backup log --db {database}`; then make another copy with: `backup create --physical --db {database}`"
)
#: The remedies that are commands.
HINTS: Mapping[str, Remedy] = {
    "log-slot-missing": _STORE,
    "log-slot-behind": _STORE,
    "log-slot-lost": _COPY,
    "log-timeline": _COPY,
}


class LogChecks(ABC):
    """What an engine checks of its log: a part that this extension adds to an open database."""

    @abstractmethod
    def read_clock(self) -> datetime:
        """Return the time of the server."""

    @abstractmethod
    def find_problems(self, name: str, last: Mapping[str, str]) -> Iterator[EngineFinding]:
        """Yield what endangers the log that was not stored yet, or the server by it; ``last`` has the facts of the newest stored log.

        By ``name`` the server remembers up to where the log was fetched.
        """


@check("log-slot-missing")
def check_log(subject: Subject) -> Iterator[Finding]:
    """Yield the problems of a server with a stored log."""
    checks = require(subject.db.extension_part(LogChecks) if subject.app.configured.backup else None)
    repository, manifests = Repository(subject.app), list[Manifest]()
    with suppress(RepositoryMissingError):  # reported by the check of backups
        manifests = repository.manifests()[0]
    newest = require(find_newest_log(manifests, subject.database))
    name = name_reader(repository, subject.database)
    for problem in checks.find_problems(name, newest.facts):
        hint = HINTS.get(problem.code, problem.hint)
        yield subject.finding(problem.severity, problem.code, problem.message, hint)
    begin = now()
    server = checks.read_clock()
    end = now()
    # The server read its clock between the two times.
    ahead = max(server - end, timedelta()) or min(server - begin, timedelta())
    if abs(ahead) > MAX_DIFFERENCE:
        seconds = (
            f"{abs(ahead).total_seconds():.0f} seconds {'ahead of' if ahead > timedelta() else 'behind'}"
        )
        message = f"the clock of the server is {seconds} that of this machine: moments of a recovery are those of the server"
        yield subject.finding("warning", "clock-differs", message, "Synchronise both clocks by NTP.")
