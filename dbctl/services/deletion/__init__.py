"""Deletion of rows with the rows that depend on them, also in other databases of the app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.deletion.cascade import (
        AffectedRows,
        deletion_conditions,
        find_affected_rows,
        find_cascading_tables,
    )
    from dbctl.services.deletion.cross_database import (
        CrossDatabaseDeletion,
        find_configured_links,
        find_written_databases,
        list_unchanged_databases,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cascade": "AffectedRows deletion_conditions find_affected_rows find_cascading_tables",
            "cross_database": "CrossDatabaseDeletion find_configured_links find_written_databases list_unchanged_databases",
        },
    )
