"""Run the command of a context on the instances of a fleet: which commands can, confirmation, record, exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.cli._support.emit import ask_confirmation, show_progress, warn
from dbctl.errors.usage import ConfirmationWrongError, FleetSelectedError, UsageError
from dbctl.extensions.fleet.output import FleetOutput, PlanCollector, create_output
from dbctl.extensions.fleet.run import FleetRun, RunLimits
from dbctl.extensions.fleet.worker import Confirmation, InstanceCommand
from dbctl.services.events.progress import FleetProgress
from dbctl.services.events.store import storable_text
from dbctl.services.fleet.instances import Instance, Outcome, list_instances
from dbctl.signals import Interrupted
from dbctl.spec import Fleet

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.config.resolver import FleetSelection


def run_on_fleet(session: Session, error: FleetSelectedError) -> int:
    """Run the command of ``session`` on the instances that ``error`` selects; return the exit code.

    Raises:
        FleetSelectedError: the command works on one instance only.
    """
    fleet = session.spec.fleet
    if fleet is None:
        raise error
    selections: Sequence[FleetSelection] = error.context["selections"]  # type: ignore[assignment] # as raised
    return _FleetCommand(session, fleet, selections).run()


class _FleetCommand:
    def __init__(self, session: Session, fleet: Fleet, selections: Sequence[FleetSelection]) -> None:
        self._session, self._fleet, self._selections = session, fleet, selections
        self._options = session.options
        self._words = session.spec.name
        names = (f"{selection.app.name}/{selection.pattern}".rstrip("/") for selection in selections)
        self._target = ", ".join(names)
        self._is_dry_run = bool(session.ctx.params.get("dry_run"))

    def run(self) -> int:
        self._refuse_arguments()
        options = self._options
        instances = list_instances(self._selections, timeout=options.timeout)
        confirmation = self._confirm(instances)
        with ExitStack() as stack:
            record, completed = None, set[str]()
            if self._is_recorded and (record := self._locate_record()):
                names = stack.enter_context(record.open(resume=options.resume, timeout=options.timeout))
                completed = {instance.app for instance in instances if storable_text(instance.app) in names}
            command = InstanceCommand(self._session, self._parameters(), confirmation)
            output = create_output(self._session, self._target, self._words, len(instances))
            return self._process(instances, command, output, record, completed)

    @property
    def _is_recorded(self) -> bool:
        return self._fleet.resumes and not self._is_dry_run

    def _process(
        self,
        instances: Sequence[Instance],
        command: InstanceCommand,
        output: FleetOutput,
        record: FleetProgress | None,
        completed: set[str],
    ) -> int:
        order = {instance.app: index for index, instance in enumerate(instances)}
        limits = self._limits(instances)
        if completed:  # the canaries of the earlier run; the first instance may be one that failed then
            limits = structs.replace(limits, canaries=0)
        with show_progress(self._session, "", len(instances), unit="instances", threaded=False) as advance:
            run = self._session.run

            def receive(outcome: Outcome) -> None:
                if record and outcome.state == "done":
                    record.add(outcome.app)
                if run:
                    run.receive_outcome(outcome)
                output.add(order[outcome.app], outcome)
                advance(1)

            fleet_run = FleetRun(instances, limits, receive, completed=completed)
            try:
                tally = fleet_run.run(command.perform)
            except Interrupted as error:
                if record:
                    counts = fleet_run.tally.summarize(self._words)
                    error.hint = (
                        f"{counts.done} of {len(instances)} instances are done."
                        " Continue with the same command and --resume."
                    )
                raise
            finally:
                if run:
                    run.receive_counts(fleet_run.tally.summarize(self._words))
        if record:
            record.flush()
            if record.failure:
                warn(self._session, f"the run is not recorded, --resume cannot continue it: {record.failure}")
        return output.finish(tally)

    def _parameters(self) -> dict[str, object]:
        """Return the parameters of the command on one instance: a page of a list begins with its first row."""
        parameters = dict(self._fleet.replaces)
        limit, offset = self._session.ctx.params.get("limit"), self._session.ctx.params.get("offset")
        if isinstance(limit, int) and isinstance(offset, int):
            parameters |= {"limit": limit + offset, "offset": 0}
        return parameters

    def _limits(self, instances: Sequence[Instance]) -> RunLimits:
        options, fleet = self._options, self._fleet
        configured = next((selection.app.instances.jobs for selection in self._selections), None)
        jobs = options.jobs or configured or os.cpu_count() or 1
        canaries = fleet.canaries if options.canary is None else options.canary
        max_failures = fleet.max_failures if options.max_failures is None else options.max_failures
        return RunLimits(
            jobs=min(jobs, len(instances)),
            canaries=0 if self._is_dry_run else canaries,
            max_failures=0 if self._is_dry_run else max_failures,
        )

    def _locate_record(self) -> FleetProgress | None:
        folder = self._session.journal.folder
        if folder is None:
            return None
        options = self._options
        scope = [options.config, options.db, options.profile, *(options.url or ())]
        arguments = json.dumps(self._session.ctx.params, default=str, sort_keys=True)
        folders = [str(selection.app.folder) for selection in self._selections]
        return FleetProgress(folder, self._target, self._words, [*scope, *folders, arguments])

    def _refuse_arguments(self) -> None:
        options = self._options
        if options.resume and not self._fleet.resumes:
            raise UsageError(detail=f"{self._words} is not recorded; omit --resume")
        if options.canary and not self._fleet.canaries:
            raise UsageError(detail=f"{self._words} has no canaries; omit --canary")
        if options.columns and options.output.structured:
            raise UsageError(
                detail="--columns selects columns of tables, csv and tsv; JSON contains all of each instance"
            )
        for value in self._session.ctx.params.values():
            words = value if isinstance(value, (list, tuple)) else [value]
            if "-" in map(str, words):
                raise UsageError(detail="standard input cannot be read for each instance; pass the values")
        params = self._session.ctx.params
        if len([*(params.get("logins") or ()), *(params.get("ids") or ())]) > self._fleet.max_logins:
            # The instances that lack one of them would be skipped.
            raise UsageError(detail="pass one user; on a fleet, a command works on one user of each instance")

    def _confirm(self, instances: Sequence[Instance]) -> Confirmation:
        """Show one plan for all instances, ask once, and return the confirmation."""
        options = self._options
        if not self._fleet.may_destroy or self._is_dry_run:
            return Confirmation()
        names = {selection.app.name for selection in self._selections}
        if options.confirm and {options.confirm} != names:
            raise ConfirmationWrongError(value=options.confirm, app=", ".join(sorted(names)))
        is_protected = any(selection.app.protected for selection in self._selections)
        if options.confirm or (options.yes and not is_protected):
            return Confirmation(everything=True)
        plans = PlanCollector(self._target)
        command = InstanceCommand(self._session, {**self._parameters(), "dry_run": True})
        limits = structs.replace(self._limits(instances), canaries=0, max_failures=0)
        with show_progress(
            self._session, "planning", len(instances), unit="instances", threaded=False
        ) as advance:

            def receive(outcome: Outcome) -> None:
                plans.add(outcome)
                advance(1)

            FleetRun(instances, limits, receive).run(command.perform)
        plan = plans.create_plan()
        if plan.destructive:
            ask_confirmation(plan, word=", ".join(sorted(names)) if is_protected else "yes")
        return Confirmation(digests=plans.digests)
