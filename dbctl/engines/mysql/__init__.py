"""MySQL and MariaDB: one engine, which detects the product of the server, and uses standard SQL.

The package does not import the driver, so that scripts can be parsed without it; ``database`` does.
"""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.database import MySQLReader, MySQLWriter
    from dbctl.engines.mysql.engine import ENGINE
    from dbctl.engines.mysql.scratch import MySQLScratch
