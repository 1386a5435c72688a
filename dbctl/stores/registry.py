"""Open the store at an address; no other module depends on the kinds of stores."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from dbctl.config.storage import (
    PROVIDERS,
    RCLONE,
    SFTP,
    is_file_server,
    is_storage,
    parse_address,
    parse_file_server,
)
from dbctl.errors.usage import NotSupportedError, UsageError, require_driver
from dbctl.files.atomic import expand_home
from dbctl.stores.base import ObjectLock, Store
from dbctl.url import is_foreign_address

#: The scheme of storage whose locks are set by requests for single objects, and are reported.
LOCKABLE = "s3"


def open_store(
    address: str,
    app: str,
    *,
    folder: Path,
    staging: Path | None = None,
    timeout: float = 5,
    object_lock: ObjectLock | None = None,
) -> Store:
    """Return the store of one app's backups; nothing is created or accessed yet.

    Args:
        address: a path, which is relative to ``folder``, ``SCHEME://BUCKET/PREFIX`` with a scheme of ``PROVIDERS``, or an
            address of ``dbctl.config.storage``.
        app: the name of the app.
        folder: the folder of the configuration.
        staging: a local folder for files of a remote store; None: the default of ``Staging``.
        timeout: seconds to wait for a connection to a remote store.
        object_lock: how the files of new backups are locked; None: not at all.

    Raises:
        NotSupportedError: dbctl supports no such kind of store, or sets no locks there.
        DriverMissingError: the package for remote stores is not installed.
        StorageKeysMissingError: it requires keys, and none are configured.
        StorageSettingInvalidError, UsageError: the address is invalid.
    """
    scheme, separator, _ = address.partition("://")
    if object_lock and scheme != LOCKABLE:
        raise NotSupportedError(
            feature="a lock of backups (object_lock)",
            subject=address,
            hint=f"Use a repository {LOCKABLE}://.",
        )
    if is_storage(address):
        from dbctl.stores.staging import Staging

        location = parse_address(address)
        with require_driver(f"{location.text}/{app}", driver="obstore", extra="s3"):
            import obstore  # noqa: F401 - an extra

            from dbctl.stores.objects.client import Client
            from dbctl.stores.objects.lock import Lease
            from dbctl.stores.objects.protection import read_protection
            from dbctl.stores.remote.store import RemoteStore

        name = folder_name(app)
        bucket = Client(f"{location.text}/{name}", location, timeout=timeout)
        locker = None
        if object_lock:
            from dbctl.stores.objects.protection import RetentionLocker

            locker = RetentionLocker(bucket, location, object_lock)
        return RemoteStore(
            bucket,
            f"{location.prefix}/{name}".lstrip("/"),
            Staging(staging),
            create_lock=partial(Lease, bucket),
            read_protection=partial(read_protection, bucket, location),
            locker=locker,
        )
    if is_file_server(address):
        from dbctl.stores.remote.store import RemoteStore
        from dbctl.stores.sftp.client import SftpClient
        from dbctl.stores.sftp.lock import ClaimLock, ReplacingClient
        from dbctl.stores.sftp.protocol import Connection
        from dbctl.stores.staging import Staging

        server, name = parse_file_server(address), folder_name(app)
        place = f"{server.text}/{name}"
        kind = SftpClient if server.scheme == SFTP else ReplacingClient
        files = kind(Connection(server.list_words(timeout), place, server.hint), server.root, place)
        return RemoteStore(files, name, Staging(staging), create_lock=partial(ClaimLock, files))
    if separator or is_foreign_address(address):
        raise NotSupportedError(
            feature=f"storing backups in {scheme.partition(':')[0]}",
            subject="this version of dbctl",
            hint=f"Use a directory, {', '.join(f'{name}://' for name in PROVIDERS)}BUCKET/PREFIX, {SFTP}HOST/PATH or"
            f" {RCLONE}REMOTE:PATH. Write ./ before a directory with a colon.",
        )
    from dbctl.stores.directory import DirectoryStore

    if "\0" in address:
        raise UsageError(detail=f"the repository {address!r}: a path must not contain a NUL character")
    return DirectoryStore(folder / expand_home(address), folder_name(app))


def folder_name(app: str) -> str:
    if re.fullmatch(r"\w[\w.-]*", app):
        return app
    from urllib.parse import quote

    return quote(app, safe="").replace(".", "%2E")
