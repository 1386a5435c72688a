"""The types of profiles, which may have sections of extensions; and their variants, the changes that a version of the app requires."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import msgspec

from dbctl.files import toml
from dbctl.profiles.model.core import ProfileVariant
from dbctl.profiles.model.profile import Profile

#: A path of keys: ``users.role``, ``settings[0].fields``; a key with a dot is in double quotes.
_NAME = r'[^.\[\]"]+|"[^"]+"'
_PATH = rf"(?:{_NAME})(?:\.(?:{_NAME})|\[[0-9]{{1,4}}\])*"
#: Keys that are the same in all versions, because commands read them before they select a variant.
FIXED_KEYS = ("schema", "name", "prefix", "variants")

Path = tuple[toml.Key, ...]


def apply_variant(profile: Profile, variant: ProfileVariant) -> Profile:
    """Return the profile of a version of the app; ``variant`` is one of the profile."""
    values = _change_values(profile, variant)
    return msgspec.convert(values, find_type(values))


def list_versions(profile: Profile) -> list[Profile]:
    """Return the profile as written, and that of each variant."""
    return [profile, *(apply_variant(profile, variant) for variant in profile.variants)]


def validate_variants(profile: Profile, text: str) -> None:
    """Check that each variant results in a valid profile.

    Raises:
        TomlError: with the errors of all variants, in the order of their lines in ``text``.
    """
    problems: list[toml.Problem] = []
    for index, variant in enumerate(profile.variants):
        path_problems = list(_find_path_problems(profile, variant))
        problems += [
            toml.create_problem(text, ("variants", index, *key), reason) for key, reason in path_problems
        ]
        if path_problems:
            continue
        locate = partial(locate_key, index, variant)
        try:
            values = _change_values(profile, variant)
            version = toml.structure(values, find_type(values), text, locate=locate)
        except toml.TomlError as error:
            problems += error.problems
            continue
        if _describe_databases(version) != _describe_databases(profile):
            reason = "a variant has the same databases, with the same engines and modes"
            problems.append(toml.create_problem(text, ("variants", index), reason))
    if problems:
        raise toml.TomlError(*sorted(problems, key=lambda problem: problem.line))


def locate_key(index: int, variant: ProfileVariant, key: Sequence[toml.Key]) -> Path:
    """Return where the file has a key of the profile of a variant: below the change of the variant, or as written.

    ``index`` is the position of the variant in the profile; an empty ``key`` is the variant.
    """
    if not key:
        return "variants", index
    written = tuple(key)
    for path in sorted(path for path in _parse_paths(variant.remove) if isinstance(path[-1], int)):
        *parents, removed = path
        depth = len(parents)
        position = written[depth] if list(written[:depth]) == parents and len(written) > depth else -1
        if isinstance(position, int) and isinstance(removed, int) and position >= removed:
            written = (*written[:depth], position + 1, *written[depth + 1 :])
    for text in variant.changes:
        path = parse_key_path(text)
        if written[: len(path)] == path:
            return "variants", index, "changes", text, *written[len(path) :]
    for position, path in enumerate(_parse_paths(variant.remove)):
        if written[: len(path)] == path:
            return "variants", index, "remove", position
    return written


def parse_key_path(text: str) -> Path:
    """Return the keys of a path: names, and indexes of lists from 0.

    Raises:
        ValueError: the text is not a path.
    """
    if not re.fullmatch(_PATH, text):
        raise ValueError(
            f'{text!r} is not a path; write users.role, settings[0].fields or settings[0].keys."a.b"'
        )
    steps = re.findall(rf"({_NAME})|\[([0-9]+)\]", text)
    return tuple(name.strip('"') or int(position) for name, position in steps)


def _parse_paths(texts: Sequence[str]) -> list[Path]:
    return [parse_key_path(text) for text in texts]


def _change_values(profile: Profile, variant: ProfileVariant) -> dict[str, Any]:
    """Return the values of the changed profile as TOML has them."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(profile))
    for text, value in variant.changes.items():
        path = parse_key_path(text)
        _find_parent(values, path)[path[-1]] = value
    # Of a list, the last entry first: the others retain their indexes.
    for path in sorted(_parse_paths(variant.remove), reverse=True):
        del _find_parent(values, path)[path[-1]]
    return values


def _find_path_problems(profile: Profile, variant: ProfileVariant) -> Iterator[tuple[Path, str]]:
    """Yield the paths of a variant that the profile does not have, with their keys below the variant."""
    values = msgspec.json.decode(msgspec.json.encode(profile))
    keys: Mapping[Path, str] = {("changes", text): text for text in variant.changes} | {
        ("remove", position): text for position, text in enumerate(variant.remove)
    }
    earlier: list[Path] = []
    for key, text in keys.items():
        try:
            path = parse_key_path(text)
        except ValueError as error:
            yield key, str(error)
            continue
        parent, last = _find_parent(values, path), path[-1]
        is_change = key[0] == "changes"
        can_be_new = is_change and isinstance(last, str)
        if path[0] in FIXED_KEYS:
            yield key, f"{path[0]} is the same in all variants"
        elif not _is_container(parent, last):
            yield key, f"the profile has no {toml.dotted(path[:-1])}"
        elif not (can_be_new or (_has(parent, last) and (is_change or parent[last]))):
            yield key, f"the profile has no {text}"
        elif any(path[: len(other)] == other or other[: len(path)] == path for other in earlier):
            yield key, "another path of the variant contains it, or is part of it"
        earlier.append(path)


def _find_parent(values: Any, path: Path) -> Any:
    """Return the table or list that contains the last key of a path; None if the profile lacks it."""
    for step in path[:-1]:
        if not _has(values, step):
            return None
        values = values[step]
    return values


def _has(values: Any, step: toml.Key) -> bool:
    """Return whether a table has a key, or a list an entry."""
    return _is_container(values, step) and (step in values if isinstance(step, str) else step < len(values))


def _is_container(values: Any, step: toml.Key) -> bool:
    """Return whether a value is a table, for a key, or a list, for an index."""
    return isinstance(values, dict if isinstance(step, str) else list)


def _describe_databases(profile: Profile) -> list[object]:
    """Return what commands read of databases before they select a variant."""
    return [(name, list(section.engines), section.mode) for name, section in profile.databases.items()]


def list_unknown_keys(keys: Iterable[str]) -> frozenset[str]:
    """Return those of the keys of a profile that the core does not know."""
    return frozenset(keys).difference(Profile.__struct_encode_fields__)


def find_type(keys: Iterable[str]) -> type[Profile]:
    names = list_unknown_keys(keys)
    return create_type(names) if names else Profile


@cache
def create_type(names: frozenset[str]) -> type[Profile]:
    """Return the type of a profile with these keys, which the core does not know; see ``add_sections``."""
    from dbctl.config.extension_sections import add_sections

    return add_sections(Profile, "profile_sections", {(name,) for name in names})
