"""The base class of all sections of a profile, and types that several sections use."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from typing import Annotated

import msgspec

from dbctl.url import ENGINES

#: A column of the live schema. ``name?`` is optional; of a list, the first column that exists is used.
ColumnNames = str | list[str]

#: A name that is part of file names, targets (``app/database``) and options.
DatabaseName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w.-]*$")]

EngineName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(ENGINES)})$")]

#: A value that a profile writes to a column: a constant, or ``:now`` for the current time.
Constant = str | int | float | bool

#: The value of a column, or a list of possible values.
ExpectedValue = str | int | float | bool | Annotated[list[str | int], msgspec.Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of all sections; unknown keys are errors."""
