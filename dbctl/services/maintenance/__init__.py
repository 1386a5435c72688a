"""Maintenance tasks of databases, and cancellation of sessions."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.maintenance.cancel import CancelSessions
    from dbctl.services.maintenance.tasks import MaintenanceResult, RunMaintenance, TaskKind
