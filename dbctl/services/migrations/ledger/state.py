"""State of each migration of a database: files compared with the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.errors.migrations import MigrationInvalidError, MigrationVariantMismatchError
from dbctl.errors.usage import WrongAppError
from dbctl.model import Row, Struct, group
from dbctl.profiles.model.databases import MigrationsVariant
from dbctl.services.app import ledger_detection
from dbctl.services.app.live_table import find_column, has_all
from dbctl.services.migrations.files.loader import Folder, MigrationFile, order_key_of
from dbctl.services.migrations.ledger.journal import PartialMigration, read_partial_migrations
from dbctl.services.migrations.ledger.ledger import (
    MigrationTarget,
    Record,
    read_foreign_records,
    read_records,
)

#: State of a database; ``inconsistent``: a migration has an inconsistent state; ``unrecorded``: it has tables but no ledger; ``none``: it has no migrations.
SchemaState = Literal["current", "pending", "inconsistent", "unrecorded", "none"]
#: State of a migration. ``pending``: it will run. ``out-of-order``: it is pending, but later ones are applied.
#: ``missing-file``: applied, without a file. ``changed``: the file has changed since it was applied. ``failed``: it began
#: but did not end. ``ahead``: applied, and later than any file: the database is newer than the code.
#: ``duplicate-version``: another migration has its number. ``baseline``: applied because a later row implies it.
#: ``retired``: applied; the app has removed the file since, according to its profile.
State = Literal[
    "applied",
    "pending",
    "out-of-order",
    "missing-file",
    "changed",
    "failed",
    "ahead",
    "duplicate-version",
    "baseline",
    "retired",
]
INCONSISTENT_STATES: frozenset[State] = frozenset(
    {"missing-file", "changed", "out-of-order", "failed", "ahead", "duplicate-version"}
)


class NamedMigration(Struct, frozen=True, kw_only=True):
    """A migration of a database, as results name it."""

    app: str
    database: str
    version: str
    name: str


class Migration(NamedMigration, frozen=True, kw_only=True):
    """One migration, of the folder or of the ledger."""

    state: State
    applied_at: datetime | None = None
    checksum: str | None = None  #: from the ledger, or of the file if it is not recorded
    duration: timedelta | None = None
    detail: str = ""  #: progress of a partial migration

    def summary(self) -> Row:
        fields = ("app", "database", "name", "state", "applied_at", "duration")
        return {field: getattr(self, field) for field in fields} | (
            {"detail": self.detail} if self.detail else {}
        )


class DatabaseState(Struct, frozen=True, kw_only=True):
    """The migrations of one database, each with its state."""

    target: MigrationTarget  #: with the folder of the database's variant
    migrations: Sequence[Migration]
    has_ledger: bool  #: it has a ledger
    is_empty: bool  #: it has no table at all
    partial: Mapping[str, PartialMigration] = {}  #: partial migrations by name

    def names_in(self, *states: State) -> list[str]:
        """Return the names of the migrations in any of the states, in order."""
        return [migration.name for migration in self.migrations if migration.state in states]

    @property
    def checksums(self) -> Mapping[str, str]:
        """The checksum of each applied migration in the ledger, by name."""
        return {
            migration.name: (migration.checksum or "").lower()
            for migration in self.migrations
            if migration.state in ("applied", "changed", "retired")
        }

    @property
    def schema(self) -> SchemaState:
        """The state of the whole database."""
        if self.has_no_migrations:
            return "none"
        if self.is_unrecorded:
            return "unrecorded"
        return (
            "inconsistent" if self.is_inconsistent else "pending" if self.names_in("pending") else "current"
        )

    @property
    def is_inconsistent(self) -> bool:
        """Whether ``up`` refuses: a migration has an inconsistent state, or there is no ledger."""
        return (
            any(migration.state in INCONSISTENT_STATES for migration in self.migrations) or self.is_unrecorded
        )

    @property
    def has_no_migrations(self) -> bool:
        """Whether the database has no migrations: no ledger, no files, and no ledger in its profile."""
        return (
            not (self.has_ledger or self.target.folder.exists)
            and self.target.section.ledger == ledger_detection.AUTO
        )

    @property
    def is_unrecorded(self) -> bool:
        """Whether the database has tables but no record of applied migrations."""
        return not (self.has_ledger or self.is_empty or self.has_no_migrations)


def read_state(target: MigrationTarget, db: Readable) -> DatabaseState:
    """Compare the files with the ledger of an open database.

    Raises:
        WrongAppError: it has tables, but neither those of the app nor its ledger.
        SchemaMismatchError: its ledger has other columns.
        PrivilegeMissingError: the server may hide the ledger from this role.
        MigrationVariantMismatchError: it has another variant than the requested one.
    """
    ledger, database = target.ledger, target.profile.databases[target.database]
    tables = {name: table for name, table in db.tables().items() if name != ledger_detection.TRANSFER_TABLE}
    missing = [table for table in database.needs if table not in tables]
    version_column = find_column(tables.get(ledger.table), ledger.version or ledger.name)
    if tables and missing and version_column is None and not target.foreign:
        raise WrongAppError(
            target=db.target,
            profile=target.profile.title,
            missing=f"table {', '.join(missing)}",
            hint=database.find_wrong_app_hint(tables)
            or "Check the path in the configuration; nothing was run.",
        )
    has_ledger = ledger.table in tables or target.foreign is not None
    if db.hides_tables and db.server and not has_ledger:
        db.server.require_all_tables()
    rows: list[Record] = []
    if target.foreign:
        rows = read_foreign_records(target.foreign, db, target.engine)
    elif has_ledger:
        rows = read_records(target, db)
    target = _resolve_variant(_add_shipped_files(target, rows), db, rows)
    journaled = read_partial_migrations(db)
    if database.needs and not (rows or missing or journaled or target.foreign):
        has_ledger = False  # an empty ledger next to tables of the app records nothing
    migrations = classify(target, rows)
    recorded_names = {migration.name for migration in migrations if migration.state in ("applied", "changed")}
    # The ledger decides: the app's own runner may have completed a partial migration.
    partial = {
        name: migration
        for name, migration in journaled.items()
        if (migration.direction == "down") == (name in recorded_names)
    }
    return DatabaseState(
        target=target,
        migrations=_mark_partial(target, migrations, partial),
        has_ledger=has_ledger,
        is_empty=not tables,
        partial=partial,
    )


def create_empty_state(target: MigrationTarget) -> DatabaseState:
    """Return the state of a database that does not exist yet."""
    return DatabaseState(target=target, migrations=classify(target, []), has_ledger=False, is_empty=True)


def _add_shipped_files(target: MigrationTarget, recorded: Sequence[Record]) -> MigrationTarget:
    """Add shipped files that the ledger records and the app's folder lacks."""
    custom_files = target.folder.files
    numbered = _index_by_number(custom_files.values())
    unmatched = [row for row in recorded if _find_file(row, custom_files, numbered) is None]
    added = {
        file.name: file
        for folder in target.shipped_folders.values()
        for file in folder.files.values()
        if any(row.matches(file) and row.checksum == file.checksum for row in unmatched)
    }
    if not added:
        return target
    ordered = sorted([*added.values(), *custom_files.values()], key=lambda file: file.order_key)
    folder = structs.replace(target.folder, files={file.name: file for file in ordered})
    return structs.replace(target, folder=folder)


