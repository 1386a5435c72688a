"""The session of a command line: its options, the run that is recorded, what was confirmed, and what was written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.cli._support.emit import show_progress, warn
from dbctl.cli._support.options import read_options
from dbctl.config import loader
from dbctl.config.environment import user_name
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Invocation
from dbctl.errors.usage import FleetRequiredError
from dbctl.model import join_hint
from dbctl.render.streams import OutputOptions
from dbctl.services.app.session import Session as AppSession

if TYPE_CHECKING:
    from typer._click import Context

    from dbctl.cli._support.runs import CommandText, ObservedRun
    from dbctl.config.model import App as ConfiguredApp
    from dbctl.render.result import CommandOutput
    from dbctl.services.app.app import App
    from dbctl.services.audit.recorder import OperationRecorder
    from dbctl.services.events.changes.records import Anchor
    from dbctl.services.events.runs import HookRun
    from dbctl.services.hooks.action import HookedAction

#: Options that commands of hints repeat: the first word of these commands, the option, and the parameter of a command with it.
_REPEATED = (
    ("backup", "--repository", "repository_address"),
    ("restore", "--repository", "repository_address"),
    ("migrate", "--migrations", "migrations"),
    ("settings", "--user", "user"),
    ("settings", "--id", "ident"),
    ("settings", "--of", "of"),
)


class Session(AppSession):
    """One invocation of a command on the command line, or on one instance of a fleet."""

    def __init__(self, ctx: Context) -> None:
        spec = ctx.command.callback.spec  # type: ignore[union-attr]  # see Group.command
        self.ctx, self.options = ctx, read_options(ctx, spec)
        options = self.options
        self.words = tuple(spec.name.split())
        super().__init__(
            Selection(
                config=options.config,
                app=options.app,
                profile=options.profile,
                urls=options.url or (),
                replica=options.replica,
            ),
            timeout=options.timeout,
            spec=spec,
            only=options.db,
            trust_clock=options.trust_clock,
            acting_as=options.acting_as,
            all_apps=bool(ctx.params.get("all_apps")) or (spec.all_apps and not options.app),
        )
        #: the requested format and columns of the output
        self.output_options = OutputOptions(
            format=options.output,
            columns=[name for name in map(str.strip, options.columns.split(",")) if name],
            excel_safe=options.excel_safe,
            template=options.template,
            wide=options.wide,
            pager=not options.no_pager,
            quiet=options.quiet,
        )
        self.started = time.monotonic()  #: of the command, or of the change that was confirmed
        self.run: ObservedRun | None = None  #: None: it is neither recorded nor logged by this session
        self.outer_run_id: int | None = None  #: the id of the run of a fleet, for an instance
        self.warnings: list[str] = []  #: and notes that the JSON object will contain
        self.hook_runs: list[HookRun] = []
        self.action: HookedAction | None = None  #: the action with hooks that the command performs
        self.anchor = ""  #: the end of the audit log after a change of an instance, ``SEQUENCE:HASH``
        self.exit_status: int | None = None  #: None: no result was written
        self.is_confirmed = False  #: by the user, for a fleet
        self.confirmed_digest: str | None = None  #: of the plan; None: without a plan
        #: receives the output, instead of standard output
        self.receive: Callable[[CommandOutput], None] | None = None

    def describe_invocation(self) -> Invocation:
        """Return what hints repeat of the command line; only errors import the module."""
        import shlex

        from dbctl.config.secrets import list_secrets
        from dbctl.services.app import command_line

        options = dict[str, str]()
        for first, option, name in _REPEATED:
            value = str(self.ctx.params.get(name) or "")
            # other commands have a --user with another meaning
            is_same = first != "settings" or self.spec.name.startswith("settings ")
            if value and is_same and not (name == "repository_address" and list_secrets(value)):
                options[first] = shlex.join([option, value])
        return command_line.describe_invocation(self.selection, database=self.options.db, options=options)

    @cached_property
    def text(self) -> CommandText:
        """The words of the command, without secrets."""
        from dbctl.cli._support.runs import CommandText

        return CommandText(self)

    @property
    def run_id(self) -> int | None:
        """The id of the run in the journal; None: it is not recorded."""
        return self.run.id if self.run else self.outer_run_id

    def find_routed_app(self) -> ConfiguredApp | None:
        """Return the app that the command may change, or whose log it reads, if its databases are files behind routes; otherwise None.

        None also without such an app, which the command itself reports.
        """
        write = self.spec.writes
        if not (self.spec.reads_log or (write and write.audited and write.is_selected)):
            return None
        with suppress(DbctlError):
            app = self._configured = loader.find_app(self.selection)
            urls = app.databases.values()
            return app if urls and all(url.has_routed_path for url in urls) else None
        return None

    def for_instance(self, configured: ConfiguredApp, receive: Callable[[CommandOutput], None]) -> Session:
        """Return the session for an instance of a fleet: part of this run, with the present values of the options."""
        session = Session(self.ctx)
        session.selection = structs.replace(self.selection, app=session.options.app, configured=configured)
        session.outer_run_id, session.receive = self.run_id, receive
        return session

    def create_recorder(self, app: App) -> OperationRecorder | None:
        """Return the recorder of the audit log for the changes of an app; None: there is no log, and none is required."""
        if self.journal.folder is None and not self.journal.audit.required:
            return None

        run, journal = self.run, self.journal
        from dbctl.services.audit.recorder import Author, OperationRecorder

        author = Author(
            user=user_name(),
            sudo_user=os.environ.get("SUDO_USER", ""),
            acting_as=app.acting_as,
            host=os.uname().nodename,
            command=self.spec.name,
            arguments=self.text.arguments,
            config=journal.config,
            run=self.run_id,
        )
        from dbctl.services.events.store import EventStore

        return OperationRecorder(
            (run and run.store) or (EventStore(journal.folder) if journal.folder else None),
            author,
            journal.audit,
            app=app.name,
            find_address=app.find_address,
            warn=run.report_audit_failure if run else partial(warn, self),
            receive_anchor=run.set_anchor if run else self._store_anchor,
            outcomes=run.changes if run else None,
        )

    def _store_anchor(self, anchor: Anchor) -> None:
        self.anchor = str(anchor)

    @contextmanager
    def open_app(self, selection: Selection | None = None) -> Iterator[App]:
        """Open the app of the options, or of ``selection``, with a progress; its databases are closed at the end.

        Raises:
            ProfileInvalidError: the profile contradicts itself; commands of ``backup`` and ``restore`` do not check this.
        """
        from dbctl.profiles import loader as profile_loader

        self.refuse_fleet_options(selection)
        with ExitStack() as stack:
            app = stack.enter_context(super().open_app(selection))
            if self.run:
                self.run.use_databases(app.used)
            stack.enter_context(show_progress(self))
            if app.configured.maintenance_mode:
                self.warn_about_maintenance(app)
            try:
                if self.spec.checks_profile and not profile_loader.find_profile(app.configured.profile):
                    from dbctl.services.checks.profile import refuse_inconsistent_profile

                    refuse_inconsistent_profile(app.configured.profile)
                if app.acting_as:
                    from dbctl.services.app import audit

                    audit.check_acting(app)
                yield app
            except DbctlError as error:  # errors are reported with the target
                error.context.setdefault("target", app.target())
                raise

    def warn_about_maintenance(self, app: App) -> None:
        """Report that a killed run may have left the app, which has a maintenance mode, in it."""
        from dbctl.services.hooks.maintenance_mode import find_leftover

        for finding in find_leftover(app.configured):
            warn(self, join_hint(f"{finding.target}: {finding.message}", finding.hint))

    def refuse_fleet_options(self, selection: Selection | None = None) -> None:
        """Refuse options of fleets for one app.

        Raises:
            FleetRequiredError: an option was passed.
            FleetSelectedError: the app is a fleet.
        """
        options = self.options
        values = {
            "--jobs": options.jobs,
            "--canary": options.canary,
            "--max-failures": options.max_failures,
            "--resume": options.resume or None,
        }
        option = next((name for name, value in values.items() if value is not None), "")
        selection = selection or self.selection
        if option and not selection.configured:
            raise FleetRequiredError(option=option, app=loader.find_app(selection).name)
