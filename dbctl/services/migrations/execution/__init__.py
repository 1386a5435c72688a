"""Which migrations run and how, their execution in an open database, and the rows that they delete."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.migrations.execution.executor import (
        CompletedMigration,
        MigrationSession,
        create_missing_ledger,
        open_session,
        require_script_runner,
    )
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
        RowLoss,
        count_rows,
        describe_losses,
        find_losses,
        find_rows_at_risk,
    )
    from dbctl.services.migrations.execution.run import replay, run_plans
