"""Sessions of users, and cleanup of expired rows."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.sessions.cleanup import GRACE, CleanupWork
    from dbctl.services.sessions.rebuild_statistics import Rebuilding, StatisticsRebuilt, figures_of
    from dbctl.services.sessions.sessions import State
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cleanup": "CleanupWork GRACE",
            "rebuild_statistics": "Rebuilding StatisticsRebuilt figures_of",
            "sessions": "State",
        },
    )
