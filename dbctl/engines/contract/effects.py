"""The effect of one SQL statement on stored rows."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.model import Struct


class StatementEffect(Struct, frozen=True, kw_only=True):
    """The tables and rows that one statement may delete."""

    may_delete_rows: bool  #: it may delete rows
    is_destructive: bool = False  #: it deletes rows, or drops a table, a column or another object with data
    dropped_tables: Sequence[str] = ()  #: the tables that it drops, without schema
    emptied_tables: Sequence[str] = ()  #: the tables from which it deletes rows
    session_only: bool = False  #: it only changes a setting of the session
