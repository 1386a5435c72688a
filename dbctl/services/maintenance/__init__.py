"""Maintenance tasks of databases, and cancellation of sessions."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.maintenance.cancel import CancelSessions
    from dbctl.services.maintenance.tasks import MaintenanceResult, RunMaintenance, TaskKind
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cancel": "CancelSessions",
            "tasks": "MaintenanceResult RunMaintenance TaskKind",
        },
    )
