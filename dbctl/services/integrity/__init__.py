"""Integrity checks of databases, and consistency between the databases of an app."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.integrity.check import (
        INDEX_CHECK,
        CheckReport,
        DatabasesChecked,
        check_text_indexes,
        create_failure_finding,
        create_finding,
        find_exit_status,
        group_lines,
    )
    from dbctl.services.integrity.leftovers import find_interrupted_restore, find_leftover_files
    from dbctl.services.integrity.repair import RepairResult
    from dbctl.services.integrity.replicas import check_replica
    from dbctl.services.integrity.stored_violations import find_stored_violations
