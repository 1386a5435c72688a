"""Open an app without a command line, and read the profile that it has."""

from __future__ import annotations

from contextlib import AbstractContextManager

from dbctl.config import model
from dbctl.config.sections import Selection
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.spec import LIBRARY, CommandSpec

#: Seconds to wait for a locked database whose schema selects the variant of a profile, in commands that open no database.
SCHEMA_TIMEOUT = 1.0


def read_profile(configured: model.App) -> tuple[Profile, str | None]:
    """Return the profile of a configured app, and the name of the variant that the live schema has; None: no variant.

    Only for profiles with variants, the main database is opened; see ``App.resolve_profile``.
    """
    profile = loader.load(configured.profile)
    if not profile.variants:
        return profile, None
    app = App(Session(Selection(configured=configured), timeout=SCHEMA_TIMEOUT), configured, profile)
    app.resolve_profile()
    return app.profile, app.variant.name if app.variant else None


def open_app(
    selection: Selection,
    *,
    timeout: float,
    spec: CommandSpec = LIBRARY,
    only: str = "",
    traceless: bool = False,
) -> AbstractContextManager[App]:
    """Open an app in a session of its own; see ``Session``."""
    return Session(selection, timeout=timeout, spec=spec, only=only, traceless=traceless).open_app()
