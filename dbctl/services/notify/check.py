"""``dbctl notify check``: send what is overdue and what a check of the status finds, and what ended."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.config.sections import Sections, Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError
from dbctl.model import ChangeResult, Effect, Finding, Severity, Struct
from dbctl.services.events.location import JournalLocation
from dbctl.services.notify.delivery import Delivery
from dbctl.services.notify.dispatch import Dispatcher, DispatchResult, Problem, Recovery
from dbctl.services.notify.notice import Event, list_findings
from dbctl.services.notify.observer import list_run_problems, report_findings
from dbctl.services.notify.trial import summarize_deliveries
from dbctl.services.observation import observe
from dbctl.services.report.fleets import collect_fleet

#: Codes of findings about work that is due.
OVERDUE = frozenset({"backup-due", "verification-due", "drill-due", "cleanup-due", "migrations-pending"})
#: Findings about runs are read from the journal, where they are the same subject as the notice of the run itself.
RUNS = "run-"


class NoticeSent(Struct, frozen=True, kw_only=True):
    """One notice."""

    event: Event
    app: str  #: several: separated by commas
    severity: Severity
    headline: str


class ProblemsSent(ChangeResult, frozen=True, kw_only=True):
    """The sent notices, and the result of each channel."""

    notices: Sequence[NoticeSent]
    suppressed: int  #: problems that were sent before, within ``repeat``
    deliveries: Sequence[Delivery]  #: by channel

    @property
    def failures(self) -> Sequence[Delivery]:
        """The deliveries that failed."""
        return [delivery for delivery in self.deliveries if not delivery.delivered]

    @property
    def exit_status(self) -> int:
        return summarize_deliveries([delivery.delivered for delivery in self.deliveries])

    @property
    def remarks(self) -> Sequence[str]:
        return [delivery.describe() for delivery in self.failures]

    @property
    def effect(self) -> Effect | None:
        if not (self.notices or self.failures):
            return None
        counts = {"sent before": self.suppressed, "channels failed": len(self.failures)}
        return Effect("sent", "notice", count=len(self.notices), counts=counts)


def send_problems(
    sections: Sections, location: JournalLocation, selections: Sequence[Selection], *, timeout: float
) -> ProblemsSent:
    """Notify users of overdue work, findings and jobs that failed.

    Args:
        sections: the configuration.
        location: the journal, and the path of the configuration.
        selections: the apps and fleets.
        timeout: for locks, in seconds.
    """
    dispatcher = Dispatcher(sections, location.config, location.folder)
    for selection in selections:
        for problem in list_run_problems(location, sections, selection.app):
            dispatcher.report(problem)
        findings = _read_findings(selection, timeout)
        _report_status(dispatcher, sections, selection.app, findings)
    return create_result(dispatcher.deliver())


def create_result(result: DispatchResult) -> ProblemsSent:
    """Return the result of a command from that of a dispatcher."""
    notices = [
        NoticeSent(
            event=notice.event,
            app=", ".join(notice.apps),
            severity=notice.severity,
            headline=notice.headline,
        )
        for notice in result.notices
    ]
    return ProblemsSent(notices=notices, suppressed=result.suppressed, deliveries=result.deliveries)


def _read_findings(selection: Selection, timeout: float) -> Sequence[Finding]:
    """Return the findings of the status of an app, or of a fleet."""
    try:
        findings = observe(selection, timeout=timeout).findings
    except FleetSelectedError as error:
        findings = _read_fleet(selection, error, timeout)
    except DbctlError as error:
        findings = [Finding.from_error(selection.app, error)]
    return [finding for finding in findings if not finding.code.startswith(RUNS)]


def _read_fleet(selection: Selection, error: FleetSelectedError, timeout: float) -> Sequence[Finding]:
    try:
        return collect_fleet(selection, error, timeout=timeout).list_findings()
    except DbctlError as failure:
        return [Finding.from_error(selection.app, failure)]


def _report_status(dispatcher: Dispatcher, sections: Sections, app: str, findings: Sequence[Finding]) -> None:
    overdue = [finding for finding in findings if finding.code in OVERDUE]
    subject = "overdue work"
    if overdue:
        dispatcher.report(
            Problem(
                event="overdue",
                apps=[app],
                subject=subject,
                code=" ".join(sorted({f"{finding.target}:{finding.code}" for finding in overdue})),
                severity="warning",
                headline=f"overdue: {', '.join(dict.fromkeys(finding.code for finding in overdue))}",
                text="\n".join(list_findings(overdue)),
                findings=overdue,
            )
        )
    else:
        dispatcher.resolve(Recovery(apps=[app], subject=subject, text="No work is overdue any more."))
    others = [finding for finding in findings if finding.code not in OVERDUE]
    report_findings(dispatcher, sections, app, "status", others)
