"""Shared code of the server engines: sessions, transactions, locks, times, values, checks."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.servers.checks import ServerChecks
    from dbctl.engines.servers.connection import ServerConnection
    from dbctl.engines.servers.engine import ServerEngine
    from dbctl.engines.servers.scripts import ServerScripts
    from dbctl.engines.servers.transactions import TRANSACTION_ENDED, ServerTransactions, wait_for_lock
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
    from dbctl.engines.servers.writer import ServerReader, ServerWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": "ServerChecks",
            "connection": "ServerConnection",
            "engine": "ServerEngine",
            "scripts": "ServerScripts",
            "transactions": "ServerTransactions TRANSACTION_ENDED wait_for_lock",
            "values": (
                "Formatters LARGEST MILLISECOND SMALLEST compare_time format_integer format_value lower_ascii "
                "roughly_before"
            ),
            "writer": "ServerReader ServerWriter",
        },
    )
