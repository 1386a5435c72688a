"""The moments that copies of a server and the stored log since them have, and the parts of the log that they require."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import SystemRandom

from dbctl.model import Struct
from dbctl.services.backup.manifest import Manifest

#: As a requested time: any moment of the stored log.
RANDOM = datetime.max.replace(tzinfo=UTC)
#: The fact with the number of a part of a log; of a copy, that of the newest part before it; 0: there was none.
SEQUENCE = "sequence"
#: The fact of a part of a log before which the server had lost some of it.
LOST = "lost"


class LogRange(Struct, frozen=True, kw_only=True):
    """The latest moments that can be recovered without a gap."""

    since: datetime  #: the end of the earliest copy
    until: datetime  #: the end of the log that follows it
    unusable: Sequence[str] = ()  #: later parts of the log, which follow a gap and no copy

    def choose(self) -> datetime:
        """Return a random moment of the range, in whole milliseconds if it is longer than one."""
        millisecond = timedelta(milliseconds=1)
        first = self.since + timedelta(microseconds=-self.since.microsecond % 1000)
        if first > self.until:
            return self.until
        return first + SystemRandom().randrange((self.until - first) // millisecond + 1) * millisecond

    def describe_gap(self) -> str:
        """Return the consequence of a gap; empty: there is none."""
        if not self.unusable:
            return ""
        return (
            f"a part of the log before {self.unusable[0]} is missing:"
            f" no moment after {self.until:%Y-%m-%d %H:%M:%S} UTC can be recovered"
        )


def summarize(moments: LogRange | None) -> dict[str, object]:
    """Return the columns of moments in a table."""
    return {
        "recoverable since": moments.since if moments else None,
        "until": moments.until if moments else None,
    }


def find_range(manifests: Sequence[Manifest], database: str) -> LogRange | None:
    """Return the moments of a database; None: there is no copy of its server.

    A copy that was made after a loss, but before ``backup log`` detected it, counts as one before the loss.

    Args:
        manifests: the backups without known damage, newest first.
        database: its name.
    """
    latest: LogRange | None = None
    unusable, newest, has_gap = list[str](), 0, True
    for manifest in reversed(manifests):
        member = next((member for member in manifest.members if member.database == database), None)
        if member is None or manifest.kind not in ("physical", "log"):
            continue
        number = int(member.facts[SEQUENCE])
        if manifest.kind == "physical":
            if latest is None or has_gap:
                latest, unusable, newest = LogRange(since=member.taken_at, until=member.taken_at), [], number
                has_gap = number == 0  # the log begins later
            continue
        has_gap = has_gap or number != newest + 1 or LOST in member.facts
        if latest and has_gap:
            unusable.append(manifest.id)
        elif latest:
            latest, newest = LogRange(since=latest.since, until=member.taken_at), number
    return latest and LogRange(since=latest.since, until=latest.until, unusable=unusable)


def find_required_log(manifests: Sequence[Manifest], retained: Collection[str]) -> Mapping[str, str]:
    """Return the reasons for retaining parts of the log of servers, by id: the log since the earliest retained copy of its server.

    Args:
        manifests: newest first.
        retained: the ids of retained backups.
    """
    reasons = dict[str, str]()
    copies = [manifest for manifest in manifests if manifest.kind == "physical"]
    for part in manifests:
        if part.kind != "log":
            continue
        own = [copy for copy in copies if set(copy.databases) & set(part.databases)]
        needed = [copy.id for copy in own if copy.id in retained and copy.number < part.number]
        if needed:
            reasons[part.id] = f"the log since {needed[-1]}"
        elif not own:
            reasons[part.id] = "a log whose server has no copy yet"
    return reasons
