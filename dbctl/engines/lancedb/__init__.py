"""LanceDB: tables with vectors, each a folder of its own in a folder on this machine or in storage with the S3 protocol."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.create import make_table
    from dbctl.engines.lancedb.reader import LanceReader
    from dbctl.engines.lancedb.writer import LanceWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "create": "make_table",
            "reader": "LanceReader",
            "writer": "LanceWriter",
        },
    )
