"""The base of every section of a profile, and the types of values that several sections use."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import msgspec

#: A column of the live schema. ``name?`` may be missing; of several the first that exists counts.
Name = str | list[str]

#: Part of names of files, of targets (``app/database``) and of options.
DatabaseName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w.-]*$")]

#: A value that a profile writes into SQL: a constant, or ``:now`` for the present moment.
Constant = str | int | float | bool


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""
