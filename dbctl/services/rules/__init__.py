"""Rules for rows, checked by every command that writes rows."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.rules.columns import known_states
    from dbctl.services.rules.rows import RowRules, find_unlisted, guard_constraints, is_equal_stored
    from dbctl.services.rules.single_true import SingleTrueUpdate
