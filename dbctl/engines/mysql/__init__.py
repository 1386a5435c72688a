"""MySQL and MariaDB: one engine, which asks the server once what it is, and speaks standard SQL with it.

Nothing here imports the driver, so that a script can be taken apart without it; ``reader`` and ``writer`` do.
"""
