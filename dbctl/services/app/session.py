"""What one invocation of a command shares: its declaration, the configuration, the journal, and how it opens apps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.config import loader
from dbctl.config.sections import Selection, read_sections, report_first_problem
from dbctl.errors.base import DbctlError, Invocation, set_invocation
from dbctl.errors.usage import DatabaseUnknownError
from dbctl.spec import LIBRARY, CommandSpec

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.audit.recorder import OperationRecorder
    from dbctl.services.events.runs import JournalLocation


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

    @cached_property
    def selection(self) -> Selection:
        """The options that select an app, with the sections of the configuration, which is read once.

        Without them if there is no configuration, or an invalid one, which is reported when an app is selected.
        """
        selection = self._selection
        if selection.configured or (selection.profile and selection.urls):
            return selection
        with suppress(DbctlError):
            path = loader.config_path(selection)
            with report_first_problem(path):
                return structs.replace(selection, sections=selection.sections or read_sections(path))
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
        """
        from dbctl.profiles import loader as profile_loader
        from dbctl.services.app.app import App

        selection = selection or self.selection
        configured = loader.find_app(selection)
        app = App(self, configured, profile_loader.load(configured.profile))
        app.resolve_profile()
        if self.only:
            app.database(self.only)
        limits = app.configured.backup.databases if app.configured.backup else ()
        for name in (*app.configured.databases, *limits):
            if name not in app.profile.databases:
                names = app.profile.databases
                raise DatabaseUnknownError(app=app.name, name=name, names=", ".join(names), candidates=names)
        outer = set_invocation(lambda: _describe_app(selection, app, outer))
        try:
            yield app
        finally:
            set_invocation(outer)
            app.close()


def _describe_app(selection: Selection, app: App, outer: Callable[[], Invocation]) -> Invocation:
    """Return how commands select the opened app, also if it was opened without the options of the command line."""
    from dbctl.services.app.command_line import describe_invocation

    invocation = describe_invocation(selection, app.name, app.only)
    return invocation if selection.config else invocation._replace(config=outer().config)
