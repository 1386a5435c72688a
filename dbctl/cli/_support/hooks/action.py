"""Actions with hooks and maintenance mode: where they begin, how a change runs in them, and what is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbctl.cli._support.app import read_selection
from dbctl.cli._support.emit import ACTION, HOOK_RUNS, RUN_ID, note, warn
from dbctl.cli._support.options import RUN, command_path
from dbctl.config import ActionName, loader
from dbctl.errors import DbctlError, Exit
from dbctl.model import Findings, Plan

if TYPE_CHECKING:
    import typer

    from dbctl.cli._support.emit import Operation
    from dbctl.config import App as ConfiguredApp
    from dbctl.services.app import App
    from dbctl.services.events.runs import HookRun
    from dbctl.services.hooks import HookContext, HookedAction

#: The variable that a hook gets, so that a dbctl that it starts does not run the hooks of the app again.
OUTER_APP = "DBCTL_HOOK_APP"


@contextmanager
def begin_action(
    ctx: typer.Context, app: App, name: ActionName, *, backup: tuple[str, str] = ("", "")
) -> Iterator[None]:
    """Let ``run_change`` run the hooks of an action, and turn on the maintenance mode of the app.

    Args:
        ctx: the context of the command.
        app: the app on which it works.
        name: the action.
        backup: id and path of the backup that is restored.
    """
    configured = app.configured
    if not (name in configured.hooks or configured.maintenance_mode):
        yield
        return
    from dbctl.services import hooks

    action = hooks.HookedAction(
        configured,
        name,
        create_hook_context(ctx, configured, name),
        timeout=app.timeout,
        backup=backup,
        runs_hooks=os.environ.get(OUTER_APP) != app.name,
    )
    ctx.meta[ACTION] = action
    try:
        yield
    except DbctlError as error:
        is_reading = ctx.params.get("dry_run") or ctx.params.get("check")
        if not is_reading and action.report_failure(error):
            _warn(ctx, action)
        raise
    finally:
        ctx.meta.pop(ACTION, None)


def create_hook_context(ctx: typer.Context, app: ConfiguredApp, action: str) -> HookContext:
    """Return the facts about the command that programs receive; the run of ``ctx`` records the programs."""
    from dbctl.services import hooks

    run = ctx.meta.get(RUN)

    def report(record: HookRun) -> None:
        ctx.meta.setdefault(HOOK_RUNS, []).append(record)
        if run:
            run.receive_hook(record)

    selection = read_selection(ctx)
    return hooks.HookContext(
        app=app.name,
        folder=app.folder,
        directory=app.directory,
        action=action,
        command=" ".join(command_path(ctx)),
        run_id=run.id if run else ctx.meta.get(RUN_ID),
        config="" if selection.urls else str(loader.config_path(selection).absolute()),
        report=report,
    )


def note_programs(ctx: typer.Context, plan: Plan) -> None:
    """Write a note about each program that the planned change would start."""
    for text in ctx.meta[ACTION].describe_programs(is_empty=plan.is_empty):
        note(ctx, f"would run {text}")


def apply_operation(
    ctx: typer.Context, operation: Operation, digest: str | None, plan: Plan | None
) -> object:
    """Apply a change with the hooks of its action, and write warnings about them."""
    action = ctx.meta[ACTION]
    try:
        return action.perform(lambda: operation.apply(digest), lambda: (plan or operation.plan()).is_empty)
    finally:
        _warn(ctx, action)


def find_status(ctx: typer.Context) -> int:
    """Return the exit code of a change that succeeded, and whose hooks may have failed."""
    has_errors = any(problem.severity == "error" for problem in ctx.meta[ACTION].problems)
    return Exit.FAILED if has_errors else Exit.OK


def combine_findings(ctx: typer.Context, findings: Findings | None, result: object) -> Findings | None:
    """Return the findings of a result with the problems of hooks."""
    problems = ctx.meta[ACTION].problems
    if not problems:
        return findings
    items = findings.findings if findings else getattr(result, "findings", ())
    return Findings(checked=findings.checked if findings else 0, findings=[*items, *problems])


def _warn(ctx: typer.Context, action: HookedAction) -> None:
    for problem in action.problems:
        warn(ctx, f"{problem.message}. {problem.hint}".rstrip(". ") + ".")
