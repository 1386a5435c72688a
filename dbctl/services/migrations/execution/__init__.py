"""Which migrations run and how, their execution in an open database, and the rows that they delete."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.execution.plan import (
        DownSelection,
        ExecutionPlan,
        UpSelection,
        plan_down,
        plan_up,
        refuse_foreign,
        refuse_mismatch,
        resolve_name,
    )
    from dbctl.services.migrations.execution.row_loss import (
        count_rows,
        describe_losses,
        find_losses,
        find_rows_at_risk,
    )
    from dbctl.services.migrations.execution.run import CompletedMigration, replay, run_plans
    from dbctl.services.migrations.execution.session import (
        MigrationSession,
        create_missing_ledger,
        open_session,
        require_script_runner,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "plan": (
                "DownSelection ExecutionPlan UpSelection plan_down plan_up refuse_foreign refuse_mismatch "
                "resolve_name"
            ),
            "row_loss": "count_rows describe_losses find_losses find_rows_at_risk",
            "run": "CompletedMigration replay run_plans",
            "session": "MigrationSession create_missing_ledger open_session require_script_runner",
        },
    )
