"""The prefix of the tables of an app, which a deployment chooses: ``wp_users`` of a profile may be ``blog_users``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import msgspec

from dbctl.errors.usage import AmbiguousPrefixError
from dbctl.profiles.model.profile import Profile

#: A prefix; it is part of SQL.
PREFIX = r"[A-Za-z0-9_]{0,64}"


def change_prefix(profile: Profile, prefix: str) -> Profile:
    """Return a profile with another prefix, in all names and texts: apps also use it in the names of roles and settings."""
    if prefix == profile.prefix:
        return profile
    text = msgspec.json.encode(profile).decode()
    pattern = rf"(?<![A-Za-z0-9_]){re.escape(profile.prefix)}"
    return msgspec.json.decode(re.sub(pattern, prefix, text), type=Profile)


def find_prefixes(profile: Profile, database: str, tables: Collection[str]) -> list[str]:
    """Return the prefixes with which ``tables`` contain those that identify a database, in any variant of the profile.

    They are sorted; the prefix of the profile is the only one if it is among them. A profile without a prefix has no other.
    """
    from dbctl.profiles.variants import list_versions

    prefixes = {
        prefix
        for version in list_versions(profile)
        for prefix in _find_prefixes(profile.prefix, version.databases[database].needs, tables)
    }
    return [profile.prefix] if profile.prefix in prefixes else sorted(prefixes)


def detect_prefix(profile: Profile, tables: Collection[str], app: str) -> str:
    """Return the prefix of the tables of the main database; that of the profile if it has no tables of the app.

    Raises:
        AmbiguousPrefixError: the database has the tables with several prefixes.
    """
    prefixes = find_prefixes(profile, profile.main_database, tables)
    if len(prefixes) > 1:
        raise AmbiguousPrefixError(app=app, prefixes=", ".join(map(repr, prefixes)))
    return prefixes[0] if prefixes else profile.prefix


def _find_prefixes(prefix: str, needs: Sequence[str], tables: Collection[str]) -> Iterator[str]:
    """Yield the prefixes with which ``tables`` contain all of ``needs``, whose names have ``prefix``."""
    stems = [need.removeprefix(prefix) for need in needs]
    candidates = {prefix}
    if prefix and stems:
        candidates = {table.removesuffix(stems[0]) for table in tables if table.endswith(stems[0])}
    for candidate in candidates:
        if re.fullmatch(PREFIX, candidate) and all(f"{candidate}{stem}" in tables for stem in stems):
            yield candidate
