"""Which of the shapes, for which dbctl ships migrations, a database has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract import Readable
from dbctl.errors import AbilityMissingError, MigrationShapeUnknownError, UsageError
from dbctl.profiles import loader
from dbctl.profiles.model import Migrations, MigrationsShape, Profile
from dbctl.services.app import App, has
from dbctl.services.migrations.files.loader import Folder
from dbctl.services.migrations.ledger import Record, Track


def fitting(
    shapes: Sequence[MigrationsShape],
    folders: Mapping[str, Folder],
    db: Readable,
    recorded: Collection[Record],
) -> list[str]:
    """Return the shapes that a database may have, the likeliest first; none where nothing tells.

    Of several shapes, the one comes first of which the fewest migrations are pending: a database that has all
    migrations of a smaller shape has that shape. A shape whose needs are a part of another's does not count where
    the database has the needs of both.

    Args:
        shapes: those that the profile knows.
        folders: the migrations of each.
        db: the database.
        recorded: what its ledger holds. It tells more than a schema, which may have been changed by hand, and which
            a first migration has only begun; the schema tells where names are the same in several shapes.
    """
    known = {
        name: sum(any(map(one.is_of, folder.files.values())) for one in recorded)
        for name, folder in folders.items()
    }
    most = max(known.values())
    likeliest = [name for name, count in known.items() if count == most]
    if most:
        likeliest.sort(key=lambda name: len(folders[name].files))
    needs = {shape.name: shape.needs for shape in shapes}
    present = [name for name in likeliest if has(db, needs[name])]
    live = [name for name in present if not any(set(needs[name]) < set(needs[other]) for other in present)]
    return live or (likeliest if most else [])


def leads_to(shapes: Sequence[MigrationsShape], found: Collection[str], wanted: str) -> bool:
    """Whether a database of one of the shapes ``found`` has the shape ``wanted``, or gets it by further migrations."""
    directories = {shape.name: shape.directory for shape in shapes}
    return not found or directories[wanted] in {directories[name] for name in found}


def distinct(shapes: Sequence[MigrationsShape], folders: Mapping[str, Folder]) -> Sequence[str]:
    """Return the largest shape of each folder, in the order of the profile."""
    largest: dict[str, str] = {}
    for shape in shapes:
        other = largest.get(shape.directory)
        if shape.name in folders and (
            other is None or len(folders[shape.name].files) > len(folders[other].files)
        ):
            largest[shape.directory] = shape.name
    return list(largest.values())


def by_likelihood(track: Track, db: Readable) -> Sequence[Sequence[str]]:
    """Return the largest shape of each folder: those first of which the schema has what they need, then the others."""
    shapes = track.told.shape
    present = set(fitting(shapes, track.shapes, db, ()))
    likely = {shape.directory for shape in shapes if shape.name in present}
    directories = {shape.name: shape.directory for shape in shapes}
    names = distinct(shapes, track.shapes)
    return [[name for name in names if (directories[name] in likely) is wanted] for wanted in (True, False)]


def refuse(app: App, found: Mapping[str, Migrations], shape: str, *, given: bool) -> None:
    """Refuse a shape that no database which is meant can be given.

    Args:
        app: the app.
        found: the migrations of the databases that are meant, by the database's name.
        shape: the name of the shape.
        given: whether a folder was given, too.

    Raises:
        AbilityMissingError, MigrationShapeUnknownError: as for ``refuse_unknown``.
        UsageError: their files are not those that travel with dbctl.
    """
    refuse_unknown(app.target(next(iter(found))) if len(found) == 1 else app.name, app.profile, found, shape)
    if given:
        raise UsageError(
            detail="--variant is for the migrations that travel with dbctl, not for --migrations"
        )
    own = [name for name, told in found.items() if told.shape and name in app.configured.migrations]
    if own:
        raise UsageError(
            detail=f"--variant is for the migrations that travel with dbctl, and {app.target(own[0])}"
            " has its own ([apps.NAME.migrations])"
        )


def refuse_unknown(name: str, profile: Profile, found: Mapping[str, Migrations], shape: str) -> None:
    """Refuse a shape that none of some migrations knows; ``name`` is what messages call their app.

    Raises:
        AbilityMissingError: they have no shapes.
        MigrationShapeUnknownError: none is called that.
    """
    names = list(dict.fromkeys(one.name for told in found.values() for one in told.shape))
    if not names:
        raise AbilityMissingError(
            app=name,
            profile=profile.name,
            ability="shapes of migrations",
            others=", ".join(_others()) or "none",
        )
    if shape not in names:
        raise MigrationShapeUnknownError(app=name, name=shape, names=", ".join(names))


def _others() -> list[str]:
    """Return the names of the profiles whose migrations come in shapes."""
    each = map(loader.load, loader.names())
    told = {one.name: [database.migrations for database in one.databases.values()] for one in each}
    return [name for name, found in told.items() if any(one and one.shape for one in found)]
