"""Checks of the backups of an app, and of the runs that make them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from dbctl.errors.backup import RepositoryNotConfiguredError
from dbctl.model import Finding
from dbctl.services.app import clock
from dbctl.services.app.evidence.subjects import Needs, Subject, check
from dbctl.services.backup import status
from dbctl.services.events.location import locate_journal
from dbctl.services.events.monitor import find_problems

VERSIONS_HINT = "A lifecycle rule of the bucket can delete old versions."


@check("backup-due", "app", Needs.NOTHING)
def check_backups(subject: Subject) -> Iterator[Finding]:
    """Yield backups that are due, invalid or incomplete, and an implausible clock."""
    app, databases = subject.app, list(subject.databases.values())
    first, app_backups = databases[0], status.read_status(app)
    configured = not (subject.selection.profile and subject.selection.urls)
    if (
        app.configured.backup is None
        and configured
        and any(database.section.backup for database in databases)
    ):
        yield Finding.from_error(app.name, RepositoryNotConfiguredError(app=app.name), "warning")
    for finding in app_backups.find_broken() if app_backups else ():
        yield structs.replace(finding, target=first.target)
    if app_backups and app_backups.repository.keeps_versions:
        yield first.finding(
            "info", "storage-versioned", status.describe_versions(app_backups.repository), VERSIONS_HINT
        )
    if reason := clock.find_app_contradiction(app):
        yield first.finding(
            "warning", "clock-implausible", f"the system clock is implausible: {reason}", "date"
        )
    for database in databases:
        backups = app_backups.find_database(database.database) if app_backups else None
        yield from backups.find_warnings() if backups else ()


@check("run-failing", "app", Needs.NOTHING)
def check_runs(subject: Subject) -> Iterator[Finding]:
    """Yield commands that fail again and again, or were interrupted."""
    for problem in find_problems(locate_journal(subject.selection), subject.target, backup_config=None):
        yield subject.finding("warning", f"run-{problem.kind}", problem.message, problem.hint)