def _index_by_number(files: Iterable[MigrationFile]) -> Mapping[int, Sequence[MigrationFile]]:
    """Return the files by number, so that matching them with a ledger is linear."""
    return group((file.order_key[0], file) for file in files)


def _find_file(
    row: Record, files: Mapping[str, MigrationFile], numbered: Mapping[int, Sequence[MigrationFile]]
) -> MigrationFile | None:
    if not row.version:
        return files.get(row.name)
    return next((file for file in numbered.get(row.number, ()) if row.matches(file)), None)


def _resolve_variant(target: MigrationTarget, db: Readable, recorded: Sequence[Record]) -> MigrationTarget:
    """Select the folder of the database's variant; an empty database gets the requested one."""
    if not target.variant_folders:
        return target
    matches = match_variants(target.section.variant, target.variant_folders, db, recorded)
    directories = {variant.name: variant.directory for variant in target.section.variant}
    # A variant whose migrations are in the same folder is reached by the next ones.
    if target.variant and matches and directories[target.variant] not in map(directories.get, matches):
        raise MigrationVariantMismatchError(
            target=db.target, actual=" or ".join(matches), expected=target.variant
        )
    variant = target.variant or [*matches, *target.variant_folders][0]
    return structs.replace(target, variant=variant, folder=target.variant_folders[variant])


def _mark_partial(
    target: MigrationTarget, migrations: Sequence[Migration], partial: Mapping[str, PartialMigration]
) -> Sequence[Migration]:
    """Return the migrations; partial ones get the state ``failed`` and their progress."""
    missing = [
        _create_migration(target, name, "failed", Record())
        for name in partial
        if name not in {migration.name for migration in migrations}
    ]
    marked = [
        structs.replace(
            migration,
            state="failed",
            detail=partial[migration.name].describe(_count_statements(target, partial[migration.name])),
        )
        if migration.name in partial
        else migration
        for migration in (*migrations, *missing)
    ]
    return sorted(marked, key=lambda migration: order_key_of(migration.name)) if partial else migrations


def _count_statements(target: MigrationTarget, partial: PartialMigration) -> int:
    """Return the number of statements in the direction of a partial migration; 0 if the file is missing or invalid."""
    file, language = target.folder.files.get(partial.name), registry.load_engine(target.engine).script_dialect
    try:
        steps = file and (file.parse_up(language) if partial.direction == "up" else file.parse_down(language))
    except MigrationInvalidError:
        return 0
    return len(steps.statements) if steps else 0


