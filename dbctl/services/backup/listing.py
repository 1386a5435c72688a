"""Lists of the backups of a repository."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.model import Page, PageRequest, Struct
from dbctl.services.app.results import paginate
from dbctl.services.backup.repository import Backup, ListedKind, Repository


class BackupList(Struct, frozen=True, kw_only=True):
    """A page of backups, and the folders that cannot be listed."""

    page: Page[Backup]
    unreadable: Sequence[str]
    incomplete: Sequence[str]


def list_backups(
    repository: Repository,
    page_request: PageRequest,
    *,
    database: str = "",
    kind: ListedKind | None = None,
    foreign: Sequence[Backup] = (),
) -> BackupList:
    """Return the backups, newest first, optionally of one kind or with one database; incomplete ones are listed by name.

    Parts of the log of a server, of which there are many, are only returned as ``kind``.

    ``foreign``: files that dbctl did not create, which follow the backups.
    """
    manifests, unreadable = repository.manifests()
    manifests = [
        manifest for manifest in manifests if (manifest.kind == kind if kind else manifest.kind != "log")
    ]
    lost_databases = repository.find_lost_databases(manifests)
    items = [repository.describe(manifest, Backup, lost_databases=lost_databases) for manifest in manifests]
    items += [backup for backup in foreign if kind in (None, backup.kind)]
    items = [backup for backup in items if database in ("", *backup.databases)]
    return BackupList(
        page=paginate(items, Backup, page_request),
        unreadable=list(unreadable),
        incomplete=repository.incomplete(),
    )
