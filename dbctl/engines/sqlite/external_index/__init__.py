"""External index: a full-text index in a separate file, for databases that dbctl must not write."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.external_index.reader import SQLiteExternalReader