def classify(target: MigrationTarget, recorded: Sequence[Record]) -> list[Migration]:
    """Return all migrations of the folder and the ledger with their states, in order."""
    folder = target.folder
    files = list(folder.files.values())
    rows: dict[str, Record] = {}
    unmatched: list[Record] = []
    numbered = _index_by_number(files)
    for row in recorded:
        recorded_file = _find_file(row, folder.files, numbered)
        if recorded_file is not None and recorded_file.name not in rows:
            rows[recorded_file.name] = row
        else:
            unmatched.append(row)
    unreplaced = (file for file in files if not _is_replaced(target, file, rows))
    numbers = Counter(file.order_key[0] for file in unreplaced) if folder.format != "prisma" else Counter()
    numbers.update(row.number for row in unmatched)
    newest = max((folder.files[name].order_key for name in rows), default=None)
    level = max((row for row in recorded if row.level), key=lambda row: row.number, default=Record())

    def classify_file(file: MigrationFile) -> State:
        number = file.order_key[0]
        if file.name in rows:
            return _classify_recorded(target, file, rows[file.name])
        if _is_replaced(target, file, rows):
            return "baseline"
        if level.level and number < level.number:
            return level.level
        is_shared = numbers[number] > 1
        if newest and file.order_key < newest and not (target.ledger.version and is_shared):
            return "out-of-order"
        return "duplicate-version" if is_shared else "pending"

    migrations = [
        _create_migration(
            target, file.name, classify_file(file), rows.get(file.name) or Record(checksum=file.checksum)
        )
        for file in files
    ]
    migrations += [
        _create_migration(target, row.title, _classify_unmatched(target, row), row, row.version)
        for row in unmatched
    ]
    return sorted(migrations, key=lambda migration: order_key_of(migration.name))


def _is_replaced(target: MigrationTarget, file: MigrationFile, rows: Mapping[str, Record]) -> bool:
    """Return whether another file of the same number replaces this one: a recorded file, otherwise the first."""
    group = next((names for names in target.section.one_of if file.name in names), [file.name])
    existing = [name for name in group if name in target.folder.files]
    recorded = [name for name in existing if name in rows]
    return (recorded or existing)[:1] != [file.name]


def _classify_unmatched(target: MigrationTarget, row: Record) -> State:
    """Return the state of a row that matches no file."""
    folder = target.folder
    if row.failed:
        return "failed"
    if not folder.exists:
        return "applied"
    # A missing file is intentional only in the app's own folder, or in one selected by the schema.
    if (folder.is_custom or target.variant_folders) and row.title in target.section.retired:
        return "retired"
    last = max((file.order_key[0] for file in folder.files.values()), default=None)
    ahead = last is not None and order_key_of(row.title)[0] > last
    return "ahead" if ahead else "missing-file"


def _classify_recorded(target: MigrationTarget, file: MigrationFile, row: Record) -> State:
    """Return the state of a file with a row; line ends and byte order mark are ignored."""
    if row.failed or row.level:
        return "failed" if row.failed else row.level or "applied"
    if row.checksum is not None and file.matches_checksum(row.checksum):
        return "applied"
    published = target.section.published.get(file.name, ())
    if row.checksum is not None and row.checksum.lower() not in published:
        return "changed"
    # The recorded text was replaced: the app's own file has one of the texts that the app published.
    shipped = [
        folder.files[file.name].checksum
        for folder in target.shipped_folders.values()
        if file.name in folder.files
    ]
    is_known = any(map(file.matches_checksum, [*published, *shipped]))
    return "changed" if published and target.folder.is_custom and not is_known else "applied"


def _create_migration(
    target: MigrationTarget, name: str, state: State, row: Record, version: str = ""
) -> Migration:
    """Return a migration; by default, its version is the digits with which its name begins."""
    return Migration(
        app=target.app,
        database=target.database,
        version=version or name[: len(name) - len(name.lstrip("0123456789"))],
        name=name,
        state=state,
        applied_at=row.applied_at,
        checksum=row.checksum,
        duration=row.duration,
    )


def match_variants(
    variants: Sequence[MigrationsVariant],
    folders: Mapping[str, Folder],
    db: Readable,
    recorded: Collection[Record],
) -> list[str]:
    """Return the variants that a database may have, the most likely first; empty if unknown.

    Of several variants, the one with the fewest pending migrations comes first: a database with all migrations of a
    smaller variant has that variant. If the required tables of one variant are a subset of another's, and the database
    has them all, only the larger variant is returned.

    Args:
        variants: the variants of the profile.
        folders: the migrations of each.
        db: the database.
        recorded: the rows of its ledger. They are more reliable than the schema, which may be edited by hand or
            incomplete; the schema decides if several variants have migrations of the same names.
    """
    match_counts = {
        name: sum(any(map(record.matches, folder.files.values())) for record in recorded)
        for name, folder in folders.items()
    }
    highest = max(match_counts.values())
    candidates = [name for name, count in match_counts.items() if count == highest]
    if highest:
        candidates.sort(key=lambda name: len(folders[name].files))
    needs = {variant.name: variant.needs for variant in variants}
    matches = [name for name in candidates if has_all(db.tables(), needs[name])]
    largest = [name for name in matches if not any(set(needs[name]) < set(needs[other]) for other in matches)]
    return largest or (candidates if highest else [])
