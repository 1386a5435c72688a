"""Sections about reports, and about files stored in rows."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.codecs import Encoding
from dbctl.profiles.model.base import ColumnNames, Constant, DatabaseReference, Section, TableName


class StoredFile(Section, frozen=True, kw_only=True):
    """A column with the content of a file in each row."""

    database: DatabaseReference = ""
    table: TableName  #: the table with the files
    column: ColumnNames  #: the column with the content
    encoding: Encoding = "plain"  #: how the column stores the content
    name: ColumnNames | None = None  #: the column with the file name
    type: ColumnNames | None = None  #: the column with the media type
    size: ColumnNames | None = None  #: the column with the size in bytes


class RelativeTime(Section, frozen=True, kw_only=True):
    """A time parameter whose default is the current time minus a duration."""

    ago: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]  #: the duration: ``30d``


class ReportVariant(Section, frozen=True, kw_only=True):
    """The query for one variant of the schema; the first variant whose tables and columns exist is used."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str  #: portable SQL with the parameters of the report (``:name``), and ``:limit`` and ``:offset``


class Report(Section, frozen=True, kw_only=True):
    """A query with a name."""

    name: str  #: the name for ``stats run``
    title: str  #: one line for a list of reports
    database: DatabaseReference = ""
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: names of the result columns
    times: Sequence[str] = ()  #: the columns with times, in any stored format
    parameters: Mapping[str, Constant | RelativeTime] = {}  #: parameters and their defaults
    optional: bool = False  #: whether deployments may lack its tables
    #: whether ``status --record`` records the numbers in its first row, for ``stats history`` and ``report``
    sampled: bool = False
    #: the query in each variant of the schema
    variant: Annotated[Sequence[ReportVariant], msgspec.Meta(min_length=1)]
