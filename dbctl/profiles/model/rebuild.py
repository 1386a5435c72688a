"""What a profile can say about figures that the app keeps of what its users did: how they are counted anew."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.model.base import Section


class Rebuild(Section, frozen=True, kw_only=True):
    """One table of figures, in the database of the users. ``integrity cross-check`` compares them, ``sessions rebuild-stats`` corrects them."""

    name: str  #: what a finding calls its rows
    table: str  #: one that ends in ``?`` may be missing
    key: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: columns that a unique index covers
    user: str  #: that of them which names the user
    figures: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: what must agree with a recount
    #: what a row that is missing gets besides; where the row is there, these stay as the app wrote them
    further: Sequence[str] = ()
    touched: Sequence[str] = ()  #: columns that get the present moment where a figure is corrected
    #: portable SQL that counts; its columns are those of ``key``, ``figures`` and ``further``, in this order
    select: str
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = "dbctl sessions rebuild-stats counts them anew."


def mistakes(told: Rebuild) -> Iterator[tuple[Sequence[str], str]]:
    """Yield where in a section something makes no sense, and what."""
    if told.user not in told.key:
        yield ("user",), f"{told.user} is none of key"
    named: list[str] = []
    for word in ("key", "figures", "further", "touched"):
        for column in getattr(told, word):
            if column in named:
                yield (word,), f"{column} is there already"
            named.append(column)
