"""Sections about sessions of users: rows that are open until they end."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.model.base import ColumnName, ColumnNames, ExpectedValue, Section, TableName


class SessionsVariant(Section, frozen=True, kw_only=True):
    """The conditions of open rows in one variant of the schema; the first variant whose columns exist is used."""

    #: values of an open session, by column
    open: Annotated[Mapping[str, ExpectedValue], msgspec.Meta(min_length=1)]


class Sessions(Section, frozen=True, kw_only=True):
    """One kind of sessions: plays, visits, connections, sign-ins."""

    name: str = "sessions"  #: the name for ``--kind``
    table: TableName  #: the table, in the users' database; optional with a trailing ``?``
    key: ColumnName = "id"  #: the primary key
    user: ColumnName  #: the column with the user
    started_at: ColumnName  #: the column with the time of the start
    seen_at: ColumnNames | None = None  #: the last activity; by default ``started_at`` is used
    ended_at: ColumnNames | None = None  #: NULL in an open session, unless ``open`` has another condition
    expires_at: ColumnNames | None = None  #: the session ends at this time at the latest
    duration: ColumnNames | None = None  #: seconds
    open: Mapping[ColumnName, ExpectedValue] = {}  #: values of an open session
    variant: Sequence[SessionsVariant] = ()  #: instead of ``open``
    only: Mapping[ColumnName, ExpectedValue] = {}  #: values of the rows that are sessions
    fields: Mapping[str, ColumnNames] = {}  #: further columns, by the names under which they are shown
    abandoned: str = ""  #: the rule of ``cleanup`` that closes abandoned sessions


def validate_sessions(section: Sessions) -> str:
    """Return the error in a section; empty if it is valid."""
    if not (section.ended_at or section.open or section.variant):
        return "one of ended_at, open or variant is required"
    return ""
