"""The record of applied migrations, the journal of steps, and the state of each migration."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
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
