"""Whether a table has the same unique constraint several times, as libraries leave it that add one at every start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from dbctl.engines import registry
from dbctl.engines.contract import Advises, Index, Indexes, Tuning
from dbctl.model import Finding
from dbctl.services.app import App
from dbctl.services.doctor.context import Subject
from dbctl.services.integrity import concern

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


def server(subject: Subject, db: Advises) -> Iterator[Finding]:
    """Yield what is noteworthy of a server, of what dbctl may do there, and of its settings beside the profile's."""
    for one in db.concerns(writing=subject.written):
        yield concern(subject.target, one)
    engine = subject.app.url(subject.database).engine
    wanted = next((told for of, told in subject.told.recommended.items() if of == engine), {})
    for setting in db.tuned({name: _word(value) for name, value in wanted.items()}):
        if not setting.fits:
            yield _tuned(subject, setting)


def scratch(app: App) -> Iterator[Finding]:
    """Yield what drills left where the configuration sends them; raises what keeps that from being known."""
    place = app.configured.scratch
    if place is None:
        return
    with closing(registry.open_for_reading(place, app.name, timeout=app.timeout)) as db:
        if isinstance(db, Advises):
            for one in db.abandoned():
                yield concern(app.name, one)


def _tuned(subject: Subject, setting: Tuning) -> Finding:
    if setting.actual is None:
        message = f"the server knows no setting {setting.name}, which {subject.app.profile.title} recommends"
        return subject.finding("info", "setting-unknown", message)
    told = (
        f"{setting.name} is {setting.actual}; recommended for {subject.app.profile.title} is {setting.wanted}"
    )
    if setting.waiting:
        return subject.finding(
            "info", "setting-below", f"{told}; it was set, and waits for a restart of the server"
        )
    how = "it takes a restart of the server" if setting.restart else "a reload of its configuration is enough"
    return subject.finding("info", "setting-below", f"{told} ({how})", setting.change)


def _word(value: str | float | bool) -> str:  # noqa: FBT001 - it is the value
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
