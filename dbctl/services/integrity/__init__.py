"""Integrity checks of databases, and consistency between the databases of an app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.integrity.check import (
        CheckReport,
        check_text_indexes,
        create_failure_finding,
        create_finding,
        find_exit_status,
        group_lines,
    )
    from dbctl.services.integrity.interrupted_restore import find_interrupted_restore
    from dbctl.services.integrity.repair import RepairResult
    from dbctl.services.integrity.stored_violations import find_stored_violations
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "check": "CheckReport check_text_indexes create_failure_finding create_finding find_exit_status group_lines",
            "interrupted_restore": "find_interrupted_restore",
            "repair": "RepairResult",
            "stored_violations": "find_stored_violations",
        },
    )
