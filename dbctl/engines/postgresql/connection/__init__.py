"""The connection to a server: sessions, statements, transactions, and locks."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
    from dbctl.engines.postgresql.connection.locks import DbctlLock, lock_key
    from dbctl.engines.postgresql.connection.probe import probe_program
    from dbctl.engines.postgresql.connection.session import (
        MAX_NAME_BYTES,
        Session,
        application_name,
        connect_seconds,
        open_session,
        own_backends,
    )
    from dbctl.engines.postgresql.connection.transactions import PostgreSQLTransactions
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "connection": "PostgreSQLConnection",
            "locks": "DbctlLock lock_key",
            "probe": "probe_program",
            "session": "MAX_NAME_BYTES Session application_name connect_seconds open_session own_backends",
            "transactions": "PostgreSQLTransactions",
        },
    )
