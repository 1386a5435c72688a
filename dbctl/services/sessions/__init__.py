"""Sessions of users, and cleanup of expired rows."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.sessions.cleanup import GRACE_PERIOD, CleanUp, CleanupResult, DueRules
    from dbctl.services.sessions.rebuild_statistics import RebuildResult, RebuildStatistics, create_recount
    from dbctl.services.sessions.sessions import State
