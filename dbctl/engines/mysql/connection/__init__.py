"""The connection to a server: sessions, statements, transactions, and locks."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.connection.connection import MySQLConnection
    from dbctl.engines.mysql.connection.dbctl_lock import DbctlLock
    from dbctl.engines.mysql.connection.insert_rows import RowInserter
    from dbctl.engines.mysql.connection.opening import check_socket, open_session, own_sessions, probe_program
    from dbctl.engines.mysql.connection.server import Server, parse_server
    from dbctl.engines.mysql.connection.session import Session, server_address
    from dbctl.engines.mysql.connection.transactions import MySQLTransactions
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "connection": "MySQLConnection",
            "dbctl_lock": "DbctlLock",
            "insert_rows": "RowInserter",
            "opening": "check_socket open_session own_sessions probe_program",
            "server": "Server parse_server",
            "session": "Session server_address",
            "transactions": "MySQLTransactions",
        },
    )
