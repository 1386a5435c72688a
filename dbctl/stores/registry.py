"""Map the address of a store to its kind; the only module that names them."""

from __future__ import annotations

import re
from pathlib import Path

from dbctl.errors import NotSupportedError, UsageError
from dbctl.files import expand_home
from dbctl.stores.base import Store


def open_store(
    address: str, app: str, *, folder: Path, staging: Path | None = None, timeout: float = 5
) -> Store:
    """Return the store of one app's backups; nothing is made, opened or asked yet.

    Args:
        address: a path, which is relative to ``folder``, or ``s3://BUCKET/PREFIX``.
        app: the name of the app.
        folder: the folder of the configuration.
        staging: where files wait that go to a store elsewhere, or come from one; None: where ``Staging`` has them.
        timeout: seconds to wait for a connection to one elsewhere.

    Raises:
        NotSupportedError: dbctl supports no such kind of store.
        StorageKeysMissingError: it requires keys, and none are configured.
        StorageUnknownError, UsageError: the address is none.
    """
    scheme, mark, _ = address.partition("://")
    if scheme == "s3" and mark:
        from dbctl.config import parse
        from dbctl.stores.s3 import S3
        from dbctl.stores.staging import Staging

        return S3(parse(address), _name(app), Staging(staging), timeout=timeout)
    if mark:
        raise NotSupportedError(
            what=f"keeping backups in {scheme}",
            by="this version of dbctl",
            instead="It keeps them in a directory, or in storage with the S3 protocol (s3://BUCKET/PREFIX).",
        )
    from dbctl.stores.directory import Directory

    if "\0" in address:
        raise UsageError(detail=f"the repository {address!r}: no path holds a NUL character")
    return Directory(folder / expand_home(address), _name(app))


def _name(app: str) -> str:
    """Return a folder's name for an app, which may be called whatever a configuration likes."""
    if re.fullmatch(r"\w[\w.-]*", app):
        return app
    from urllib.parse import quote

    return quote(app, safe="").replace(".", "%2E")
