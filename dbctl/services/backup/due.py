"""Which ``backup`` commands are due, by the limits of the configuration, and whether it has rules of retention."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from dbctl.config import model as config
from dbctl.config.model import BackupConfig, Retention
from dbctl.errors.base import Remedy
from dbctl.model import MAX_SKEW, format_count
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.app import App
from dbctl.services.backup.log_range import LogRange
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import RepositoryContent
from dbctl.services.backup.verification_record import Drill
from dbctl.units import parse_duration

#: A ``backup`` command that is due.
Job: TypeAlias = Literal["create", "verify", "drill", "log"]
#: The finding code of each due job.
DUE_CODES: Mapping[Job, str] = {
    "create": "backup-due",
    "verify": "verification-due",
    "drill": "drill-due",
    "log": "log-due",
}
#: What to do about a job that is due.
DUE_HINTS: Mapping[Job, Remedy] = {
    "create": Remedy("`backup create`"),
    "verify": Remedy("`backup verify`"),
    "drill": Remedy("`backup drill`"),
    "log": Remedy(
        "Store it with: `backup log --db {database}`; then, if there is no copy, make one of a PostgreSQL server with: `backup create --physical --db {database}`; or of a MariaDB database with: `backup create --db {database}`"
    ),
}
NO_DRILL = "no drill was recorded yet"


def has_rules(retention: Retention) -> bool:
    return retention != Retention()


def retention_for(app: config.App, profile: Profile) -> Retention:
    """Return the rules of an app: from its configuration, otherwise from its profile."""
    configured = app.backup_settings.keep
    return configured if has_rules(configured) else profile.backup.keep


def database_retentions(app: config.App) -> Mapping[str, Retention]:
    """Return the rules of databases with their own rules, by database."""
    sections = app.backup_settings.databases.items()
    return {name: section.keep for name, section in sections if has_rules(section.keep)}


def write_prune_command(app: App) -> str:
    """Return the command that removes interrupted backups; without rules, it needs one, which deletes no other backup."""
    is_ruled = has_rules(retention_for(app.configured, app.profile)) or database_retentions(app.configured)
    remedy = Remedy("`backup prune`") if is_ruled else Remedy("`backup prune --keep-last 9999`")
    return remedy.write(app.name)


def find_max_age(backup_config: BackupConfig, database: str) -> str:
    """Return the configured maximum age of the newest backup of a database; empty: no limit."""
    section = backup_config.databases.get(database)
    return (section.max_age if section else "") or backup_config.max_age


def find_due_jobs(
    database: str,
    backup_config: BackupConfig,
    newest: Manifest,
    current_time: datetime,
    verified: Mapping[str, datetime],
    drill: Drill | None,
    loaded: Collection[str],
) -> Iterator[tuple[Job, str]]:
    """Yield the overdue jobs; only jobs with a configured interval become due. The verification of ``loaded`` backups loads them."""
    if newest.created_at > current_time + MAX_SKEW:
        ahead = f"{newest.created_at:%Y-%m-%d %H:%M} UTC"
        yield "create", f"the newest backup is from the future ({ahead}): a clock is or was wrong"
    max_age = find_max_age(backup_config, database)
    if max_age and current_time - newest.created_at > parse_duration(max_age):
        yield "create", f"the newest backup is older than {max_age}"
    if backup_config.verify_within:
        overdue = [
            backup_id
            for backup_id, timestamp in verified.items()
            if not _is_within(backup_config.verify_within, timestamp, current_time)
        ]
        if overdue:
            count = format_count(len(overdue), "backup")
            description = f"{count} not verified within {backup_config.verify_within}"
            option = ", with --deep" if any(backup_id in loaded for backup_id in overdue) else ""
            yield "verify", f"{description}{option}, the oldest {min(overdue)}"
    if backup_config.drill_within:
        if drill is None:
            yield "drill", NO_DRILL
        elif not _is_within(backup_config.drill_within, drill.at, current_time):
            yield "drill", f"no drill within {backup_config.drill_within}"


def _is_within(span: str, timestamp: datetime, current_time: datetime) -> bool:
    """Whether a time is within the span before now; a time in the future is not."""
    return -MAX_SKEW <= current_time - timestamp <= parse_duration(span)


def find_overdue_log(
    database: str,
    backup_config: BackupConfig,
    content: RepositoryContent,
    moments: LogRange | None,
    current_time: datetime,
) -> str:
    """Return why the stored log of a database is overdue; empty: it is not, or it has no limit.

    A server that has written nothing since the last ``backup log`` is not overdue: ``fetched_at``.
    """
    section = backup_config.databases.get(database)
    if section is None or not section.max_log_age:
        return ""
    if moments is None:
        return "no copy that it follows is stored, so no moment can be recovered"
    parts = [
        manifest for manifest in content.valid if manifest.kind == "log" and database in manifest.databases
    ]
    usable = (content.verifications[part.id] for part in parts if part.id not in moments.unusable)
    newest = next(usable, None)
    until = max(filter(None, [moments.until, newest.fetched_at if newest else None]))
    if _is_within(section.max_log_age, until, current_time):
        return ""
    return f"the log was not stored within {section.max_log_age}: it ends at {moments.until:%Y-%m-%d %H:%M:%S} UTC"
