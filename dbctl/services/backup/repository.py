"""The backups of one app: where they rest, which there are, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from dbctl.config import paths
from dbctl.engines import registry as engines
from dbctl.errors import (
    BackupLaterError,
    BackupMissingError,
    BackupPartialError,
    BackupUnsoundError,
    DbctlError,
    RepositoryFailedError,
    RepositoryUnsetError,
)
from dbctl.model import Page, Row, Value, Window
from dbctl.services.app import App, hint, page_of
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record
from dbctl.services.backup.manifest import Kind, LeftOut, Manifest, ManifestInvalidError, Member
from dbctl.services.backup.verification_record import Drill, Proven
from dbctl.stores import State, Store, ordered, registry

ID = re.compile(r"\d{8}_\d{6}")
LATEST = "latest"


#: ``foreign``: a file that dbctl did not make, by its path, unproven; else a ``Kind``.
ListedKind: TypeAlias = Literal["backup", "partial", "safety", "migration", "foreign"]


class Backup(Value, frozen=True, kw_only=True):
    """One backup, as it is listed and shown."""

    id: str
    kind: ListedKind
    app: str
    created_at: datetime
    path: str
    bytes: int
    complete: bool
    databases: Sequence[str]
    verified_at: datetime | None
    recipients: Sequence[str]  #: public keys that its files are encrypted for
    taken_within: timedelta  #: the time between the first moment that it holds of a database and the last
    drills: Mapping[str, Drill]  #: by database: its last trial restore
    members: Sequence[Member]
    left_out: Sequence[LeftOut]
    note: str = ""  #: what is to be known of one that dbctl did not make, or that cannot be restored any more

    def brief(self) -> Row:
        told = {
            "id": self.id,
            "kind": self.kind,
            "created_at": self.created_at,
            "bytes": self.bytes,
            "databases": self.databases,
            "verified_at": self.verified_at,
        }
        return told | ({"note": self.note} if self.note else {})

    def apart(self) -> Row:
        """Return how far apart the moments lie, where it holds several."""
        return {"taken_within": self.taken_within} if len(self.databases) > 1 else {}


class BackupShown(Backup, frozen=True, kw_only=True):
    """Answer of ``backup show``."""

    def brief(self) -> Row:
        told: dict[str, object] = {**super().brief(), "path": self.path, **self.apart()}
        told.pop("databases")  # its files tell
        if self.recipients:
            told["encrypted for"] = self.recipients
        for name, drill in self.drills.items():
            told[f"{name} restored on trial"] = drill.at
        told["files"] = [
            {
                "database": one.database or None,
                "file": one.file,
                "bytes": one.bytes,
                "tables": len(one.rows),
                "rows": sum(one.rows.values()),
                "sha256": one.sha256,
            }
            for one in self.members
        ]
        return told | {f"without {one.database}": one.reason for one in self.left_out}


B = TypeVar("B", bound=Backup)


class Repository:
    """The backups of one app."""

    def __init__(self, app: App, given: str = "") -> None:
        """Find where they are; ``given`` is an address in place of the configured one.

        Raises:
            RepositoryUnsetError: nothing says where.
        """
        told = app.configured.backup
        if not (given or told):
            raise RepositoryUnsetError(app=app.name)
        self.app, self._opened, self._only = app.name, app, app.only
        folder = app.configured.folder
        self.store: Store = registry.open_store(
            given or (told.repository if told else ""),
            app.name,
            folder=Path.cwd() if given else folder,
            staging=paths.aside(app.configured),
            timeout=app.timeout,
        )

    def beside(self, folder: str, path: Path) -> Repository:
        """Return the same backups and one more, which lies at ``path`` of this machine and is only read."""
        from copy import copy

        from dbctl.stores import Beside

        other = copy(self)
        other.store = Beside(self.store, folder, path)
        return other

    def manifests(self) -> tuple[list[Manifest], dict[str, str]]:
        """Return the manifests, the newest first, and why others could not be read, by folder."""
        found, unread = list[Manifest](), dict[str, str]()
        for folder, text in self.store.lasts(self._folders(State.WHOLE)):
            if text is None:  # pruned by another dbctl just now
                continue
            if isinstance(text, RepositoryFailedError):
                unread[folder] = str(text.facts["reason"])
                continue
            try:
                manifest = backup_manifest.read(text)
            except ManifestInvalidError as error:
                unread[folder] = str(error)
                continue
            if manifest.id != folder:
                unread[folder] = f"it is the manifest of {manifest.id}"
            else:
                found.append(manifest)
        # One that was adopted has the number of the newest before it.
        return sorted(found, key=lambda one: (one.number, one.created_at, one.id), reverse=True), unread

    def incomplete(self) -> Sequence[str]:
        """Return the folders that dbctl began to fill and did not end."""
        return self._folders(State.INCOMPLETE)

    def _folders(self, state: State) -> Sequence[str]:
        return [name for name in ordered(self.store.folders(), state) if ID.fullmatch(name)]

    def find(self, name: str, kind: Kind = "backup", *, before: datetime | None = None) -> Manifest:
        """Return the manifest of one backup: by id, or the ``latest`` of a kind, which holds what ``--db`` names.

        With ``before``, the latest is the newest that holds no later moment.

        Raises:
            BackupMissingError, BackupLaterError: there is none.
            BackupUnsoundError: its manifest cannot be read, or that of one which may be later.
        """
        found, unread = self.manifests()
        if before is None:
            return self._pick(name, kind, found, unread)
        early = [one for one in found if one.until(self._only) <= before]
        begun = {folder: why for folder, why in unread.items() if folder <= f"{before:%Y%m%d_%H%M%S}"}
        try:
            return self._pick(name, kind, early, begun)
        except BackupMissingError:
            raise BackupLaterError(
                kind=kind, app=self.app, place=self.store.place, before=f"{before:%Y-%m-%d %H:%M:%S} UTC"
            ) from None

    def find_all(self, names: Sequence[str]) -> Sequence[Manifest]:
        """Return the manifests of some backups, each once; raises as ``find`` does."""
        found, unread = self.manifests()
        chosen = [self._pick(name, "backup", found, unread) for name in names]
        return list({one.id: one for one in chosen}.values())

    def _pick(self, name: str, kind: Kind, found: Sequence[Manifest], unread: Mapping[str, str]) -> Manifest:
        if name in unread:
            raise BackupUnsoundError(id=name, app=self.app, reason=f"its manifest: {unread[name]}")
        for one in found:
            # One that lacks a database is the latest only of those that it holds.
            holds = self._only in one.concerns if self._only else not one.failed
            latest = name == LATEST and one.kind == kind and holds
            if latest and (newer := [folder for folder in unread if folder > one.id]):
                raise self._untold(max(newer), unread)
            if latest or one.id == name:
                return one
        if name == LATEST and unread:
            raise self._untold(max(unread), unread)
        near = hint(name, [one.id for one in found])
        raise BackupMissingError(name=name, app=self.app, place=self.store.place, near=near)

    def _untold(self, folder: str, unread: Mapping[str, str]) -> BackupUnsoundError:
        reason = f"its manifest: {unread[folder]}; so nothing tells which is the latest"
        return BackupUnsoundError(id=folder, app=self.app, reason=reason)

    def is_gone(self, manifest: Manifest) -> bool:
        """Whether a backup that was there a moment ago was pruned by another dbctl."""
        return self.store.folders().get(manifest.id) is not State.WHOLE

    def path(self, manifest: Manifest) -> str:
        """Return where the files of a backup are."""
        return f"{self.store.place}/{manifest.id}"

    def gone(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Return which backups, by id, have lost a database that a restore retained under another name, in words.

        Of a database that cannot be asked nothing is returned.
        """
        retained = dict[str, dict[str, Member]]()
        for manifest in manifests:
            for member in manifest.members:
                if member.form == "kept" and manifest.app == self.app:
                    retained.setdefault(member.database, {})[manifest.id] = member
        lost = dict[str, str]()
        for database, members in retained.items():
            with suppress(DbctlError):
                outside = engines.outside(self._opened.url(database), self._opened.target(database))
                missing = outside.find_missing([member.dump for member in members.values()])
                for folder, member in members.items():
                    if (name := member.facts.get("kept", "")) in missing:
                        lost[folder] = f"{name}, in which {database} was retained, does not exist any more"
        return lost

    def told(
        self, manifest: Manifest, kind: type[B], *, gone: Mapping[str, str] | None = None, **more: Any
    ) -> B:
        """Return a backup as it is shown: as a ``kind``, whose further fields are ``more``.

        ``gone``: the answer of ``gone`` for several backups, where it is known.
        """
        proven = self.proven(manifest)
        lost = (self.gone([manifest]) if gone is None else gone).get(manifest.id, "")
        return kind(
            **more,
            id=manifest.id,
            kind=manifest.kind,
            app=manifest.app,
            created_at=manifest.created_at,
            path=self.path(manifest),
            bytes=sum(one.bytes for one in manifest.members),
            complete=not manifest.failed,
            databases=manifest.databases,
            verified_at=None if lost else verified_at(manifest, proven),
            recipients=manifest.recipients,
            taken_within=manifest.taken_within,
            drills=proven.drills,
            members=manifest.members,
            left_out=manifest.left_out,
            note=lost or (f"adopted: {manifest.origin.path}" if manifest.origin else ""),
        )

    def proven(self, manifest: Manifest) -> Proven:
        """Return what was found out about a backup since it was made."""
        return verification_record.read(self.store, manifest.id)

    def damage(self, manifest: Manifest, proven: Proven) -> str:
        """Return what is known to be wrong with a backup, without reading it; empty: nothing."""
        sizes = self.store.files(manifest.id)
        for one in manifest.members:
            if one.file not in sizes:
                return f"{one.file} is missing"
            if sizes[one.file] != one.bytes:
                return f"{one.file} has {sizes[one.file]:,} bytes and had {one.bytes:,}"
        failed = proven.failed
        return failed.message.removeprefix(f"backup {manifest.id}, ") if failed else ""


