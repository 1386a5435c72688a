"""Old backups removed by the rules of retention, never the last sound one."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.config import Keep
from dbctl.errors import PlanChangedError, RepositoryUnreadError, RetentionUnsetError, UsageError
from dbctl.model import Done, Plan, Value
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest
from dbctl.services.backups import Repository
from dbctl.services.retention import Candidate, has_rules, reasons


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
        told = app.configured.backup
        self._keep = keep if has_rules(keep) else told.keep if told else keep
        if not has_rules(self._keep):
            raise RetentionUnsetError(app=app.name)
        self._repository, self._timeout = repository, timeout

    def plan(self) -> Plan:
        """Return what would go, and why the rest stays; writes nothing.

        Raises:
            RepositoryUnreadError: a manifest cannot be read.
        """
        going, staying = self._sorted()
        steps = [f"delete {one.id} ({one.created_at:%Y-%m-%d %H:%M} UTC)" for one in going]
        steps += [
            f"remove what is left of {name}, which was cut off" for name in self._repository.incomplete()
        ]
        if steps:
            steps += [f"keep {one.id}: {', '.join(one.reasons)}" for one in staying]
        title = f"Prune the backups in {self._repository.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={}, destructive=bool(going))

    def apply(self, seen: str | None = None) -> Pruned:
        """Delete, the oldest first, so that an abort leaves the newest.

        Raises:
            PlanChangedError: it would be another plan than the one that was agreed to; nothing was deleted.
            BusyError: another dbctl works on the repository.
        """
        store = self._repository.store
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
        return Pruned(deleted=[one.id for one in going], kept=staying, leftovers=leftovers, freed_bytes=freed)

    def _sorted(self) -> tuple[list[Manifest], list[Staying]]:
        """Return what goes, the newest first, and what stays."""
        found, unread = self._repository.manifests()
        if unread:
            raise RepositoryUnreadError(place=self._repository.store.place, names=", ".join(sorted(unread)))
        whole = [one for one in found if self._whole(one)]
        stay = reasons([_candidate(one) for one in whole], self._keep)
        # What is not whole does not count, and so neither pushes out nor goes: verify tells of it.
        going = [one for one in whole if one.id not in stay]
        damaged = {one.id: ["damaged: see dbctl backup verify"] for one in found if one not in whole}
        staying = [
            Staying(id=one.id, reasons=why)
            for one in found
            if (why := stay.get(one.id) or damaged.get(one.id))
        ]
        return going, staying

    def _whole(self, manifest: Manifest) -> bool:
        sizes = self._repository.store.files(manifest.id)
        return all(sizes.get(one.file) == one.bytes for one in manifest.members)


def _candidate(manifest: Manifest) -> Candidate:
    series = [f"{manifest.kind} {name}" for name in manifest.concerns]
    return Candidate(id=manifest.id, at=manifest.created_at, series=series)
