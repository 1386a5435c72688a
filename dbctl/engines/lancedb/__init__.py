"""LanceDB: tables with vectors; each table is a folder, in a local folder or in a bucket with the S3 protocol."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.engine import ENGINE
    from dbctl.engines.lancedb.reader import LanceReader
    from dbctl.engines.lancedb.schema import create_table
    from dbctl.engines.lancedb.writer import LanceWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "engine": "ENGINE",
            "reader": "LanceReader",
            "schema": "create_table",
            "writer": "LanceWriter",
        },
    )