def verified_at(manifest: Manifest, proven: Proven) -> datetime:
    """Return when all files of a backup were last read whole and found sound; a later verification counts whatever the clock said."""
    return proven.verified_at or manifest.verified_at


def partial(repository: Repository, manifest: Manifest) -> BackupPartialError:
    """Return why no database can be restored from a backup of some tables."""
    tables = ", ".join(name for one in manifest.members for name in one.only)
    named = manifest.id if ID.fullmatch(manifest.id) else f"--file {manifest.id}"
    instead = f"dbctl restore apply {named} --table NAME --merge missing brings back the rows of a table."
    return BackupPartialError(id=manifest.id, app=repository.app, tables=tables, instead=instead)


class Listed(Value, frozen=True, kw_only=True):
    """What there is, and what could not be listed."""

    page: Page[Backup]
    unread: Sequence[str]
    incomplete: Sequence[str]


def list_backups(
    repository: Repository,
    window: Window,
    *,
    database: str = "",
    kind: ListedKind | None = None,
    loose: Sequence[Backup] = (),
) -> Listed:
    """Return the backups, or those of a kind, or that hold a database, the newest first; what was cut off is not among them.

    ``loose`` are files that dbctl did not make, which come behind.
    """
    manifests, unread = repository.manifests()
    manifests = [one for one in manifests if kind in (None, one.kind)]
    gone = repository.gone(manifests)
    items = [repository.told(one, Backup, gone=gone) for one in manifests]
    items += [one for one in loose if kind in (None, one.kind)]
    items = [one for one in items if database in ("", *one.databases)]
    return Listed(
        page=page_of(items, Backup, window), unread=list(unread), incomplete=repository.incomplete()
    )
