"""SQL of PostgreSQL: lexer, scripts, lint, read-only queries."""
