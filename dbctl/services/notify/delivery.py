"""Deliver to several channels at the same time, within a time limit that no channel can exceed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import NamedTuple

from dbctl.config.environment import VariableUnreadableError
from dbctl.model import Struct
from dbctl.services.notify.channels.base import SendFailedError
from dbctl.signals import Interrupted

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


class _Sender(Thread):
    """A thread that ends with the process, because a look-up of a host name cannot be interrupted."""

    def __init__(self, task: Task) -> None:
        super().__init__(daemon=True)
        self.task, self.begin = task, time.monotonic()
        self.result: Delivery | None = None

    def run(self) -> None:
        reason = ""
        try:
            self.task.send()
        except (SendFailedError, VariableUnreadableError) as error:
            reason = str(error)
        except Interrupted as error:  # while a program prints a secret
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - no failure of a channel may fail the command; its text may be secret
            reason = f"unexpected error {type(error).__name__}"
        self.result = self.create_result(reason)

    def create_result(self, reason: str) -> Delivery:
        return Delivery(
            channel=self.task.channel,
            place=self.task.place,
            delivered=not reason,
            reason=reason,
            seconds=round(time.monotonic() - self.begin, 3),
        )


def run_tasks(tasks: Sequence[Task], seconds: float) -> Sequence[Delivery]:
    """Perform deliveries at the same time, and return their results in the same order.

    Args:
        tasks: the deliveries; those of one channel are one task, which keeps their order.
        seconds: the limit for all; a delivery that takes longer is abandoned.
    """
    senders = [_Sender(task) for task in tasks]
    for sender in senders:
        sender.start()
    deadline = time.monotonic() + seconds
    for sender in senders:
        sender.join(max(0.0, deadline - time.monotonic()))
    slow = f"it did not respond within {seconds:g} s"
    return [sender.result or sender.create_result(slow) for sender in senders]
