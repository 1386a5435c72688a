"""SQL of MySQL and MariaDB: lexer, scripts, lint, read-only queries."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.sql.lexer import LEXER
    from dbctl.engines.mysql.sql.read_only import (
        STORED_FUNCTIONS,
        VIEWS,
        find_external_call,
        find_rejection,
        find_secret,
        find_stored_function,
    )
