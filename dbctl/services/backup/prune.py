"""Prune backups by the rules of retention; the last valid backup is never deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dbctl import model
from dbctl.config import Retention
from dbctl.config import model as config
from dbctl.errors import PlanChangedError, RepositoryUnreadableError, RetentionNotConfiguredError, UsageError
from dbctl.model import ChangeResult, Plan, Struct, parse_duration
from dbctl.profiles.model import Profile
from dbctl.services.app import App, clock
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Verification

DAMAGED = "damaged: see dbctl backup verify"
#: A shorter gap between backups does not indicate a wrong clock, even with a short retention.
MIN_GAP = timedelta(days=7)


class RetainedBackup(Struct, frozen=True, kw_only=True):
    """A retained backup with the reasons."""

    id: str
    reasons: Sequence[str]


class BackupsPruned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup prune``."""

    deleted: Sequence[str]
    retained: Sequence[RetainedBackup]
    leftovers: Sequence[str]  #: folders of interrupted backups
    freed_bytes: int


class PruneBackups:
    """A planned ``backup prune``."""

    def __init__(self, app: App, repository: Repository, retention: Retention, *, timeout: float) -> None:
        """Use ``retention`` if it has rules, otherwise the configured rules.

        Raises:
            RetentionNotConfiguredError: no rule is configured.
            UsageError: ``--db`` selects one database.
        """
        if app.only:
            raise UsageError(detail="--db: only complete backups can be pruned; omit it")
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._trust_clock = app.trust_clock
        self._retention = retention if has_rules(retention) else retention_for(app.configured, app.profile)
        if not has_rules(self._retention):
            raise RetentionNotConfiguredError(app=app.name)
        self._repository, self._timeout = repository, timeout

    def plan(self) -> Plan:
        """Return the backups to delete, and the retained ones with the reasons; writes nothing.

        Raises:
            RepositoryUnreadableError: a manifest cannot be read.
            ClockImplausibleError: the clock contradicts the backups.
        """
        to_delete, retained = self._split()
        steps = [
            f"delete {manifest.id} ({manifest.created_at:%Y-%m-%d %H:%M} UTC): no rule retains it; {_describe_newer(manifest, retained)}"
            for manifest in to_delete
        ]
        steps += [f"remove the interrupted backup {name}" for name in self._repository.incomplete()]
        if steps:
            steps += [f"retain {manifest.id}: {', '.join(reasons)}" for manifest, reasons in retained]
        title = f"Prune the backups in {self._repository.store.location}"
        return Plan(title=title, target=self.target, steps=steps, rows={}, destructive=bool(to_delete))

    def apply(self, confirmed: str | None = None) -> BackupsPruned:
        """Delete the backups, oldest first, so that an interruption leaves the newest.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            RepositoryMissingError: it does not exist; it is not created.
            BusyError: another dbctl process uses the repository.
            RepositoryUnreadableError, ClockImplausibleError: as ``plan``.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with store.lock("backup prune", timeout=self._timeout):
            if confirmed is not None and self.plan().digest != confirmed:
                raise PlanChangedError(target=self.target)
            to_delete, retained = self._split()
            leftovers = self._repository.incomplete()
            freed_bytes = 0
            for manifest in reversed(to_delete):
                store.remove_folder(manifest.id)
                freed_bytes += sum(member.bytes for member in manifest.members)
            for name in leftovers:
                freed_bytes += sum(store.list_files(name).values())
                store.remove_folder(name)
        return BackupsPruned(
            deleted=[manifest.id for manifest in to_delete],
            retained=[RetainedBackup(id=manifest.id, reasons=reasons) for manifest, reasons in retained],
            leftovers=leftovers,
            freed_bytes=freed_bytes,
        )

    def _split(self) -> tuple[list[Manifest], list[tuple[Manifest, list[str]]]]:
        """Return the backups to delete, newest first, and the retained ones."""
        manifests, unreadable = self._repository.manifests()
        if unreadable:
            raise RepositoryUnreadableError(
                place=self._repository.store.location, names=", ".join(sorted(unreadable))
            )
        verifications = {manifest.id: self._repository.read_verification(manifest) for manifest in manifests}
        damaged = {
            manifest.id
            for manifest in manifests
            if self._repository.find_damage(manifest, verifications[manifest.id])
        }
        valid = [manifest for manifest in manifests if manifest.id not in damaged]
        reasons_by_id = retention_reasons([_candidate(manifest) for manifest in valid], self._retention)
        for backup_id in _last_drilled({manifest.id: verifications[manifest.id] for manifest in valid}):
            reasons_by_id.setdefault(backup_id, []).append("the last one with a drill")
        # Damaged backups are neither counted nor deleted; verify reports them.
        to_delete = [manifest for manifest in valid if manifest.id not in reasons_by_id]
        retained = [
            (manifest, backup_reasons)
            for manifest in manifests
            if (backup_reasons := [DAMAGED] if manifest.id in damaged else reasons_by_id.get(manifest.id))
        ]
        if not self._trust_clock:
            self._check_clock(manifests, valid, to_delete)
        return to_delete, retained

    def _check_clock(
        self, manifests: Sequence[Manifest], valid: Sequence[Manifest], to_delete: Sequence[Manifest]
    ) -> None:
        if future := clock.find_future((manifest.id, manifest.created_at) for manifest in manifests):
            raise clock.create_future_error(future)
        if not (to_delete and self._retention.within):  # the other rules do not depend on the current time
            return
        reach = min(clock.MAX_PAUSE, max(MIN_GAP, 2 * parse_duration(self._retention.within)))
        times = clock.Times("backups", [manifest.created_at for manifest in valid], regular=True)
        clock.raise_if_implausible(clock.find_contradiction([times], reach=reach))


def _last_drilled(verifications: Mapping[str, Verification]) -> Sequence[str]:
    """Return the backup with the last successful drill of each database."""
    last = dict[str, tuple[datetime, str]]()
    for backup_id, verification in verifications.items():
        future = clock.find_future((name, drill.at) for name, drill in verification.drills.items())
        for name, drill in verification.drills.items():
            if name in future:  # it would hide every later drill
                continue
            last[name] = max(last.get(name, (drill.at, backup_id)), (drill.at, backup_id))
    return list(dict.fromkeys(backup_id for _, backup_id in last.values()))


def _describe_newer(deleted: Manifest, retained: Sequence[tuple[Manifest, list[str]]]) -> str:
    """Describe how many newer backups are retained for each database of a backup to delete."""
    others = [
        manifest
        for manifest, reasons in retained
        if manifest.number > deleted.number and reasons != [DAMAGED]
    ]
    newer = {
        name: sum(other.kind == deleted.kind and name in other.affected_databases for other in others)
        for name in deleted.affected_databases
    }
    return f"newer ones retained: {', '.join(f'{count} of {name}' for name, count in newer.items())}"


def _candidate(manifest: Manifest) -> Candidate:
    series = [f"{manifest.kind} {name}" for name in manifest.affected_databases]
    return Candidate(id=manifest.id, created_at=manifest.created_at, series=series)


#: The reason for retaining a backup to which no rule applies.
FUTURE = "from the future: the clock was wrong when it was created, or is wrong now"


class Candidate(Struct, frozen=True, kw_only=True):
    """The properties of a backup that the rules use."""

    id: str
    created_at: datetime
    series: Sequence[str]  #: backups are counted per series: kind and database


#: Keys that are equal for two backups of the same hour, day, ISO week…; in UTC, which has no clock changes.
PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "hourly": lambda time: (time.date(), time.hour),
    "daily": lambda time: time.date(),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: time.year,
}


def has_rules(retention: Retention) -> bool:
    """Whether any rule is set."""
    return retention != Retention()


def retention_for(app: config.App, profile: Profile) -> Retention:
    """Return the rules of an app: from its configuration, otherwise from its profile."""
    configured = app.backup.keep if app.backup else Retention()
    return configured if has_rules(configured) else profile.backup.keep


def rules_by_name(retention: Retention) -> dict[str, int | str]:
    """Return the rules that are set, by name."""
    return {name: value for name in retention.__struct_fields__ if (value := getattr(retention, name))}


def retention_reasons(candidates: Sequence[Candidate], retention: Retention) -> dict[str, list[str]]:
    """Return the reasons for each retained candidate, by id.

    Each series is counted separately, and a backup is retained if any of its series requires it; so a backup of one
    database never replaces the last one of another. The newest of each series is always retained. A backup from the
    future is retained and not counted.

    Args:
        candidates: newest first.
        retention: the rules.
    """
    future = clock.find_future((candidate.id, candidate.created_at) for candidate in candidates)
    reasons_by_id: dict[str, list[str]] = {name: [FUTURE] for name in future}
    past = [candidate for candidate in candidates if candidate.id not in reasons_by_id]
    for series in dict.fromkeys(name for candidate in past for name in candidate.series):
        members = [candidate for candidate in past if series in candidate.series]
        for candidate, reason in _retained_in_series(members, retention):
            if reason not in reasons_by_id.setdefault(candidate.id, []):
                reasons_by_id[candidate.id].append(reason)
    return reasons_by_id


def _retained_in_series(members: Sequence[Candidate], retention: Retention) -> list[tuple[Candidate, str]]:
    retained = [(members[0], "the newest")]
    retained += [(candidate, f"one of the last {retention.last}") for candidate in members[: retention.last]]
    for rule, period in PERIODS.items():
        count = getattr(retention, rule)
        newest: dict[object, Candidate] = {}
        for candidate in members:
            newest.setdefault(period(candidate.created_at.astimezone(UTC)), candidate)
        retained += [(candidate, rule) for candidate in list(newest.values())[:count]]
    if retention.within:
        since = model.now() - parse_duration(retention.within)
        retained += [
            (candidate, f"within {retention.within}")
            for candidate in members
            if candidate.created_at >= since
        ]
    return retained
