"""``dbctl notify test``: a test message through each channel, and the result of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import get_args

from dbctl.config.model import JobCommand
from dbctl.config.sections import Sections
from dbctl.errors.base import Exit
from dbctl.errors.operations import NotifyNotConfiguredError
from dbctl.model import Closing, Page, Struct, format_count, now
from dbctl.services.notify.channels.ping import Ping
from dbctl.services.notify.delivery import FINISH_SECONDS, Delivery, Task, run_tasks
from dbctl.services.notify.notice import Notice
from dbctl.services.notify.settings import NotifySettings, group_by_settings

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
    """Send a test message through each channel of apps; those with equal settings are tested once.

    Args:
        sections: the configuration.
        apps: the names of the apps.
        channel: only this one; empty: all.

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
        _create_test(label, delivery)
        for label, delivery in zip(labels, run_tasks(tasks, FINISH_SECONDS), strict=True)
    ]
    return ChannelTests(items=items, total=len(items), column_names=ChannelTest.__struct_fields__)


def _list_tasks(settings: NotifySettings, apps: Sequence[str]) -> Iterator[Task]:
    jobs = [_SAMPLE_JOB] if isinstance(settings.section.ping, str) else get_args(JobCommand)
    addresses = (settings.find_ping(app, job) for app in apps for job in jobs)
    for ping in [Ping(address) for address in dict.fromkeys(addresses) if address]:
        yield Task(ping.name, ping.place, ping.test)
    host = os.uname().nodename
    notice = Notice(
        event="test",
        apps=apps,
        severity="info",
        headline="test of dbctl notify test",
        text=f"This channel of dbctl on {host} works.",
        time=now(),
        host=host,
    )
    for channel in settings.channels:
        yield Task(channel.name, channel.place, partial(channel.send, notice))


def _create_test(app: str, delivery: Delivery) -> ChannelTest:
    return ChannelTest(
        channel=delivery.channel,
        app=app,
        place=delivery.place,
        delivered=delivery.delivered,
        reason=delivery.reason,
        seconds=delivery.seconds,
    )
