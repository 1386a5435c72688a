"""Scheduled jobs: crontab lines, units of systemd, manifests for containers, and their status."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.schedule.crontab import list_lines, require_user, write_crontab
    from dbctl.services.schedule.install import InstallUnits, UnitsInstalled
    from dbctl.services.schedule.jobs import Job, PlannedJob, list_jobs, require_confirmed_cleanup
    from dbctl.services.schedule.manifests import Manifest, write_compose, write_kubernetes
    from dbctl.services.schedule.status import JobStatus, read_schedule
    from dbctl.services.schedule.units import Unit, UnitOptions, create_units, read_mark
