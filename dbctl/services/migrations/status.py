"""Which migrations the databases of an app have, and how each stands to the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import (
    AbilityMissingError,
    DatabaseMissingError,
    DbctlError,
    Exit,
    MigrationShapeUnknownError,
    MigrationsMissingError,
    NotSupportedError,
    gravest,
)
from dbctl.model import Page, Value
from dbctl.profiles import loader
from dbctl.profiles.model import Migrations, Profile
from dbctl.services.app import App, ledger_detection
from dbctl.services.migrations.files import Folder, variants
from dbctl.services.migrations.files import loader as migration_files
from dbctl.services.migrations.ledger import Migration, Standing, Track, standing


class Survey(Value, frozen=True, kw_only=True):
    """How several databases stand; what could not be looked at is in ``failed``."""

    page: Page[Migration]
    unrecorded: Sequence[str]  #: targets with tables and without a ledger
    failed: Sequence[DbctlError]
    check: int  #: the exit status that ``--check`` asks for
    status: int  #: the one without it


def tracks(
    app: App,
    asked: str = "",
    given: Path | None = None,
    *,
    shape: str = "",
    may_lack_folder: bool = False,
    connects: bool = True,
) -> list[Track]:
    """Return the migrations of the database ``asked`` for, else of every configured one that has any.

    Args:
        app: the app.
        asked: the database.
        given: the folder, in place of the configured one.
        shape: what is to be made of an empty database, where dbctl's own migrations come in several shapes.
        may_lack_folder: whether a database of which nothing says where its files are is told by its ledger alone.
        connects: whether a database may be opened; where not, a ledger that had to be looked for is the one that dbctl
            would make.

    Raises:
        AbilityMissingError: there are none.
        MigrationsMissingError, FileFailedError: as for ``migration_files.folder``.
        NotSupportedError: one folder was given for several databases.
        UsageError, MigrationShapeUnknownError: as for ``migration_shapes.refuse``; AbilityMissingError, too.
    """
    names = [asked] if asked else list(app.profile.databases)
    found = {name: told for name in names if (told := app.database(name).migrations)}
    if not asked:
        found = {
            name: told
            for name, told in found.items()
            if not app.database(name).optional or _configured(app, name)
        }
    if not found:
        name = app.target(asked) if asked else app.name
        raise AbilityMissingError(app=name, profile=app.profile.name, ability="migrations", others=_others())
    if given and len(found) > 1:
        raise NotSupportedError(
            what="--migrations for several databases",
            by=app.name,
            instead=f"Say which by --db: {', '.join(found)}.",
        )
    if shape:
        variants.refuse(app, found, shape, given=given is not None)
    return [
        _track(app, name, told, given, shape=shape, may_lack_folder=may_lack_folder, connects=connects)
        for name, told in found.items()
    ]


def _track(
    app: App,
    name: str,
    told: Migrations,
    given: Path | None,
    *,
    shape: str,
    may_lack_folder: bool,
    connects: bool,
) -> Track:
    engine, own = app.url(name).engine, bool(given) or name in app.configured.migrations
    shapes: Mapping[str, Folder] = {}
    shipped: Mapping[str, Folder] = {}
    if own:
        with suppress(MigrationsMissingError):
            shipped = _shipped(app.profile, name, app.target(name), engine, told)
    wanted = shape if any(one.name == shape for one in told.shape) else ""
    try:
        if told.shape and not own:
            shapes = _shipped(app.profile, name, app.target(name), engine, told)
            if wanted and wanted not in shapes:
                raise MigrationShapeUnknownError(app=app.target(name), name=wanted, names=", ".join(shapes))
        folder = _first(shapes, wanted) if shapes else migration_files.folder(app, name, given)
    except MigrationsMissingError:
        if own or not may_lack_folder:
            raise
        folder = migration_files.none_at_all()
    ledger, foreign = ledger_detection.named(app.profile, told.ledger, folder.format), None
    if told.ledger == ledger_detection.FOUND and connects:
        with suppress(DatabaseMissingError):  # it will be made
            db = app.reader(name, may_be_empty=True)
            ledger, foreign = ledger_detection.found(db, engine, folder.format)
    return Track(
        app=app.name,
        database=name,
        profile=app.profile,
        told=told,
        ledger=ledger,
        foreign=foreign,
        folder=folder,
        engine=engine,
        shapes=shapes,
        shipped=shipped,
        shape=wanted,
    )


def shipped_track(profile: Profile, database: str, app: str, engine: str, *, shape: str = "") -> Track:
    """Return the migrations that travel with dbctl, for a database that no configuration need know, such as a sample's.

    Args:
        profile: the profile.
        database: the database's name there.
        app: what messages call the app.
        engine: the engine that the database lives in.
        shape: one that the profile knows; else what the database has tells, once it is looked at.

    Raises:
        AbilityMissingError: the profile has none for it.
        MigrationsMissingError: they do not travel along.
    """
    told = profile.databases[database].migrations
    if told is None:
        raise AbilityMissingError(
            app=f"{app}/{database}", profile=profile.name, ability="migrations", others=_others()
        )
    folders = _shipped(profile, database, f"{app}/{database}", engine, told)
    return Track(
        app=app,
        database=database,
        profile=profile,
        told=told,
        ledger=ledger_detection.named(profile, told.ledger),
        folder=_first(folders, shape),
        engine=engine,
        shapes=folders if told.shape else {},
        shape=shape,
    )


def _shipped(
    profile: Profile, database: str, target: str, engine: str, told: Migrations
) -> Mapping[str, Folder]:
    """Return the folders that travel with dbctl, by shape; one without a name where there are no shapes."""
    folders = {}
    shapes = [shape for shape in told.shape if not shape.engines or engine in shape.engines]
    for name, directory, last in [(shape.name, shape.directory, shape.until) for shape in shapes] or [
        ("", "", "")
    ]:
        path = migration_files.shipped_path(profile.name, database, engine, directory)
        if not path.is_dir():
            raise MigrationsMissingError(target=target, path=None)
        folder = migration_files.read(path, own=False, format=told.format)
        folders[name] = migration_files.until(folder, last) if last else folder
    return folders


def _first(folders: Mapping[str, Folder], shape: str) -> Folder:
    """Return the folder of a shape; where none is named, of that which an empty database gets."""
    return folders[shape] if shape else next(iter(folders.values()))


def _others() -> str:
    """Return the names of the profiles that have migrations."""
    profiles = map(loader.load, loader.names())
    return (
        ", ".join(one.name for one in profiles if any(told.migrations for told in one.databases.values()))
        or "none"
    )


def _configured(app: App, database: str) -> bool:
    return database in app.configured.databases


def survey(apps: Sequence[App], asked: str = "", given: Path | None = None, *, shape: str = "") -> Survey:
    """Tell how the databases of some apps stand to their migrations; creates nothing and writes nothing.

    Raises:
        DbctlError: what keeps the only target from being looked at; of several, the others are told all the same.
    """
    rows: list[Migration] = []
    unrecorded, failed, checks = [], [], [Exit.OK]
    known: list[tuple[App, Track]] = []
    for app in apps:
        try:
            each = tracks(app, asked, given, shape=shape, may_lack_folder=True)
            known += [(app, track) for track in each]
        except AbilityMissingError:  # of several apps, some have none
            if len(apps) == 1:
                raise
        except DbctlError as error:
            if len(apps) == 1:
                raise
            failed.append(error)
    for app, track in known:
        try:
            found = look(app, track)
        except DbctlError as error:
            if len(known) == 1 and not failed:
                raise
            failed.append(error)
            continue
        rows += found.migrations
        if found.unrecorded:
            unrecorded.append(track.target)
        checks.append(
            Exit.UNSOUND if found.unsound else Exit.ACTION_NEEDED if found.named("pending") else Exit.OK
        )
    alike = [word for word in ("app", "database") if len({getattr(row, word) for row in rows}) == 1]
    some = len(checks) > 1  # at least one could be looked at
    overall = Exit.PARTIAL if failed and some else gravest([error.exit_status for error in failed])
    return Survey(
        page=Page(
            items=rows,
            total=len(rows),
            names=Migration.__struct_fields__,
            nothing="no migrations",
            alike=alike,
        ),
        unrecorded=unrecorded,
        failed=failed,
        check=overall or gravest(checks),
        status=overall,
    )


def look(app: App, track: Track) -> Standing:
    """Return how a database stands, as somebody sees it who may only read.

    Raises:
        WrongAppError: it is a database of something else.
        DatabaseMissingError: there is no such file.
    """
    opened = registry.open_for_reading(app.url(track.database), track.target, timeout=app.timeout)
    with closing(opened) as db:
        return standing(track, db)
