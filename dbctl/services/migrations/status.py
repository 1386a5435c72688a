"""Find the migrations of the databases of an app, and their states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError, Exit, worst_status
from dbctl.errors.connection import DatabaseMissingError
from dbctl.errors.migrations import (
    LedgerMissingError,
    MigrationPartiallyRevertedError,
    MigrationsMissingError,
    MigrationStatementUnknownError,
    MigrationVariantUnknownError,
)
from dbctl.errors.usage import FeatureMissingError, NotSupportedError, UsageError
from dbctl.model import Page, Struct
from dbctl.profiles import loader
from dbctl.profiles.model.databases import Migrations
from dbctl.profiles.model.profile import Profile
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.migrations.files import loader as migration_files
from dbctl.services.migrations.files.loader import Folder
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, Migration, read_state

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
        FeatureMissingError: no database has migrations, or none has variants.
        MigrationsMissingError: a folder does not exist.
        FileFailedError: a folder or a file cannot be read.
        NotSupportedError: one folder was given for several databases.
        UsageError: a variant was given, and the migrations are not those that dbctl ships.
        MigrationVariantUnknownError: no variant has that name.
    """
    names = [database] if database else list(app.profile.databases)
    if not database:
        names = [
            name for name in names if not app.database(name).optional or name in app.configured.databases
        ]
    sections = {name: section for name in names if (section := app.database(name).migrations)}
    subject = app.target(database) if database else app.name
    if not sections:
        raise _missing_feature_error(app.profile, subject, "migrations", lambda _section: True)
    if folder and len(sections) > 1:
        raise NotSupportedError(
            feature="--migrations for several databases",
            subject=app.name,
            hint=f"Choose one with --db: {', '.join(sections)}.",
        )
    if variant:
        _refuse_unusable_variant(app, sections, variant, has_folder=folder is not None)
    targets = []
    for name, section in sections.items():
        custom_path = folder or app.configured.migrations.get(name)
        target = _create_target(app.profile, name, section, app.name, app.url(name).engine)
        shipped: Mapping[str, Folder] = {}
        try:
            shipped = _read_shipped_folders(target)
        except MigrationsMissingError:
            if not (custom_path or may_lack_folder):
                raise
        requested = variant if any(candidate.name == variant for candidate in section.variant) else ""
        target = _select_folder(target, shipped, requested, custom_path)
        if section.ledger == ledger_detection.AUTO and may_connect:
            with suppress(DatabaseMissingError):  # it will be created
                db = app.reader(name, allow_empty=True)
                ledger, foreign = ledger_detection.detect_ledgers(
                    db, target.engine, target.folder.format, own=section.foreign
                )
                target = structs.replace(target, ledger=ledger, foreign=foreign)
        targets.append(target)
    return targets


def read_version(app: App, database: str) -> str:
    """Return the name of the last applied migration in the ledger of a database; empty: it has no ledger, or none is applied.

    Raises as ``find_targets`` and ``read_state``.
    """
    if app.database(database).migrations is None:
        return ""
    (target,) = find_targets(app, database, may_lack_folder=True)
    state = read_state(target, app.reader(database))
    applied = [
        migration
        for migration in state.migrations
        if migration.state not in ("pending", "out-of-order", "failed")
    ]
    return applied[-1].name or applied[-1].version if applied else ""


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
        raise _missing_feature_error(profile, f"{app}/{database}", "migrations", lambda _section: True)
    target = _create_target(profile, database, section, app, engine)
    return _select_folder(target, _read_shipped_folders(target), variant)


def _create_target(
    profile: Profile, database: str, section: Migrations, app: str, engine: str
) -> MigrationTarget:
    """Return a database without a folder."""
    return MigrationTarget(
        app=app,
        database=database,
        profile=profile,
        section=section,
        ledger=ledger_detection.resolve_ledger(profile, section.ledger),
        folder=migration_files.MISSING_FOLDER,
        engine=engine,
    )


def _select_folder(
    target: MigrationTarget, shipped: Mapping[str, Folder], variant: str, custom_path: Path | None = None
) -> MigrationTarget:
    """Return the database with its custom folder, or that of a variant; by default, of that for an empty database."""
    folder, section = target.folder, target.section
    if custom_path:
        if not custom_path.is_dir():
            raise MigrationsMissingError(target=target.name, path=custom_path)
        folder = migration_files.read_folder(custom_path, is_custom=True, format=section.format)
    elif variant and shipped and variant not in shipped:
        raise MigrationVariantUnknownError(app=target.name, name=variant, names=", ".join(shipped))
    elif shipped:
        folder = shipped[variant] if variant else next(iter(shipped.values()))
    return structs.replace(
        target,
        ledger=ledger_detection.resolve_ledger(target.profile, section.ledger, folder.format),
        folder=folder,
        variant_folders=shipped if section.variant and not custom_path else {},
        shipped_folders=shipped if custom_path else {},
        variant=variant,
    )


def _read_shipped_folders(target: MigrationTarget) -> dict[str, Folder]:
    """Return the shipped folders by variant; the key is '' if there are no variants."""
    section, engine = target.section, target.engine
    variants = [variant for variant in section.variant if not variant.engines or engine in variant.engines]
    places = {variant.name: (variant.directory, variant.until) for variant in variants} or {"": ("", "")}
    folders = {}
    for name, (directory, last) in places.items():
        path = migration_files.find_shipped_path(target.profile.name, target.database, engine, directory)
        if not path.is_dir():
            raise MigrationsMissingError(target=target.name, path=None)
        folder = migration_files.read_folder(path, is_custom=False, format=section.format)
        folders[name] = migration_files.truncate_folder(folder, last) if last else folder
    return folders


