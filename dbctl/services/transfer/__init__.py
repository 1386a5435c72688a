"""Transfers of databases between engines: plan, run, verify, switch."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.transfer.compare import Advance, Differences, TableComparison, ignore_rows
    from dbctl.services.transfer.endpoints import Endpoints
    from dbctl.services.transfer.parts import require_rows, require_schemas
    from dbctl.services.transfer.plan import TransferPlan, plan_transfer
    from dbctl.services.transfer.run import RunTransfer, TransferResult
    from dbctl.services.transfer.schema import SchemaOptions
    from dbctl.services.transfer.switch import SwitchResult, SwitchTransfer, UnlockResult, UnlockSource
    from dbctl.services.transfer.tables import TransferTable, pair_columns
    from dbctl.services.transfer.verify import TransferVerification, verify_transfer
