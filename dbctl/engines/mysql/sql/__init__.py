"""SQL of MySQL and MariaDB: lexer, scripts, lint, read-only queries."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.sql.lexer import tokenize
    from dbctl.engines.mysql.sql.read_only import find_external_call, find_rejection, find_secret
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "lexer": "tokenize",
            "read_only": "find_external_call find_rejection find_secret",
        },
    )
