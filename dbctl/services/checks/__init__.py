"""Checks of apps: of their deployment, of their stored data, and of the profile against both."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.checks.base import CheckReport
    from dbctl.services.checks.damage import group_lines
    from dbctl.services.checks.deployment import check_replica, find_interrupted_restore, find_leftover_files
    from dbctl.services.checks.duplicated_columns import Comparison, DuplicatedColumns
    from dbctl.services.checks.profile import Problem, find_file_problems, refuse_inconsistent_profile
    from dbctl.services.checks.run import DatabasesChecked, check, check_live, cross_check, examine
    from dbctl.services.checks.stored_rows import FORMS, list_mixed_columns
