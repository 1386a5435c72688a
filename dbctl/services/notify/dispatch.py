"""Decide which notices each channel receives: rules, repetitions, recoveries; and deliver them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import structs

from dbctl.config.model import NotifyEvent
from dbctl.config.sections import Sections
from dbctl.model import Finding, Severity, Struct, now
from dbctl.services.events.notices import SentNotices
from dbctl.services.events.runs import Run
from dbctl.services.notify.channels.base import Channel
from dbctl.services.notify.delivery import FINISH_SECONDS, Delivery, Task, run_tasks
from dbctl.services.notify.notice import Notice
from dbctl.services.notify.settings import NotifySettings, group_by_settings


class Problem(Struct, frozen=True, kw_only=True):
    """A problem that exists, of which each channel is notified once."""

    event: NotifyEvent
    apps: Sequence[str]
    subject: str  #: the job or the kind of check that has the problem
    code: str  #: another code is another problem
    severity: Severity
    headline: str
    text: str
    run: Run | None = None
    findings: Sequence[Finding] = ()


class Recovery(Struct, frozen=True, kw_only=True):
    """A subject that has no problem; the channels that were notified of one are notified of its end."""

    apps: Sequence[str]
    subject: str
    text: str
    run: Run | None = None


class DispatchResult(Struct, frozen=True, kw_only=True):
    """The sent notices, and the result of each channel."""

    notices: Sequence[Notice] = ()
    suppressed: int = 0  #: notices that no channel received, because it received them already
    deliveries: Sequence[Delivery] = ()

    @property
    def warnings(self) -> Sequence[str]:
        """Messages about failed deliveries."""
        return list(
            dict.fromkeys(delivery.describe() for delivery in self.deliveries if not delivery.delivered)
        )


class Dispatcher:
    """Collects notices by channel, delivers them at the end, and records what was delivered."""

    def __init__(self, sections: Sections, config: str, folder: Path | None) -> None:
        """Read the record of sent notices.

        Args:
            sections: the configuration.
            config: its path.
            folder: the directory of the journal; None: nothing is suppressed.
        """
        self._sections = sections
        self._sent = SentNotices(folder, config)
        self._queues: dict[tuple[bytes, str], tuple[Channel, list[tuple[Notice, Callable[[], None]]]]] = {}
        self._notices: list[Notice] = []
        self._suppressed = 0
        self._tasks: list[Task] = []

    def report(self, problem: Problem) -> None:
        """Notify each channel that was not notified of the problem within the time for repetitions."""
        for settings, apps in group_by_settings(self._sections, problem.apps):
            is_enabled = problem.event in settings.rules
            is_sent = False
            for channel in settings.channels:
                new_apps = [
                    app
                    for app in apps
                    if not self._sent.is_suppressed(
                        app, problem.subject, problem.code, channel.name, settings.repeat
                    )
                ]
                record = partial(self._record, new_apps, problem, channel.name)
                if not is_enabled:
                    # The recovery can be sent without the failure, but not a second time for its findings.
                    if problem.event == "failed" and not (problem.findings and "finding" in settings.rules):
                        record()
                elif new_apps:
                    is_sent = True
                    self._enqueue(settings, channel, self._create_notice(problem, new_apps), record)
            self._suppressed += is_enabled and bool(settings.channels) and not is_sent

    def resolve(self, recovery: Recovery) -> None:
        """Notify the channels that were notified of a problem of this subject."""
        for settings, apps in group_by_settings(self._sections, recovery.apps):
            for channel in settings.channels:
                known = [
                    app
                    for app in apps
                    if (entry := self._sent.find(app, recovery.subject)) and channel.name in entry.times
                ]
                if known and "recovered" in settings.rules:
                    notice = Notice(
                        event="recovered",
                        apps=known,
                        severity="info",
                        headline=f"{recovery.subject} recovered",
                        text=recovery.text,
                        time=now(),
                        host=os.uname().nodename,
                        run=recovery.run,
                    )
                    self._enqueue(settings, channel, notice, lambda: None)
            for app in apps:
                self._sent.remove(app, recovery.subject)

    def send(self, notice: Notice) -> None:
        """Send a notice through every channel of its apps whose rules include its event, without suppression."""
        for settings, apps in group_by_settings(self._sections, notice.apps):
            for channel in settings.channels:
                if notice.event in settings.rules:
                    self._enqueue(settings, channel, structs.replace(notice, apps=apps), lambda: None)

    def add_task(self, task: Task) -> None:
        """Perform another delivery at the same time."""
        self._tasks.append(task)

    def deliver(self, seconds: float = FINISH_SECONDS) -> DispatchResult:
        """Deliver the notices, and record the deliveries."""
        queues = list(self._queues.values())
        tasks = [
            Task(channel.name, channel.place, partial(_send_all, channel, [notice for notice, _ in entries]))
            for channel, entries in queues
        ]
        deliveries = run_tasks([*tasks, *self._tasks], seconds)
        for (_, entries), delivery in zip(queues, deliveries, strict=False):
            for _, record in entries if delivery.delivered else ():
                record()
        self._sent.store()
        return DispatchResult(notices=self._notices, suppressed=self._suppressed, deliveries=deliveries)

    def _create_notice(self, problem: Problem, apps: Sequence[str]) -> Notice:
        return Notice(
            event=problem.event,
            apps=apps,
            severity=problem.severity,
            headline=problem.headline,
            text=problem.text,
            time=now(),
            host=os.uname().nodename,
            run=problem.run,
            findings=problem.findings,
        )

    def _record(self, apps: Sequence[str], problem: Problem, channel: str) -> None:
        for app in apps:
            self._sent.add(app, problem.subject, problem.code, channel)

    def _enqueue(
        self, settings: NotifySettings, channel: Channel, notice: Notice, record: Callable[[], None]
    ) -> None:
        queue = self._queues.setdefault((settings.key, channel.name), (channel, []))
        queue[1].append((notice, record))
        if notice not in self._notices:
            self._notices.append(notice)


def _send_all(channel: Channel, notices: Sequence[Notice]) -> None:
    for notice in notices:
        channel.send(notice)
