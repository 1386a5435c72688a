"""Dumps of PostgreSQL that dbctl did not create, loaded by a role with limited rights."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.backup.foreign.filter import make_statement_filter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "filter": "make_statement_filter",
        },
    )
