"""Views that no user can read, and that a restore leaves out."""

from __future__ import annotations

import pymysql

from dbctl.engines.mysql.connection import Session
from dbctl.engines.mysql.errors import error_number
from dbctl.engines.mysql.types import format_literal
from dbctl.engines.sql import ident

VIEWS = "select table_name from information_schema.views where table_schema = {} order by 1"
USES_OF_VIEWS = """select view_name, table_name from information_schema.view_table_usage
where view_schema = {0} and table_schema = {0}"""
#: The tables that a view reads, or its definer, do not exist.
VIEW_BROKEN = (1356, 1449)


def list_unrestorable_views(session: Session) -> list[str]:
    """Return the views of this database that read a view whose definer does not exist.

    No user can read them, and MySQL does not create them again. MariaDB does.
    """
    if session.server.is_mariadb:
        return []
    unreadable = set[str]()
    for (name,) in session.run(VIEWS.format(format_literal(session.database))):
        view = str(name)
        try:
            session.run(f"select 1 from {ident(view)} limit 0")
        except pymysql.Error as error:
            if error_number(error) not in VIEW_BROKEN:
                raise
            unreadable.add(view)
    reads = session.run(USES_OF_VIEWS.format(format_literal(session.database))) if unreadable else []
    return sorted({str(view) for view, used in reads if {str(view), str(used)} <= unreadable})
