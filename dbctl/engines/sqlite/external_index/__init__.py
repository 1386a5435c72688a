"""External index: a full-text index in a separate file, for databases that dbctl must not write."""
