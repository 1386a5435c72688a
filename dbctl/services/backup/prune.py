"""Old backups removed by the rules of retention, never the last sound one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dbctl import model
from dbctl.config import Keep
from dbctl.config import model as config
from dbctl.errors import PlanChangedError, RepositoryUnreadError, RetentionUnsetError, UsageError
from dbctl.model import Done, Plan, Value, read_span
from dbctl.profiles.model import Profile
from dbctl.services.app import App, clock
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Proven

DAMAGED = "damaged: see dbctl backup verify"
#: A gap of so few days among backups is no sign of a wrong clock, however short the time is for which they are kept.
LEAST_GAP = timedelta(days=7)


class Staying(Value, frozen=True, kw_only=True):
    """A backup that stays, and why."""

    id: str
    reasons: Sequence[str]


class Pruned(Done, frozen=True, kw_only=True):
    """Answer of ``backup prune``."""

    deleted: Sequence[str]
    kept: Sequence[Staying]
    leftovers: Sequence[str]  #: folders that a backup which was cut off had left
    freed_bytes: int


class Pruning:
    """What ``backup prune`` is about to do."""

    def __init__(self, app: App, repository: Repository, keep: Keep, *, timeout: float) -> None:
        """Take the rules: those that were given, else the configured ones.

        Raises:
            RetentionUnsetError: there are none.
            UsageError: only one database is meant.
        """
        if app.only:
            raise UsageError(
                detail="--db: pruning takes whole backups; each database's last one stays anyway"
            )
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._trust_clock = app.trust_clock
        self._keep = keep if has_rules(keep) else rules_of(app.configured, app.profile)
        if not has_rules(self._keep):
            raise RetentionUnsetError(app=app.name)
        self._repository, self._timeout = repository, timeout

    def plan(self) -> Plan:
        """Return what would go, and why the rest stays; writes nothing.

        Raises:
            RepositoryUnreadError: a manifest cannot be read.
            ClockDoubtedError: the clock contradicts the backups.
        """
        going, staying = self._sorted()
        steps = [
            f"delete {one.id} ({one.created_at:%Y-%m-%d %H:%M} UTC): no rule keeps it; {_newer(one, staying)}"
            for one in going
        ]
        steps += [
            f"remove what is left of {name}, which was cut off" for name in self._repository.incomplete()
        ]
        if steps:
            steps += [f"keep {one.id}: {', '.join(why)}" for one, why in staying]
        title = f"Prune the backups in {self._repository.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={}, destructive=bool(going))

    def apply(self, seen: str | None = None) -> Pruned:
        """Delete, the oldest first, so that an abort leaves the newest.

        Raises:
            PlanChangedError: it would be another plan than the one that was agreed to; nothing was deleted.
            RepositoryMissingError: it is not there, and is not made either.
            BusyError: another dbctl works on the repository.
            RepositoryUnreadError, ClockDoubtedError: as ``plan``.
        """
        store = self._repository.store
        store.folders()  # before the lock, which would make the repository
        with store.lock("backup prune", timeout=self._timeout):
            if seen is not None and self.plan().digest != seen:
                raise PlanChangedError(target=self.target)
            going, staying = self._sorted()
            leftovers = self._repository.incomplete()
            freed = 0
            for one in reversed(going):
                store.remove(one.id)
                freed += sum(member.bytes for member in one.members)
            for name in leftovers:
                freed += sum(store.files(name).values())
                store.remove(name)
        return Pruned(
            deleted=[one.id for one in going],
            kept=[Staying(id=one.id, reasons=why) for one, why in staying],
            leftovers=leftovers,
            freed_bytes=freed,
        )

    def _sorted(self) -> tuple[list[Manifest], list[tuple[Manifest, list[str]]]]:
        """Return what goes, the newest first, and what stays."""
        found, unread = self._repository.manifests()
        if unread:
            raise RepositoryUnreadError(place=self._repository.store.place, names=", ".join(sorted(unread)))
        proven = {one.id: self._repository.proven(one) for one in found}
        damaged = {one.id for one in found if self._repository.damage(one, proven[one.id])}
        whole = [one for one in found if one.id not in damaged]
        stay = reasons([_candidate(one) for one in whole], self._keep)
        for one in _drilled({one.id: proven[one.id] for one in whole}):
            stay.setdefault(one, []).append("the last one restored on trial")
        # What is not whole does not count, and so neither pushes out nor goes: verify tells of it.
        going = [one for one in whole if one.id not in stay]
        staying = [
            (one, why) for one in found if (why := [DAMAGED] if one.id in damaged else stay.get(one.id))
        ]
        if not self._trust_clock:
            self._check_clock(found, whole, going)
        return going, staying

    def _check_clock(
        self, manifests: Sequence[Manifest], whole: Sequence[Manifest], going: Sequence[Manifest]
    ) -> None:
        if future := clock.find_future((manifest.id, manifest.created_at) for manifest in manifests):
            raise clock.doubted(future)
        if not (going and self._keep.within):  # the other rules count backups, and no time since
            return
        reach = min(clock.FAR, max(LEAST_GAP, 2 * read_span(self._keep.within)))
        times = clock.Times("backups", [manifest.created_at for manifest in whole], regular=True)
        clock.refuse(clock.find_contradiction([times], reach=reach))


def _drilled(whole: Mapping[str, Proven]) -> Sequence[str]:
    """Return the last backups of which it is known that they can be restored: one for each database."""
    last = dict[str, tuple[datetime, str]]()
    for folder, proven in whole.items():
        future = clock.find_future((name, drill.at) for name, drill in proven.drills.items())
        for name, drill in proven.drills.items():
            if name in future:  # it would hide every later drill
                continue
            last[name] = max(last.get(name, (drill.at, folder)), (drill.at, folder))
    return list(dict.fromkeys(folder for _, folder in last.values()))


def _newer(going: Manifest, staying: Sequence[tuple[Manifest, list[str]]]) -> str:
    """Say of each database of a backup that goes how many newer ones stay."""
    others = [one for one, why in staying if one.number > going.number and why != [DAMAGED]]
    newer = {
        name: sum(one.kind == going.kind and name in one.concerns for one in others)
        for name in going.concerns
    }
    return f"newer ones that stay: {', '.join(f'{number} of {name}' for name, number in newer.items())}"


def _candidate(manifest: Manifest) -> Candidate:
    series = [f"{manifest.kind} {name}" for name in manifest.concerns]
    return Candidate(id=manifest.id, at=manifest.created_at, series=series)


#: Why a backup stays that no rule can judge.
FUTURE = "from the future: the clock was wrong when it was made, or is wrong now"


class Candidate(Value, frozen=True, kw_only=True):
    """A backup as the rules see it."""

    id: str
    at: datetime
    series: Sequence[str]  #: what it is counted among: each database it holds, apart for each kind


#: What two backups of one hour, day, ISO week… have in common; in UTC, so that no clock change makes two of one.
PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


def has_rules(keep: Keep) -> bool:
    """Whether it says anything."""
    return keep != Keep()


def rules_of(app: config.App, profile: Profile) -> Keep:
    """Return which backups of an app stay: as its configuration says, else its profile."""
    told = app.backup.keep if app.backup else Keep()
    return told if has_rules(told) else profile.backup.keep


def told(keep: Keep) -> dict[str, int | str]:
    """Return the rules that say anything, by their names."""
    return {name: value for name in keep.__struct_fields__ if (value := getattr(keep, name))}


def reasons(candidates: Sequence[Candidate], keep: Keep) -> dict[str, list[str]]:
    """Return, for each candidate that stays, why.

    A backup of one database never pushes out the last one of another: every series is counted by itself, and a
    backup stays when any of its series needs it. The newest of each series stays whatever the rules say. A backup from
    the future stays, and takes no other backup's place.

    Args:
        candidates: the newest first.
        keep: the rules.
    """
    future = clock.find_future((candidate.id, candidate.at) for candidate in candidates)
    stay: dict[str, list[str]] = {name: [FUTURE] for name in future}
    judged = [candidate for candidate in candidates if candidate.id not in stay]
    for series in dict.fromkeys(name for candidate in judged for name in candidate.series):
        members = [candidate for candidate in judged if series in candidate.series]
        for candidate, why in _of_series(members, keep):
            if why not in stay.setdefault(candidate.id, []):
                stay[candidate.id].append(why)
    return stay


def _of_series(members: Sequence[Candidate], keep: Keep) -> list[tuple[Candidate, str]]:
    staying = [(members[0], "the newest")]
    staying += [(candidate, f"one of the last {keep.last}") for candidate in members[: keep.last]]
    for rule, period in PERIODS.items():
        count = getattr(keep, rule)
        newest: dict[object, Candidate] = {}
        for candidate in members:
            newest.setdefault(period(candidate.at.astimezone(UTC)), candidate)
        staying += [(candidate, rule) for candidate in list(newest.values())[:count]]
    if keep.within:
        since = model.now() - read_span(keep.within)
        staying += [(candidate, f"within {keep.within}") for candidate in members if candidate.at >= since]
    return staying
