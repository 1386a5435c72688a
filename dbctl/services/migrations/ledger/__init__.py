"""The record of applied migrations, the journal of steps, and the state of each migration."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.ledger.journal import (
        Direction,
        Journal,
        PartialMigration,
        StatementOutcome,
    )
    from dbctl.services.migrations.ledger.ledger import Ledger, MigrationTarget, Record, read_records
    from dbctl.services.migrations.ledger.state import (
        INCONSISTENT_STATES,
        DatabaseState,
        Migration,
        SchemaState,
        State,
        classify,
        create_empty_state,
        read_state,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "journal": "Direction Journal PartialMigration StatementOutcome",
            "ledger": "Ledger MigrationTarget Record read_records",
            "state": "DatabaseState INCONSISTENT_STATES Migration SchemaState State classify create_empty_state read_state",
        },
    )
