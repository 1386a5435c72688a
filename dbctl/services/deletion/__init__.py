"""Deletion of rows with the rows that depend on them, also in other databases of the app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.deletion.cascade import Touched, doomed_rows, reach, reachable
    from dbctl.services.deletion.cross_database import Beside, left_alone, linked, written
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "cascade": "Touched doomed_rows reach reachable",
            "cross_database": "Beside left_alone linked written",
        },
    )
