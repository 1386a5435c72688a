"""The lock that keeps every other dbctl from writing meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from dbctl import config, lockfile
from dbctl.engines import locks
from dbctl.engines.lancedb.place import Place
from dbctl.errors import UnreachableError


def lock(place: Place, purpose: str) -> AbstractContextManager[None]:
    """Hold the lock of all dbctl writers, in a file beside the folder.

    Storage has no locks: there it holds for this user on this machine, and two that write at once from elsewhere meet in
    the library, which lets each version be made by one alone.

    Raises:
        BusyError: another dbctl held it for too long.
    """
    if place.folder is not None:
        return locks.write_lock(place.folder, place.target, purpose, timeout=place.timeout)
    return _here(place, purpose)


@contextmanager
def _here(place: Place, purpose: str) -> Iterator[None]:
    name = hashlib.sha256(place.address.encode()).hexdigest()[:32]
    file = config.staging() / f".dbctl-{os.geteuid()}-{name}.lock"
    try:
        with lockfile.exclusive(file, place.target, purpose, timeout=place.timeout):
            yield
    except lockfile.CannotLockError as error:
        raise UnreachableError(
            target=place.target, reason=f"its lock {file}: {error}", instead="Nothing was changed."
        ) from error
