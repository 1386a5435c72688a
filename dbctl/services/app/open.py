"""Open the app that the options of the command line select."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbctl.config import Selection, model
from dbctl.config import loader as config
from dbctl.errors import DatabaseUnknownError, Invocation, set_invocation
from dbctl.profiles import loader
from dbctl.profiles.model import Profile
from dbctl.services.app.app import App
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
    app = App(configured, profile, timeout=SCHEMA_TIMEOUT)
    app.resolve_profile()
    return app.profile, app.variant.name if app.variant else None


@contextmanager
def open_app(
    selection: Selection,
    *,
    timeout: float,
    spec: CommandSpec = LIBRARY,
    only: str = "",
    traceless: bool = False,
    trust_clock: bool = False,
    acting_as: str = "",
) -> Iterator[App]:
    """Open the selected app, and close its databases at the end.

    Args:
        selection: the options of the command line.
        timeout: how long to wait for a lock, in seconds.
        spec: the declaration of the command.
        only: the only database that may be opened; a command that requires another is refused.
        traceless: whether to leave a database unread if reading it would change or create a file.
        trust_clock: whether to delete by age even if the clock contradicts the recorded times.
        acting_as: the login of the user on whose behalf changes are made.
    """
    configured = config.find_app(selection)
    profile = loader.load(configured.profile)
    app = App(
        configured,
        profile,
        timeout=timeout,
        spec=spec,
        only=only,
        traceless=traceless,
        trust_clock=trust_clock,
        acting_as=acting_as,
    )
    app.resolve_profile()
    if only:
        app.database(only)
    limits = app.configured.backup.databases if app.configured.backup else ()
    unknown = [name for name in (*app.configured.databases, *limits) if name not in app.profile.databases]
    if unknown:
        raise DatabaseUnknownError(
            app=app.name,
            name=unknown[0],
            names=", ".join(app.profile.databases),
            candidates=app.profile.databases,
        )
    outer = set_invocation(lambda: _describe_invocation(selection, app, outer))
    try:
        yield app
    finally:
        set_invocation(outer)
        app.close()


def _describe_invocation(selection: Selection, app: App, outer: Callable[[], Invocation]) -> Invocation:
    """Return how commands select the opened app, also if it was opened without the options of the command line."""
    from dbctl.services.app.command_line import describe_invocation

    invocation = describe_invocation(selection, app.name, app.only)
    return invocation if selection.config else invocation._replace(config=outer().config)
