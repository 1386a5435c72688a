"""LanceDB: tables with vectors; each table is a folder, in a local folder or in a bucket with the S3 protocol."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.lancedb.engine import ENGINE
    from dbctl.engines.lancedb.reader import LanceReader
    from dbctl.engines.lancedb.schema import create_table
    from dbctl.engines.lancedb.writer import LanceWriter
