"""Prune backups by the rules of retention, or delete them by id; the last valid backup and pinned ones are never deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from dbctl.config.model import Retention
from dbctl.errors.backup import (
    BackupPinnedError,
    BackupRequiredError,
    BackupRetainedError,
    LastBackupError,
    LogRequiredError,
    RepositoryUnreadableError,
    RetentionNotConfiguredError,
)
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app import clock
from dbctl.services.backup import deltas
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.log_range import find_required_log
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.repository import LATEST, Repository, RepositoryContent
from dbctl.services.backup.retention.rules import (
    FUTURE,
    NEWEST,
    Candidate,
    database_retentions,
    has_rules,
    retention_for,
    retention_reasons,
)
from dbctl.services.backup.verification_record import UNREADABLE, UNREADABLE_RECORD, Verification
from dbctl.units import parse_duration, parse_size

DAMAGED = "damaged: see backup verify"
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
    exceeded: Sequence[str] = ()  #: limits that the retained backups exceed

    @property
    def remarks(self) -> Sequence[str]:
        return self.exceeded

    @property
    def effect(self) -> Effect | None:
        if not (self.deleted or self.leftovers):
            return None
        counts = {"interrupted backups": len(self.leftovers), "retained": len(self.retained)}
        return Effect("deleted", "backup", count=len(self.deleted), counts=counts, bytes=self.freed_bytes)


class BackupsDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup delete``."""

    deleted: Sequence[str]
    freed_bytes: int
    dropped: Sequence[str] = ()  #: names of retained databases that were dropped on their server
    remarks: Sequence[str] = ()  #: what could not be dropped

    @property
    def effect(self) -> Effect | None:
        counts = {"databases dropped": len(self.dropped)}
        return Effect("deleted", "backup", self.deleted, counts=counts, bytes=self.freed_bytes)


