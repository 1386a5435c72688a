"""SQL of MySQL and MariaDB: lexer, scripts, lint, read-only queries."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.sql.lexer import tokens
    from dbctl.engines.mysql.sql.read_only import reaching, secret_named, why_no_question
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "lexer": "tokens",
            "read_only": "reaching secret_named why_no_question",
        },
    )