def _refuse_unusable_variant(
    app: App, sections: Mapping[str, Migrations], variant: str, *, has_folder: bool
) -> None:
    """Refuse a variant that none of the selected databases can have; raises the errors of ``find_targets``."""
    name = app.target(next(iter(sections))) if len(sections) == 1 else app.name
    names = dict.fromkeys(known.name for section in sections.values() for known in section.variant)
    if not names:
        raise _missing_feature_error(
            app.profile, name, "variants of migrations", lambda section: section.variant
        )
    if variant not in names:
        raise MigrationVariantUnknownError(app=name, name=variant, names=", ".join(names))
    custom = [
        name for name, section in sections.items() if section.variant and name in app.configured.migrations
    ]
    if has_folder or custom:
        reason = (
            "remove --migrations"
            if has_folder
            else f"{app.target(custom[0])} has its own ([apps.NAME.migrations])"
        )
        raise UsageError(detail=f"--variant is only for migrations that dbctl ships; {reason}")


def _missing_feature_error(
    profile: Profile, name: str, feature: str, has_feature: Callable[[Migrations], object]
) -> FeatureMissingError:
    """Return the error for missing migrations, with the profiles whose migrations have the feature."""
    profiles = [
        other.name
        for other in map(loader.load, loader.names())
        if any(
            database.migrations and has_feature(database.migrations) for database in other.databases.values()
        )
    ]
    return FeatureMissingError(
        app=name, profile=profile.name, feature=feature, profiles=", ".join(profiles) or "none"
    )


def collect_status(
    apps: Sequence[App],
    database: str = "",
    folder: Path | None = None,
    *,
    variant: str = "",
    unread: Sequence[DbctlError] = (),
) -> MigrationStatus:
    """Return the state of the migrations of some apps; writes nothing. ``unread`` are the errors of further apps.

    Raises:
        DbctlError: the only target cannot be read; errors of one of several targets are part of the result.
    """
    states, failed = list[DatabaseState](), [*unread]
    app_targets: list[tuple[App, MigrationTarget]] = []
    for app in apps:
        try:
            targets = find_targets(app, database, folder, variant=variant, may_lack_folder=True)
            app_targets += [(app, target) for target in targets]
        except DbctlError as error:
            if len(apps) == 1 and not unread:
                raise
            if not isinstance(error, FeatureMissingError):  # some of several apps have no migrations
                failed.append(error)
    is_single = len(app_targets) == 1 and not failed
    for app, target in app_targets:
        try:
            states.append(load_state(app, target))
        except DbctlError as error:
            if is_single:
                raise
            failed.append(error)
    rows = [migration for state in states for migration in state.migrations]
    failure = worst_status([error.exit_status for error in failed])
    overall = Exit.PARTIAL if failed and states else failure
    return MigrationStatus(
        page=Page(
            items=rows,
            total=len(rows),
            column_names=Migration.__struct_fields__,
            empty_message="no migrations",
            omitted_columns=[
                field for field in ("app", "database") if len({getattr(row, field) for row in rows}) == 1
            ],
        ),
        unrecorded=[state.target.name for state in states if state.is_unrecorded],
        failed=failed,
        check=overall or worst_status([_check(state) for state in states]),
        status=overall,
    )


def _check(state: DatabaseState) -> Exit:
    if state.is_inconsistent:
        return Exit.CHECK_FAILED
    return Exit.ACTION_NEEDED if state.names_in("pending") else Exit.OK


def load_state(app: App, target: MigrationTarget) -> DatabaseState:
    """Open a database read-only and return the state of its migrations.

    Raises:
        WrongAppError: it is a database of another app.
        DatabaseMissingError: the file does not exist.
    """
    with open_for_reading(app, target) as db:
        return read_state(target, db)


def open_for_reading(app: App, target: MigrationTarget) -> closing[Readable]:
    """Open a database read-only, without a check of the app's tables."""
    return closing(app.open_for_reading(target.database))


@contextmanager
def open_existing(app: App, target: MigrationTarget) -> Iterator[Readable | None]:
    """Open a database read-only as ``open_for_reading``, or yield None if it is missing and would be created.

    Raises:
        DatabaseMissingError: its directory does not exist, too.
    """
    with ExitStack() as stack:
        db = None
        try:
            db = stack.enter_context(open_for_reading(app, target))
        except DatabaseMissingError as error:
            if not Path(str(error.context["path"])).parent.is_dir():  # directories are not created
                raise
        yield db


def retry_after_running_migration(app: App, target: MigrationTarget, read: Callable[[], T]) -> T:
    """Call ``read``; if it finds a partial migration, which may be running now, wait for the lock and call it again.

    Raises:
        BusyError: the lock was not released within the timeout.
    """
    try:
        try:
            return read()
        except LedgerMissingError:
            # MariaDB lists tables one by one, so a list may omit the ledger and contain a table created after it.
            return read()
    except (MigrationStatementUnknownError, MigrationPartiallyRevertedError):
        restore_target = app.engine(target.database).restore_target(app.url(target.database), target.name)
        with restore_target.lock(app.spec.name, timeout=app.timeout):
            return read()


def require_single_target(
    targets: Sequence[MigrationTarget], purpose: str = "", *, alternative: str = ""
) -> MigrationTarget:
    """Return the only target.

    Raises:
        UsageError: the app has several databases with migrations; ``purpose`` and ``alternative`` complete the message.
    """
    if len(targets) > 1:
        names = ", ".join(target.database for target in targets)
        raise UsageError(detail=f"choose the database{purpose}: --db {names}{alternative}")
    return targets[0]
