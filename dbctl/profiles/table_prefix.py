"""The prefix of the tables of an app, which a deployment chooses: ``wp_users`` of a profile may be ``blog_users``."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from dbctl.profiles.model import Profile

#: A prefix; it is part of SQL.
PREFIX = r"[A-Za-z0-9_]{0,64}"


def change_prefix(profile: Profile, prefix: str) -> Profile:
    """Return a profile with another prefix, in all names and texts: apps also use it in the names of roles and settings."""
    if prefix == profile.prefix:
        return profile
    text = msgspec.json.encode(profile).decode()
    pattern = rf"(?<![A-Za-z0-9_]){re.escape(profile.prefix)}"
    return msgspec.json.decode(re.sub(pattern, prefix, text), type=Profile)


def find_prefixes(profile: Profile, needs: Collection[str], tables: Collection[str]) -> list[str]:
    """Return the prefixes with which ``tables`` contain all of ``needs``, sorted; only that of the profile if it is one of them."""
    stems = [need.removeprefix(profile.prefix) for need in needs]
    candidates = {table.removesuffix(stems[0]) for table in tables if table.endswith(stems[0])}
    prefixes = [
        prefix
        for prefix in sorted(candidates)
        if re.fullmatch(PREFIX, prefix) and all(f"{prefix}{stem}" in tables for stem in stems)
    ]
    return [profile.prefix] if profile.prefix in prefixes else prefixes
