"""Notifications about the run of a command: pings at its begin and end, notices about failures and recoveries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.config.environment import use_secrets
from dbctl.config.sections import Sections, read_sections, report_first_problem
from dbctl.errors.base import DbctlError
from dbctl.extensions.notify.channels.ping import Ping
from dbctl.extensions.notify.dispatch import (
    BEGIN_SECONDS,
    SEVERITIES,
    Dispatcher,
    NotifySettings,
    Problem,
    Task,
    run_tasks,
)
from dbctl.extensions.notify.notice import (
    RECORD,
    Notice,
    describe_failure,
    describe_success,
    list_findings,
    remove_outputs,
)
from dbctl.model import Finding, Severity, count_severities, format_counts
from dbctl.services.events.history import UNATTENDED, RunProblem, find_problems, read_history
from dbctl.services.events.runs import (
    CommandHistory,
    JournalLocation,
    Run,
    RunOutcome,
    is_failed_job,
    is_failure,
)

INTERRUPTED = "interrupted"


def observe_run(location: JournalLocation, run: Run, interrupted: Sequence[Run]) -> RunNotifier | None:
    """Return the notifier of a run; None if no user is to be notified.

    The journal found the runs ``interrupted`` without a process when this one began.
    """
    interrupted = [other for other in interrupted if other.command in UNATTENDED and other.config]
    is_job = run.command in UNATTENDED and location.observes_runs
    return RunNotifier(location, run, interrupted) if is_job or interrupted else None


class RunNotifier:
    """Notifies users of one run; no method raises an error because of a channel."""

    def __init__(self, location: JournalLocation, run: Run, interrupted: Sequence[Run]) -> None:
        self._location, self._run, self._interrupted = location, run, interrupted
        is_job = run.command in UNATTENDED and location.configuration is not None
        self._sections = location.configuration if is_job else None
        self._pings: list[Ping] = []
        if self._sections:
            use_secrets(self._sections.secrets, self._sections.folder)
            addresses = [
                NotifySettings(self._sections, app).find_ping(app, run.command)
                for app in location.apps or [""]
            ]
            self._pings = [Ping(address) for address in dict.fromkeys(addresses) if address]

    def begin(self) -> Sequence[str]:
        """Ping at the beginning of a run that is a job, and return warnings."""
        if self._run.origin != "job":  # it may be refused, and a check without an end would fail
            return ()
        tasks = [Task(ping.name, ping.place, ping.begin) for ping in self._pings]
        deliveries = run_tasks(tasks, BEGIN_SECONDS) if tasks else ()
        return [delivery.describe() for delivery in deliveries if not delivery.delivered]

    def finish(
        self, run: Run, outcomes: Sequence[RunOutcome] = (), findings: Sequence[Finding] = ()
    ) -> Sequence[str]:
        """Ping and notify at the end of the run, and return warnings.

        ``run`` is its complete record; ``outcomes`` are those of the instances of a fleet.
        """
        warnings = list[str]()
        for config in {other.config for other in self._interrupted} - {self._location.config}:
            with suppress(DbctlError):  # that configuration is missing or invalid
                with report_first_problem(Path(config)):
                    foreign = read_sections(Path(config))
                warnings += self._notify(foreign, config, None, (), ())
        sections = self._location.configuration
        if sections and self._location.observes_runs:
            warnings += self._notify(sections, self._location.config, run, outcomes, findings)
        return warnings

    def _notify(
        self,
        sections: Sections,
        config: str,
        run: Run | None,
        outcomes: Sequence[RunOutcome],
        findings: Sequence[Finding],
    ) -> Sequence[str]:
        use_secrets(sections.secrets, sections.folder)
        dispatcher = Dispatcher(sections, config, self._location.folder)
        for other in self._interrupted:
            if other.config == config:
                dispatcher.report(create_interruption(other))
        if run and self._sections:
            self._report_run(dispatcher, self._sections, run, outcomes, findings)
        return list(dict.fromkeys(dispatcher.deliver().remarks))

    def _report_run(
        self,
        dispatcher: Dispatcher,
        sections: Sections,
        run: Run,
        outcomes: Sequence[RunOutcome],
        findings: Sequence[Finding],
    ) -> None:
        run, apps = remove_outputs(run), self._location.apps or ("",)
        failed, is_reported = is_failure(run.result), is_failed_job(run)
        history = _read_history(self._location, run) if failed else None
        text = describe_failure(run, outcomes, findings, history) if failed else describe_success(run)
        exit_code = run.exit_code or 0 if failed else 0
        for ping in () if failed and not is_reported and run.origin != "job" else self._pings:
            dispatcher.add_task(
                Task(ping.name, ping.place, lambda ping=ping: ping.finish(exit_code, text))  # type: ignore[misc] # a default binds the value
            )
        code = run.error.code if run.error else run.result
        if failed:
            if is_reported:
                notice = Notice(
                    event="failed",
                    apps=apps,
                    severity="error",
                    headline=f"{run.command} failed ({code})",
                    text=text,
                    run=run,
                    findings=findings,
                )
                dispatcher.report(Problem(run.command, code, notice))
            if findings:
                self._report_findings(dispatcher, sections, run, findings, failed=is_reported)
            return
        dispatcher.resolve(run.command, apps, text, run)
        self._report_findings(dispatcher, sections, run, findings, failed=False)
        self._report_missing(dispatcher, sections)

    def _report_findings(
        self,
        dispatcher: Dispatcher,
        sections: Sections,
        run: Run,
        findings: Sequence[Finding],
        *,
        failed: bool,
    ) -> None:
        """Report the findings of a run, except to users who receive those of a failed run with the failure."""
        for app in self._location.apps or ("",):
            if not (failed and "failed" in NotifySettings(sections, app).rules):
                report_findings(dispatcher, sections, app, f"{run.command} findings", findings, run)

    def _report_missing(self, dispatcher: Dispatcher, sections: Sections) -> None:
        """Report jobs of the app that were not started in time, or were interrupted, so that any job notices them."""
        for app in self._location.apps:
            for problem in list_run_problems(self._location, sections, app):
                is_silent = problem.notice.event == "overdue" or problem.code == INTERRUPTED
                if is_silent and problem.subject != self._run.command:
                    dispatcher.report(problem)


def create_interruption(run: Run) -> Problem:
    """Return the problem of a run whose process ended without a result."""
    text = (
        f"The process of {run.command} ended without a result, for example by kill -9 or a power failure. It began"
        f" {run.started_at:%Y-%m-%d %H:%M} UTC on {run.host} as {run.user}.\n{RECORD.write(facts={'id': run.id})}"
    )
    notice = Notice(
        event="failed",
        apps=run.app.split(", ") if run.app else ("",),
        severity="error",
        headline=f"{run.command} was interrupted",
        text=text,
        run=remove_outputs(run),
    )
    return Problem(run.command, INTERRUPTED, notice)


def list_run_problems(location: JournalLocation, sections: Sections, app: str) -> Sequence[Problem]:
    """Return the jobs of an app that failed, were interrupted, or were not started in time, by the journal."""
    section = sections.apps.get(app) or sections.apps.get(app.partition("/")[0])
    problems = find_problems(location, app, backup_config=section.backup if section else None)
    return [_create_job_problem(problem) for problem in problems if problem.command]


def _create_job_problem(problem: RunProblem) -> Problem:
    is_overdue = problem.kind == "missing"
    states = {"missing": "is overdue", "interrupted": "was interrupted"}
    notice = Notice(
        event="overdue" if is_overdue else "failed",
        apps=[problem.app],
        severity="error",
        headline=f"{problem.command} {states.get(problem.kind, f'failed ({problem.code})')}",
        text=problem.message,
    )
    return Problem(problem.command, problem.code or problem.kind, notice)


def report_findings(
    dispatcher: Dispatcher,
    sections: Sections,
    app: str,
    subject: str,
    findings: Sequence[Finding],
    run: Run | None = None,
) -> None:
    """Report the findings that are at least as severe as configured, or that there are none any more."""
    minimum = NotifySettings(sections, app).severity
    severe = [finding for finding in findings if SEVERITIES.index(finding.severity) >= minimum]
    severities: list[Severity] = [finding.severity for finding in severe]
    notice = Notice(
        event="finding",
        apps=[app],
        severity=max(severities, key=SEVERITIES.index, default="info"),
        headline=f"{subject}: {', '.join(format_counts(count_severities(severe)))}",
        text="\n".join(list_findings(severe)),
        run=run,
        findings=severe,
    )
    report_group(dispatcher, subject, notice, "There are no findings any more.")


def report_group(dispatcher: Dispatcher, subject: str, notice: Notice, resolution: str) -> None:
    """Report the findings of a notice as one problem, or with the text ``resolution`` that there are none any more."""
    if not notice.findings:
        dispatcher.resolve(subject, notice.apps, resolution, notice.run)
        return
    codes = sorted({f"{finding.target}:{finding.code}" for finding in notice.findings})
    dispatcher.report(Problem(subject, " ".join(codes), notice))


def _read_history(location: JournalLocation, run: Run) -> CommandHistory | None:
    """Return the history of the command for the first app, for the number of failures; the journal may be unusable."""
    if location.folder is None or not location.apps:
        return None
    with suppress(DbctlError):
        history = read_history(location.folder, location.config, location.apps[0])
        return next((entry for entry in history if entry.command == run.command), None)
    return None
