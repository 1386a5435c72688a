"""Whether a table has the same unique constraint several times, as libraries leave it that add one at every start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.server import Index, Indexes
from dbctl.model import Finding
from dbctl.services.doctor_subject import Subject

NAMED = 5  #: constraints that a message names


def indexes(subject: Subject, db: Indexes) -> Iterator[Finding]:
    """Yield the tables with several unique constraints over the same columns; one of them stays.

    Other indexes that do the same are the app's own business (``stats indexes``): it makes them again at its next start.
    """
    groups: dict[tuple[str, Sequence[str]], list[Index]] = {}
    for one in db.indexes():
        if one.constraint and one.unique and not one.primary and not one.where:
            groups.setdefault((one.table, tuple(one.columns)), []).append(one)
    for (table, columns), alike in groups.items():
        # What a foreign key refers to must stay; of the others the one that came first, whose name has no number.
        alike.sort(key=lambda one: (not one.needed, len(one.name), one.name))
        spare = [one for one in alike[1:] if not one.needed]
        if spare:
            names = ", ".join(one.name for one in spare[:NAMED]) + (" …" if len(spare) > NAMED else "")
            message = f"{table} has {len(alike)} unique constraints over {', '.join(columns)}, and each slows every write: {names}"
            drop = "; ".join(one.drop.rstrip("; ") for one in spare)
            yield subject.finding("warning", "constraint-repeated", message, f"{drop};")
