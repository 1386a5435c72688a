"""The moments that copies and the stored log of their server since them have, and the parts of the log that they require.

A copy is a physical one of a whole server, or a dump with its position in the log. It has the number of the newest part of the log
before it, so that the parts after it can be followed without a gap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import SystemRandom

from msgspec import structs

from dbctl.model import Struct
from dbctl.services.backup.manifest import RESTORED, SEQUENCE, SINCE, Form, Manifest, Member

#: As a requested time: any moment of the stored log.
RANDOM = datetime.max.replace(tzinfo=UTC)
#: The fact of a part of a log before which the server had lost some of it.
LOST = "lost"


class LogRange(Struct, frozen=True, kw_only=True):
    """The latest moments that can be recovered without a gap."""

    since: datetime  #: the end of the earliest copy
    until: datetime  #: the end of the log that follows it
    unusable: Sequence[str] = ()  #: later parts of the log, which follow a gap and no copy
    form: Form  #: of the copy
    #: when a restore began, also one that was killed; the log of a dump cannot be replayed past a restore
    restored_at: datetime | None = None

    def choose(self) -> datetime:
        """Return a random moment of the range, in whole milliseconds if it is longer than one."""
        millisecond = timedelta(milliseconds=1)
        first = self.since + timedelta(microseconds=-self.since.microsecond % 1000)
        if first > self.until:
            return self.until
        return first + SystemRandom().randrange((self.until - first) // millisecond + 1) * millisecond

    def describe_gap(self) -> str:
        """Return the consequence of a gap; empty: there is none."""
        if self.restored_at:
            reason = f"a restore began at {self.restored_at:%Y-%m-%d %H:%M:%S} UTC"
        elif self.unusable:
            reason = f"a part of the log before {self.unusable[0]} is missing"
        else:
            return ""
        return f"{reason}: no moment after {self.until:%Y-%m-%d %H:%M:%S} UTC can be recovered"


def find_newest_log(manifests: Sequence[Manifest], database: str) -> Member | None:
    """Return the newest part of the log of the server of a database; ``manifests`` are newest first."""
    members = (member for manifest in manifests for member in manifest.members)
    return next((member for member in members if (member.database, member.form) == (database, "log")), None)


def read_sequence(member: Member | None) -> int:
    """Return the number of a part of a log, or that of the newest part before a copy; 0: there is none."""
    return int(member.facts[SEQUENCE]) if member else 0


def read_since(copy: Member) -> datetime:
    """Return the first moment that a copy and the log since then have."""
    return datetime.fromisoformat(copy.facts[SINCE]) if SINCE in copy.facts else copy.taken_at


def find_copy(manifest: Manifest, database: str) -> Member | None:
    """Return the copy of a database from which the log of its server is followed; None: the backup has none."""
    return next(
        (
            member
            for member in manifest.members
            if member.database == database
            and member.form in ("physical", "dump")
            and SEQUENCE in member.facts
            and not member.foreign
        ),
        None,
    )


def summarize(moments: LogRange | None) -> dict[str, object]:
    """Return the columns of moments in a table."""
    return {
        "recoverable since": moments.since if moments else None,
        "until": moments.until if moments else None,
    }


def find_range(manifests: Sequence[Manifest], database: str) -> LogRange | None:
    """Return the moments of a database; None: there is no copy.

    A copy that was made after a loss, but before ``backup log`` detected it, counts as one before the loss.

    ``manifests`` are the backups without known damage, newest first.
    """
    latest: LogRange | None = None
    unusable, newest, has_gap = list[str](), 0, True
    earlier = set[datetime]()  # restores before the copy
    for manifest in reversed(manifests):
        # A restore moves tables from another database, of which a recovery from a dump has none.
        if latest and latest.form == "dump" and not latest.restored_at:
            since = latest.since.replace(microsecond=0)
            times = [time for time in _list_restores(manifest, database) if time >= since]
            latest = structs.replace(latest, restored_at=min({*times} - earlier, default=None))
        if copy := find_copy(manifest, database):
            # Between a base that prune kept for its differences and the next copy, there is no log.
            if latest is None or has_gap or latest.restored_at or read_sequence(copy) > newest:
                since, newest = read_since(copy), read_sequence(copy)
                latest, unusable = LogRange(since=since, until=since, form=copy.form), []
                earlier = set(_list_restores(manifest, database))
                has_gap = newest == 0  # the log begins later
        elif part := find_newest_log([manifest], database):
            has_gap = has_gap or read_sequence(part) != newest + 1 or LOST in part.facts
            if latest and has_gap:
                unusable.append(manifest.id)
            elif latest:
                newest += 1
                until = min(part.taken_at, latest.restored_at or part.taken_at)
                latest = structs.replace(latest, until=max(latest.since, until))
                has_gap = latest.restored_at is not None
    return latest and structs.replace(latest, unusable=unusable)


def state_restores(members: Sequence[Member], manifests: Sequence[Manifest]) -> list[Member]:
    """Return members of a new backup that state the restores since the newest part of the log; ``manifests`` are newest first.

    ``backup prune`` deletes safety backups before copies and the log.
    """
    return [
        structs.replace(
            member, facts={**member.facts, RESTORED: " ".join(time.isoformat() for time in times)}
        )
        if (member.form == "kept" or SEQUENCE in member.facts)
        and (times := _list_unstored_restores(manifests, member.database))
        else member
        for member in members
    ]


def _list_unstored_restores(manifests: Sequence[Manifest], database: str) -> Sequence[datetime]:
    times = set[datetime]()
    for manifest in manifests:
        if find_newest_log([manifest], database):
            return sorted(times)
        times.update(_list_restores(manifest, database))
    return []  # no log is stored


def _list_restores(manifest: Manifest, database: str) -> Iterator[datetime]:
    """Yield the seconds in which restores of a database of a server began: that of a safety backup, and those that its members state."""
    for member in manifest.members:
        if member.database == database:
            yield from map(datetime.fromisoformat, member.facts.get(RESTORED, "").split())
            if member.form == "kept":
                yield member.taken_at.replace(microsecond=0)


def find_required_log(manifests: Sequence[Manifest], retained: Collection[str]) -> Mapping[str, str]:
    """Return the reasons for retaining parts of the log of servers, by id: the log since the earliest retained copy, and the newest part.

    Without the newest part, ``backup log`` would begin a new log, which no copy before it can follow.

    ``manifests`` are newest first; ``retained`` are ids.
    """
    reasons = dict[str, str]()
    copies = [
        (manifest, {name for name in manifest.databases if find_copy(manifest, name)})
        for manifest in manifests
    ]
    copies = [(manifest, names) for manifest, names in copies if names]
    continued = set[str]()  # the databases whose newest part has been found
    for part in manifests:
        if part.kind != "log":
            continue
        databases = set(part.databases)
        own = [copy for copy, names in copies if names & databases]
        remaining = [copy for copy in own if copy.id in retained]
        if needed := [copy.id for copy in remaining if copy.number < part.number]:
            reasons[part.id] = f"the log since {needed[-1]}"
        elif not own:
            reasons[part.id] = "a log without a copy yet"
        elif remaining and databases - continued:
            reasons[part.id] = f"the log before {remaining[-1].id}, which the next part continues"
        continued |= databases
    return reasons
