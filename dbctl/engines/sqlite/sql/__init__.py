"""Parse SQL of SQLite: CREATE statements, normalization, scripts, lint."""
