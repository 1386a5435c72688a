"""The names of metrics, which dashboards and alert rules use: a name, its labels and its unit never change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PREFIX = "dbctl_"
_APP, _DATABASE, _COMMAND = ("app",), ("app", "database"), ("app", "command")


class Family(NamedTuple):
    """The metric of one name. All metrics are gauges; a value that is unknown or does not apply is absent."""

    name: str  #: without ``PREFIX``
    help: str
    labels: Sequence[str] = ()


FAMILIES = (
    Family("build_info", "1; the label is the version of dbctl.", ("version",)),
    Family("collected_timestamp_seconds", "Time at which the metrics were collected."),
    Family("collection_duration_seconds", "Duration of the collection."),
    Family("collection_errors", "Parts of an app that could not be read: app, users, journal.", _APP),
    Family("up", "1 if the app and all its configured databases can be read, otherwise 0.", _APP),
    Family("database_up", "1 if the database can be read, otherwise 0.", _DATABASE),
    Family("database_size_bytes", "Size of the database.", _DATABASE),
    Family("database_wal_bytes", "Size of the write-ahead log of a SQLite file.", _DATABASE),
    Family("database_free_bytes", "Free space of the file system of a database file.", _DATABASE),
    Family("database_growth_bytes_per_day", "Growth of the database in the last 30 days, from its samples.", _DATABASE),
    Family("database_disk_full_seconds", "Predicted time until the disk of the database is full.", _DATABASE),
    Family("migrations_pending", "Migrations that are not applied.", _DATABASE),
    Family(
        "cleanup_overdue_rules", "Cleanup rules whose rows have been due for more than a day.", _DATABASE
    ),
    Family("users", "Users of the app.", _APP),
    Family("findings", "Problems that status reports.", ("app", "severity")),
    Family("backups", "Complete backups that have the database.", _DATABASE),
    Family("backup_last_success_timestamp_seconds", "Time of the newest complete backup.", _DATABASE),
    Family("backup_age_seconds", "Age of the newest complete backup at the collection.", _DATABASE),
    Family("backup_max_age_seconds", "Configured maximum age of the newest backup (max_age).", _APP),
    Family("backup_database_max_age_seconds", "Maximum age of the newest backup of the database.", _DATABASE),
    Family("backup_size_bytes", "Size of the database in the newest backup.", _DATABASE),
    Family("backup_duration_seconds", "Duration of the last successful run of backup create.", _APP),
    Family(
        "backup_last_verification_timestamp_seconds",
        "Time of the last complete verification of the newest backup.",
        _DATABASE,
    ),
    Family("backup_last_drill_timestamp_seconds", "Time of the last test restore.", _DATABASE),
    Family("backup_drill_duration_seconds", "Duration of the last test restore.", _DATABASE),
    Family("backup_due", "1 if the action (create, verify, drill) is overdue, otherwise 0.", (*_DATABASE, "action")),
    Family("backup_repository_size_bytes", "Size of all backups in the repository.", _APP),
    Family("backup_repository_free_bytes", "Free space of the repository.", _APP),
    Family("backup_invalid", "Backups that are damaged, or whose manifest cannot be read.", _APP),
    Family("run_last_start_timestamp_seconds", "Start of the last run.", _COMMAND),
    Family("run_last_duration_seconds", "Duration of the last run.", _COMMAND),
    Family("run_last_exit_code", "Exit code of the last run; absent while it runs or if it was killed.", _COMMAND),
    Family("run_last_success", "1 if the last run did its work, otherwise 0; absent while it runs.", _COMMAND),
    Family("run_last_success_timestamp_seconds", "End of the last successful run.", _COMMAND),
    Family("run_failures", "Failed runs in a row, up to the last run.", _COMMAND),
)  # fmt: skip