class PruneBackups(BackupOperation):
    """A planned ``backup prune``."""

    def __init__(self, repository: Repository, retention: Retention) -> None:
        """Use ``retention`` for all databases if it has rules, otherwise the configured rules.

        Raises:
            RetentionNotConfiguredError: no rule is configured.
            UsageError: ``--db`` selects one database, or ``min_free`` is set for object storage.
        """
        super().__init__(repository)
        app = self._app
        if app.only:
            raise UsageError(detail="--db: only complete backups can be pruned; omit it")
        is_requested = has_rules(retention)
        self._retention = retention if is_requested else retention_for(app.configured, app.profile)
        self._by_database = {} if is_requested else database_retentions(app.configured)
        if not (has_rules(self._retention) or self._by_database):
            raise RetentionNotConfiguredError(app=app.name)
        if self._retention.min_free and repository.store.free_space() is None:
            raise UsageError(
                detail=f"min_free: {repository.store.location} has no file system; use max_bytes"
            )

    def plan(self) -> Plan:
        """Return the backups to delete, and the retained ones with the reasons; writes nothing.

        Raises:
            RepositoryUnreadableError: a manifest cannot be read.
            ClockImplausibleError: the clock contradicts the backups.
        """
        to_delete, retained, exceeded = self._split()
        steps = [
            f"delete {manifest.id} ({manifest.created_at:%Y-%m-%d %H:%M} UTC): no rule retains it; {_describe_newer(manifest, retained)}"
            for manifest in to_delete
        ]
        steps += [f"remove the interrupted backup {name}" for name in self._repository.incomplete()]
        if steps:
            steps += [f"retain {manifest.id}: {', '.join(reasons)}" for manifest, reasons in retained]
        steps += exceeded
        title = f"Prune the backups in {self._repository.store.location}"
        return self._create_plan(title, steps, destructive=bool(to_delete))

    def apply(self, confirmed: str | None = None) -> BackupsPruned:
        """Delete the backups, oldest first but bases last, so that an interruption leaves the newest, and no backup without its base.

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
            to_delete, retained, exceeded = self._split()
            leftovers, leftover_bytes = self._repository.incomplete(), 0
            for manifest in reversed(deltas.sort_bases_first(to_delete)):
                store.remove_folder(manifest.id)
            for name in leftovers:
                leftover_bytes += sum(store.list_files(name).values())
                store.remove_folder(name)
        return BackupsPruned(
            deleted=[manifest.id for manifest in to_delete],
            retained=[RetainedBackup(id=manifest.id, reasons=reasons) for manifest, reasons in retained],
            leftovers=leftovers,
            freed_bytes=sum(manifest.bytes for manifest in to_delete) + leftover_bytes,
            exceeded=exceeded,
        )

    def _split(self) -> tuple[list[Manifest], list[tuple[Manifest, list[str]]], list[str]]:
        """Return the backups to delete, newest first, the retained ones, and the limits that they exceed."""
        content = self._repository.read_content()
        if content.unreadable:
            raise _unreadable_error(self._repository, content)
        manifests, damaged, valid = content.manifests, content.damaged, content.valid
        records = {manifest.id: content.verifications[manifest.id] for manifest in valid}
        # Rules apply to the copies of a server, and a log without one of them cannot be used.
        ruled = [manifest for manifest in valid if manifest.kind != "log"]
        by_series = {
            _name_series(manifest, name): keep
            for manifest in ruled
            for name, keep in self._by_database.items()
        }
        reasons_by_id = retention_reasons(list(map(_candidate, ruled)), self._retention, by_series)
        protections = _find_protections(records)
        protections |= {
            backup_id: reason
            for backup_id, reasons in reasons_by_id.items()
            for reason in (NEWEST, FUTURE)
            if reason in reasons
        }
        exceeded = list(self._apply_limits(content, reasons_by_id, protections))
        for backup_id, reason in protections.items():
            if reason not in reasons_by_id.setdefault(backup_id, []):
                reasons_by_id[backup_id].append(reason)
        # Damaged backups are neither counted nor deleted; verify reports them.
        reasons_by_id |= {backup_id: [DAMAGED] for backup_id in damaged}
        # With the S3 protocol, a deletion would succeed and hide a backup whose files remain.
        for manifest in valid:
            if manifest.id not in reasons_by_id and (
                refusal := self._repository.store.read_protection(manifest.id).refusal
            ):
                reasons_by_id[manifest.id] = [refusal]
        for backup_id, reason in find_required_log(manifests, reasons_by_id).items():
            reasons_by_id.setdefault(backup_id, []).append(reason)
        dependents = deltas.find_dependents(
            [manifest for manifest in manifests if manifest.id in deltas.add_bases(reasons_by_id, manifests)]
        )
        for base, ids in dependents.items():
            reasons_by_id.setdefault(base, []).append(
                f"the base of {format_count(len(ids), 'retained backup')}"
            )
        to_delete = [manifest for manifest in valid if manifest.id not in reasons_by_id]
        retained = [
            (manifest, reasons_by_id[manifest.id]) for manifest in manifests if manifest.id in reasons_by_id
        ]
        if not self._app.trust_clock:
            self._check_clock(manifests, valid, to_delete)
        return to_delete, retained, exceeded

    def _apply_limits(
        self,
        content: RepositoryContent,
        reasons_by_id: dict[str, list[str]],
        protections: Mapping[str, str],
    ) -> Iterator[str]:
        """Remove the reasons of the oldest unprotected backups until the limits are met; yield limits that are not met."""
        limits, store = self._retention, self._repository.store
        manifests, valid = content.manifests, content.valid

        def count_freed() -> int:
            ruled = {*reasons_by_id, *protections, *content.damaged}
            retained = deltas.add_bases(ruled, manifests) | find_required_log(manifests, ruled).keys()
            return sum(manifest.bytes for manifest in valid if manifest.id not in retained)

        freed = count_freed()
        used = sum(manifest.bytes for manifest in manifests)
        free = store.free_space() if limits.min_free else None
        excess = {
            "max_bytes": used - parse_size(limits.max_bytes) if limits.max_bytes else 0,
            "min_free": parse_size(limits.min_free) - free if free is not None else 0,
        }
        for manifest in reversed(valid):
            if freed >= max(excess.values()):
                return
            if manifest.id in reasons_by_id and manifest.id not in protections:
                del reasons_by_id[manifest.id]
                freed = count_freed()
        for name, excess_bytes in excess.items():
            if excess_bytes > freed:
                yield f"{name} = {getattr(limits, name)} is not met: the other backups are protected"

    def _check_clock(
        self, manifests: Sequence[Manifest], valid: Sequence[Manifest], to_delete: Sequence[Manifest]
    ) -> None:
        if future := clock.find_future((manifest.id, manifest.created_at) for manifest in manifests):
            raise clock.create_future_error(future)
        retentions = [self._retention, *self._by_database.values()]
        spans = [parse_duration(retention.within) for retention in retentions if retention.within]
        if not (to_delete and spans):  # the other rules do not depend on the current time
            return
        reach = min(clock.MAX_PAUSE, max(MIN_GAP, 2 * min(spans)))
        # The time of an adopted backup is that of a file, which this machine did not record.
        created = [manifest.created_at for manifest in valid if manifest.origin is None]
        times = clock.Records("backups", regular=True, has=partial(clock.has_time, created))
        clock.raise_if_implausible(clock.find_contradiction([times], reach=reach))


class DeleteBackups(BackupOperation):
    """A planned ``backup delete``: it is independent of the retention, and never deletes the last valid backup."""

    def __init__(
        self, repository: Repository, names: Sequence[str], *, with_dependents: bool = False
    ) -> None:
        """Select the backups by their ids, or by the first characters of these.

        ``with_dependents``: also delete the backups that require one of them as their base.

        Raises:
            UsageError: ``latest``, which may be another backup than the user expects.
        """
        super().__init__(repository)
        self._names, self._with_dependents = names, with_dependents
        if LATEST in names:
            raise UsageError(
                detail=f"{LATEST!r} is not a backup id", hint=Remedy("List ids with: `backup list`")
            )

    def plan(self) -> Plan:
        """Return what would be deleted.

        Raises:
            BackupMissingError: a backup does not exist.
            AmbiguousIdError: several ids begin with the text.
            BackupCorruptError: a manifest cannot be read.
            LastBackupError: no other valid backup of a database would remain.
            BackupPinnedError: a backup is pinned.
            BackupRequiredError: a backup is the base of others.
            RepositoryUnreadableError: a backup may be the base of one whose manifest cannot be read.
            LogRequiredError: a backup is a part of the log since a copy of its server.
            BackupRetainedError: the storage retains a backup.
        """
        selected = self._select()
        steps = [
            f"delete {manifest.id} ({manifest.kind}, {manifest.created_at:%Y-%m-%d %H:%M} UTC):"
            f" {', '.join(manifest.affected_databases)}"
            for manifest in selected
        ]
        steps += [
            f"drop the retained database {member.facts['kept']} on its server"
            for member in self._find_retained(selected)
        ]
        title = f"Delete backups in {self._repository.store.location}"
        return self._create_plan(title, steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> BackupsDeleted:
        """Delete the backups.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, AmbiguousIdError, BackupCorruptError, LastBackupError, BackupPinnedError,
            BackupRequiredError, RepositoryUnreadableError, BackupRetainedError: as ``plan``.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            selected = self._select()
            retained = self._find_retained(selected)
            for manifest in reversed(deltas.sort_bases_first(selected)):
                store.remove_folder(manifest.id)
            remarks = list(self._drop_retained(retained))
        return BackupsDeleted(
            deleted=[manifest.id for manifest in selected],
            freed_bytes=sum(manifest.bytes for manifest in selected),
            dropped=[] if remarks else [member.facts["kept"] for member in retained],
            remarks=remarks,
        )

    def _find_retained(self, selected: Sequence[Manifest]) -> Sequence[Member]:
        """Return the members of the selected backups that are databases on their server."""
        lost = self._repository.find_lost_databases(selected)
        return [
            member
            for manifest in selected
            for member in manifest.members
            if member.form == "kept" and manifest.id not in lost
        ]

    def _drop_retained(self, retained: Sequence[Member]) -> Iterator[str]:
        """Drop the databases that deleted backups retained on their server; yield what could not be dropped."""
        for database in sorted({member.database for member in retained}):
            # others belong to backups of other repositories, or to those whose manifests cannot be read
            names = {member.facts["kept"] for member in retained if member.database == database}
            try:
                yield from self._app.restore_target(database).drop_retained(names.__contains__)
            except DbctlError as error:
                yield f"the retained database of {database} was not dropped: {error}"

    def _select(self) -> Sequence[Manifest]:
        repository = self._repository
        selected, content = list(repository.find_all(self._names)), repository.read_content()
        if content.unreadable and any(
            member.content_sha256 for manifest in selected for member in manifest.members
        ):
            raise _unreadable_error(repository, content)  # each of them may require one of these as its base
        selected += self._find_dependents(selected, content.manifests)
        ids = {manifest.id for manifest in selected}
        _require_log(content.valid, ids)
        remaining = {
            database
            for manifest in content.valid
            if manifest.id not in ids and manifest.kind == "backup"
            for database in manifest.databases
        }
        at_risk = {
            database for manifest in selected if manifest.kind == "backup" for database in manifest.databases
        }
        if unprotected := sorted(at_risk - remaining):
            raise LastBackupError(ids=", ".join(sorted(ids)), databases=", ".join(unprotected))
        for manifest in selected:
            record = repository.read_verification(manifest)
            if record is UNREADABLE:
                raise BackupPinnedError(id=manifest.id, reason=UNREADABLE_RECORD, by="dbctl")
            if pin := record.pin:
                raise BackupPinnedError(id=manifest.id, reason=pin.reason, by=pin.by)
            if refusal := repository.store.read_protection(manifest.id).refusal:
                raise BackupRetainedError(place=repository.store.location, id=manifest.id, reason=refusal)
        return selected

    def _find_dependents(
        self, selected: Sequence[Manifest], manifests: Sequence[Manifest]
    ) -> Sequence[Manifest]:
        """Return the other backups that require one of the selected ones, also by way of others; raises if they must not be deleted."""
        ids = {manifest.id for manifest in selected}
        dependents = [
            manifest
            for manifest in manifests
            if manifest.id not in ids and deltas.add_bases([manifest.id], manifests) & ids
        ]
        if dependents and not self._with_dependents:
            raise BackupRequiredError(
                ids=", ".join(sorted(ids)), dependents=", ".join(manifest.id for manifest in dependents)
            )
        return dependents


