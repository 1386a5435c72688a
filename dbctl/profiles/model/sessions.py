"""Sections about sessions of users: rows that are open until they end, or that exist while a user is signed in."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.model.base import ColumnName, ColumnNames, ExpectedValue, Section, TableName
from dbctl.profiles.model.cleanup import Span
from dbctl.profiles.model.users import Payload


class SessionsVariant(Section, frozen=True, kw_only=True):
    """The conditions of open rows in one variant of the schema; the first variant whose columns exist is used."""

    #: values of an open session, by column
    open: Annotated[Mapping[str, ExpectedValue], msgspec.Meta(min_length=1)]


class Sessions(Section, frozen=True, kw_only=True):
    """One kind of sessions: plays, visits, connections, sign-ins."""

    name: str = "sessions"  #: the name for ``--kind``
    table: TableName  #: the table, in the users' database; optional with a trailing ``?``
    key: ColumnName = "id"  #: the primary key
    user: ColumnName = (
        ""  #: the column with the user; without it and without ``payload``, the users are unknown
    )
    payload: Payload | None = None  #: a column whose data contains the user
    started_at: ColumnNames | None = None  #: the column with the time of the start
    seen_at: ColumnNames | None = None  #: the last activity; by default ``started_at`` is used
    #: the time of the end; NULL in an open session, unless ``open`` has another condition. Without ``ended_at``, ``open`` and
    #: variants, each row is an open session until it expires
    ended_at: ColumnNames | None = None
    expires_at: ColumnNames | None = None  #: the session ends at this time at the latest
    #: without ``expires_at``: how long after ``seen_at`` or ``started_at`` a session ends
    lifetime: Span | Literal[""] = ""
    duration: ColumnNames | None = None  #: seconds
    open: Mapping[ColumnName, ExpectedValue] = {}  #: values of an open session
    variant: Sequence[SessionsVariant] = ()  #: instead of ``open``
    only: Mapping[ColumnName, ExpectedValue] = {}  #: values of the rows that are sessions
    fields: Mapping[str, ColumnNames] = {}  #: further columns, by the names under which they are shown
    abandoned: str = ""  #: the rule of ``cleanup`` that closes abandoned sessions


def validate_sessions(section: Sessions) -> str:
    """Return the error in a section; empty if it is valid."""
    if section.user and section.payload:
        return "user and payload exclude each other"
    if section.lifetime and (section.expires_at or not (section.seen_at or section.started_at)):
        return "lifetime requires seen_at or started_at, and no expires_at"
    if section.abandoned and not (section.seen_at or section.started_at):
        return "abandoned requires seen_at or started_at"
    return ""
