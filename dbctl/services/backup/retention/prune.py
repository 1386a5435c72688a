"""Prune backups by the rules of retention; the last valid backup and pinned ones are never deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from dbctl.config.model import Retention
from dbctl.errors.backup import RepositoryUnreadableError, RetentionNotConfiguredError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app import clock
from dbctl.services.backup import deltas
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.due import database_retentions, has_rules, retention_for
from dbctl.services.backup.log_range import find_required_log
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository, RepositoryContent
from dbctl.services.backup.retention.rules import FUTURE, NEWEST, Candidate, retention_reasons
from dbctl.services.backup.status import MOVED, describe_others
from dbctl.services.backup.verification_record import UNREADABLE, UNREADABLE_RECORD, Verification
from dbctl.signals import Interrupted
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
    others: Mapping[str, int] = {}  #: by address: the backups of other databases, to which no rule applies

    @property
    def remarks(self) -> Sequence[str]:
        return self.exceeded

    @property
    def notes(self) -> Sequence[str]:
        return list(_describe_others(self.others))

    @property
    def effect(self) -> Effect | None:
        if not (self.deleted or self.leftovers):
            return None
        counts = {"interrupted backups": len(self.leftovers), "retained": len(self.retained)}
        return Effect("deleted", "backup", count=len(self.deleted), counts=counts, bytes=self.freed_bytes)


class PruneBackups(BackupOperation):
    def __init__(self, repository: Repository, retention: Retention, moved: Collection[str] = ()) -> None:
        """Use ``retention`` for all databases if it has rules, otherwise the configured rules.

        ``moved``: former addresses of the databases, to whose backups the rules apply, too.

        Raises:
            RetentionNotConfiguredError: no rule is configured.
            UsageError: ``--db`` selects one database, or ``min_free`` is set for object storage.
        """
        super().__init__(repository)
        app = self._app
        if app.only:
            raise UsageError(detail="--db: only complete backups can be pruned; omit it")
        self._moved, is_requested = moved, has_rules(retention)
        #: by id of a backup that a rule retains: the limit that deletes it
        self._limited: dict[str, str] = {}
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
            UsageError: no backup has a former address.
            ClockImplausibleError: the clock contradicts the backups.
        """
        to_delete, retained, exceeded, others = self._split()
        own = [(manifest, reasons) for manifest, reasons in retained if not self._find_others(manifest)]
        steps = [
            f"delete {manifest.id} ({manifest.created_at:%Y-%m-%d %H:%M} UTC): {self._limited.get(manifest.id, 'no rule retains it')}; {_describe_newer(manifest, own)}"
            for manifest in to_delete
        ]
        steps += [
            f"remove {name}, an interrupted backup unless it is being created"
            for name in self._repository.incomplete()
        ]
        if steps:
            steps += [f"retain {manifest.id}: {', '.join(reasons)}" for manifest, reasons in retained]
        steps += exceeded
        steps += _describe_others(others)
        title = f"Prune the backups in {self._repository.store.location}"
        return self._create_plan(title, steps, destructive=bool(to_delete))

    def apply(self, confirmed: str | None = None) -> BackupsPruned:
        """Delete the backups, oldest first but bases last, so that an interruption leaves the newest, and no backup without its base.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            RepositoryMissingError: it does not exist; it is not created.
            BusyError: another dbctl process uses the repository.
            RepositoryUnreadableError, UsageError, ClockImplausibleError: as ``plan``.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            to_delete, retained, exceeded, others = self._split()
            leftovers = self._repository.incomplete()
            leftover_bytes = sum(sum(store.list_files(name).values()) for name in leftovers)
            delete_folders(self._repository, to_delete, leftovers)
        return BackupsPruned(
            deleted=[manifest.id for manifest in to_delete],
            retained=[RetainedBackup(id=manifest.id, reasons=reasons) for manifest, reasons in retained],
            leftovers=leftovers,
            freed_bytes=sum(manifest.bytes for manifest in to_delete) + leftover_bytes,
            exceeded=exceeded,
            others=others,
        )

    def _find_others(self, manifest: Manifest) -> Mapping[str, str]:
        """Return the addresses of the databases of a backup that are not those of the app, by name, except former ones."""
        others = self._repository.find_others(manifest).items()
        return {name: address for name, address in others if address not in self._moved}

    def _describe_candidate(self, manifest: Manifest) -> Candidate:
        """Return a backup with the series of the app's databases: those of the present addresses alone, and together with former ones."""
        moved, others = self._repository.find_others(manifest), self._find_others(manifest)
        names = [name for name in manifest.affected_databases if name not in others]
        series = [_name_series(manifest, name, is_moved=False) for name in names if name not in moved]
        if self._moved:
            series += [_name_series(manifest, name, is_moved=True) for name in names]
        return Candidate(id=manifest.id, created_at=manifest.created_at, series=series)

    def _split(self) -> tuple[list[Manifest], list[tuple[Manifest, list[str]]], list[str], Mapping[str, int]]:
        """Return the backups to delete, newest first, the retained ones, the limits that they exceed, and the numbers of backups of others."""
        content = self._repository.read_content()
        if content.unreadable:
            raise unreadable_error(self._repository, content)
        manifests, damaged, valid = content.manifests, content.damaged, content.valid
        known = {address for manifest in manifests for address in manifest.addresses.values()}
        if unknown := [address for address in self._moved if address not in known]:
            raise UsageError(
                detail=f"--moved: no backup is of {', '.join(unknown)}",
                hint=Remedy("Nothing was deleted. List the addresses with: `backup status`"),
            )
        others = {manifest.id: names for manifest in manifests if (names := self._find_others(manifest))}
        records = {manifest.id: content.verifications[manifest.id] for manifest in valid}
        # Rules apply to the copies of a server, and a log without one of them cannot be used.
        ruled = [manifest for manifest in valid if manifest.kind != "log"]
        candidates = list(map(self._describe_candidate, ruled))
        by_series = {
            _name_series(manifest, name, is_moved=is_moved): keep
            for manifest in ruled
            for name, keep in self._by_database.items()
            for is_moved in (False, True)
        }
        reasons_by_id = retention_reasons(candidates, self._retention, by_series)
        protections = {
            backup_id: f"of another database: {', '.join(dict.fromkeys(names.values()))}"
            for backup_id, names in others.items()
        }
        protections |= _find_protections(records, others)
        protections |= {
            backup_id: reason
            for backup_id, reasons in reasons_by_id.items()
            for reason in (NEWEST, FUTURE)
            if reason in reasons
        }
        exceeded = list(self._apply_limits(content, others, reasons_by_id, protections))
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
        addresses = [address for names in others.values() for address in dict.fromkeys(names.values())]
        return to_delete, retained, exceeded, Counter(addresses)

    def _apply_limits(
        self,
        content: RepositoryContent,
        others: Collection[str],
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

        self._limited.clear()
        freed = count_freed()
        used = sum(manifest.bytes for manifest in manifests if manifest.id not in others)
        free = store.free_space() if limits.min_free else None
        excess = {
            "max_bytes": used - parse_size(limits.max_bytes) if limits.max_bytes else 0,
            "min_free": parse_size(limits.min_free) - free if free is not None else 0,
        }
        for manifest in reversed(valid):
            exceeded = [f"{name} = {getattr(limits, name)}" for name in excess if excess[name] > freed]
            if not exceeded:
                return
            if manifest.id in reasons_by_id and manifest.id not in protections:
                del reasons_by_id[manifest.id]
                self._limited[manifest.id] = f"its space is required by {' and '.join(exceeded)}"
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


def delete_folders(
    repository: Repository, manifests: Sequence[Manifest], leftovers: Sequence[str] = ()
) -> None:
    """Delete backups, bases last, and interrupted ones; the hint of an error names those that are deleted."""
    deleted = list[str]()
    try:
        for name in [*(manifest.id for manifest in reversed(deltas.sort_bases_first(manifests))), *leftovers]:
            repository.store.remove_folder(name)
            deleted.append(name)
    except (DbctlError, Interrupted) as error:
        if deleted:  # the hint of the error would claim that nothing was changed
            remaining = Remedy("List the others with: `backup list`").write(repository.app.name)
            error.hint = f"Deleted before: {', '.join(deleted)}. {remaining}"
        raise


def unreadable_error(repository: Repository, content: RepositoryContent) -> RepositoryUnreadableError:
    """Return the error for a repository with manifests that cannot be read."""
    return RepositoryUnreadableError(
        place=repository.store.location, names=", ".join(sorted(content.unreadable))
    )


def _find_protections(records: Mapping[str, Verification], others: Collection[str]) -> dict[str, str]:
    """Return why backups are retained regardless of the rules, by id; drills of ``others`` are not those of the app."""
    own = {backup_id: record for backup_id, record in records.items() if backup_id not in others}
    reasons = dict.fromkeys(_last_drilled(own), "the last one with a drill")
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


def _describe_others(others: Mapping[str, int]) -> Iterator[str]:
    for address, count in others.items():
        yield f"{describe_others(address, count)}. {MOVED.write(facts={'address': address})}"


def _name_series(manifest: Manifest, database: str, *, is_moved: bool) -> str:
    """Return the name of the series of a database; ``is_moved``: of that with the backups of its former addresses."""
    return f"{manifest.kind} {database}{' moved' if is_moved else ''}"
