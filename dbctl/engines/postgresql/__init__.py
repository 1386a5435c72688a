"""PostgreSQL: what is meant for reading runs in read-only transactions, and whoever waits is told whom for.

Nothing here imports the driver, so that a script can be taken apart without it; ``reader`` and ``writer`` do.
"""
