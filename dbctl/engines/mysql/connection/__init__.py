"""The connection to a server: sessions, statements, transactions, and locks."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.connection.connection import MySQLConnection
    from dbctl.engines.mysql.connection.insert_rows import RowInserter
    from dbctl.engines.mysql.connection.opening import check_socket, open_session, own_sessions, probe_program
    from dbctl.engines.mysql.connection.server import Server, parse_server
    from dbctl.engines.mysql.connection.session import Session, server_address
    from dbctl.engines.mysql.connection.transactions import DbctlLock, MySQLTransactions
