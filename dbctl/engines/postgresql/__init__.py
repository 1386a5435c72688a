"""PostgreSQL: reads run in read-only transactions, and a wait for a lock is reported with its holder.

The package does not import the driver, so that scripts can be parsed without it; ``database`` does.
"""
