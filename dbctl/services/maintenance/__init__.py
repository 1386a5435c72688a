"""Maintenance tasks of databases, and cancellation of sessions."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.maintenance.cancel import Cancelling
    from dbctl.services.maintenance.tasks import Kind, Maintained, Maintenance
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cancel": "Cancelling",
            "tasks": "Kind Maintained Maintenance",
        },
    )