def _require_log(manifests: Sequence[Manifest], deleted: Collection[str]) -> None:
    """Refuse to delete a part of the log of a server that follows a remaining copy: no later moment could be recovered."""
    remaining = [manifest.id for manifest in manifests if manifest.id not in deleted]
    required = find_required_log(manifests, remaining)
    if parts := sorted(part for part in required if part in deleted):
        raise LogRequiredError(
            ids=", ".join(parts), reasons=", ".join(dict.fromkeys(required[part] for part in parts))
        )


def _unreadable_error(repository: Repository, content: RepositoryContent) -> RepositoryUnreadableError:
    return RepositoryUnreadableError(
        place=repository.store.location, names=", ".join(sorted(content.unreadable))
    )


def _find_protections(records: Mapping[str, Verification]) -> dict[str, str]:
    """Return why backups are retained regardless of the rules, by id."""
    reasons = dict.fromkeys(_last_drilled(records), "the last one with a drill")
    for backup_id, record in records.items():
        if record is UNREADABLE:
            reasons[backup_id] = UNREADABLE_RECORD
        elif record.pin:
            reasons[backup_id] = f"pinned: {record.pin.reason}"
    return reasons


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
    series = [_name_series(manifest, name) for name in manifest.affected_databases]
    return Candidate(id=manifest.id, created_at=manifest.created_at, series=series)


def _name_series(manifest: Manifest, database: str) -> str:
    return f"{manifest.kind} {database}"
