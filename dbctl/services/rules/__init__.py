"""Rules for rows, checked by every command that writes rows."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.rules.columns import known_states
    from dbctl.services.rules.rows import RowRules, guard_constraints, is_equal_stored
    from dbctl.services.rules.single_true import SingleTrueUpdate
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "columns": "known_states",
            "rows": "RowRules guard_constraints is_equal_stored",
            "single_true": "SingleTrueUpdate",
        },
    )
