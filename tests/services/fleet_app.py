"""Shop, a fleet of Larders: one SQLite file for each tenant."""

from __future__ import annotations

from pathlib import Path

from tests.shapes.flashpoint_web import larder_db

PROFILE = Path(__file__).parents[1] / "profiles/larder.toml"
NAMES = ("ada", "bea", "cleo", "dora")


def tenant_path(folder: Path, name: str) -> Path:
    """Return the database of a tenant."""
    return folder / "tenants" / name / "app.db"


def create_fleet(folder: Path, names: tuple[str, ...] = NAMES, *, extra: str = "") -> Path:
    """Create the tenants and the configuration, and return the folder; ``extra`` is appended to ``[apps.shop]``."""
    for name in names:
        larder_db(tenant_path(folder, name))
    (folder / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "{PROFILE}"\ndatabases = "tenants/*/app.db"\n{extra}\n'
        '[apps.shop.backup]\nrepository = "backups"\nkeep = { last = 1 }\n'
    )
    return folder
