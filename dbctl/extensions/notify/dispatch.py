"""Decide which notices each channel receives, and deliver them to all channels at the same time, within a time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
from msgspec import structs

from dbctl.config.environment import VariableUnreadableError
from dbctl.config.model import JobCommand
from dbctl.config.sections import Sections
from dbctl.errors.base import Exit
from dbctl.extensions.notify.addresses import fill_placeholders
from dbctl.extensions.notify.channels.base import Channel, SendFailedError, create_channel
from dbctl.extensions.notify.channels.ping import Ping
from dbctl.extensions.notify.errors import NotifyNotConfiguredError
from dbctl.extensions.notify.notice import Event, Notice
from dbctl.extensions.notify.section import merge_sections
from dbctl.files.temp import start_call
from dbctl.model import ChangeResult, Closing, Effect, Page, Severity, Struct, format_count
from dbctl.services.events.notices import SentNotices
from dbctl.services.events.runs import Run
from dbctl.signals import Interrupted
from dbctl.units import parse_duration

#: Seconds for all channels together, at the end of a command and at its beginning.
FINISH_SECONDS, BEGIN_SECONDS = 6.0, 3.0


class Task(NamedTuple):
    """One delivery."""

    channel: str
    place: str
    send: Callable[[], None]


class Delivery(Struct, frozen=True, kw_only=True):
    """The result of one delivery."""

    channel: str
    place: str  #: without the parts of the address that may be secret
    delivered: bool
    reason: str = ""  #: why it was not delivered
    seconds: float

    def describe(self) -> str:
        """Return the warning about a failure."""
        target = f"{self.channel} ({self.place})" if self.place else self.channel
        return f"not notified through {target}: {self.reason}"


def _send(task: Task) -> Delivery:
    reason, begin = "", time.monotonic()
    try:
        task.send()
    except (SendFailedError, VariableUnreadableError) as error:
        reason = str(error)
    except Interrupted as error:  # while a program prints a secret
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - no failure of a channel may fail the command; its text may be secret
        reason = f"unexpected error {type(error).__name__}"
    return _create_delivery(task, reason, time.monotonic() - begin)


def _create_delivery(task: Task, reason: str, seconds: float) -> Delivery:
    return Delivery(
        channel=task.channel, place=task.place, delivered=not reason, reason=reason, seconds=round(seconds, 3)
    )


def run_tasks(tasks: Sequence[Task], seconds: float) -> Sequence[Delivery]:
    """Perform deliveries at the same time, and return their results in the same order.

    Their threads end with the process, because a look-up of a host name cannot be interrupted.

    Args:
        tasks: the deliveries; those of one channel are one task, which keeps their order.
        seconds: the limit for all; a delivery that takes longer is abandoned.
    """
    from concurrent.futures import wait

    calls = [start_call(partial(_send, task)) for task in tasks]
    wait(calls, seconds)
    slow = f"it did not respond within {seconds:g} s"
    return [
        call.result() if call.done() else _create_delivery(task, slow, seconds)
        for task, call in zip(tasks, calls, strict=True)
    ]


DEFAULT_REPEAT = timedelta(days=3)
SEVERITIES: Sequence[Severity] = ("info", "warning", "error")


class NotifySettings:
    """The merged sections ``[notify]`` and ``[apps.NAME.notify]``."""

    def __init__(self, sections: Sections, app: str) -> None:
        """Read nothing yet: channels read their secrets when they send. ``app`` may be an instance of a fleet; empty: those of all apps."""
        section, channels = merge_sections(sections, app)
        #: equal for apps with the same settings
        self.key = msgspec.json.encode([section, channels])
        self.ping, self.rules = section.ping, section.rules
        self.repeat = parse_duration(section.repeat) if section.repeat else DEFAULT_REPEAT
        self.severity = SEVERITIES.index(section.severity or "error")
        self.channels: Sequence[Channel] = [
            create_channel(name, channel, sections.folder) for name, channel in channels.items()
        ]

    def find_ping(self, app: str, command: str) -> str:
        """Return the address that is pinged for a job, with its variables; empty: none is configured."""
        text = self.ping if isinstance(self.ping, str) else dict[str, str](**self.ping).get(command, "")
        return fill_placeholders(text, {"app": _slug(app), "command": _slug(command)})


def group_by_settings(
    sections: Sections, apps: Sequence[str]
) -> Sequence[tuple[NotifySettings, Sequence[str]]]:
    """Return the apps with equal settings together, so that one message is about all of them."""
    groups: dict[bytes, tuple[NotifySettings, list[str]]] = {}
    for app in apps or [""]:
        settings = NotifySettings(sections, app)
        groups.setdefault(settings.key, (settings, []))[1].append(app)
    return list(groups.values())


def _slug(text: str) -> str:
    """Return a name with the letters of the slugs of Healthchecks."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())


