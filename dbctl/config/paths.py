"""Directories of this machine: caches, staging, the home of the user, and the data files of the package."""

import os
import sys
from pathlib import Path

from dbctl.config.model import STATE_OFF, App
from dbctl.files import atomic


def cache_folder() -> Path | None:
    """Return the user's folder for files that dbctl can create again; None without a home directory."""
    if sys.platform != "linux":
        from platformdirs import user_cache_path

        return user_cache_path("dbctl") / "search"
    # The same path as platformdirs, without importing it for every search; users of containers may have no home.
    configured = Path(os.environ.get("XDG_CACHE_HOME", "").strip())
    base = configured if configured.is_absolute() else atomic.expand_home("~/.cache") if has_home() else None
    return base and base / "dbctl" / "search"


def state_folder(configured: str = "") -> Path | None:
    """Return the folder for records of runs: ``DBCTL_STATE``, otherwise ``configured``, otherwise the user's.

    None: the folder is ``off``, or the user has no home directory.
    """
    selected = os.environ.get("DBCTL_STATE", "").strip() or configured
    if selected:
        return None if selected == STATE_OFF else Path(selected).absolute()
    from platformdirs import user_state_path

    has_state = Path(os.environ.get("XDG_STATE_HOME", "").strip()).is_absolute() or has_home()
    return user_state_path("dbctl") if has_state else None


def profile_folders() -> dict[str, Path]:
    """Return the folders of installed profiles by their origin, ``user`` before ``system``."""
    from platformdirs import site_config_path, user_config_path

    folders = {"system": site_config_path("dbctl") / "profiles"}
    return {"user": user_config_path("dbctl") / "profiles", **folders} if has_home() else folders


def has_home() -> bool:
    """Return whether the user has a home directory."""
    return os.path.expanduser("~").startswith("/")  # noqa: PTH111 - pathlib raises without one


def staging_folder(app: App) -> Path | None:
    """Return the configured local folder for staged files of backups; None: use ``default_staging_folder``."""
    configured = app.backup.staging if app.backup else ""
    return app.folder / atomic.expand_home(configured) if configured else None


def default_staging_folder() -> Path:
    """Return the default folder for staged files: on a disk, because ``/tmp`` may be in memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - callers create a private folder in it


_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder(name: str) -> Path:
    """Return the folder ``name`` (``completions``, ``man`` or ``migrations``) of the wheel, or of the checkout."""
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
