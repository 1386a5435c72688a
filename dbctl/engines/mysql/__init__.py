"""MySQL and MariaDB: one engine, which detects the product of the server, and uses standard SQL.

The package does not import the driver, so that scripts can be parsed without it; ``reader`` and ``writer`` do.
"""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.engine import ENGINE
    from dbctl.engines.mysql.reader import MySQLReader
    from dbctl.engines.mysql.scratch import MySQLScratch
    from dbctl.engines.mysql.writer import MySQLWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "engine": "ENGINE",
            "reader": "MySQLReader",
            "scratch": "MySQLScratch",
            "writer": "MySQLWriter",
        },
    )
