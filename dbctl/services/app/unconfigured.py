"""Optional databases that exist on disk but are missing from the configuration: the app created them after ``dbctl init``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dbctl.model import Finding
from dbctl.services.app.app import App
from dbctl.url import locate_path

SENTENCE = "found at {path}, but not configured"


def find_unconfigured(app: App, name: str) -> Path | None:
    """Return the path of an unconfigured database, at its usual place relative to the main database; None if missing."""
    configured, section = app.configured.databases, app.database(name)
    if (
        name in configured
        or app.main_database not in configured
        or not configured[app.main_database].is_local
    ):
        return None
    main = Path(configured[app.main_database].path)
    for pattern in app.database(app.main_database).find:
        parts = Path(pattern).parts
        if main.parts[-len(parts) :] != parts:
            continue
        for other in section.find:
            path = Path(*main.parts[: -len(parts)], other)
            if _has_content(path) if locate_path(path, section.engines).is_folder else path.is_file():
                return path
    return None


def _has_content(folder: Path) -> bool:
    """Return whether a folder may contain anything; apps create an empty one when they start."""
    try:
        return any(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def explain_config(app: App, name: str, path: Path) -> str:
    """Return the hint how to configure the database."""
    return f'Add it to [apps.{app.name}.databases]: {name} = "{path}"; or pass --url for each database.'


def check_unconfigured(app: App, name: str) -> Iterator[Finding]:
    """Yield a finding for an unconfigured database whose rows would be deleted with rows of other databases."""
    path = find_unconfigured(app, name)
    if path is None or not any(link.database == name and link.cascade for link in app.profile.link):
        return
    yield Finding(
        target=app.target(name),
        severity="warning",
        code="not-configured",
        message=f"{SENTENCE.format(path=path)}: no backups, no checks, and no cascading deletes",
        hint=explain_config(app, name, path),
    )
