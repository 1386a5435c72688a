"""Paths from the rows of a table to a user: ``Rating.promptId -> Prompt.userId``."""

from __future__ import annotations

import re

from dbctl.model import Struct

_STEP = re.compile(
    r"(?P<table>[^.\[(]+?)(?P<optional>\?)?(?:\[(?P<filter>[^\]=]+)=(?P<value>[^\]]*)\])?(?:\((?P<key>[^)]+)\))?\.(?P<column>.+)",
    re.DOTALL,
)


class RowStep(Struct, frozen=True):
    """One step of a path: ``table?[filter=value](key).column``."""

    table: str
    column: str  #: the column that refers to the next step, or to the user
    key: str  #: the column to which the step before refers; empty: the primary key
    filter: str  #: a column; only rows with ``value`` belong to the path; empty: all rows
    value: str
    is_optional: bool  #: whether deployments may lack the table: ``table?``

    @property
    def path(self) -> str:
        """``table.column``."""
        return f"{self.table}.{self.column}"


def has_row_path(table: str, column: str) -> bool:
    """Return whether ``table.column`` is a path: names may contain the characters that separate its parts."""
    path = f"{table}.{column}"
    match = _STEP.fullmatch(path)
    return (
        match is not None and match["table"] == table and not {".", "?"} & set(column) and " -> " not in path
    )


def parse_row_path(text: str) -> list[RowStep]:
    """Return the steps of a path.

    Raises:
        ValueError: a step is not ``table.column``.
    """
    steps = []
    for part in text.split(" -> "):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not table.column")
        fields = match.groupdict(default="")
        is_optional = bool(fields.pop("optional"))
        steps.append(RowStep(**fields, is_optional=is_optional))
    return steps
