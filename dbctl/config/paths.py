"""Directories of this machine: caches, staging, and the home of the user."""

import os
import sys
from pathlib import Path

from dbctl.config.model import App
from dbctl.files import atomic


def caches() -> Path | None:
    """Return the folder of this user for what dbctl can make again; None where this user has none."""
    if sys.platform != "linux":
        from platformdirs import user_cache_path

        return user_cache_path("dbctl") / "search"
    # As platformdirs has it, without loading that for every search; in a container a user may have no home at all.
    named = Path(os.environ.get("XDG_CACHE_HOME", "").strip())
    base = named if named.is_absolute() else atomic.expand_home("~/.cache") if has_home() else None
    return base and base / "dbctl" / "search"


def has_home() -> bool:
    """Whether this user has a home directory."""
    return os.path.expanduser("~").startswith("/")  # noqa: PTH111 - pathlib's raises where there is none


def aside(app: App) -> Path | None:
    """Return the folder of this machine for what is not for the repository, or not yet; None: as ``staging`` says."""
    told = app.backup.staging if app.backup else ""
    return app.folder / atomic.expand_home(told) if told else None


def staging() -> Path:
    """Return where files wait on their way when nothing says otherwise: on a disk, for ``/tmp`` may be memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - the folder made in it is private
