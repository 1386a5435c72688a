"""Find the migrations of the databases of an app, and their states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from dbctl.errors import (
    DatabaseMissingError,
    DbctlError,
    Exit,
    FeatureMissingError,
    MigrationPartiallyRevertedError,
    MigrationsMissingError,
    MigrationStatementUnknownError,
    MigrationVariantUnknownError,
    NotSupportedError,
    UsageError,
    worst_status,
)
from dbctl.model import Page, Struct
from dbctl.profiles import loader
from dbctl.profiles.model import Migrations, Profile
from dbctl.services.app import App, ledger_detection
from dbctl.services.migrations.files import Folder, variants
from dbctl.services.migrations.files import loader as migration_files
from dbctl.services.migrations.ledger import (
    DatabaseState,
    Migration,
    MigrationTarget,
    create_empty_state,
    read_state,
)

T = TypeVar("T")


class MigrationStatus(Struct, frozen=True, kw_only=True):
    """The migrations of several databases; ``failed`` contains the errors of databases that could not be read."""

    page: Page[Migration]
    unrecorded: Sequence[str]  #: targets with tables but without a ledger
    failed: Sequence[DbctlError]
    check: int  #: the exit code with ``--check``
    status: int  #: the exit code without ``--check``


def find_targets(
    app: App,
    database: str = "",
    folder: Path | None = None,
    *,
    variant: str = "",
    may_lack_folder: bool = False,
    may_connect: bool = True,
) -> list[MigrationTarget]:
    """Return the selected database, or every configured one, with its migrations.

    Args:
        app: the app.
        database: the database; empty for every database that has migrations.
        folder: the folder of migrations, instead of the configured one.
        variant: the variant for an empty database, if the shipped migrations have several.
        may_lack_folder: whether a database without a known folder is reported with its ledger alone.
        may_connect: whether the database may be opened to find its ledger; otherwise the ledger is the one that dbctl
            would create.

    Raises:
        FeatureMissingError: no database has migrations.
        MigrationsMissingError, FileFailedError: as ``files.loader.load_folder``.
        NotSupportedError: one folder was given for several databases.
        UsageError, MigrationVariantUnknownError, FeatureMissingError: as ``variants.refuse_unusable``.
    """
    names = [database] if database else list(app.profile.databases)
    sections = {name: section for name in names if (section := app.database(name).migrations)}
    if not database:
        sections = {
            name: section
            for name, section in sections.items()
            if not app.database(name).optional or _is_configured(app, name)
        }
    if not sections:
        name = app.target(database) if database else app.name
        raise FeatureMissingError(
            app=name,
            profile=app.profile.name,
            feature="migrations",
            profiles=_list_profiles_with_migrations(),
        )
    if folder and len(sections) > 1:
        raise NotSupportedError(
            feature="--migrations for several databases",
            subject=app.name,
            hint=f"Choose one with --db: {', '.join(sections)}.",
        )
    if variant:
        variants.refuse_unusable(app, sections, variant, has_folder=folder is not None)
    return [
        _create_target(
            app,
            name,
            section,
            folder,
            variant=variant,
            may_lack_folder=may_lack_folder,
            may_connect=may_connect,
        )
        for name, section in sections.items()
    ]


def _create_target(
    app: App,
    name: str,
    section: Migrations,
    folder_path: Path | None,
    *,
    variant: str,
    may_lack_folder: bool,
    may_connect: bool,
) -> MigrationTarget:
    engine, is_custom = app.url(name).engine, bool(folder_path) or name in app.configured.migrations
    variant_folders: Mapping[str, Folder] = {}
    shipped_folders: Mapping[str, Folder] = {}
    if is_custom:
        with suppress(MigrationsMissingError):
            shipped_folders = _read_shipped_folders(app.profile, name, app.target(name), engine, section)
    requested = variant if any(candidate.name == variant for candidate in section.variant) else ""
    try:
        if section.variant and not is_custom:
            variant_folders = _read_shipped_folders(app.profile, name, app.target(name), engine, section)
            if requested and requested not in variant_folders:
                raise MigrationVariantUnknownError(
                    app=app.target(name), name=requested, names=", ".join(variant_folders)
                )
        folder = (
            _select_folder(variant_folders, requested)
            if variant_folders
            else migration_files.load_folder(app, name, folder_path)
        )
    except MigrationsMissingError:
        if is_custom or not may_lack_folder:
            raise
        folder = migration_files.create_missing_folder()
    ledger, foreign = ledger_detection.resolve_ledger(app.profile, section.ledger, folder.format), None
    if section.ledger == ledger_detection.AUTO and may_connect:
        with suppress(DatabaseMissingError):  # it will be created
            db = app.reader(name, allow_empty=True)
            ledger, foreign = ledger_detection.detect_ledgers(db, engine, folder.format)
    return MigrationTarget(
        app=app.name,
        database=name,
        profile=app.profile,
        section=section,
        ledger=ledger,
        foreign=foreign,
        folder=folder,
        engine=engine,
        variant_folders=variant_folders,
        shipped_folders=shipped_folders,
        variant=requested,
    )


def create_shipped_target(
    profile: Profile, database: str, app: str, engine: str, *, variant: str = ""
) -> MigrationTarget:
    """Return the shipped migrations for a database without configuration, such as a sample.

    Args:
        profile: the profile.
        database: the name of the database in the profile.
        app: the name of the app for messages.
        engine: the name of the database's engine.
        variant: a variant of the profile; empty to detect it from the database.

    Raises:
        FeatureMissingError: the profile has no migrations for the database.
        MigrationsMissingError: dbctl does not ship them.
    """
    section = profile.databases[database].migrations
    if section is None:
        raise FeatureMissingError(
            app=f"{app}/{database}",
            profile=profile.name,
            feature="migrations",
            profiles=_list_profiles_with_migrations(),
        )
    folders = _read_shipped_folders(profile, database, f"{app}/{database}", engine, section)
    return MigrationTarget(
        app=app,
        database=database,
        profile=profile,
        section=section,
        ledger=ledger_detection.resolve_ledger(profile, section.ledger),
        folder=_select_folder(folders, variant),
        engine=engine,
        variant_folders=folders if section.variant else {},
        variant=variant,
    )


def _read_shipped_folders(
    profile: Profile, database: str, target: str, engine: str, section: Migrations
) -> Mapping[str, Folder]:
    """Return the shipped folders by variant; the key is '' if there are no variants."""
    folders = {}
    variants = [variant for variant in section.variant if not variant.engines or engine in variant.engines]
    for name, directory, last in [
        (variant.name, variant.directory, variant.until) for variant in variants
    ] or [("", "", "")]:
        path = migration_files.find_shipped_path(profile.name, database, engine, directory)
        if not path.is_dir():
            raise MigrationsMissingError(target=target, path=None)
        folder = migration_files.read_folder(path, is_custom=False, format=section.format)
        folders[name] = migration_files.truncate_folder(folder, last) if last else folder
    return folders


def _select_folder(folders: Mapping[str, Folder], variant: str) -> Folder:
    """Return the folder of a variant; without a name, of the variant for an empty database."""
    return folders[variant] if variant else next(iter(folders.values()))


def _list_profiles_with_migrations() -> str:
    """Return the names of the profiles that have migrations."""
    profiles = map(loader.load, loader.names())
    return (
        ", ".join(
            profile.name
            for profile in profiles
            if any(database.migrations for database in profile.databases.values())
        )
        or "none"
    )


def _is_configured(app: App, database: str) -> bool:
    return database in app.configured.databases


def collect_status(
    apps: Sequence[App], database: str = "", folder: Path | None = None, *, variant: str = ""
) -> MigrationStatus:
    """Return the state of the migrations of some apps; writes nothing.

    Raises:
        DbctlError: the only target cannot be read; errors of one of several targets are part of the result.
    """
    rows: list[Migration] = []
    unrecorded, failed, statuses = [], [], [Exit.OK]
    app_targets: list[tuple[App, MigrationTarget]] = []
    for app in apps:
        try:
            targets = find_targets(app, database, folder, variant=variant, may_lack_folder=True)
            app_targets += [(app, target) for target in targets]
        except FeatureMissingError:  # some of several apps have no migrations
            if len(apps) == 1:
                raise
        except DbctlError as error:
            if len(apps) == 1:
                raise
            failed.append(error)
    for app, target in app_targets:
        try:
            state = load_state(app, target)
        except DbctlError as error:
            if len(app_targets) == 1 and not failed:
                raise
            failed.append(error)
            continue
        rows += state.migrations
        if state.is_unrecorded:
            unrecorded.append(target.name)
        statuses.append(
            Exit.CHECK_FAILED
            if state.is_inconsistent
            else Exit.ACTION_NEEDED
            if state.names_in("pending")
            else Exit.OK
        )
    constant_columns = [
        field for field in ("app", "database") if len({getattr(row, field) for row in rows}) == 1
    ]
    is_partial = len(statuses) > 1  # at least one was read
    overall = Exit.PARTIAL if failed and is_partial else worst_status([error.exit_status for error in failed])
    return MigrationStatus(
        page=Page(
            items=rows,
            total=len(rows),
            column_names=Migration.__struct_fields__,
            empty_message="no migrations",
            constant_columns=constant_columns,
        ),
        unrecorded=unrecorded,
        failed=failed,
        check=overall or worst_status(statuses),
        status=overall,
    )


def load_state(app: App, target: MigrationTarget) -> DatabaseState:
    """Open a database read-only and return the state of its migrations.

    Raises:
        WrongAppError: it is a database of another app.
        DatabaseMissingError: the file does not exist.
    """
    reader = app.engine(target.database).open_for_reading(
        app.url(target.database), target.name, timeout=app.timeout
    )
    with closing(reader) as db:
        return read_state(target, db)


def load_state_or_empty(app: App, target: MigrationTarget) -> tuple[DatabaseState, bool]:
    """Return the state of a database, and whether it is missing and would be created.

    Raises:
        DatabaseMissingError: its directory does not exist, too.
        WrongAppError: it is a database of another app.
    """
    try:
        return load_state(app, target), False
    except DatabaseMissingError as error:
        if not Path(str(error.context["path"])).parent.is_dir():  # directories are not created
            raise
    return create_empty_state(target), True


def retry_after_running_migration(app: App, target: MigrationTarget, read: Callable[[], T]) -> T:
    """Call ``read``; if it finds a partial migration, which may be running now, wait for the lock and call it again.

    Raises:
        BusyError: the lock was not released within the timeout.
    """
    try:
        return read()
    except (MigrationStatementUnknownError, MigrationPartiallyRevertedError):
        restore_target = app.engine(target.database).restore_target(app.url(target.database), target.name)
        with restore_target.lock("migrate", timeout=app.timeout):
            return read()


def require_single_target(targets: Sequence[MigrationTarget], purpose: str = "") -> MigrationTarget:
    """Return the only target.

    Raises:
        UsageError: the app has several databases with migrations; ``purpose`` completes the message.
    """
    if len(targets) > 1:
        names = ", ".join(target.database for target in targets)
        raise UsageError(detail=f"choose the database{purpose}: --db {names}")
    return targets[0]
