"""What one invocation of a command shares: its declaration, the configuration, the journal, and how it opens apps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Invocation, invocations
from dbctl.spec import LIBRARY, CommandSpec

if TYPE_CHECKING:
    from dbctl.config import model
    from dbctl.profiles.model.profile import Profile
    from dbctl.services.app.app import App
    from dbctl.services.audit.recorder import OperationRecorder
    from dbctl.services.events.runs import JournalLocation

#: Seconds to wait for a locked database whose schema selects the variant of a profile, in commands that open no database.
SCHEMA_TIMEOUT = 1.0


class Session:
    """One invocation of a command; without a command line, it has the strictest declaration, and no changes are recorded."""

    def __init__(
        self,
        selection: Selection,
        *,
        timeout: float,
        spec: CommandSpec = LIBRARY,
        only: str = "",
        traceless: bool = False,
        trust_clock: bool = False,
        acting_as: str = "",
        all_apps: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            selection: the options that select an app.
            timeout: how long to wait for a lock, in seconds.
            spec: the declaration of the command.
            only: the only database that may be opened; a command that requires another is refused.
            traceless: whether to leave a database unread if reading it would change or create a file.
            trust_clock: whether to delete by age even if the clock contradicts the recorded times.
            acting_as: the login of the user on whose behalf changes are made.
            all_apps: whether the command concerns every configured app.
        """
        self.spec, self.timeout, self.only, self.traceless = spec, timeout, only, traceless
        self.trust_clock, self.acting_as, self._all_apps = trust_clock, acting_as, all_apps
        self._selection = selection
        self._configured: model.App | None = (
            None  #: the selected app, if the command has resolved it before it opens the app
        )

    @cached_property
    def selection(self) -> Selection:
        """The options that select an app, with the sections of the configuration, which is read once.

        Without them if there is no configuration, or an invalid one, which is reported when an app is selected.
        """
        selection = self._selection
        if selection.configured or (selection.profile and selection.urls):
            return selection
        with suppress(DbctlError):
            return structs.replace(selection, sections=loader.load_sections(selection))
        return selection

    @cached_property
    def journal(self) -> JournalLocation:
        """Where runs and changes are recorded, and the settings for that."""
        from dbctl.services.events.runs import locate_journal

        return locate_journal(self.selection, all_apps=self._all_apps)

    def create_recorder(self, app: App) -> OperationRecorder | None:
        """Return the recorder of the audit log for the changes of an app; None: they are not recorded."""
        del app
        return None

    @contextmanager
    def open_app(self, selection: Selection | None = None) -> Iterator[App]:
        """Open the selected app, and close its databases at the end; ``selection`` replaces that of the options.

        Raises:
            DatabaseUnknownError: its profile lacks a configured database, or the only one that may be opened.
            CommandUnprovenError: the app requires proofs, and the command has none.
        """
        from dbctl.profiles import loader as profile_loader
        from dbctl.services.app.app import App

        configured = None if selection else self._configured
        selection = selection or self.selection
        configured = configured or loader.find_app(selection)
        app = App(self, configured, profile_loader.load_core(configured.profile))
        app.resolve_profile()
        if self.only:
            app.database(self.only)
        # those of the app: it names a single address as the profile does
        limits = app.configured.backup.databases if app.configured.backup else ()
        for name in (*app.configured.databases, *limits):
            app.database(name)
        if configured.require:
            from dbctl.services.app import proofs

            proofs.require_proof(app)
        invocations.append(partial(_describe_app, selection, app, invocations[-1]))
        try:
            yield app
        finally:
            invocations.pop()
            app.close()


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


def read_profile(configured: model.App) -> tuple[Profile, str | None]:
    """Return the profile of a configured app, and the name of the variant that the live schema has; None: no variant.

    Only for profiles with variants, the main database is opened; see ``App.resolve_profile``.
    """
    from dbctl.profiles.loader import load
    from dbctl.services.app.app import App

    profile = load(configured.profile)
    if not profile.variants:
        return profile, None
    app = App(Session(Selection(configured=configured), timeout=SCHEMA_TIMEOUT), configured, profile)
    app.resolve_profile()
    return app.profile, app.variant.name if app.variant else None


def _describe_app(selection: Selection, app: App, outer: Callable[[], Invocation]) -> Invocation:
    """Return how commands select the opened app, also if it was opened without the options of the command line."""
    from dbctl.services.app.command_line import describe_invocation

    invocation, outside = describe_invocation(selection, app.name, app.only), outer()
    return invocation._replace(config=invocation.config or outside.config, options=outside.options)
