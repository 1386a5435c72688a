"""Find the variant of a database, among those for which dbctl ships migrations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract import Readable
from dbctl.errors import FeatureMissingError, MigrationVariantUnknownError, UsageError
from dbctl.profiles import loader
from dbctl.profiles.model import Migrations, MigrationsVariant, Profile
from dbctl.services.app import App, has_all
from dbctl.services.migrations.files.loader import Folder
from dbctl.services.migrations.ledger import MigrationTarget, Record


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
    matches = [name for name in candidates if has_all(db, needs[name])]
    largest = [name for name in matches if not any(set(needs[name]) < set(needs[other]) for other in matches)]
    return largest or (candidates if highest else [])


def is_reachable(variants: Sequence[MigrationsVariant], current: Collection[str], requested: str) -> bool:
    """Return whether a database with one of the variants ``current`` has ``requested``, or gets it with its next migrations."""
    directories = {variant.name: variant.directory for variant in variants}
    return not current or directories[requested] in {directories[name] for name in current}


def find_largest_variants(
    variants: Sequence[MigrationsVariant], folders: Mapping[str, Folder]
) -> Sequence[str]:
    """Return the variant with the most migrations of each folder, in the order of the profile."""
    largest: dict[str, str] = {}
    for variant in variants:
        other = largest.get(variant.directory)
        if variant.name in folders and (
            other is None or len(folders[variant.name].files) > len(folders[other].files)
        ):
            largest[variant.directory] = variant.name
    return list(largest.values())


def rank_variants(target: MigrationTarget, db: Readable) -> Sequence[Sequence[str]]:
    """Return the largest variant of each folder, in two groups: required tables exist, required tables are missing."""
    variants = target.section.variant
    present = set(match_variants(variants, target.variant_folders, db, ()))
    likely = {variant.directory for variant in variants if variant.name in present}
    directories = {variant.name: variant.directory for variant in variants}
    names = find_largest_variants(variants, target.variant_folders)
    return [
        [name for name in names if (directories[name] in likely) is is_likely] for is_likely in (True, False)
    ]


def refuse_unusable(app: App, sections: Mapping[str, Migrations], variant: str, *, has_folder: bool) -> None:
    """Refuse a variant that none of the selected databases can have.

    Args:
        app: the app.
        sections: the migrations of the selected databases, by database name.
        variant: the name of the variant.
        has_folder: whether a folder was also given.

    Raises:
        FeatureMissingError, MigrationVariantUnknownError: as ``refuse_unknown``.
        UsageError: the migrations are not those that dbctl ships.
    """
    refuse_unknown(
        app.target(next(iter(sections))) if len(sections) == 1 else app.name, app.profile, sections, variant
    )
    if has_folder:
        raise UsageError(detail="--variant is only for migrations that dbctl ships; remove --migrations")
    custom = [
        name for name, section in sections.items() if section.variant and name in app.configured.migrations
    ]
    if custom:
        raise UsageError(
            detail=f"--variant is only for migrations that dbctl ships; {app.target(custom[0])}"
            " has its own ([apps.NAME.migrations])"
        )


def refuse_unknown(name: str, profile: Profile, sections: Mapping[str, Migrations], variant: str) -> None:
    """Refuse a variant that no database has; ``name`` is the app in messages.

    Raises:
        FeatureMissingError: no database has variants.
        MigrationVariantUnknownError: no variant has that name.
    """
    names = list(
        dict.fromkeys(candidate.name for section in sections.values() for candidate in section.variant)
    )
    if not names:
        raise FeatureMissingError(
            app=name,
            profile=profile.name,
            feature="variants of migrations",
            profiles=", ".join(_list_profiles_with_variants()) or "none",
        )
    if variant not in names:
        raise MigrationVariantUnknownError(app=name, name=variant, names=", ".join(names))


def _list_profiles_with_variants() -> list[str]:
    """Return the names of the profiles whose migrations have variants."""
    profiles = map(loader.load, loader.names())
    sections_by_profile = {
        profile.name: [database.migrations for database in profile.databases.values()] for profile in profiles
    }
    return [
        name
        for name, sections in sections_by_profile.items()
        if any(section and section.variant for section in sections)
    ]
