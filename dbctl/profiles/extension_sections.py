"""The types of profiles, which may have sections of extensions."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterable
from functools import cache

from dbctl.profiles.model.profile import Profile


def list_unknown_keys(keys: Iterable[str]) -> frozenset[str]:
    """Return those of the keys of a profile that the core does not know."""
    return frozenset(keys).difference(Profile.__struct_encode_fields__)


def find_type(keys: Iterable[str]) -> type[Profile]:
    """Return the type of a profile with these keys."""
    names = list_unknown_keys(keys)
    return create_type(names) if names else Profile


@cache
def create_type(names: frozenset[str]) -> type[Profile]:
    """Return the type of a profile with these keys, which the core does not know; see ``add_sections``."""
    from dbctl.config.extension_sections import add_sections

    return add_sections(Profile, "profile_sections", {(name,) for name in names})
