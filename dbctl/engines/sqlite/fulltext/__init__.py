"""FTS5: search and maintenance of full-text indexes."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.fulltext.search import SQLiteFullText
    from dbctl.engines.sqlite.fulltext.writer import SQLiteTextIndexes
