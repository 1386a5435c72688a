"""Wait until the databases of apps answer, before a container or a job uses them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta

from dbctl import progress
from dbctl.config.sections import Selection
from dbctl.engines.servers.connection import CONNECT_SECONDS, RETRY_SECONDS
from dbctl.errors.base import DbctlError, Exit, worst_status
from dbctl.errors.connection import UnreachableError
from dbctl.errors.operations import ReplicaLagError
from dbctl.model import Closing, Page, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.session import open_app


class DatabaseReadiness(Struct, frozen=True, kw_only=True):
    """Whether a database answered."""

    app: str
    database: str | None  #: None: the app could not be opened
    state: str  #: ``ok``, or the code of the last error
    waited: timedelta  #: until the answer, or the last error
    message: str | None = None  #: of the last error

    listed = ("app", "database", "state", "waited")


class ReadinessPage(Page[DatabaseReadiness], frozen=True, kw_only=True):
    """The databases, in the order of the configuration."""

    @property
    def closing(self) -> Closing:
        answered = [database.state for database in self.items].count("ok")
        details = [f"{len(self.items) - answered} did not"] if answered < len(self.items) else []
        return Closing(f"{format_count(answered, 'database')} answered", details)


class WaitResult(Struct, frozen=True, kw_only=True):
    """The databases for which a command waited."""

    page: ReadinessPage
    apps: Sequence[str]
    status: Exit  #: of the databases that did not answer; ``PARTIAL`` if others did


def wait_for_databases(selections: Sequence[Selection], *, timeout: float, only: str = "") -> WaitResult:
    """Wait until every configured database of apps can be read, or until an error of one will not pass.

    ``only`` is the only database that is waited for. ``timeout`` is for all databases together, in seconds; no attempt begins later.
    0: one attempt for each.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is part of the result.
    """
    begin = time.monotonic()
    unread = dict[str, DbctlError]()
    errors: dict[tuple[App, str], DbctlError | None] = {}
    waited: dict[tuple[App, str], timedelta] = {}
    with ExitStack() as stack:
        # Above this limit, an engine itself waits for its server, and no other database is tried.
        limit = min(timeout, CONNECT_SECONDS)
        apps = list[App]()
        for selection in selections:
            try:
                apps.append(stack.enter_context(open_app(selection, timeout=limit, only=only)))
            except DbctlError as error:
                if len(selections) == 1:
                    raise
                unread[selection.app] = error
        names = [(app, name) for app in apps for name in ([only] if only else app.configured.databases)]
        waiting = names
        while waiting:
            progress.start_stage(f"waiting for {', '.join(app.target(name) for app, name in waiting)}")
            for app, name in waiting:
                if timeout and errors and time.monotonic() - begin >= timeout:
                    errors.setdefault((app, name), _not_tried(app, name, timeout))
                else:
                    errors[app, name] = _find_error(app, name)
                waited[app, name] = timedelta(seconds=time.monotonic() - begin)
            waiting = [key for key in waiting if errors[key]]
            can_pass = all(map(_can_pass, filter(None, [*unread.values(), *errors.values()])))
            if not can_pass or time.monotonic() - begin >= timeout:
                break
            time.sleep(RETRY_SECONDS)
    status = worst_status([error.exit_status for error in [*unread.values(), *errors.values()] if error])
    rows = [
        DatabaseReadiness(
            app=app.name,
            database=name,
            state=error.code if error else "ok",
            waited=waited[app, name],
            message=str(error) if error else None,
        )
        for (app, name), error in errors.items()
    ]
    rows += [
        DatabaseReadiness(app=app, database=None, state=error.code, waited=timedelta(0), message=str(error))
        for app, error in unread.items()
    ]
    return WaitResult(
        page=ReadinessPage(
            items=rows,
            total=len(rows),
            column_names=DatabaseReadiness.__struct_fields__,
            empty_message="no databases are configured",
        ),
        apps=[app.name for app in apps],
        status=Exit.PARTIAL if status and len(waiting) + len(unread) < len(rows) else status,
    )


def _find_error(app: App, name: str) -> DbctlError | None:
    """Return why a database cannot be read now; None: it answers."""
    try:
        app.open_for_reading(name).close()
    except DbctlError as error:
        return None if error.exit_status is Exit.BUSY else error  # who holds the lock reached the database
    return None


def _not_tried(app: App, name: str, timeout: float) -> UnreachableError:
    return UnreachableError(
        target=app.target(name),
        reason=f"it was not tried within {timeout:g} s, because other databases did not answer",
        hint="Increase --timeout.",
    )


def _can_pass(error: DbctlError) -> bool:
    """Whether time alone can end an error: a wrong login remains wrong, a damaged file damaged."""
    if isinstance(error, UnreachableError):
        return error.can_pass
    return error.exit_status is Exit.UNREACHABLE or isinstance(error, ReplicaLagError)
