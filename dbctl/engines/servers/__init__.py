"""Shared code of the server engines: sessions, transactions, locks, times, values, checks."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.servers.checks import ServerChecks
    from dbctl.engines.servers.connection import BASE_CAPABILITIES, ServerConnection, ServerReader
    from dbctl.engines.servers.values import (
        LARGEST,
        MILLISECOND,
        SMALLEST,
        Formatters,
        compare_time,
        format_integer,
        format_value,
        lower_ascii,
        roughly_before,
    )
    from dbctl.engines.servers.writer import TRANSACTION_ENDED, ServerWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": "ServerChecks",
            "connection": "BASE_CAPABILITIES ServerConnection ServerReader",
            "values": (
                "Formatters LARGEST MILLISECOND SMALLEST compare_time format_integer format_value lower_ascii "
                "roughly_before"
            ),
            "writer": "ServerWriter TRANSACTION_ENDED",
        },
    )
