"""Checks of apps: of their deployment, of their stored data, and of the profile against both."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.checks.cross_database import cross_check
    from dbctl.services.checks.damage import CheckReport, DatabasesChecked, check, group_lines
    from dbctl.services.checks.deployment import (
        check_replica,
        find_interrupted_restore,
        find_leftover_files,
    )
    from dbctl.services.checks.duplicated_columns import Comparison, DuplicatedColumns
    from dbctl.services.checks.live_profile import find_problems
    from dbctl.services.checks.profile import (
        Problem,
        find_file_problems,
        refuse_inconsistent_profile,
    )
    from dbctl.services.checks.run import Diagnosis, examine
    from dbctl.services.checks.stored_rows import FORMS, find_stored_violations, list_mixed_columns
