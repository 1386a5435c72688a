"""Which of the shapes, for which dbctl ships migrations, a database has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.base import Readable
from dbctl.errors import AbilityMissingError, MigrationShapeUnknownError, UsageError
from dbctl.profiles import loader
from dbctl.profiles.model import Migrations, MigrationsShape
from dbctl.services.apps import App
from dbctl.services.live import has
from dbctl.services.migration_files import Folder


def fitting(
    shapes: Sequence[MigrationsShape],
    folders: Mapping[str, Folder],
    db: Readable,
    recorded: Collection[str],
) -> list[str]:
    """Return the shapes that a database may have, the likeliest first; none where nothing tells.

    Args:
        shapes: those that the profile knows.
        folders: the migrations of each.
        db: the database.
        recorded: the names in its ledger. They tell more than a schema, which may have been changed by hand, and which
            a first migration has only begun; the schema tells where names are the same in several shapes.
    """
    known = {name: sum(one in folder.files for one in recorded) for name, folder in folders.items()}
    most = max(known.values())
    likeliest = [name for name, count in known.items() if count == most]
    live = [one.name for one in shapes if one.name in likeliest and has(db, one.needs)]
    return live or (likeliest if most else [])


def refuse(app: App, found: Mapping[str, Migrations], shape: str, *, given: bool) -> None:
    """Refuse a shape that no database which is meant can be given.

    Args:
        app: the app.
        found: the migrations of the databases that are meant, by the database's name.
        shape: the name of the shape.
        given: whether a folder was given, too.

    Raises:
        AbilityMissingError: their migrations have no shapes.
        UsageError: their files are not those that travel with dbctl.
        MigrationShapeUnknownError: none is called that.
    """
    shaped = {name: told for name, told in found.items() if told.shape}
    if not shaped:
        raise AbilityMissingError(
            app=app.target(next(iter(found))) if len(found) == 1 else app.name,
            profile=app.profile.name,
            ability="shapes of migrations",
            others=", ".join(_others()) or "none",
        )
    if given:
        raise UsageError(detail="--shape is for the migrations that travel with dbctl, not for --migrations")
    shipped = [name for name in shaped if name not in app.configured.migrations]
    if not shipped:
        raise UsageError(
            detail=f"--shape is for the migrations that travel with dbctl, and {app.target(next(iter(shaped)))}"
            " has its own ([apps.NAME.migrations])"
        )
    names = list(dict.fromkeys(one.name for name in shipped for one in shaped[name].shape))
    if shape not in names:
        raise MigrationShapeUnknownError(app=app.name, name=shape, names=", ".join(names))


def _others() -> list[str]:
    """Return the names of the profiles whose migrations come in shapes."""
    each = map(loader.load, loader.names())
    told = {one.name: [database.migrations for database in one.databases.values()] for one in each}
    return [name for name, found in told.items() if any(one and one.shape for one in found)]
