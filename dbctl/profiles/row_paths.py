"""Paths from the rows of a table to a user: ``Rating.promptId -> Prompt.userId``, or ``roles.name=__user_{id}__``."""

from __future__ import annotations

import re

from dbctl.model import Struct

#: The key of the user in a text.
KEY_IN_TEXT = "{id}"
_STEP = re.compile(
    r"(?P<table>[^.\[(]+?)(?P<optional>\?)?(?:\[(?P<filter>[^\]=]+)=(?P<value>[^\]]*)\])?(?:\((?P<key>[^)]+)\))?\.(?P<column>.+)",
    re.DOTALL,
)


class RowStep(Struct, frozen=True):
    """One step of a path: ``table?[filter=value](key).column``, and at the end ``=text`` if ``{id}`` in it is the key of the user."""

    table: str
    column: str  #: the column that refers to the next step, or to the user
    key: str  #: the column to which the step before refers; empty: the primary key
    filter: str  #: a column; only rows with ``value`` belong to the path; empty: all rows
    value: str
    is_optional: bool  #: whether deployments may lack the table: ``table?``
    text: str = ""  #: the value of the column, with ``{id}`` for the key of the user; empty: the key itself

    @property
    def path(self) -> str:
        """``table.column``."""
        return f"{self.table}.{self.column}"


def has_row_path(table: str, column: str) -> bool:
    """Return whether ``table.column`` is a path: names may contain the characters that separate its parts."""
    path = f"{table}.{column}"
    match = _STEP.fullmatch(path)
    return (
        match is not None
        and match["table"] == table
        and not {".", "?", "="} & set(column)
        and " -> " not in path
    )


def parse_row_path(text: str) -> list[RowStep]:
    """Return the steps of a path.

    Raises:
        ValueError: a step is not ``table.column``, or one before the last has a text.
    """
    steps, parts = [], text.split(" -> ")
    for part in parts:
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not table.column")
        fields = match.groupdict(default="")
        is_optional = bool(fields.pop("optional"))
        if KEY_IN_TEXT in fields["column"]:
            fields["column"], _, fields["text"] = fields["column"].partition("=")
            if part is not parts[-1] or KEY_IN_TEXT not in fields["text"]:
                raise ValueError(
                    f"{part!r}: {KEY_IN_TEXT} is part of the value of a column, in the last step"
                )
        steps.append(RowStep(**fields, is_optional=is_optional))
    return steps
