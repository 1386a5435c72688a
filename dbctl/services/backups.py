"""The backups of one app: where they rest, which there are, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dbctl.errors import BackupMissingError, BackupUnsoundError, RepositoryFailedError, RepositoryUnsetError
from dbctl.model import Page, Row, Value, Window
from dbctl.services import backup_manifest
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Kind, LeftOut, Manifest, ManifestInvalidError, Member, Moment
from dbctl.services.near import hint
from dbctl.services.pages import page_of
from dbctl.stores import registry
from dbctl.stores.base import State, ordered

ID = re.compile(r"\d{8}_\d{6}")
LATEST = "latest"


class Backup(Value, frozen=True, kw_only=True):
    """One backup, as it is listed and shown."""

    id: str
    kind: Kind
    app: str
    created_at: datetime
    path: str
    bytes: int
    complete: bool
    databases: Sequence[str]
    verified_at: datetime
    members: Sequence[Member]
    left_out: Sequence[LeftOut]

    def brief(self) -> Row:
        return {
            "id": self.id,
            "kind": self.kind,
            "created_at": self.created_at,
            "bytes": self.bytes,
            "databases": self.databases,
            "verified_at": self.verified_at,
        }


class BackupShown(Backup, frozen=True, kw_only=True):
    """Answer of ``backup show``."""

    def brief(self) -> Row:
        told = dict(super().brief()) | {"path": self.path}
        told.pop("databases")  # its files tell
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


class Verified(msgspec.Struct, frozen=True):
    """A remark beside a backup: when its files were last found sound."""

    at: Moment


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
        self.app, self._only = app.name, app.only
        self.store = (
            registry.open_store(given, app.name, folder=Path.cwd())
            if given or told is None
            else registry.open_store(told.repository, app.name, folder=app.configured.folder)
        )

    def manifests(self) -> tuple[list[Manifest], dict[str, str]]:
        """Return the manifests, the newest first, and why others could not be read, by folder."""
        found, unread = list[Manifest](), dict[str, str]()
        for folder in self._folders(State.WHOLE):
            try:
                text = self.store.last(folder)
                if text is None:  # pruned by another dbctl just now
                    continue
                manifest = backup_manifest.read(text)
            except ManifestInvalidError as error:
                unread[folder] = str(error)
                continue
            except RepositoryFailedError as error:
                unread[folder] = str(error.facts["reason"])
                continue
            if manifest.id != folder:
                unread[folder] = f"it is the manifest of {manifest.id}"
            else:
                found.append(manifest)
        return sorted(found, key=lambda one: one.number, reverse=True), unread

    def incomplete(self) -> Sequence[str]:
        """Return the folders that dbctl began to fill and did not end."""
        return self._folders(State.INCOMPLETE)

    def _folders(self, state: State) -> Sequence[str]:
        return [name for name in ordered(self.store.folders(), state) if ID.fullmatch(name)]

    def find(self, name: str, kind: Kind = "backup") -> Manifest:
        """Return the manifest of one backup: by id, or the ``latest`` of a kind, which holds what ``--db`` names.

        Raises:
            BackupMissingError: there is none.
            BackupUnsoundError: its manifest cannot be read.
        """
        return self._pick(name, kind, *self.manifests())

    def find_all(self, names: Sequence[str]) -> Sequence[Manifest]:
        """Return the manifests of some backups, each once; raises as ``find`` does."""
        found, unread = self.manifests()
        chosen = [self._pick(name, "backup", found, unread) for name in names]
        return list({one.id: one for one in chosen}.values())

    def _pick(self, name: str, kind: Kind, found: Sequence[Manifest], unread: Mapping[str, str]) -> Manifest:
        if name in unread:
            raise BackupUnsoundError(id=name, app=self.app, reason=f"its manifest: {unread[name]}")
        for one in found:
            latest = name == LATEST and one.kind == kind and self._only in ("", *one.concerns)
            if latest or one.id == name:
                return one
        near = hint(name, [one.id for one in found])
        raise BackupMissingError(name=name, app=self.app, place=self.store.place, near=near)

    def is_gone(self, manifest: Manifest) -> bool:
        """Whether a backup that was there a moment ago was pruned by another dbctl."""
        return manifest.id not in self._folders(State.WHOLE)

    def path(self, manifest: Manifest) -> str:
        """Return where the files of a backup are."""
        return f"{self.store.place}/{manifest.id}"

    def told(self, manifest: Manifest, kind: type[B], **more: Any) -> B:
        """Return a backup as it is shown: as a ``kind``, whose further fields are ``more``."""
        return kind(
            **more,
            id=manifest.id,
            kind=manifest.kind,
            app=manifest.app,
            created_at=manifest.created_at,
            path=self.path(manifest),
            bytes=sum(one.bytes for one in manifest.members),
            complete=True,
            databases=manifest.databases,
            verified_at=max(manifest.verified_at, self._verified(manifest.id) or manifest.verified_at),
            members=manifest.members,
            left_out=manifest.left_out,
        )

    def _verified(self, folder: str) -> datetime | None:
        try:
            noted = self.store.noted(folder)
            at = msgspec.json.decode(noted, type=Verified).at if noted else None
        except (msgspec.MsgspecError, RecursionError, RepositoryFailedError):
            return None  # a remark is worth nothing once it cannot be read
        return at if at and backup_manifest.is_of_a_clock(at) else None


class Listed(Value, frozen=True, kw_only=True):
    """What there is, and what could not be listed."""

    page: Page[Backup]
    unread: Sequence[str]
    incomplete: Sequence[str]


def list_backups(repository: Repository, window: Window, *, database: str = "") -> Listed:
    """Return the backups, or those that hold a database, the newest first; what was cut off is not among them."""
    manifests, unread = repository.manifests()
    items = [repository.told(one, Backup) for one in manifests if database in ("", *one.databases)]
    return Listed(
        page=page_of(items, Backup, window), unread=list(unread), incomplete=repository.incomplete()
    )


def newest(repository: Repository) -> Backup | None:
    """Return the newest backup that holds its databases whole, and that no restore made; None where there is none."""
    found, _ = repository.manifests()
    return next((repository.told(one, Backup) for one in found if one.kind == "backup"), None)
