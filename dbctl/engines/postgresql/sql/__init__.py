"""SQL of PostgreSQL: lexer, scripts, lint, read-only queries."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.sql.lexer import tokenize
    from dbctl.engines.postgresql.sql.query_check import ReadOnlyQueries
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "lexer": "tokenize",
            "query_check": "ReadOnlyQueries",
        },
    )
