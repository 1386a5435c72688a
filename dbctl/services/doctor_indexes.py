"""Whether indexes are written for nothing: libraries that look over a schema at every start may add one each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.server import Index, Indexes
from dbctl.model import Finding
from dbctl.services.doctor_subject import Subject
from dbctl.services.stats_indexes import State, judged

NAMED = 5  #: constraints that a message names


def indexes(subject: Subject, db: Indexes) -> Iterator[Finding]:
    """Yield what is written for nothing in a database."""
    found = db.indexes()
    yield from _constraints(subject, found)
    yield from _duplicates(subject, found)


def _duplicates(subject: Subject, found: Sequence[Index]) -> Iterator[Finding]:
    told = [
        one for one in judged(subject.target, found) if one.state is State.DUPLICATE and not one.constraint
    ]
    if told:
        names = ", ".join(f"{one.index} (as {one.instead})" for one in told)
        message = f"each of these indexes is written though another one does its work: {names}"
        shown = subject.dbctl("stats", "indexes", "--only", "duplicate", "--columns", "index,drop")
        yield subject.finding("info", "index-duplicate", message, shown)


def _constraints(subject: Subject, found: Sequence[Index]) -> Iterator[Finding]:
    """Tell of tables with several unique constraints over the same columns; one of them stays."""
    groups: dict[tuple[str, Sequence[str]], list[Index]] = {}
    for one in found:
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
