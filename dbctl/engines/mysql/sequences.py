"""Sequences of MariaDB from which defaults of columns take numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.errors import quote
from dbctl.engines.parsing.statements import unquote_name
from dbctl.model import Struct

#: Columns of integers whose default reads a sequence.
_DEFAULTS = """select table_name, column_name, column_default from information_schema.columns
where table_schema = database() and :table in ('', table_name) and column_default like '%nextval(%'
  and data_type like '%int' order by 1, 2"""
_NEXTVAL = re.compile(r'nextval\(("(?:[^"]|"")*")\.("(?:[^"]|"")*")\)')


class NumberedColumn(Struct, frozen=True):
    """A column, its sequence, and the value that is furthest in the direction of the sequence."""

    table: str
    column: str
    sequence: str  #: its name
    place: str  #: its name in SQL
    following: int  #: the next value that the server does not hold in memory
    furthest: int | None  #: None: no value
    is_descending: bool
    cycles: bool

    @property
    def is_behind(self) -> bool:
        """Whether a row has the next value, or one after it."""
        if self.furthest is None or self.cycles:
            return False
        return self.furthest <= self.following if self.is_descending else self.furthest >= self.following


def read_numbered_columns(connection: MySQLConnection, table: str) -> Iterator[NumberedColumn]:
    """Yield the columns of a table, empty: of all, that sequences of MariaDB number.

    Raises:
        PrivilegeMissingError, QueryFailedError: a sequence cannot be read.
    """
    if not connection.server.is_mariadb:
        return
    for owner, column, default in connection.fetch(_DEFAULTS, {"table": table}):
        if not (match := _NEXTVAL.fullmatch(str(default))):
            continue
        place = ".".join(quote(unquote_name(name)) for name in match.groups())
        ((following, step, cycles),) = connection.fetch(
            f"select next_not_cached_value, increment, cycle_option from {place}"
        )
        is_descending = int(str(step)) < 0
        aggregate = f"{'min' if is_descending else 'max'}({quote(str(column))})"
        ((furthest,),) = connection.fetch(f"select {aggregate} from {quote(str(owner))}")
        yield NumberedColumn(
            str(owner),
            str(column),
            unquote_name(match[2]),
            place,
            int(str(following)),
            None if furthest is None else int(str(furthest)),
            is_descending,
            bool(cycles),
        )
