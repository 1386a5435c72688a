"""The rules of retention: which backups they retain, and why; and pins, which protect a backup from all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from msgspec import structs

from dbctl import model
from dbctl.config.environment import operator_name
from dbctl.config.model import Retention
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, Struct, now
from dbctl.services.app import clock
from dbctl.services.backup import verification_record
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import UNREADABLE, UNREADABLE_RECORD, Pin, Verification
from dbctl.units import parse_duration

NEWEST = "the newest"
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


def rules_by_name(retention: Retention) -> dict[str, int | str]:
    return {name: value for name in retention.__struct_fields__ if (value := getattr(retention, name))}


def retention_reasons(
    candidates: Sequence[Candidate],
    retention: Retention,
    by_series: Mapping[str, Retention] = MappingProxyType({}),
) -> dict[str, list[str]]:
    """Return the reasons for each retained candidate, by id; ``candidates`` are newest first.

    Each series is counted separately, and a backup is retained if any of its series requires it; so a backup of one
    database never replaces the last one of another. The newest of each series is always retained. A backup from the
    future is retained and not counted. The series in ``by_series`` have other rules.
    """
    future = clock.find_future((candidate.id, candidate.created_at) for candidate in candidates)
    reasons_by_id: dict[str, list[str]] = {name: [FUTURE] for name in future}
    past = [candidate for candidate in candidates if candidate.id not in reasons_by_id]
    for series in dict.fromkeys(name for candidate in past for name in candidate.series):
        members = [candidate for candidate in past if series in candidate.series]
        for candidate, reason in _retained_in_series(members, by_series.get(series, retention)):
            if reason not in reasons_by_id.setdefault(candidate.id, []):
                reasons_by_id[candidate.id].append(reason)
    return reasons_by_id


def _retained_in_series(members: Sequence[Candidate], retention: Retention) -> list[tuple[Candidate, str]]:
    retained = [(members[0], NEWEST)]
    if not rules_by_name(structs.replace(retention, max_bytes="", min_free="")):
        retained += [(candidate, "within the limits") for candidate in members[1:]]
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


LONGEST_REASON = 500  # characters


class BackupsPinned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup pin`` and ``backup unpin``."""

    backups: Sequence[str]  #: those that changed
    reason: str | None  #: None: they are no longer pinned

    @property
    def effect(self) -> Effect | None:
        verb = "unpinned" if self.reason is None else "pinned"
        return Effect(verb, "backup", self.backups) if self.backups else None


class PinBackups(BackupOperation):
    def __init__(self, repository: Repository, names: Sequence[str], reason: str | None) -> None:
        """Select the backups by id or ``latest``; ``reason`` None removes their pins.

        Raises:
            UsageError: the reason is empty or too long, or no valid text.
        """
        from dbctl.engines.sql.codec import is_encodable

        super().__init__(repository)
        if reason is not None and not (0 < len(reason.strip()) <= LONGEST_REASON and is_encodable(reason)):
            raise UsageError(detail=f"--reason: write 1 to {LONGEST_REASON} characters of valid UTF-8")
        self._names, self._reason = names, reason

    def plan(self) -> Plan:
        """Return the backups to change.

        Raises:
            BackupMissingError, BackupCorruptError: as ``Repository.find``.
        """
        steps = [
            f"unpin {manifest.id}: {record.pin.reason if record.pin else UNREADABLE_RECORD}"
            if self._reason is None
            else f"pin {manifest.id}: {self._reason}"
            for manifest, record in self._select()
        ]
        return self._create_plan(f"Change the pins of backups in {self._repository.store.location}", steps)

    def apply(self, confirmed: str | None = None) -> BackupsPinned:
        """Write the records.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, BackupCorruptError: as ``plan``.
            RepositoryFailedError, DiskFullError: a record cannot be written.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            selected = self._select()
            pin = None if self._reason is None else Pin(at=now(), by=operator_name(), reason=self._reason)
            for manifest, _ in selected:
                verification_record.update(
                    store, manifest.id, lambda record: structs.replace(record, pin=pin)
                )
        return BackupsPinned(backups=[manifest.id for manifest, _ in selected], reason=self._reason)

    def _select(self) -> list[tuple[Manifest, Verification]]:
        """Return the selected backups that the operation changes, with their records."""
        records = [
            (manifest, self._repository.read_verification(manifest))
            for manifest in self._repository.find_all(self._names)
        ]
        return [
            (manifest, record)
            for manifest, record in records
            if record is UNREADABLE or (record.pin.reason if record.pin else None) != self._reason
        ]
