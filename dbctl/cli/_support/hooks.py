"""Actions with hooks and maintenance mode: where they begin, how a change runs in them, and what is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from dbctl.cli._support.emit import warn
from dbctl.config import loader
from dbctl.errors.base import DbctlError, Exit
from dbctl.model import Findings, Plan, join_hint

if TYPE_CHECKING:
    from dbctl.cli._support.emit import Operation
    from dbctl.cli._support.session import Session
    from dbctl.config.model import ActionName
    from dbctl.config.model import App as ConfiguredApp
    from dbctl.services.app.app import App
    from dbctl.services.events.runs import HookRun
    from dbctl.services.hooks.action import HookedAction
    from dbctl.services.hooks.program import HookContext


#: The variable that a hook gets, so that a dbctl that it starts does not run the hooks of the app again.
OUTER_APP = "DBCTL_HOOK_APP"


@contextmanager
def begin_action(session: Session, app: App, *, backup: tuple[str, str] = ("", "")) -> Iterator[None]:
    """Let ``run_change`` run the hooks of the action of the command, and turn on the maintenance mode of the app.

    Args:
        session: the session of the command.
        app: the app on which it works.
        backup: id and path of the backup that is restored.
    """
    configured, name = app.configured, cast("ActionName", session.spec.action)
    if not (name in configured.hooks or configured.maintenance_mode):
        yield
        return

    from dbctl.services.hooks.action import HookedAction

    action = HookedAction(
        configured,
        name,
        create_hook_context(session, configured, name),
        timeout=app.timeout,
        backup=backup,
        runs_hooks=os.environ.get(OUTER_APP) != app.name,
    )
    session.action = action
    try:
        yield
    except DbctlError as error:
        is_reading = session.ctx.params.get("dry_run") or session.ctx.params.get("check")
        if not is_reading and action.report_failure(error):
            _warn(session, action)
        raise
    finally:
        session.action = None


def create_hook_context(session: Session, app: ConfiguredApp, action: str) -> HookContext:
    """Return the facts about the command that programs receive; the run of ``session`` records the programs."""
    from dbctl.services.hooks.program import HookContext

    run = session.run

    def report(record: HookRun) -> None:
        session.hook_runs.append(record)
        if run:
            run.receive_hook(record)

    selection = session.selection
    return HookContext(
        app=app.name,
        folder=app.folder,
        directory=app.directory,
        action=action,
        command=session.spec.name,
        run_id=session.run_id,
        config="" if selection.urls else str(loader.config_path(selection).absolute()),
        report=report,
    )


def apply_operation(
    session: Session, action: HookedAction, operation: Operation, digest: str | None, plan: Plan | None
) -> object:
    """Apply a change with the hooks of its action, and write warnings about them."""
    try:
        return action.perform(lambda: operation.apply(digest), lambda: (plan or operation.plan()).is_empty)
    finally:
        _warn(session, action)


def find_status(action: HookedAction) -> int:
    """Return the exit code of a change that succeeded, and whose hooks may have failed."""
    has_errors = any(problem.severity == "error" for problem in action.problems)
    return Exit.FAILED if has_errors else Exit.OK


def combine_findings(action: HookedAction, findings: Findings | None, result: object) -> Findings | None:
    if not action.problems:
        return findings
    items = findings.findings if findings else getattr(result, "findings", ())
    return Findings(checked=findings.checked if findings else 0, findings=[*items, *action.problems])


def _warn(session: Session, action: HookedAction) -> None:
    for problem in action.problems:
        warn(session, join_hint(problem.message, problem.hint))
