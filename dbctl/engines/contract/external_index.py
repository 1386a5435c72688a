"""Indexes that find text and stand in a file of their own, because nobody but its owner writes the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from dbctl.engines.contract.conditions import Order, Where
from dbctl.engines.contract.fulltext import IndexFault
from dbctl.engines.contract.reader import Explanation
from dbctl.model import Value


class Sidecar(Value, frozen=True, kw_only=True):
    """Such an index as it should be. It is good for the very state of the database that it was made of."""

    table: str  #: the one that is searched
    columns: Sequence[str]  #: where text is looked for
    order: Sequence[Order]  #: in which it holds the rows, so that a page in this order is not sorted
    kept: Sequence[Where]  #: conditions of which it holds, for each row, whether they are met


class SidecarState(Value, frozen=True, kw_only=True):
    """Whether text can be looked for in such a file."""

    path: Path  #: where it is, or would be
    state: Literal["fresh", "stale", "missing", "broken"]
    reason: str = ""  #: why it is not fresh; of one that is missing: why there cannot be one
    bytes: int | None = None
    made_at: datetime | None = None


@runtime_checkable
class Sidecars(Protocol):
    """Capability.SIDECAR of a reader: what it finds is what ``contains`` finds in any of the columns, ASCII letters folded.

    Each of ``words`` must be found. What the file tells counts only as long as it and the database are as they were
    when ``sidecar`` looked at them; else, and wherever it is not as it should be, ``SidecarUnsoundError`` is raised.
    """

    def sidecar(self, told: Sidecar, places: Sequence[Path]) -> SidecarState:
        """Return how the first fresh one of some files stands, and use it from now on; else that of the first there is."""
        ...

    def sidecar_place(self, folder: Path | None, name: str) -> Path:
        """Return where the file of that name is: in ``folder``, None: beside the database."""
        ...

    def sidecar_finds(self, word: str) -> bool:
        """Whether such a file can find a word at all."""
        ...

    def found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[object, ...]]:
        """Return rows as ``select`` does; without ``words`` every row counts as found.

        Each row that is returned was compared with the words once more.
        """
        ...

    def found_count(self, told: Sidecar, words: Sequence[str], where: Sequence[Where] = ()) -> int:
        """Return how many rows that is."""
        ...

    def explain_found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        """Return how ``found`` with the same arguments would be answered, without answering it."""
        ...

    def make_sidecar(self, told: Sidecar, place: Path) -> SidecarState:
        """Make the file, or make it anew; whole and proven, or not at all.

        It may be read by those who may read the database, and by nobody else.

        Raises:
            BusyError: another dbctl makes one there.
            ChangedWhileReadError: somebody wrote the database meanwhile.
            DiskFullError, FileFailedError: it cannot be written.
            NotSupportedError: the table has no numbers of rows, or its app is writing.
            SidecarUnsoundError: it does not hold what it should.
        """
        ...

    def sidecar_faults(self, told: Sidecar, *, rows: int) -> Sequence[IndexFault]:
        """Compare the one that is used with the database: what it knows of every row, and the text of ``rows`` of them."""
        ...

    def sidecar_differs(self, told: Sidecar) -> bool:
        """Whether one that is made anew, aside, would tell anything else than the one that is used; uses none after that."""
        ...

    def drop_sidecar(self, place: Path) -> None:
        """Take the file away, and what a dbctl that was killed has left of one.

        Raises:
            FileFailedError: it cannot be taken away, or is no file.
        """
        ...
