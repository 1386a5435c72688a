"""Shared code of the server engines: sessions, transactions, locks, times, values, checks."""
