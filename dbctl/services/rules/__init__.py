"""Rules that every writer of rows obeys."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.rules.columns import known_states
    from dbctl.services.rules.rows import RowRules, guard, same_stored
    from dbctl.services.rules.single_true import Others
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "columns": "known_states",
            "rows": "RowRules guard same_stored",
            "single_true": "Others",
        },
    )
