"""SQL of MySQL and MariaDB: lexer, scripts, lint, read-only queries."""
