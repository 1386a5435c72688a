"""The changes of databases: append-only, hash-chained records in the event store, and their verification."""
