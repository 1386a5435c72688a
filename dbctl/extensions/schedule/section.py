"""The section of the schedule in ``dbctl.toml``."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from typing import Literal

import msgspec

from dbctl.config.model import App
from dbctl.config.resolver import ConfigSection, Resolver

#: The value of a schedule that disables the job.
OFF = "off"
#: Of the section.
NAME = "schedule"


class Schedule(ConfigSection, frozen=True, kw_only=True):
    """``[apps.NAME.schedule]``: cron expressions of jobs; ``off`` disables a job, empty means its default time."""

    search: str = ""  #: ``search index build``
    backup: str = ""  #: ``backup create``
    #: ``15m``: the interval of ``backup create`` instead of its time, for incremental backups of SQLite files
    every: str = ""
    prune: str = ""  #: ``backup prune``
    verify: str = ""  #: ``backup verify``
    drill: str = ""  #: ``backup drill``
    optimize: str = ""  #: ``maintain optimize``
    vacuum: str = ""  #: ``maintain vacuum``; off by default, because it locks the tables that it rewrites
    cleanup: str = ""  #: ``sessions cleanup``
    #: whether the job ``cleanup`` may also delete or change the rows that reference expired ones by foreign keys
    cleanup_dependents: bool = False
    status: str = ""  #: ``status``
    notify: str = ""  #: ``notify check``, for apps with a channel for messages
    #: ``notify summary``, which includes all apps; a job of the first app whose channels have the rule ``summary``
    summary: str = ""
    #: further jobs ``backup``, ``verify``, ``optimize`` or ``vacuum`` of single databases
    databases: dict[str, dict[Literal["backup", "verify", "optimize", "vacuum"], str]] = msgspec.field(
        default_factory=dict
    )

    def resolve(self, resolver: Resolver) -> "Schedule":
        names = [
            name
            for name in self.__struct_fields__
            if name not in ("every", "cleanup_dependents", "databases")
        ]
        schedules: dict[tuple[str, ...], str] = {
            (name,): text for name in names if (text := getattr(self, name))
        }
        for database, jobs in self.databases.items():
            schedules |= {("databases", database, name): text for name, text in jobs.items()}
        if schedules or self.every:
            # most configurations have no times, and each command reads them
            from dbctl.extensions.schedule.times import find_interval, find_schedule_error

            for key, text in schedules.items():
                if text != OFF and (reason := find_schedule_error(text)):
                    resolver.report(f"{text!r}: {reason}", NAME, *key)
            if self.every and not find_interval(self.every):
                reason = "it must be shorter than a day, and an hour or a day must be a multiple of it, as of 5m, 15m, 1h and 6h"
                resolver.report(f"{self.every!r}: {reason}", NAME, "every")
            elif self.every and self.backup:
                resolver.report("backup is also set; set one of the two to an empty text", NAME, "every")
        return self


def read_section(app: App) -> Schedule:
    return app.extension_section(NAME, Schedule) or Schedule()
