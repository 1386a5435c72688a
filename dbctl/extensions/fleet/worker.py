"""A command on one instance of a fleet, in a worker process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dbctl import progress, signals
from dbctl.cli._support.options import override_options
from dbctl.errors.base import DbctlError, Exit, invocations
from dbctl.errors.operations import describe_internal_error
from dbctl.errors.usage import UsageError, UserMissingError
from dbctl.extensions.fleet.run import Kind, verify_instance
from dbctl.model import Page, Struct
from dbctl.render.streams import Format, ProgressMode
from dbctl.services.fleet.instances import Instance, Outcome

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.render.result import CommandOutput


#: Exit codes of a command with a result that could not do its work.
_UNAVAILABLE = (Exit.FAILED, Exit.UNREACHABLE, Exit.BUSY)


class Confirmation(Struct, frozen=True):
    """The confirmation of the user: for every plan, or for plans with a digest."""

    everything: bool = False
    digests: Mapping[str, str] = {}  #: by app


class InstanceCommand:
    """The command of a context, which runs on one instance after the other."""

    def __init__(
        self, session: Session, parameters: Mapping[str, object], confirmation: Confirmation | None = None
    ) -> None:
        """Prepare the command; ``parameters`` replace those of the context."""
        self._session, self._parameters = session, parameters
        self._confirmation = confirmation or Confirmation()
        self._current: Session | None = None  #: of the instance on which the command runs
        options = session.options
        self._timeout, self._returns_findings = options.timeout, options.output.is_report

    def perform(self, kind: Kind, instance: Instance) -> Outcome:
        """Run the command, or verify the instance; called in a worker.

        Raises:
            Interrupted: a signal arrived.
        """
        begin, self._current = time.monotonic(), None
        progress.detach()
        signals.reporters.clear()
        try:
            outcome = self._verify(instance) if kind == "verify" else self._run(instance)
        except DbctlError as error:
            # The user of a command exists in some instances.
            is_absent = isinstance(error, UserMissingError)
            outcome = Outcome.from_error(instance.app, error, state="skipped" if is_absent else "failed")
        except typer.TyperException as error:
            outcome = Outcome.from_error(instance.app, UsageError(detail=error.format_message().rstrip(".")))
        except typer.Exit as error:
            outcome = Outcome(app=instance.app, state="done", exit_code=error.exit_code)
        except Exception as error:  # noqa: BLE001 - an internal error fails one instance
            outcome = Outcome.from_error(instance.app, describe_internal_error(error))
        return Outcome(
            app=outcome.app,
            state=outcome.state,
            exit_code=outcome.exit_code,
            duration=time.monotonic() - begin,
            data=outcome.data,
            warnings=tuple(self._current.warnings) if self._current else (),
            error=outcome.error,
            hooks=self._current.hook_runs if self._current else (),
            audit=self._current.anchor if self._current else "",
        )

    def _run(self, instance: Instance) -> Outcome:
        outputs: list[CommandOutput] = []
        ctx = self._session.ctx
        # Warnings are collected for JSON only.
        override_options(ctx, app=instance.app, output=Format.JSON, quiet=True, progress=ProgressMode.NONE)
        ctx.params.update(self._parameters)
        session = self._session.for_instance(instance.configure(), outputs.append)
        ctx.find_root().obj = self._current = session
        session.is_confirmed = self._confirmation.everything or instance.app in self._confirmation.digests
        session.confirmed_digest = self._confirmation.digests.get(instance.app)
        invocations.append(session.describe_invocation)
        try:
            status = ctx.command.invoke(ctx)
        finally:
            invocations.pop()
        exit_code = Exit(status) if isinstance(status, int) else Exit.OK
        data = outputs[-1].result if outputs else None
        is_unreadable = session.words in (("status",), ("wait",)) and _has_no_readable_database(data)
        if self._returns_findings and outputs:
            data = outputs[-1].findings or data
        return Outcome(
            app=instance.app,
            state="failed" if exit_code in _UNAVAILABLE or is_unreadable else "done",
            exit_code=int(exit_code),
            data=data,
        )

    def _verify(self, instance: Instance) -> Outcome:
        folder = self._session.ctx.params.get("migrations")
        verify_instance(
            instance.configure(),
            migrations=Path(os.fsdecode(folder)) if isinstance(folder, (str, Path)) else None,
            timeout=self._timeout,
        )
        return Outcome(app=instance.app, state="done", exit_code=int(Exit.OK))


def _has_no_readable_database(data: object) -> bool:
    """Whether a result of ``status`` or ``wait`` contains only databases that could not be read."""
    rows = data.items if isinstance(data, Page) else ()
    return bool(rows) and all(row.state != "ok" for row in rows)
