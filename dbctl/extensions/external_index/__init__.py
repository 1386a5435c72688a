"""External indexes: search indexes in separate files, for databases that dbctl only reads."""
