"""Scheduled jobs."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.schedule.crontab import Job
