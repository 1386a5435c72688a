"""Repository of backups: listing, and selection by id or ``latest``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from dbctl.config import environment
from dbctl.config.model import BackupConfig
from dbctl.errors.backup import (
    BackupCorruptError,
    BackupIdInvalidError,
    BackupMissingError,
    NoBackupBeforeError,
    RepositoryFailedError,
    RepositoryNotConfiguredError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import AmbiguousIdError
from dbctl.model import Row, Struct
from dbctl.services.app.app import App
from dbctl.services.backup import deltas, verification_record
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.encryption import EncryptionPolicy, load_encryption
from dbctl.services.backup.manifest import (
    Kind,
    Manifest,
    ManifestInvalidError,
    Member,
    OmittedDatabase,
    describe_members,
)
from dbctl.services.backup.verification_record import Drill, Pin, Verification
from dbctl.stores import registry
from dbctl.stores.base import FolderState, ObjectLock, Store, folders_in_state

ID = re.compile(r"\d{8}_\d{6}")
LATEST = "latest"
#: Characters of the beginning of an id that selects a backup.
MIN_PREFIX = 4
NO_FOLDER_HINT = "The folder of an app has its name, which --app NAME sets if there is no configuration. "


#: A ``Kind``, or ``foreign``: an unverified file that dbctl did not create, with its path as id.
ListedKind: TypeAlias = Literal[
    "backup", "partial", "safety", "migration", "recovered", "physical", "log", "foreign"
]


class Backup(Struct, frozen=True, kw_only=True):
    """One backup in a list."""

    id: str
    kind: ListedKind
    app: str
    created_at: datetime
    path: str
    bytes: int
    complete: bool
    databases: Sequence[str]
    verified_at: datetime | None
    recipients: Sequence[str]  #: public keys for which its files are encrypted
    taken_within: timedelta  #: the time between the first and the last copy of its databases
    drills: Mapping[str, Drill]  #: the last drill of each database
    members: Sequence[Member]
    left_out: Sequence[OmittedDatabase]
    #: the last drill of each database as of a moment, which began with this copy
    moments: Mapping[str, Drill] = {}
    pin: Pin | None = None  #: it is not deleted
    bases: Sequence[str] = ()  #: the backups from which its files are differences, or which have files of it
    note: str = ""  #: remark on a foreign backup, or on one that is damaged or can no longer be restored

    def summary(self) -> Row:
        summary = {
            "id": self.id,
            "kind": self.kind,
            "created_at": self.created_at,
            "bytes": self.bytes,
            "databases": self.databases,
            "verified_at": self.verified_at,
        }
        return summary | ({"note": self.note} if self.note else {})


class BackupDetail(Backup, frozen=True, kw_only=True):
    """Result of ``backup show``."""

    dependents: Sequence[str] = ()  #: the backups of which it is a base

    def summary(self) -> Row:
        summary: dict[str, object] = {**super().summary(), "path": self.path}
        summary.pop("databases")  # the files contain them
        if len(self.databases) > 1:
            summary["taken_within"] = self.taken_within
        if self.recipients:
            summary["encrypted for"] = self.recipients
        if self.dependents:
            summary["base of"] = self.dependents
        for name, drill in self.drills.items():
            summary[f"drill of {name}"] = drill.at
        for name, drill in self.moments.items():
            summary[f"drill of {name} as of a moment"] = drill.at
            summary[f"moment of {name}"] = drill.as_of
        summary["files"] = [
            {
                "database": member.database or None,
                "file": member.file,
                "bytes": member.bytes,
                "tables": len(member.rows),
                "rows": sum(member.rows.values()),
                "sha256": member.sha256,
                **({"base": member.delta.backup} if member.delta else {}),
                **({"unchanged since": member.stored_in} if member.stored_in else {}),
            }
            for member in self.members
        ]
        summary |= {
            f"remarks on {member.database}": member.facts["remarks"]
            for member in self.members
            if "remarks" in member.facts
        }
        return summary | {f"without {omitted.database}": omitted.reason for omitted in self.left_out}


B = TypeVar("B", bound=Backup)


class RepositoryContent(Struct, frozen=True, kw_only=True):
    """The backups of a repository, as far as they are known without reading their files."""

    manifests: Sequence[Manifest] = ()  #: newest first
    unreadable: Mapping[str, str] = {}  #: by folder: why the manifest cannot be read
    verifications: Mapping[str, Verification] = {}  #: by id
    damaged: Mapping[str, str] = {}  #: by id: the known damage

    @property
    def valid(self) -> Sequence[Manifest]:
        """The backups without known damage."""
        return [manifest for manifest in self.manifests if manifest.id not in self.damaged]


def _read_object_lock(settings: BackupConfig, address: str, period: str) -> ObjectLock | None:
    """Return how backups at an address are locked: by default in the configured repository only, because others may have no object lock."""
    if not period and address == settings.repository:
        period = settings.object_lock
    return ObjectLock(text=period, mode=settings.object_lock_mode) if period else None


class Repository:
    """The backups of one app."""

    def __init__(self, app: App, address: str = "", *, object_lock: str = "") -> None:
        """Open the store at ``address``, or at the configured address; ``object_lock``: the period of locks instead of the configured one.

        Raises:
            RepositoryNotConfiguredError: no repository is configured.
        """
        settings = app.configured.backup_settings
        place = address or settings.repository
        if not place:
            raise RepositoryNotConfiguredError(app=app.name)
        self.app = app
        self.object_lock = _read_object_lock(settings, place, object_lock)
        self.store: Store = registry.open_store(
            place,
            app.name,
            folder=Path.cwd() if address else app.configured.folder,
            staging=environment.staging_folder(app.configured),
            timeout=app.timeout,
            object_lock=self.object_lock,
        )

    @cached_property
    def encryption(self) -> EncryptionPolicy | None:
        """The encryption of new backups; None: they are plain. Raises as ``EncryptionPolicy``."""
        return load_encryption(self.app)

    @property
    def address(self) -> str:
        """The address of the repository, for commands; the location of the store is that of the app's backups in it."""
        return self.store.location.rpartition("/")[0]

    def overlay(self, folder: str, path: Path) -> Repository:
        """Return the repository with one more backup: the local folder ``path``, which is only read."""
        from copy import copy

        from dbctl.stores.overlay import OverlayStore

        overlay = copy(self)
        overlay.store = OverlayStore(self.store, folder, path)
        return overlay

    def manifests(self) -> tuple[list[Manifest], dict[str, str]]:
        """Return the manifests, newest first, and by folder the reasons why others cannot be read."""
        manifests, unreadable = list[Manifest](), dict[str, str]()
        for folder, text in self.store.read_manifests(self._folders(FolderState.COMPLETE)):
            if text is None:  # another process has deleted it since
                continue
            if isinstance(text, RepositoryFailedError):
                unreadable[folder] = str(text.context["reason"])
                continue
            try:
                manifest = backup_manifest.parse(text)
            except ManifestInvalidError as error:
                unreadable[folder] = str(error)
                continue
            if manifest.id != folder:
                unreadable[folder] = f"it is the manifest of {manifest.id}"
            else:
                manifests.append(manifest)
        # An adopted backup has the number of the newest backup before it.
        return sorted(
            manifests, key=lambda manifest: (manifest.number, manifest.created_at, manifest.id), reverse=True
        ), unreadable

    def read_content(self) -> RepositoryContent:
        """Return the manifests with their verification records and their known damage."""
        manifests, unreadable = self.manifests()
        verifications = {manifest.id: self.read_verification(manifest) for manifest in manifests}
        damaged = {
            manifest.id: damage
            for manifest in manifests
            if (damage := self.find_damage(manifest, verifications[manifest.id]))
        }
        damaged |= dict(deltas.find_damaged_bases(manifests, damaged, unreadable))
        return RepositoryContent(
            manifests=manifests, unreadable=unreadable, verifications=verifications, damaged=damaged
        )

    def complete(self) -> Sequence[str]:
        """Return the folders of complete backups, without reading their manifests."""
        return self._folders(FolderState.COMPLETE)

    def incomplete(self) -> Sequence[str]:
        """Return the folders of incomplete backups."""
        return self._folders(FolderState.INCOMPLETE)

    def _folders(self, state: FolderState) -> Sequence[str]:
        return [name for name in folders_in_state(self.store.list_folders(), state) if ID.fullmatch(name)]

    def find_others(self, manifest: Manifest) -> Mapping[str, str]:
        """Return the addresses of the databases of a backup that are not those of the app, by name.

        Apps of several configurations may have the same name, and a repository in common. A database that is not configured
        belongs to the others of its backup. A backup without addresses is the app's. A replica is the same database.
        """
        own = {name: known for name, known in self.app.addresses.items() if name in manifest.addresses}
        recorded = {name: manifest.addresses[name] for name in own or manifest.addresses}
        return {name: address for name, address in recorded.items() if address not in own.get(name, ())}

    def select_own(self, manifests: Sequence[Manifest], database: str = "") -> list[Manifest]:
        """Return the backups of the app's database, or of all of its databases, without those of others; the order is kept."""
        return [
            manifest
            for manifest in manifests
            if not (others := self.find_others(manifest)) or (database and database not in others)
        ]

    def find(self, name: str, kind: Kind = "backup", *, before: datetime | None = None) -> Manifest:
        """Return the manifest of a backup by id, or of the ``latest`` of a kind with the database of ``--db``.

        With ``before``, the latest is the newest without later data. It is one of another database only if it is of
        the kind ``backup``, and there is none of the app's.

        Raises:
            BackupIdInvalidError: the name is a path.
            BackupMissingError, NoBackupBeforeError: there is none.
            BackupCorruptError: its manifest, or that of a possibly later backup, cannot be read.
        """
        # Before the repository is read, which a restore of a file does not need.
        if "/" in name or (name != LATEST and not ID.fullmatch(name) and Path(name).exists()):
            raise BackupIdInvalidError(name=name)
        manifests, unreadable = self.manifests()
        if before is None:
            return self._pick(name, kind, manifests, unreadable)
        candidates = [manifest for manifest in manifests if manifest.latest_time(self.app.only) <= before]
        unreadable_before = {
            folder: reason for folder, reason in unreadable.items() if folder <= f"{before:%Y%m%d_%H%M%S}"
        }
        try:
            return self._pick(name, kind, candidates, unreadable_before)
        except BackupMissingError:
            raise NoBackupBeforeError(
                kind=kind,
                app=self.app.name,
                place=self.store.location,
                before=f"{before:%Y-%m-%d %H:%M:%S} UTC",
            ) from None

    def find_all(self, names: Sequence[str]) -> Sequence[Manifest]:
        """Return the manifests of several backups, without duplicates; raises as ``find`` does."""
        manifests, unreadable = self.manifests()
        selected = [self._pick(name, "backup", manifests, unreadable) for name in names]
        return list({manifest.id: manifest for manifest in selected}.values())

    def _pick(
        self, name: str, kind: Kind, manifests: Sequence[Manifest], unreadable: Mapping[str, str]
    ) -> Manifest:
        if name in unreadable:
            raise BackupCorruptError(id=name, app=self.app.name, reason=f"its manifest: {unreadable[name]}")
        # A backup without some databases can only be the latest of the databases that it contains.
        candidates = [
            manifest
            for manifest in manifests
            if name == LATEST
            and manifest.kind == kind
            and (self.app.only in manifest.affected_databases if self.app.only else not manifest.failed)
        ]
        own = self.select_own(candidates, self.app.only)
        # A database may be restored to another place, but an undo or a copy of a server is not of one.
        if latest := next(iter(own or (candidates if kind == "backup" else ())), None):
            if newer := [folder for folder in unreadable if folder > latest.id]:
                raise self._latest_unknown_error(max(newer), unreadable)
            return latest
        for manifest in manifests:
            if manifest.id == name:
                return manifest
        if name == LATEST and unreadable:
            raise self._latest_unknown_error(max(unreadable), unreadable)
        known = [*(manifest.id for manifest in manifests), *unreadable]
        matches = [known_id for known_id in known if len(name) >= MIN_PREFIX and known_id.startswith(name)]
        if len(matches) > 1:
            raise AmbiguousIdError(text=name, target=self.store.location, ids=", ".join(sorted(matches)))
        if matches:
            return self._pick(matches[0], kind, manifests, unreadable)
        raise BackupMissingError(
            name=name,
            app=self.app.name,
            place=self.store.location,
            candidates=[LATEST, *known] if manifests and name != LATEST else known,
            hint="" if known else NO_FOLDER_HINT,
        )

    def _latest_unknown_error(self, folder: str, unreadable: Mapping[str, str]) -> BackupCorruptError:
        reason = f"its manifest: {unreadable[folder]}; the latest backup is therefore unknown"
        return BackupCorruptError(id=folder, app=self.app.name, reason=reason)

    def is_deleted(self, manifest: Manifest) -> bool:
        """Whether another process has deleted a backup since its manifest was read."""
        return self.store.list_folders().get(manifest.id) is not FolderState.COMPLETE

    def path(self, manifest: Manifest) -> str:
        """Return the location of the files of a backup."""
        return f"{self.store.location}/{manifest.id}"

    def find_lost_databases(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Return, by backup id, descriptions of retained databases that no longer exist.

        Databases that cannot be queried are skipped.
        """
        retained = dict[str, dict[str, Member]]()
        for manifest in manifests:
            for member in manifest.members:
                if member.form == "kept" and manifest.app == self.app.name:
                    retained.setdefault(member.database, {})[manifest.id] = member
        lost = dict[str, str]()
        for database, members in retained.items():
            with suppress(DbctlError):
                restore_target = self.app.restore_target(database)
                missing = restore_target.find_missing([member.dump for member in members.values()])
                for folder, member in members.items():
                    if (name := member.facts.get("kept", "")) in missing:
                        lost[folder] = f"the retained database {name} of {database} no longer exists"
        return lost

    def describe(
        self,
        manifest: Manifest,
        backup_type: type[B],
        *,
        lost_databases: Mapping[str, str] | None = None,
        verification: Verification | None = None,
        **fields: Any,
    ) -> B:
        """Return a backup as an instance of ``backup_type``, with the additional ``fields``.

        ``lost_databases``: the result of ``find_lost_databases``, and ``verification``: that of ``read_verification``,
        if the caller has them.
        """
        verification = verification or self.read_verification(manifest)
        if lost_databases is None:
            lost_databases = self.find_lost_databases([manifest])
        lost = lost_databases.get(manifest.id, "")
        return backup_type(
            **fields,
            id=manifest.id,
            kind=manifest.kind,
            app=manifest.app,
            created_at=manifest.created_at,
            path=self.path(manifest),
            bytes=manifest.bytes,
            complete=not manifest.failed,
            databases=manifest.databases,
            verified_at=None if lost else verified_at(manifest, verification),
            recipients=manifest.recipients,
            taken_within=manifest.taken_within,
            drills=verification.drills,
            moments=verification.moments,
            members=manifest.members,
            left_out=manifest.left_out,
            pin=verification.pin,
            bases=manifest.bases,
            note=_describe_note(manifest, verification, lost, self.find_others(manifest)),
        )

    def describe_new(self, manifest: Manifest, backup_type: type[B], remarks: Sequence[str]) -> B:
        """Return a backup that was just created."""
        return self.describe(
            manifest, backup_type, lost_databases={}, verification=Verification(), remarks=remarks
        )

    def read_verification(self, manifest: Manifest) -> Verification:
        """Return the verification record of a backup."""
        return verification_record.read(self.store, manifest.id)

    def find_damage(self, manifest: Manifest, verification: Verification | None = None) -> str:
        """Return the known damage of a backup, without reading its files or its bases; empty: none.

        ``verification``: the result of ``read_verification``, if the caller has it.
        """
        try:
            missing = manifest.find_missing(self.store.list_files(manifest.id))
        except RepositoryFailedError as error:
            missing = f"it cannot be read: {error.context['reason']}"
        return missing or _describe_failure(manifest, verification or self.read_verification(manifest))


def _describe_failure(manifest: Manifest, verification: Verification) -> str:
    """Return the damage that a verification found after the last successful one; empty: none."""
    failed = verification.failed
    return failed.message.removeprefix(f"backup {manifest.id}, ") if failed else ""


def _describe_note(
    manifest: Manifest, verification: Verification, lost: str, others: Mapping[str, str]
) -> str:
    origin = [f"adopted: {manifest.origin.path}"] if manifest.origin else []
    origin += [f"of {address}" for address in dict.fromkeys(others.values())]
    differences = [member.delta.backup for member in manifest.files if member.delta]
    origin += [f"difference from {', '.join(dict.fromkeys(differences))}"] if differences else []
    origin += describe_members(manifest.members)
    failure = _describe_failure(manifest, verification)
    notes = [f"damaged: {failure}"] if failure else []
    notes += [f"pinned: {verification.pin.reason}"] if verification.pin else []
    return lost or "; ".join([*notes, *origin])


def verified_at(manifest: Manifest, verification: Verification) -> datetime:
    """Return the time of the last successful verification of all files, preferably from the verification record."""
    return verification.verified_at or manifest.verified_at
