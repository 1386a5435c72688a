"""Dumps of PostgreSQL that dbctl did not create, loaded by a role of limited rights."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.backup.foreign.filter import as_scratch_role
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "filter": "as_scratch_role",
        },
    )
