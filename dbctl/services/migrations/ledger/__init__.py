"""The record of applied migrations, the journal of steps, and the state of each migration."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.ledger.journal import Journal, Unfinished, Way
    from dbctl.services.migrations.ledger.ledger import Ledger, Record, Track, recorded_in
    from dbctl.services.migrations.ledger.state import (
        UNSOUND,
        Migration,
        Schema,
        Standing,
        State,
        judged,
        standing,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "journal": "Journal Unfinished Way",
            "ledger": "Ledger Record Track recorded_in",
            "state": "Migration Schema Standing State UNSOUND judged standing",
        },
    )
