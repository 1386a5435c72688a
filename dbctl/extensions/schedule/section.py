"""The section of the schedule in ``dbctl.toml``."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from typing import Literal

import msgspec

from dbctl.config.model import App
from dbctl.config.resolver import ConfigSection


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


def read_section(app: App) -> Schedule:
    return app.extension_section("schedule", Schedule) or Schedule()
