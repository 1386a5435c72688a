"""Find the variant of a database, among those for which dbctl ships migrations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.profiles.model.databases import MigrationsVariant
from dbctl.services.app.live_table import has_all
from dbctl.services.migrations.files.loader import Folder
from dbctl.services.migrations.ledger.ledger import MigrationTarget, Record


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


def is_reachable(variants: Sequence[MigrationsVariant], current: Collection[str], requested: str) -> bool:
    """Return whether a database with one of the variants ``current`` has ``requested``, or gets it with its next migrations."""
    directories = {variant.name: variant.directory for variant in variants}
    return not current or directories[requested] in {directories[name] for name in current}


def rank_variants(target: MigrationTarget, db: Readable) -> Sequence[Sequence[str]]:
    """Return the largest variant of each folder, in two groups: required tables exist, required tables are missing."""
    variants = target.section.variant
    present = set(match_variants(variants, target.variant_folders, db, ()))
    likely = {variant.directory for variant in variants if variant.name in present}
    directories = {variant.name: variant.directory for variant in variants}
    # the variant with the most migrations of each folder, in the order of the profile
    largest: dict[str, str] = {}
    for name, folder in target.variant_folders.items():
        other = target.variant_folders.get(largest.get(directories[name], ""))
        if other is None or len(folder.files) > len(other.files):
            largest[directories[name]] = name
    return [
        [name for directory, name in largest.items() if (directory in likely) is is_likely]
        for is_likely in (True, False)
    ]
