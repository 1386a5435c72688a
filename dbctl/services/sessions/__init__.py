"""Sessions of users, and cleanup of expired rows."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.sessions.cleanup import GRACE_PERIOD, CleanUp
    from dbctl.services.sessions.rebuild_statistics import RebuildResult, RebuildStatistics, create_recount
    from dbctl.services.sessions.sessions import State
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cleanup": "CleanUp GRACE_PERIOD",
            "rebuild_statistics": "RebuildResult RebuildStatistics create_recount",
            "sessions": "State",
        },
    )
