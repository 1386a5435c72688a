"""Backups that dbctl did not create: detection, verification, adoption."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.backup.foreign.adopt import Adoption, BackupsAdopted
    from dbctl.services.backup.foreign.detect import SMALL, TIMES, WRITTEN, live_tables_beyond, looked_at
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "adopt": "Adoption BackupsAdopted",
            "detect": "SMALL TIMES WRITTEN live_tables_beyond looked_at",
        },
    )
