"""The current state of an app as a backup in a private folder, which a copy reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from dbctl.engines.contract.dumps import RolePolicy
from dbctl.services.app.app import App
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import Repository
from dbctl.services.restore.source import BackupSource


class PrivateRepository(Repository):
    """A repository in a private folder, whose backups are not encrypted."""

    @cached_property
    def encryption(self) -> None:
        return None


@contextmanager
def open_live_source(
    app: App, keys: DecryptionKeys, roles: RolePolicy, *, secrets: bool = False
) -> Iterator[BackupSource]:
    """Yield a backup of the live databases, which is deleted at the end; with ``secrets``, also of the passwords of their roles.

    Raises:
        As ``CreateBackup``.
    """
    with keys.staging.folder(0) as folder:
        private = PrivateRepository(app, str(folder))
        create = CreateBackup(private, compress="none", secrets=secrets, schema_only=(), allow_missing=False)
        created = create.apply()
        yield BackupSource(private, private.find(created.id), keys, roles)
