"""What a profile can say about reports, and about files that rows hold."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.codecs import Encoding
from dbctl.profiles.model.base import Constant, Name, Section


class StoredFile(Section, frozen=True, kw_only=True):
    """A column that holds the content of a file in each row."""

    database: str = ""
    table: str
    column: Name
    encoding: Encoding = "plain"  #: how the content is stored
    name: Name | None = None  #: the column that says what the file is called
    type: Name | None = None  #: the column that says which media type it has
    size: Name | None = None  #: the column that says how many bytes it has


class Ago(Section, frozen=True, kw_only=True):
    """A parameter that is a moment: so long ago, unless told otherwise."""

    ago: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]


class ReportShape(Section, frozen=True, kw_only=True):
    """How a report is asked of one schema; the first whose tables and columns exist counts."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str  #: portable; names are parameters of the report (``:name``), and ``:limit`` and ``:offset``


class Report(Section, frozen=True, kw_only=True):
    """A question with a name."""

    name: str
    title: str  #: one line for a list of reports
    database: str = ""
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: what the answer's columns are called
    times: Sequence[str] = ()  #: those of them that are times, in whichever form they are stored
    parameters: Mapping[str, Constant | Ago] = {}  #: with the values that they have unless told otherwise
    optional: bool = False  #: whether a deployment may do without what it asks about
    shape: Annotated[Sequence[ReportShape], msgspec.Meta(min_length=1)]
