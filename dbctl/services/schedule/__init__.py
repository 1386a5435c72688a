"""Scheduled jobs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.schedule.crontab import Job
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "crontab": "Job",
        },
    )
