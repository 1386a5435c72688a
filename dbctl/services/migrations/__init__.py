"""Migrations: status, up, down, baseline, lint, rehearse, drift, repair."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.baseline import Baseline, BaselineResult
    from dbctl.services.migrations.down import DownSelection, MigrateDown, RevertedMigration
    from dbctl.services.migrations.ledger import StatementOutcome
    from dbctl.services.migrations.lint_rules import LINT_RULES
    from dbctl.services.migrations.rehearse import Rehearsal
    from dbctl.services.migrations.repair import RepairResult
    from dbctl.services.migrations.reset import ResetDatabase
    from dbctl.services.migrations.safety_backup import SafetyBackup
    from dbctl.services.migrations.status import create_shipped_target
    from dbctl.services.migrations.up import (
        NOTHING_PENDING,
        AppliedMigration,
        MigrateUp,
        PendingMigration,
        apply_all,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "baseline": "Baseline BaselineResult",
            "down": "DownSelection MigrateDown RevertedMigration",
            "ledger": "StatementOutcome",
            "lint_rules": "LINT_RULES",
            "rehearse": "Rehearsal",
            "repair": "RepairResult",
            "reset": "ResetDatabase",
            "safety_backup": "SafetyBackup",
            "status": "create_shipped_target",
            "up": "AppliedMigration MigrateUp NOTHING_PENDING PendingMigration apply_all",
        },
    )
