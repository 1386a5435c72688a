"""MySQL and MariaDB: one engine, which detects the product of the server, and uses standard SQL.

The package does not import the driver, so that scripts can be parsed without it; ``database`` does.
"""
