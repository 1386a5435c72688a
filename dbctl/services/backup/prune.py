"""Prune backups by the rules of retention, or delete them by id; the last valid backup is never deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dbctl import model
from dbctl.config import Retention
from dbctl.config import model as config
from dbctl.errors import (
    BackupRetainedError,
    LastBackupError,
    RepositoryUnreadableError,
    RetentionNotConfiguredError,
    UsageError,
)
from dbctl.model import ChangeResult, Plan, Struct, parse_duration
from dbctl.profiles.model import Profile
from dbctl.services.app import clock
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.operation import BackupOperation
from dbctl.services.backup.repository import ID, Repository
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


class BackupsDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup delete``."""

    deleted: Sequence[str]
    freed_bytes: int


class PruneBackups(BackupOperation):
    """A planned ``backup prune``."""

    purpose = "backup prune"

    def __init__(self, repository: Repository, retention: Retention) -> None:
        """Use ``retention`` if it has rules, otherwise the configured rules.

        Raises:
            RetentionNotConfiguredError: no rule is configured.
            UsageError: ``--db`` selects one database.
        """
        super().__init__(repository)
        app = self._app
        if app.only:
            raise UsageError(detail="--db: only complete backups can be pruned; omit it")
        self._retention = retention if has_rules(retention) else retention_for(app.configured, app.profile)
        if not has_rules(self._retention):
            raise RetentionNotConfiguredError(app=app.name)

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
        return self._create_plan(title, steps, destructive=bool(to_delete))

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
        with self._lock():
            self._require_confirmed(confirmed)
            to_delete, retained = self._split()
            leftovers, leftover_bytes = self._repository.incomplete(), 0
            for manifest in reversed(to_delete):
                store.remove_folder(manifest.id)
            for name in leftovers:
                leftover_bytes += sum(store.list_files(name).values())
                store.remove_folder(name)
        return BackupsPruned(
            deleted=[manifest.id for manifest in to_delete],
            retained=[RetainedBackup(id=manifest.id, reasons=reasons) for manifest, reasons in retained],
            leftovers=leftovers,
            freed_bytes=sum(manifest.bytes for manifest in to_delete) + leftover_bytes,
        )

    def _split(self) -> tuple[list[Manifest], list[tuple[Manifest, list[str]]]]:
        """Return the backups to delete, newest first, and the retained ones."""
        content = self._repository.read_content()
        if content.unreadable:
            names, place = ", ".join(sorted(content.unreadable)), self._repository.store.location
            raise RepositoryUnreadableError(place=place, names=names)
        manifests, damaged, valid = content.manifests, content.damaged, content.valid
        reasons_by_id = retention_reasons([_candidate(manifest) for manifest in valid], self._retention)
        for backup_id in _last_drilled(
            {manifest.id: content.verifications[manifest.id] for manifest in valid}
        ):
            reasons_by_id.setdefault(backup_id, []).append("the last one with a drill")
        # Damaged backups are neither counted nor deleted; verify reports them.
        reasons_by_id |= {backup_id: [DAMAGED] for backup_id in damaged}
        # With the S3 protocol, a deletion would succeed and hide a backup whose files remain.
        for manifest in valid:
            if manifest.id not in reasons_by_id and (refusal := self._read_refusal(manifest)):
                reasons_by_id[manifest.id] = [refusal]
        to_delete = [manifest for manifest in valid if manifest.id not in reasons_by_id]
        retained = [
            (manifest, reasons_by_id[manifest.id]) for manifest in manifests if manifest.id in reasons_by_id
        ]
        if not self._app.trust_clock:
            self._check_clock(manifests, valid, to_delete)
        return to_delete, retained

    def _read_refusal(self, manifest: Manifest) -> str:
        return self._repository.store.read_protection(manifest.id).refusal

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


class DeleteBackups(BackupOperation):
    """A planned ``backup delete``: it is independent of the retention, and never deletes the last valid backup."""

    purpose = "backup delete"

    def __init__(self, repository: Repository, names: Sequence[str]) -> None:
        """Check the ids.

        Raises:
            UsageError: a name is not an id; ``latest`` may be another backup than the user expects.
        """
        super().__init__(repository)
        self._names = names
        for name in names:
            if not ID.fullmatch(name):
                raise UsageError(detail=f"{name!r} is not a backup id; list ids with: dbctl backup list")

    def plan(self) -> Plan:
        """Return what would be deleted.

        Raises:
            BackupMissingError: a backup does not exist.
            BackupCorruptError: a manifest cannot be read.
            LastBackupError: no other valid backup of a database would remain.
            BackupRetainedError: the storage retains a backup.
        """
        steps = [
            f"delete {manifest.id} ({manifest.kind}, {manifest.created_at:%Y-%m-%d %H:%M} UTC):"
            f" {', '.join(manifest.affected_databases)}"
            for manifest in self._select()
        ]
        title = f"Delete backups in {self._repository.store.location}"
        return self._create_plan(title, steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> BackupsDeleted:
        """Delete the backups.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, BackupCorruptError, LastBackupError, BackupRetainedError: as ``plan``.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            selected = self._select()
            for manifest in selected:
                store.remove_folder(manifest.id)
        return BackupsDeleted(
            deleted=[manifest.id for manifest in selected],
            freed_bytes=sum(manifest.bytes for manifest in selected),
        )

    def _select(self) -> Sequence[Manifest]:
        repository = self._repository
        selected = repository.find_all(self._names)
        ids = {manifest.id for manifest in selected}
        remaining = {
            database
            for manifest in repository.read_content().valid
            if manifest.id not in ids and manifest.kind == "backup"
            for database in manifest.databases
        }
        at_risk = {
            database for manifest in selected if manifest.kind == "backup" for database in manifest.databases
        }
        if unprotected := sorted(at_risk - remaining):
            raise LastBackupError(ids=", ".join(sorted(ids)), databases=", ".join(unprotected))
        for manifest in selected:
            if refusal := repository.store.read_protection(manifest.id).refusal:
                raise BackupRetainedError(place=repository.store.location, id=manifest.id, reason=refusal)
        return selected


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
