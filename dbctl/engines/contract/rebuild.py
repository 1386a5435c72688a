"""Contract: write the rows of a private database into new tables, of which no earlier value remains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dbctl.model import Struct


class ColumnRewrite(Struct, frozen=True, kw_only=True):
    """What replaces the values of a column."""

    #: returns the new value from the old one, as rows have it, and those of ``by``; of a document, only its new texts are used
    function: Callable[..., Any]
    by: Sequence[str] = ()  #: other columns of the row


class Rebuilder(ABC):
    """The part of a writer that writes a database again, where tables retain their earlier versions."""

    @abstractmethod
    def rebuild(self, rewrites: Mapping[str, Mapping[str, ColumnRewrite | None] | None]) -> Sequence[str]:
        """Replace a database that no other process uses; after an error, it is incomplete and has to be dropped.

        Args:
            rewrites: the columns that change, of each table to write; None instead of the columns: the table has no rows.
                None instead of a rewrite: the column has no values, which are zeros where NULL is not allowed.

        Returns:
            What could not be built again: indexes without rows or values, or of unknown kinds, one sentence for each.

        Raises:
            ConstraintError, ValueInvalidError: a column cannot store a new value.
        """

    @abstractmethod
    def read_values(self) -> Iterator[bytes]:
        """Yield the values of all columns, which files contain in a compressed form: texts and numbers as lines, vectors as stored."""

    @abstractmethod
    def read_schemas(self) -> Iterator[bytes]:
        """Yield the schema of each table with its metadata, as the files contain it."""
