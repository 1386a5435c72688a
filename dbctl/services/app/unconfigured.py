"""Databases that an app may lack, which are there and the configuration does not name: the app made them after ``dbctl init``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dbctl.model import Finding
from dbctl.services.app.app import App
from dbctl.url import Url, meant

SENTENCE = "it stands at {place}, and the configuration does not name it"


def place_of(app: App, name: str) -> Path | None:
    """Return where an unnamed database stands, as the app lays it out around its main one; None where it does not."""
    given, told = app.configured.databases, app.database(name)
    if name in given or app.main() not in given or not given[app.main()].is_local:
        return None
    main = Path(given[app.main()].path)
    for pattern in app.database(app.main()).find:
        parts = Path(pattern).parts
        if main.parts[-len(parts) :] != parts:
            continue
        for other in told.find:
            place = Path(*main.parts[: -len(parts)], other)
            bare = Url(engine="sqlite", path=os.path.realpath(place), bare=True)
            if _holds_something(place) if meant(bare, told.engines).is_folder else place.is_file():
                return place
    return None


def _holds_something(folder: Path) -> bool:
    """Whether anything may be in a folder: an app that starts makes an empty one."""
    try:
        return any(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def instead(app: App, name: str, place: Path) -> str:
    """Return how it comes to be named."""
    return f'Name it below [apps.{app.name}.databases]: {name} = "{place}"; or with --url, beside the others.'


def findings(app: App, name: str) -> Iterator[Finding]:
    """Yield what a check tells of one whose rows would go along with others."""
    place = place_of(app, name)
    if place is None or not any(link.database == name and link.cascade for link in app.profile.link):
        return
    yield Finding(
        target=app.target(name),
        severity="warning",
        code="not-configured",
        message=f"{SENTENCE.format(place=place)}: nothing of it is saved, checked, or deleted along",
        hint=instead(app, name, place),
    )
