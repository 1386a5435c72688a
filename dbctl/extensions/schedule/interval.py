"""Backups at an interval shorter than a day: its cron expression, and what it requires of an app."""

from __future__ import annotations

from dbctl.config import model
from dbctl.errors.usage import UsageError
from dbctl.extensions.schedule.section import Schedule
from dbctl.extensions.schedule.times import find_interval
from dbctl.profiles.model.profile import Profile
from dbctl.services.backup.due import database_retentions, has_rules, retention_for
from dbctl.url import find_engine, resolve_engine


def convert_interval(app: model.App, profile: Profile, section: Schedule, minute: int) -> str:
    """Return the schedule of backups with a short interval, which is ``every`` of ``section``; one of hours begins at ``minute``.

    Raises:
        UsageError: so many backups would take too much space.
    """
    key = f"[apps.{app.name}.schedule] every = {section.every!r}"
    schedule = find_interval(section.every)
    if app.backup is None:
        return schedule  # without backups, there is no such job
    for name, database in profile.databases.items():
        if name in app.databases and database.backup:
            url = resolve_engine(app.databases[name], database.engines)
            entry = find_engine(url.engine)
            if entry is None or entry.kind != "file" or url.via:
                reason = f"{name} is no SQLite file of this machine, so each backup reads all of its data"
                raise UsageError(detail=f"{key}: {reason}; set a time of backup instead")
    if not app.backup.incremental:
        raise UsageError(
            detail=f"{key}: each backup would be a full copy; set incremental in [apps.{app.name}.backup]"
        )
    if not (has_rules(retention_for(app, profile)) or database_retentions(app)):
        raise UsageError(detail=f"{key}: no rule deletes backups; set keep in [apps.{app.name}.backup]")
    return schedule.format(minute)