class Problem(NamedTuple):
    """A problem that exists, of which each channel is notified once."""

    subject: str  #: the job or the kind of check that has the problem
    code: str  #: another code is another problem
    notice: Notice


class NoticeSent(Struct, frozen=True, kw_only=True):
    """One notice."""

    event: Event
    app: str  #: several: separated by commas
    severity: Severity
    headline: str


class ProblemsSent(ChangeResult, frozen=True, kw_only=True):
    """The sent notices, and the result of each channel."""

    notices: Sequence[NoticeSent]  #: that a channel delivered
    suppressed: int  #: problems that were sent before, within ``repeat``
    deliveries: Sequence[Delivery]  #: by channel

    @property
    def failures(self) -> Sequence[Delivery]:
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


class _Queue:
    """The notices of one channel, each with the function that records its delivery."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.entries = channel, list[tuple[Notice, Callable[[], None]]]()
        self.sent = 0  #: the number of the delivered ones, which are the first: a failure or the time limit may follow

    def send(self) -> None:
        """Deliver the notices; as ``Channel.send``."""
        for notice, _ in self.entries:
            self.channel.send(notice)
            self.sent += 1


class Dispatcher:
    """Collects notices by channel, delivers them at the end, and records what was delivered."""

    def __init__(self, sections: Sections, config: str, folder: Path | None) -> None:
        """Read the record of sent notices.

        ``config`` is the path of the configuration; without a ``folder``, the directory of the journal, nothing is suppressed.
        """
        self._sections = sections
        self._sent = SentNotices(folder, config)
        self._queues: dict[tuple[bytes, str], _Queue] = {}
        self._suppressed = 0
        self._tasks: list[Task] = []

    def report(self, problem: Problem) -> None:
        """Notify each channel that was not notified of the problem within the time for repetitions."""
        notice = problem.notice
        for settings, apps in group_by_settings(self._sections, notice.apps):
            is_enabled = notice.event in settings.rules
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
                    if notice.event == "failed" and not (notice.findings and "finding" in settings.rules):
                        record()
                elif new_apps:
                    is_sent = True
                    self._enqueue(settings, channel, structs.replace(notice, apps=new_apps), record)
            self._suppressed += is_enabled and bool(settings.channels) and not is_sent

    def resolve(self, subject: str, apps: Sequence[str], text: str, run: Run | None = None) -> None:
        """Notify the channels that were notified of a problem of this subject, which has none now."""
        for settings, names in group_by_settings(self._sections, apps):
            for channel in settings.channels:
                known = [
                    app
                    for app in names
                    if (entry := self._sent.find(app, subject)) and channel.name in entry.times
                ]
                record = partial(self._sent.remove, known, subject, channel.name)
                if known and "recovered" in settings.rules:
                    notice = Notice(
                        event="recovered",
                        apps=known,
                        severity="info",
                        headline=f"{subject} recovered",
                        text=text,
                        run=run,
                    )
                    self._enqueue(settings, channel, notice, record)
                else:
                    record()

    def send(self, notice: Notice) -> None:
        """Send a notice through every channel of its apps whose rules include its event, without suppression."""
        for settings, apps in group_by_settings(self._sections, notice.apps):
            for channel in settings.channels:
                if notice.event in settings.rules:
                    self._enqueue(settings, channel, structs.replace(notice, apps=apps), lambda: None)

    def add_task(self, task: Task) -> None:
        """Perform another delivery at the same time."""
        self._tasks.append(task)

    def deliver(self) -> ProblemsSent:
        """Deliver the notices, and record the deliveries."""
        queues = list(self._queues.values())
        tasks = [Task(queue.channel.name, queue.channel.place, queue.send) for queue in queues]
        deliveries = run_tasks([*tasks, *self._tasks], FINISH_SECONDS)
        delivered = list[Notice]()
        for queue in queues:
            for notice, record in queue.entries[: queue.sent]:
                record()
                if notice not in delivered:
                    delivered.append(notice)
        self._sent.store()
        notices = [
            NoticeSent(
                event=notice.event,
                app=", ".join(notice.apps),
                severity=notice.severity,
                headline=notice.headline,
            )
            for notice in delivered
        ]
        return ProblemsSent(notices=notices, suppressed=self._suppressed, deliveries=deliveries)

    def _record(self, apps: Sequence[str], problem: Problem, channel: str) -> None:
        for app in apps:
            self._sent.add(app, problem.subject, problem.code, channel)

    def _enqueue(
        self, settings: NotifySettings, channel: Channel, notice: Notice, record: Callable[[], None]
    ) -> None:
        queue = self._queues.setdefault((settings.key, channel.name), _Queue(channel))
        queue.entries.append((notice, record))


#: The job whose address is tested if one address with ``{command}`` is that of every job.
_SAMPLE_JOB = "backup create"


class ChannelTest(Struct, frozen=True, kw_only=True):
    """The result of one channel."""

    channel: str
    app: str  #: several: separated by commas
    place: str  #: the address, without the parts that may be secret
    delivered: bool
    reason: str  #: why it was not delivered
    seconds: float


class ChannelTests(Page[ChannelTest], frozen=True, kw_only=True):
    """The results of the channels."""

    @property
    def closing(self) -> Closing:
        failed = sum(not item.delivered for item in self.items)
        details = [f"{failed} failed"] if failed else ["all delivered"]
        return Closing(f"Tested {format_count(len(self.items), 'channel')}", details)

    @property
    def exit_status(self) -> Exit:
        """Whether all, some or none were delivered."""
        return summarize_deliveries([item.delivered for item in self.items])


def summarize_deliveries(delivered: Sequence[bool]) -> Exit:
    """Return the exit code for deliveries."""
    if all(delivered):
        return Exit.OK
    return Exit.PARTIAL if any(delivered) else Exit.UNREACHABLE


def send_tests(sections: Sections, apps: Sequence[str], channel: str) -> ChannelTests:
    """Send a test message through each channel of apps, or only through ``channel``; those with equal settings are tested once.

    Raises:
        NotifyNotConfiguredError: no app has the channel, or any.
    """
    labels, tasks = list[str](), list[Task]()
    for settings, names in group_by_settings(sections, apps):
        for task in _list_tasks(settings, names):
            if channel in ("", task.channel):
                labels.append(", ".join(names))
                tasks.append(task)
    if not tasks:
        raise NotifyNotConfiguredError(channel=f"channel {channel}" if channel else "channel")
    items = [
        ChannelTest(app=label, **structs.asdict(delivery))
        for label, delivery in zip(labels, run_tasks(tasks, FINISH_SECONDS), strict=True)
    ]
    return ChannelTests(items=items, total=len(items), column_names=ChannelTest.__struct_fields__)


def _list_tasks(settings: NotifySettings, apps: Sequence[str]) -> Iterator[Task]:
    jobs = [_SAMPLE_JOB] if isinstance(settings.ping, str) else get_args(JobCommand)
    addresses = (settings.find_ping(app, job) for app in apps for job in jobs)
    for ping in [Ping(address) for address in dict.fromkeys(addresses) if address]:
        yield Task(ping.name, ping.place, ping.test)
    notice = Notice(
        event="test",
        apps=apps,
        severity="info",
        headline="test of dbctl notify test",
        text=f"This channel of dbctl on {os.uname().nodename} works.",
    )
    for channel in settings.channels:
        yield Task(channel.name, channel.place, partial(channel.send, notice))
