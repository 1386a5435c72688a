"""The writer that captures each change of a database, and records it in the event store."""
