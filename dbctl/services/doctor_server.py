"""What an admin should know of the server that a database is on, and of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from dbctl.engines import registry
from dbctl.engines.server import Advises, Tuning
from dbctl.model import Finding
from dbctl.services.apps import App
from dbctl.services.doctor_subject import Subject
from dbctl.services.integrity import concern


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
