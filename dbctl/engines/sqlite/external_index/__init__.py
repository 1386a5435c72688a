"""External index: a full-text index in a separate file, for databases that dbctl must not write."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.external_index.reader import SQLiteExternalReader
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "reader": "SQLiteExternalReader",
        },
    )
