"""What engines of servers have in common: sessions, their transactions and locks, times, values, checks."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.servers.checks import ServedChecks
    from dbctl.engines.servers.connection import TOLD, ServedConnection, ServedReader
    from dbctl.engines.servers.values import (
        LARGEST,
        MILLISECOND,
        SMALLEST,
        Writers,
        compared,
        lower,
        nearly_before,
        whole,
        written,
    )
    from dbctl.engines.servers.writer import ENDED, ServedWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": "ServedChecks",
            "connection": "ServedConnection ServedReader TOLD",
            "values": "LARGEST MILLISECOND SMALLEST Writers compared lower nearly_before whole written",
            "writer": "ENDED ServedWriter",
        },
    )
