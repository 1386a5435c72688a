"""The connection to a server: sessions, statements, transactions, and locks."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.connection.connection import ROW_LOCK, PostgreSQLConnection
    from dbctl.engines.postgresql.connection.probe import probe_program
    from dbctl.engines.postgresql.connection.session import (
        MAX_NAME_BYTES,
        TEXT_SETTINGS,
        Session,
        application_name,
        connect_seconds,
        open_session,
        own_backends,
    )
    from dbctl.engines.postgresql.connection.transactions import DbctlLock, PostgreSQLTransactions, lock_key
