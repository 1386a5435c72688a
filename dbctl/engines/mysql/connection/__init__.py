"""The connection to a server: sessions, statements, transactions, and locks."""
