"""SQL of PostgreSQL: lexer, scripts, lint, read-only queries."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.sql.lexer import LEXER
    from dbctl.engines.postgresql.sql.query_check import ReadOnlyQueries
