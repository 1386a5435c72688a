"""FTS5: search and maintenance of full-text indexes."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.fulltext.search import SQLiteFullText
    from dbctl.engines.sqlite.fulltext.writer import SQLiteTextIndexes
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "search": "SQLiteFullText",
            "writer": "SQLiteTextIndexes",
        },
    )
