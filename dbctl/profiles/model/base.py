"""The base class of all sections of a profile, and types that several sections use."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.model import Severity


class SchemaName(msgspec.Struct, frozen=True):
    """Marks a type of fields with names that ``apps check`` compares with the live database.

    A name in a field without a mark is not compared: it depends on the variant of the schema, or is not a name of the schema.
    """

    #: ``path``: ``table.column``; ``table-path``: the same, and the table is compared too; ``row-path``: several of these,
    #: joined by arrows
    kind: Literal["database", "table", "column", "path", "table-path", "row-path"]
    optional: bool = False  #: table: deployments may lack it
    varying: bool = False  #: table: if deployments may lack it, neither it nor its columns are compared
    of_owner: bool = False  #: column: of the table of the enclosing section
    levels_up: int = 0  #: how many keys above the field a missing name is reported
    is_pattern: bool = False  #: a name with ``*`` is a pattern, which is not compared


#: The database, by its name in the profile; empty: the first that dbctl may write.
DatabaseReference = Annotated[str, SchemaName("database")]

#: The table. ``name?`` is optional.
TableName = Annotated[str, SchemaName("table")]

#: The table; if it is optional (``name?``), its columns may differ between deployments.
VaryingTable = Annotated[str, SchemaName("table", varying=True)]

#: A column of the table of its section. ``name?`` is optional.
ColumnName = Annotated[str, SchemaName("column")]

#: Alternative columns: of a list, the first that exists is used. ``name?`` is optional.
Alternatives = str | list[str]

#: One of alternative columns of the table of its section.
ColumnNames = Annotated[Alternatives, SchemaName("column")]


def list_names(names: Alternatives | None) -> Sequence[str]:
    """Return the names of alternative columns as a profile has them; empty: it names none."""
    return [names] if isinstance(names, str) else names or []


def is_optional(names: ColumnNames) -> bool:
    """Return whether deployments may lack the column."""
    return any(name.endswith("?") for name in list_names(names))


#: The column of the enclosing section's table.
SubjectColumn = Annotated[str, SchemaName("column", of_owner=True, levels_up=1)]

#: A column, as ``table.column``. ``table.column?`` is optional.
ColumnPath = Annotated[str, SchemaName("path")]

#: ``table?[column=value](key).column``, without the arrow between steps.
_ROW_STEP = (
    r"((?! -> )[^.\[(])+(\[((?! -> )[^\]=])+=((?! -> )[^\]])*\])?(\(((?! -> )[^)])+\))?\.((?! -> )[^.?])+"
)

#: ``Rating.promptId -> Prompt.userId``: rows that belong to rows of another table. A step refers to the primary key of the next
#: table, or to ``key`` of ``table(key).column``; ``table[column=value].column`` are the rows with a value. ``table?.column``:
#: deployments may lack the table, and then the path has no rows. The last step may name a text that contains the key of the
#: user: ``roles.name=__user_{id}__``.
RowPath = Annotated[str, SchemaName("row-path"), msgspec.Meta(pattern=rf"^({_ROW_STEP}( -> (?!\s*$)|$))+$")]

#: A name that is part of file names, targets (``app/database``) and options.
Name = Annotated[str, msgspec.Meta(pattern=r"^\w[\w.-]*$")]

#: The name of a database in the profile.
DatabaseName = Annotated[Name, SchemaName("database")]

#: The name of an engine, such as sqlite, also of an extension; ``apps check`` reports unknown names.
EngineName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]*$")]

#: The severity of a finding.
FindingSeverity = Severity

#: The hint of a finding.
FindingHint = str

#: A value that a profile writes to a column: a constant, or ``:now`` for the current time.
Constant = str | int | float | bool

#: A value of a new row of a user: a constant, ``:now``, ``:null``, a generator (``:uuid4``, ``:cuid``, ``:cuid2``, ``:object-id``,
#: ``:hex-N``, ``:base36-N``, ``:alphanumeric-N``, ``:base64url-N``), or a text with fields of the user: ``{username}``,
#: ``{name,username}`` (the first with a value), ``{username:lower}``, ``{name:slug}``, ``{email:local}`` (the part before the @), and
#: ``{id}``, the key of the user.
NewValue = str | int | float | bool

#: The value of a column, or a list of possible values.
ExpectedValue = str | int | float | bool | Annotated[list[str | int], msgspec.Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of all sections; unknown keys are errors."""


#: Formats of text, checked by ``dbctl.profiles.formats``.
TextFormat = Literal["email", "cron", "url", "time-zone"]


class Rule(Section, frozen=True, kw_only=True):
    """The values that the app accepts."""

    length: tuple[int, int] | None = None  #: minimum and maximum number of characters
    bytes: int | None = None  #: maximum number of bytes in UTF-8
    format: TextFormat | None = None  #: ``cron``: five fields, or six with seconds first
    values: Sequence[Constant] = ()  #: allowed values; empty: any
    #: whether the app stores the value in lower case: dbctl converts the value of a user's field, and refuses others
    lowercase: bool = False


class Lookup(Section, frozen=True, kw_only=True):
    """A field with the key of a row in another table, or with plain text."""

    table: TableName  #: the other table
    key: ColumnName = "id"  #: its column to which the field refers
    name: ColumnName = "name"  #: the column with the name of a row
