"""Deletion of rows with the rows that depend on them, also in other databases of the app."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.deletion.cascade import (
        AffectedRows,
        add_dependent_rows,
        count_affected_rows,
        deletion_conditions,
        find_affected_rows,
        find_cascading_tables,
        find_dependent_tables,
        plan_rows,
        select_deleted,
    )
    from dbctl.services.deletion.cross_database import (
        BATCH,
        CrossDatabaseDeletion,
        find_configured_links,
        find_written_databases,
        list_unchanged_databases,
        read_link_values,
    )
    from dbctl.services.deletion.invariants import GuardedInvariants, create_query, select_variant
