"""Migrations: status, up, down, baseline, lint, rehearse, drift, repair."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.migrations.baseline import Baseline, BaselineResult
    from dbctl.services.migrations.database_plan import MigrationsRun, apply_all
    from dbctl.services.migrations.drift import SchemaReplay, read_schema
    from dbctl.services.migrations.execution import DownSelection, UpSelection
    from dbctl.services.migrations.ledger import StatementOutcome
    from dbctl.services.migrations.lint_rules import LINT_RULES
    from dbctl.services.migrations.operations import (
        NOTHING_PENDING,
        MigrateDown,
        MigrateUp,
        PendingMigration,
        ResetDatabase,
    )
    from dbctl.services.migrations.rehearse import Rehearsal
    from dbctl.services.migrations.repair import RepairResult
    from dbctl.services.migrations.safety_backup import SafetyBackup
    from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
    from dbctl.services.migrations.status import create_shipped_target, find_targets
